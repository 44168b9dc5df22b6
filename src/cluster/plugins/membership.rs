//! Derives reports to the registry from the node's view: which nodes connected and disconnected,
//! and which node announced which plugin. Pure.
//!
//! Each view is compared with the one before, and connections are numbered. So no change between
//! two views is lost: a node whose connection has another number than before was disconnected.

use std::collections::{BTreeMap, BTreeSet};

use beam::name::NodeName;
use beam::node::view::{Peer, PeerState, View};

use crate::plugin::PluginName;
use crate::registry::Membership;

/// The reports to the registry so far.
///
/// A host may have several homes, one per user. A node of a user with a hecate-daemon belongs to
/// that user's home, and is treated here like a node of another host.
#[derive(Debug)]
pub struct MembershipTracker {
    /// The user of this daemon.
    uid: u32,
    /// The users whose nodes on this host may announce plugins.
    allowed: BTreeSet<u32>,
    /// The other users of this host who have, or had, a hecate-daemon.
    neighbours: BTreeSet<u32>,
    /// The connected nodes, each with the number of its connection, and whether it was reported as
    /// a node of this host.
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

    /// A user of this host has a hecate-daemon. The user stays a neighbour when the daemon ends,
    /// because it may be restarting.
    pub fn has_daemon(&mut self, uid: u32) {
        if uid != self.uid {
            self.neighbours.insert(uid);
        }
    }

    /// Returns the users of newly connected nodes of this host who may have a hecate-daemon that we
    /// do not know yet.
    pub fn strangers(&self, view: &View, is_here: impl Fn(&NodeName) -> bool) -> BTreeSet<u32> {
        let new = view.peers.iter().filter(|(name, peer)| {
            let is_reported = self.up.get(*name).is_some_and(|(connection, _)| *connection == peer.connection);
            peer.is_up() && !is_reported && is_here(name)
        });
        let owners = new.filter_map(|(_, peer)| peer.owner);
        owners.filter(|owner| self.is_stranger(*owner)).collect()
    }

    /// Returns whether this is another user of this host who is not known to have a hecate-daemon.
    #[must_use]
    pub fn is_stranger(&self, uid: u32) -> bool {
        uid != self.uid && !self.is_neighbour(uid)
    }

    /// Returns whether this user of this host is known to have, or to have had, a hecate-daemon.
    #[must_use]
    pub fn is_neighbour(&self, uid: u32) -> bool {
        self.neighbours.contains(&uid)
    }

    /// Returns whether a node belongs to the home of another user of this host.
    #[must_use]
    pub fn is_neighbours(&self, peer: &Peer) -> bool {
        peer.owner.is_some_and(|owner| self.neighbours.contains(&owner))
    }

