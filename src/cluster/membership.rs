//! From the node's view to what the registry is told: which nodes came and went, who announced which plugin. Pure.
//!
//! The view is compared with the one before, so a change that was missed in between can't be lost: a connection has a
//! number of its own, and a node that is connected by another one than before has been away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::name::PluginName;
use crate::node::view::{PeerState, View};
use crate::registry::Membership;

/// What the registry has been told so far.
#[derive(Debug, Default)]
pub struct Told {
    /// Connected nodes, each with the number of its connection.
    up: BTreeMap<Arc<str>, u64>,
    announced: BTreeSet<(PluginName, Arc<str>)>,
}

impl Told {
    /// What is new in `view`, whose `grouped` are the hecate-daemons. `is_here` tells whether a node of this name is on this host.
    pub fn news(&mut self, view: &View, is_here: impl Fn(&str) -> bool) -> Vec<Membership> {
        let mut news = Vec::new();
        for (name, _) in self.up.extract_if(.., |name, _| !view.peers.contains_key(name)) {
            let reason = "it has been away for so long that the reason is forgotten".to_owned();
            news.push(Membership::NodeDown { node: name.to_string(), reason });
        }
        for (name, peer) in &view.peers {
            let before = self.up.get(name).copied();
            match &peer.state {
                PeerState::Up { .. } if before == Some(peer.connection) => {}
                PeerState::Up { .. } => {
                    if before.is_some() {
                        // What it had announced went with it: what it announces now is news, even if it is the same.
                        self.announced.retain(|(_, node)| node != name);
                        let reason = "its node was away and came back".to_owned();
                        news.push(Membership::NodeDown { node: name.to_string(), reason });
                    }
                    self.up.insert(name.clone(), peer.connection);
                    news.push(Membership::NodeUp { node: name.to_string(), on_this_host: is_here(name) });
                }
                PeerState::Down { reason } => {
                    if self.up.remove(name).is_some() {
                        news.push(Membership::NodeDown { node: name.to_string(), reason: reason.clone() });
                    }
                }
            }
        }
        let announced: BTreeSet<(PluginName, Arc<str>)> = view
            .announced
            .iter()
            // A daemon's proxy stands for a plugin of its own: it is not the plugin's node.
            .filter(|(_, node)| is_here(node) && !view.grouped.contains(node))
            .filter_map(|(name, node)| Some((PluginName::parse(str::from_utf8(name).ok()?).ok()?, node.clone())))
            .collect();
        for (plugin, node) in self.announced.difference(&announced) {
            news.push(Membership::Withdrawn { plugin: plugin.clone(), node: node.to_string() });
        }
        for (plugin, node) in announced.difference(&self.announced) {
            news.push(Membership::Announced { plugin: plugin.clone(), node: node.to_string() });
        }
        self.announced = announced;
        news
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use bytes::Bytes;

    use super::*;
    use crate::node::view::Peer;

    fn view(peers: &[(&str, u64, bool)], announced: &[(&'static str, &str)]) -> View {
        let peer = |&(name, connection, up): &(&str, u64, bool)| {
            let state = if up {
                PeerState::Up { creation: 1, published: true }
            } else {
                PeerState::Down { reason: "gone".to_owned() }
            };
            (Arc::from(name), Peer { state, since: SystemTime::UNIX_EPOCH, connection })
        };
        View {
            name: "hecate@h".into(),
            creation: 1,
            peers: peers.iter().map(peer).collect(),
            announced: announced.iter().map(|(p, n)| (Bytes::from_static(p.as_bytes()), Arc::from(*n))).collect(),
            grouped: BTreeSet::new(),
            known: BTreeSet::new(),
        }
    }

    fn up(node: &str) -> Membership {
        Membership::NodeUp { node: node.to_owned(), on_this_host: true }
    }

    fn down(node: &str, reason: &str) -> Membership {
        Membership::NodeDown { node: node.to_owned(), reason: reason.to_owned() }
    }

    #[test]
    fn nodes_come_and_go_and_restarts_are_never_missed() {
        let mut told = Told::default();
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
        let mut told = Told::default();
        let plugin = PluginName::parse("hecate-traderd").unwrap();
        let announced = || Membership::Announced { plugin: plugin.clone(), node: "a@h".to_owned() };
        let mut news =
            |connection| told.news(&view(&[("a@h", connection, true)], &[("hecate-traderd", "a@h")]), |_| true);
        assert_eq!(news(1), [up("a@h"), announced()]);
        assert_eq!(news(1), []);
        let back = down("a@h", "its node was away and came back");
        assert_eq!(news(2), [back, up("a@h"), announced()]);
    }

    #[test]
    fn only_valid_names_of_this_host_are_announced() {
        let mut told = Told::default();
        let announced = [("hecate-traderd", "a@h"), ("hecate-marthad", "b@elsewhere"), ("nonsense", "a@h")];
        let plugin = PluginName::parse("hecate-traderd").unwrap();
        let here = |node: &str| node.ends_with("@h");
        let expected = Membership::Announced { plugin: plugin.clone(), node: "a@h".to_owned() };
        assert_eq!(told.news(&view(&[], &announced), here), [expected]);
        let mut of_a_daemon = view(&[], &announced);
        of_a_daemon.grouped.insert("a@h".into());
        assert_eq!(told.news(&of_a_daemon, here), [Membership::Withdrawn { plugin, node: "a@h".to_owned() }]);
    }
}
