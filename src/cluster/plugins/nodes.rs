//! Whether the nodes of plugins are connected, and if not, why: updated one node at a time, for the
//! API and for Erlang callers. Pure.

use std::collections::{BTreeMap, BTreeSet};

use beam::connect::dial::DialCode;
use beam::name::NodeName;
use beam::node::view::{Peer, PeerState};

use crate::cluster::peers::records::PeerRecord;
use crate::cluster::view::{NodeState, NodeStates, PluginNode};
use crate::plugin::PluginName;

/// What is known of one node.
#[derive(Debug, Clone, Copy, Default)]
pub struct Evidence<'a> {
    /// The node as our own sees it, if they have ever been connected.
    pub peer: Option<&'a Peer>,
    /// Our attempts to connect to it.
    pub record: Option<&'a PeerRecord>,
    /// Whether it was missing from the last answer of this host's EPMD.
    pub is_missing: bool,
    /// Whether its name is long and ours short, or the reverse. Such nodes never connect.
    pub is_mixed: bool,
}

/// The nodes of plugins.
#[derive(Debug, Default)]
pub struct PluginNodes {
    plugins: BTreeMap<NodeName, BTreeSet<PluginName>>,
    /// Nodes whose state may have changed.
    touched: BTreeSet<NodeName>,
    states: NodeStates,
}

impl PluginNodes {
    /// A plugin has this node.
    pub fn add(&mut self, node: NodeName, plugin: PluginName) {
        self.plugins.entry(node.clone()).or_default().insert(plugin);
        self.touched.insert(node);
    }

    /// A plugin no longer has this node.
    pub fn remove(&mut self, node: NodeName, plugin: &PluginName) {
        if let Some(plugins) = self.plugins.get_mut(&node) {
            plugins.remove(plugin);
            if plugins.is_empty() {
                self.plugins.remove(&node);
            }
        }
        self.touched.insert(node);
    }

    /// Marks a node as possibly changed; it need not be the node of a plugin.
    pub fn touch(&mut self, node: NodeName) {
        if self.plugins.contains_key(&node) {
            self.touched.insert(node);
        }
    }

    /// Returns whether this is the node of a plugin.
    #[must_use]
    pub fn contains(&self, node: &str) -> bool {
        self.plugins.contains_key(node)
    }

    /// Updates only the nodes whose state may have changed. Returns the states of all.
    pub fn update<'a>(&mut self, evidence: impl Fn(&NodeName) -> Evidence<'a>) -> NodeStates {
        for node in std::mem::take(&mut self.touched) {
            let plugins = self.plugins.get(&node);
            let seen = plugins.map(|plugins| PluginNode {
                state: state(evidence(&node)),
                plugins: plugins.iter().cloned().collect(),
            });
            self.states.set(node, seen);
        }
        self.states.clone()
    }
}

