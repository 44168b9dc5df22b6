//! From the node's view to what the registry is told: which nodes came and went, who announced which plugin. Pure.
//!
//! The view is compared with the one before, so a change that was missed in between can't be lost: a connection has a
//! number of its own, and a node that is connected by another one than before has been away.

use std::collections::{BTreeMap, BTreeSet};

use beam::name::NodeName;
use beam::node::view::{Peer, PeerState, View};

use crate::plugin::PluginName;
use crate::registry::Membership;

/// What the registry has been told so far.
///
/// A host may have several homes, a user each: a node of a user who has a hecate-daemon of their own belongs to that one's home,
/// and decides as little here as one on another host.
#[derive(Debug)]
pub struct MembershipTracker {
    /// Our own user.
    uid: u32,
    /// The users whose nodes of this host may announce plugins.
    allowed: BTreeSet<u32>,
    /// The users of this host who have, or had, a hecate-daemon of their own.
    neighbours: BTreeSet<u32>,
    /// Connected nodes, each with the number of its connection, and whether it was said to be on this host.
    up: BTreeMap<NodeName, (u64, bool)>,
    announced: BTreeSet<(PluginName, NodeName)>,
}

impl MembershipTracker {
    /// Creates the state of a daemon of this user, which accepts announcements from nodes of
    /// `allowed` users.
    #[must_use]
    pub fn new(uid: u32, allowed: BTreeSet<u32>) -> Self {
        Self { uid, allowed, neighbours: BTreeSet::new(), up: BTreeMap::new(), announced: BTreeSet::new() }
    }

    /// A user of this host has a hecate-daemon. One who ever had is believed to have it again soon.
    pub fn has_daemon(&mut self, uid: u32) {
        if uid != self.uid {
            self.neighbours.insert(uid);
        }
    }

    /// The users of newly connected nodes of this host of whom it is not known whether they have a hecate-daemon of their own.
    pub fn strangers(&self, view: &View, is_here: impl Fn(&NodeName) -> bool) -> BTreeSet<u32> {
        let new = view.peers.iter().filter(|(name, peer)| {
            let told = self.up.get(*name).is_some_and(|(connection, _)| *connection == peer.connection);
            peer.is_up() && !told && is_here(name)
        });
        let owners = new.filter_map(|(_, peer)| peer.owner);
        owners.filter(|owner| self.is_stranger(*owner)).collect()
    }

    /// Returns whether this is another user of this host, who is not known to have a hecate-daemon.
    #[must_use]
    pub fn is_stranger(&self, uid: u32) -> bool {
        uid != self.uid && !self.is_neighbour(uid)
    }

    /// Returns whether this user of this host is known to have, or to have had, a hecate-daemon.
    #[must_use]
    pub fn is_neighbour(&self, uid: u32) -> bool {
        self.neighbours.contains(&uid)
    }

    /// Whether a node belongs to the home of another user of this host.
    #[must_use]
    pub fn is_neighbours(&self, peer: &Peer) -> bool {
        peer.owner.is_some_and(|owner| self.neighbours.contains(&owner))
    }