    /// Returns the changes in `view`, whose `grouped` are the hecate-daemons. `is_here` returns
    /// whether a node with this name is on this host.
    pub fn news(&mut self, view: &View, is_here: impl Fn(&NodeName) -> bool) -> Vec<Membership> {
        let mut news = Vec::new();
        let daemons = view.grouped.iter().filter(|name| is_here(name));
        daemons.filter_map(|name| view.peers.get(name)?.owner).for_each(|owner| self.has_daemon(owner));
        let theirs: BTreeSet<&NodeName> =
            view.peers.iter().filter(|(_, peer)| self.is_neighbours(peer)).map(|(name, _)| name).collect();
        let is_here = |name: &NodeName| is_here(name) && !theirs.contains(name);
        for (name, _) in self.up.extract_if(.., |name, _| !view.peers.contains_key(name)) {
            let reason = "reason unknown".to_owned();
            news.push(Membership::NodeDown { node: name.clone(), reason });
        }
        for (name, peer) in &view.peers {
            let before = self.up.get(name).copied();
            let now = (peer.connection, is_here(name));
            match &peer.state {
                PeerState::Up { .. } if before == Some(now) => {}
                PeerState::Up { .. } => {
                    if let Some((connection, _)) = before {
                        // The announcements ended with the old connection, so the same ones are
                        // new.
                        self.announced.retain(|(_, node)| node != name);
                        let reason = match connection == peer.connection {
                            true => "it belongs to another user who has a hecate-daemon".to_owned(),
                            false => "it disconnected and connected again".to_owned(),
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
            // A node with a daemon's proxy is not the plugin's node.
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
    fn each_connection_is_reported_even_if_its_loss_was_not_seen() {
        let mut tracker = MembershipTracker::new(US, BTreeSet::from([US, 1001, 1002]));
        let mut news = |peers: &[(&str, u64, bool)]| tracker.news(&view(peers, &[]), |_| true);
        assert_eq!(news(&[("a@h", 1, true)]), [up("a@h")]);
        assert_eq!(news(&[("a@h", 1, true)]), []);
        assert_eq!(news(&[("a@h", 2, true)]), [down("a@h", "it disconnected and connected again"), up("a@h")]);
        assert_eq!(news(&[("a@h", 2, false)]), [down("a@h", "gone")]);
        assert_eq!(news(&[("a@h", 2, false), ("b@h", 3, false)]), [], "b connected and disconnected between two views");
        assert_eq!(news(&[("a@h", 4, true)]), [up("a@h")]);
        assert_eq!(news(&[]), [down("a@h", "reason unknown")]);
        assert_eq!(news(&[]), []);
    }

    #[test]
    fn the_announcements_of_a_new_connection_are_reported_again() {
        let mut tracker = MembershipTracker::new(US, BTreeSet::from([US, 1001, 1002]));
        let plugin = sample::name("hecate-traderd");
        let announced = || Membership::Announced { plugin: plugin.clone(), node: "a@h".parse().unwrap() };
        let mut news =
            |connection| tracker.news(&view(&[("a@h", connection, true)], &[("hecate-traderd", "a@h")]), |_| true);
        assert_eq!(news(1), [up("a@h"), announced()]);
        assert_eq!(news(1), []);
        let back = down("a@h", "it disconnected and connected again");
        assert_eq!(news(2), [back, up("a@h"), announced()]);
    }

    #[test]
    fn a_neighbours_node_counts_as_a_node_of_another_host() {
        let mut tracker = MembershipTracker::new(US, BTreeSet::from([US, 1001, 1002]));
        let mut owned = |nodes: &[(&str, u32)], daemons: &[&str]| {
            let up: Vec<(&str, u64, bool)> = nodes.iter().map(|(name, _)| (*name, 1, true)).collect();
            let mut view = view(&up, &[("hecate-marthad", "m@h"), ("hecate-friendd", "f@h")]);
            for (name, owner) in nodes {
                view.peers.get_mut(*name).unwrap().owner = Some(*owner);
            }
            view.grouped = daemons.iter().map(|daemon| daemon.parse().unwrap()).collect();
            tracker.news(&view, |_| true)
        };
        let announced = |plugin: &str, node: &str| Membership::Announced {
            plugin: sample::name(plugin),
            node: node.parse().unwrap(),
        };
        let apart = |node: &str| Membership::NodeUp { node: node.parse().unwrap(), on_this_host: false };
        // A user without a daemon may have registered a plugin with this one.
        let both = [announced("hecate-friendd", "f@h"), announced("hecate-marthad", "m@h")];
        assert_eq!(owned(&[("f@h", 1002), ("m@h", 1001)], &[]), [&[up("f@h"), up("m@h")][..], &both].concat());
        // The daemon of user 1001 appears. Another daemon of the own user is not a neighbour.
        let why = "it belongs to another user who has a hecate-daemon";
        let nodes = [("f@h", 1002), ("hecate_1001@h", 1001), ("m@h", 1001), ("x@h", US)];
        let news = owned(&nodes, &["hecate_1001@h", "x@h"]);
        assert_eq!(news, [apart("hecate_1001@h"), down("m@h", why), apart("m@h"), up("x@h")]);
        // While that daemon restarts, the nodes of its user stay apart.
        assert_eq!(owned(&[("f@h", 1002), ("m@h", 1001)], &[]).len(), 2, "only the two daemons are gone");
    }

    #[test]
    fn the_owner_of_each_new_connection_is_looked_up_once() {
        let mut tracker = MembershipTracker::new(US, BTreeSet::from([US, 1001, 1002]));
        let mut view = view(&[("m@h", 1, true), ("n@h", 2, true), ("o@h", 3, false), ("ours@h", 4, true)], &[]);
        for (name, owner) in [("m@h", 1001), ("n@h", 1002), ("o@h", 1003), ("ours@h", US)] {
            view.peers.get_mut(name).unwrap().owner = Some(owner);
        }
        assert_eq!(tracker.strangers(&view, |name| name != "n@h"), BTreeSet::from([1001]));
        assert_eq!(tracker.strangers(&view, |_| true), BTreeSet::from([1001, 1002]));
        tracker.has_daemon(1001);
        let apart = Membership::NodeUp { node: "m@h".parse().unwrap(), on_this_host: false };
        assert_eq!(tracker.news(&view, |_| true), [apart, up("n@h"), up("ours@h")]);
        assert_eq!(tracker.strangers(&view, |_| true), BTreeSet::new());
        view.peers.get_mut("n@h").unwrap().connection = 9;
        assert_eq!(tracker.strangers(&view, |_| true), BTreeSet::from([1002]));
    }

    #[test]
    fn only_nodes_of_allowed_users_on_this_host_announce() {
        let mut tracker = MembershipTracker::new(US, BTreeSet::from([US, 1001]));
        let announced = [("hecate-traderd", "a@h"), ("hecate-traderd", "b@h"), ("hecate-traderd", "c@h")];
        let mut view = view(&[("a@h", 1, true), ("b@h", 2, true), ("c@h", 3, true)], &announced);
        // The first uses a name of this host but connects from another, or its owner is unknown.
        for (name, owner) in [("a@h", None), ("b@h", Some(1001)), ("c@h", Some(1002))] {
            view.peers.get_mut(name).unwrap().owner = owner;
        }
        let plugin = sample::name("hecate-traderd");
        let announced = Membership::Announced { plugin, node: "b@h".parse().unwrap() };
        assert_eq!(tracker.news(&view, |_| true), [up("a@h"), up("b@h"), up("c@h"), announced]);
    }

    #[test]
    fn only_valid_plugin_names_of_nodes_on_this_host_are_reported() {
        let mut tracker = MembershipTracker::new(US, BTreeSet::from([US, 1001, 1002]));
        let announced = [("hecate-traderd", "a@h"), ("hecate-marthad", "b@elsewhere"), ("nonsense", "a@h")];
        let plugin = sample::name("hecate-traderd");
        let here = |node: &NodeName| node.ends_with("@h");
        let expected = Membership::Announced { plugin: plugin.clone(), node: "a@h".parse().unwrap() };
        let peers = [("a@h", 1, true), ("b@elsewhere", 2, true)];
        let elsewhere = Membership::NodeUp { node: "b@elsewhere".parse().unwrap(), on_this_host: false };
        assert_eq!(tracker.news(&view(&peers, &announced), here), [up("a@h"), elsewhere, expected]);
        let mut of_a_daemon = view(&peers, &announced);
        of_a_daemon.grouped.insert("a@h".parse().unwrap());
        assert_eq!(tracker.news(&of_a_daemon, here), [Membership::Withdrawn { plugin, node: "a@h".parse().unwrap() }]);
    }
}