/// Returns the state of one node.
#[must_use]
pub fn state(Evidence { peer, record, is_missing, is_mixed }: Evidence<'_>) -> NodeState {
    let lost_at = match peer {
        Some(peer) if peer.is_up() => return NodeState::Connected,
        Some(Peer { state: PeerState::Down { .. }, since, .. }) => Some(*since),
        _ => None,
    };
    let failure = record.and_then(|record| record.last_failure.as_ref());
    match (lost_at, failure) {
        // A node that left EPMD is expected to be unreachable; any other failure since the
        // connection was lost is a new one.
        (Some(lost_at), Some(failure))
            if !is_missing && failure.at >= lost_at && failure.code != DialCode::NotRegistered =>
        {
            NodeState::NotConnected(Some(failure.code))
        }
        (Some(_), _) => NodeState::NotConnected(None),
        (None, _) if is_mixed => NodeState::NotConnected(Some(DialCode::ShortnameLongnameMix)),
        (None, _) if is_missing => NodeState::NotConnected(Some(DialCode::NotRegistered)),
        (None, Some(failure)) => NodeState::NotConnected(Some(failure.code)),
        (None, None) => NodeState::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::{Duration, SystemTime};

    use beam::dist::flags;
    use beam::node::view::PeerReason;

    use super::*;
    use crate::cluster::peers::records::PeerAnswers;
    use crate::cluster::view::{DialFailure, Introduction};
    use crate::plugin::sample;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn record(failure: Option<(DialCode, SystemTime)>) -> PeerRecord {
        let last_failure = failure.map(|(code, at)| DialFailure { code, detail: code.name().to_owned(), at });
        let answers = PeerAnswers::default();
        PeerRecord {
            introduced_by: Introduction::Epmd,
            since: NOW,
            attempts: 1,
            last_failure,
            under_way: Some(NOW),
            answers,
        }
    }

    fn peer(state: PeerState, since: SystemTime) -> Peer {
        Peer { state, since, connection: 1, owner: None }
    }

    fn plugin(name: &str) -> PluginName {
        sample::name(name)
    }

    #[test]
    fn a_node_is_unknown_until_its_first_attempt_has_ended() {
        let later = NOW + Duration::from_secs(1);
        let (trying, failed) = (record(None), record(Some((DialCode::CookieMismatch, NOW))));
        let up = peer(PeerState::Up { creation: 1, published: true, flags: flags::ours(false), dialled: true }, NOW);
        let down = peer(PeerState::Down { reason: PeerReason::new("closed_by_peer", "it left"), left: None }, later);
        let mismatch = NodeState::NotConnected(Some(DialCode::CookieMismatch));
        for (peer, record, is_missing, expected) in [
            (None, None, false, NodeState::Unknown),
            (None, Some(&trying), false, NodeState::Unknown),
            (None, Some(&failed), false, mismatch),
            (Some(&up), Some(&failed), true, NodeState::Connected),
            (Some(&down), Some(&trying), false, NodeState::NotConnected(None)),
            // The failure precedes the connection that was lost.
            (Some(&down), Some(&failed), false, NodeState::NotConnected(None)),
            (Some(&down), Some(&record(Some((DialCode::CookieMismatch, later)))), false, mismatch),
            (
                Some(&down),
                Some(&record(Some((DialCode::TcpTimeout, later)))),
                false,
                NodeState::NotConnected(Some(DialCode::TcpTimeout)),
            ),
            (Some(&down), Some(&record(Some((DialCode::TcpTimeout, NOW)))), false, NodeState::NotConnected(None)),
            // EPMD's answer at that attempt was that the node has left.
            (Some(&down), Some(&record(Some((DialCode::NotRegistered, later)))), false, NodeState::NotConnected(None)),
            (Some(&down), Some(&record(Some((DialCode::TcpRefused, later)))), true, NodeState::NotConnected(None)),
            (Some(&down), Some(&record(Some((DialCode::CookieMismatch, later)))), true, NodeState::NotConnected(None)),
            (None, Some(&failed), true, NodeState::NotConnected(Some(DialCode::NotRegistered))),
            (None, None, true, NodeState::NotConnected(Some(DialCode::NotRegistered))),
        ] {
            let evidence = Evidence { peer, record, is_missing, is_mixed: false };
            assert_eq!(state(evidence), expected, "{evidence:?}");
        }
        let mixed = Evidence { is_mixed: true, ..Evidence::default() };
        assert_eq!(state(mixed), NodeState::NotConnected(Some(DialCode::ShortnameLongnameMix)));
    }

    #[test]
    fn only_nodes_that_may_have_changed_are_examined() {
        let mut nodes = PluginNodes::default();
        let failed = record(Some((DialCode::CookieMismatch, NOW)));
        let looks = RefCell::new(Vec::new());
        let look = |node: &NodeName| {
            looks.borrow_mut().push(node.to_string());
            Evidence { record: Some(&failed), ..Evidence::default() }
        };
        nodes.add("a@h".parse().unwrap(), plugin("hecate-ad"));
        nodes.add("b@h".parse().unwrap(), plugin("hecate-bd"));
        let first = nodes.update(look);
        assert_eq!(looks.take(), ["a@h", "b@h"]);
        assert_eq!(nodes.update(look), first);
        nodes.touch("a@h".parse().unwrap());
        nodes.touch("stranger@h".parse().unwrap());
        assert_eq!(nodes.update(look), first, "the same state is not a change");
        assert_eq!(looks.take(), ["a@h"]);
        nodes.add("b@h".parse().unwrap(), plugin("hecate-cd"));
        nodes.remove("a@h".parse().unwrap(), &plugin("hecate-ad"));
        let second = nodes.update(look);
        assert_ne!(second, first);
        assert_eq!(looks.take(), ["b@h"]);
        let apart: Vec<_> =
            second.not_connected().map(|(node, code, plugins)| (node.as_str(), code, plugins.len())).collect();
        assert_eq!(apart, [("b@h", Some(DialCode::CookieMismatch), 2)]);
        assert_eq!(
            (first.of("a@h"), second.of("a@h")),
            (NodeState::NotConnected(Some(DialCode::CookieMismatch)), NodeState::Unknown)
        );
    }
}