    /// What is new in `view`, whose `grouped` are the hecate-daemons. `is_here` tells whether a node of this name is on this host.
    pub fn news(&mut self, view: &View, is_here: impl Fn(&NodeName) -> bool) -> Vec<Membership> {
        let mut news = Vec::new();
        let daemons = view.grouped.iter().filter(|name| is_here(name));
        daemons.filter_map(|name| view.peers.get(name)?.owner).for_each(|owner| self.has_daemon(owner));
        let theirs: BTreeSet<&NodeName> =
            view.peers.iter().filter(|(_, peer)| self.is_neighbours(peer)).map(|(name, _)| name).collect();
        let is_here = |name: &NodeName| is_here(name) && !theirs.contains(name);
        for (name, _) in self.up.extract_if(.., |name, _| !view.peers.contains_key(name)) {
            let reason = "it has been away for so long that the reason is forgotten".to_owned();
            news.push(Membership::NodeDown { node: name.clone(), reason });
        }
        for (name, peer) in &view.peers {
            let before = self.up.get(name).copied();
            let now = (peer.connection, is_here(name));
            match &peer.state {
                PeerState::Up { .. } if before == Some(now) => {}
                PeerState::Up { .. } => {
                    if let Some((connection, _)) = before {
                        // What it had announced went with it: what it announces now is news, even if it is the same.
                        self.announced.retain(|(_, node)| node != name);
                        let reason = match connection == peer.connection {
                            true => "its node belongs to another user, who has a hecate-daemon of their own".to_owned(),
                            false => "its node was away and came back".to_owned(),
                        };
                        news.push(Membership::NodeDown { node: name.clone(), reason });
                    }
                    self.up.insert(name.clone(), now);
                    news.push(Membership::NodeUp { node: name.clone(), on_this_host: now.1 });
                }
                PeerState::Down { reason, .. } => {
                    if self.up.remove(name).is_some() {
                        news.push(Membership::NodeDown { node: name.clone(), reason: reason.detail.clone() });
                    }
                }
            }
        }
        let announced: BTreeSet<(PluginName, NodeName)> = view
            .announced
            .iter()
            // A daemon's proxy stands for a plugin of its own: it is not the plugin's node.
            .filter(|(_, node)| is_here(node) && !view.grouped.contains(node))
            // Any node can choose a name of this host, but cannot forge the owner of its
            // connection.
            .filter(|(_, node)| {
                let owner = view.peers.get(node).and_then(|peer| peer.owner);
                owner.is_some_and(|owner| self.allowed.contains(&owner))
            })
            .filter_map(|(name, node)| Some((PluginName::parse(str::from_utf8(name).ok()?).ok()?, node.clone())))
            .collect();
        for (plugin, node) in self.announced.difference(&announced) {
            news.push(Membership::Withdrawn { plugin: plugin.clone(), node: node.clone() });
        }
        for (plugin, node) in announced.difference(&self.announced) {
            news.push(Membership::Announced { plugin: plugin.clone(), node: node.clone() });
        }
        self.announced = announced;
        news
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use beam::dist::flags;
    use beam::node::view::PeerReason;
    use bytes::Bytes;

    use super::*;
    use crate::plugin::sample;

    const US: u32 = 1000;

    fn view(peers: &[(&str, u64, bool)], announced: &[(&'static str, &str)]) -> View {
        let peer = |&(name, connection, up): &(&str, u64, bool)| {
            let state = if up {
                PeerState::Up { creation: 1, published: true, flags: flags::ours(false), dialled: true }
            } else {
                PeerState::Down { reason: PeerReason::new("closed_by_peer", "gone"), left: None }
            };
            (name.parse().unwrap(), Peer { state, since: SystemTime::UNIX_EPOCH, connection, owner: Some(US) })
        };
        View {
            name: "hecate@h".parse().unwrap(),
            creation: 1,
            peers: peers.iter().map(peer).collect(),
            announced: announced.iter().map(|(p, n)| (Bytes::from_static(p.as_bytes()), n.parse().unwrap())).collect(),
            grouped: BTreeSet::new(),
            known: BTreeSet::new(),
            introducible: BTreeSet::new(),
        }
    }

    fn up(node: &str) -> Membership {
        Membership::NodeUp { node: node.parse().unwrap(), on_this_host: true }
    }

    fn down(node: &str, reason: &str) -> Membership {
        Membership::NodeDown { node: node.parse().unwrap(), reason: reason.to_owned() }
    }

    #[test]
    fn nodes_come_and_go_and_restarts_are_never_missed() {
        let mut told = MembershipTracker::new(US, BTreeSet::from([US, 1001, 1002]));
        let mut news = |peers: &[(&str, u64, bool)]| told.news(&view(peers, &[]), |_| true);
        assert_eq!(news(&[("a@h", 1, true)]), [up("a@h")]);
        assert_eq!(news(&[("a@h", 1, true)]), []);
        assert_eq!(news(&[("a@h", 2, true)]), [down("a@h", "its node was away and came back"), up("a@h")]);
        assert_eq!(news(&[("a@h", 2, false)]), [down("a@h", "gone")]);
        assert_eq!(news(&[("a@h", 2, false), ("b@h", 3, false)]), [], "b came and went unseen");
        assert_eq!(news(&[("a@h", 4, true)]), [up("a@h")]);
        let forgotten = "it has been away for so long that the reason is forgotten";
        assert_eq!(news(&[]), [down("a@h", forgotten)]);
        assert_eq!(news(&[]), []);
    }

    #[test]
    fn a_node_that_was_away_unseen_announces_anew() {
        let mut told = MembershipTracker::new(US, BTreeSet::from([US, 1001, 1002]));
        let plugin = sample::name("hecate-traderd");
        let announced = || Membership::Announced { plugin: plugin.clone(), node: "a@h".parse().unwrap() };
        let mut news =
            |connection| told.news(&view(&[("a@h", connection, true)], &[("hecate-traderd", "a@h")]), |_| true);
        assert_eq!(news(1), [up("a@h"), announced()]);
        assert_eq!(news(1), []);
        let back = down("a@h", "its node was away and came back");
        assert_eq!(news(2), [back, up("a@h"), announced()]);
    }

    #[test]
    fn a_neighbours_node_decides_nothing_here_and_never_will() {
        let mut told = MembershipTracker::new(US, BTreeSet::from([US, 1001, 1002]));
        let mut owned = |nodes: &[(&str, u32)], daemons: &[&str]| {
            let up: Vec<(&str, u64, bool)> = nodes.iter().map(|(name, _)| (*name, 1, true)).collect();
            let mut view = view(&up, &[("hecate-marthad", "m@h"), ("hecate-friendd", "f@h")]);
            for (name, owner) in nodes {
                view.peers.get_mut(*name).unwrap().owner = Some(*owner);
            }
            view.grouped = daemons.iter().map(|daemon| daemon.parse().unwrap()).collect();
            told.news(&view, |_| true)
        };
        let announced = |plugin: &str, node: &str| Membership::Announced {
            plugin: sample::name(plugin),
            node: node.parse().unwrap(),
        };
        let apart = |node: &str| Membership::NodeUp { node: node.parse().unwrap(), on_this_host: false };
        // Of users who have no daemon all may be ours: one has registered their plugin with us, perhaps.
        let both = [announced("hecate-friendd", "f@h"), announced("hecate-marthad", "m@h")];
        assert_eq!(owned(&[("f@h", 1002), ("m@h", 1001)], &[]), [&[up("f@h"), up("m@h")][..], &both].concat());
        // One of them turns out to have one, under a name of its own; another daemon of our own user is no neighbour.
        let why = "its node belongs to another user, who has a hecate-daemon of their own";
        let nodes = [("f@h", 1002), ("hecate_1001@h", 1001), ("m@h", 1001), ("x@h", US)];
        let news = owned(&nodes, &["hecate_1001@h", "x@h"]);
        assert_eq!(news, [apart("hecate_1001@h"), down("m@h", why), apart("m@h"), up("x@h")]);
        // And while that one is being restarted, its nodes don't become ours.
        assert_eq!(owned(&[("f@h", 1002), ("m@h", 1001)], &[]).len(), 2, "both daemons are gone, and no more is news");
    }

    #[test]
    fn who_is_new_is_asked_after_once() {
        let mut told = MembershipTracker::new(US, BTreeSet::from([US, 1001, 1002]));
        let mut view = view(&[("m@h", 1, true), ("n@h", 2, true), ("o@h", 3, false), ("ours@h", 4, true)], &[]);
        for (name, owner) in [("m@h", 1001), ("n@h", 1002), ("o@h", 1003), ("ours@h", US)] {
            view.peers.get_mut(name).unwrap().owner = Some(owner);
        }
        assert_eq!(told.strangers(&view, |name| name != "n@h"), BTreeSet::from([1001]));
        assert_eq!(told.strangers(&view, |_| true), BTreeSet::from([1001, 1002]));
        told.has_daemon(1001);
        let apart = Membership::NodeUp { node: "m@h".parse().unwrap(), on_this_host: false };
        assert_eq!(told.news(&view, |_| true), [apart, up("n@h"), up("ours@h")]);
        assert_eq!(told.strangers(&view, |_| true), BTreeSet::new());
        view.peers.get_mut("n@h").unwrap().connection = 9;
        assert_eq!(told.strangers(&view, |_| true), BTreeSet::from([1002]));
    }

    #[test]
    fn only_nodes_of_allowed_users_on_this_host_announce() {
        let mut told = MembershipTracker::new(US, BTreeSet::from([US, 1001]));
        let announced = [("hecate-traderd", "a@h"), ("hecate-traderd", "b@h"), ("hecate-traderd", "c@h")];
        let mut view = view(&[("a@h", 1, true), ("b@h", 2, true), ("c@h", 3, true)], &announced);
        // The first uses a name of this host but connects from another, or its owner is unknown.
        for (name, owner) in [("a@h", None), ("b@h", Some(1001)), ("c@h", Some(1002))] {
            view.peers.get_mut(name).unwrap().owner = owner;
        }
        let plugin = sample::name("hecate-traderd");
        let heard = Membership::Announced { plugin, node: "b@h".parse().unwrap() };
        assert_eq!(told.news(&view, |_| true), [up("a@h"), up("b@h"), up("c@h"), heard]);
    }

    #[test]
    fn only_valid_names_of_this_host_are_announced() {
        let mut told = MembershipTracker::new(US, BTreeSet::from([US, 1001, 1002]));
        let announced = [("hecate-traderd", "a@h"), ("hecate-marthad", "b@elsewhere"), ("nonsense", "a@h")];
        let plugin = sample::name("hecate-traderd");
        let here = |node: &NodeName| node.ends_with("@h");
        let expected = Membership::Announced { plugin: plugin.clone(), node: "a@h".parse().unwrap() };
        let peers = [("a@h", 1, true), ("b@elsewhere", 2, true)];
        let elsewhere = Membership::NodeUp { node: "b@elsewhere".parse().unwrap(), on_this_host: false };
        assert_eq!(told.news(&view(&peers, &announced), here), [up("a@h"), elsewhere, expected]);
        let mut of_a_daemon = view(&peers, &announced);
        of_a_daemon.grouped.insert("a@h".parse().unwrap());
        assert_eq!(told.news(&of_a_daemon, here), [Membership::Withdrawn { plugin, node: "a@h".parse().unwrap() }]);
    }
}
