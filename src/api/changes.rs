//! Changes of the cluster, as event streams report them. Each change is found and encoded once, and
//! all streams share its bytes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use beam::name::NodeName;
use bytes::Bytes;

use super::sse::encode;
use crate::cluster::view::{ClusterView, NodeStates, PeerState, PeerView};
use crate::limits;
use crate::wire;

/// The connected nodes, with the times at which they connected.
pub(super) type Nodes = BTreeMap<NodeName, SystemTime>;

/// The state of the cluster that a stream has reported to its client. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Reported {
    nodes: Arc<Nodes>,
    /// The states of plugins' nodes.
    pub plugin_nodes: NodeStates,
}

impl Reported {
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.nodes, &other.nodes) && self.plugin_nodes == other.plugin_nodes
    }
}

/// The changes that lead to the latest view. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Changes(Arc<Mutex<Latest>>);

#[derive(Debug, Default)]
struct Latest {
    view: Arc<ClusterView>,
    /// The reported state of a stream that has sent all events up to the view.
    reported: Reported,
    /// The events for streams that have reported another state.
    events: VecDeque<(Reported, Arc<[Bytes]>)>,
}

impl Changes {
    /// Returns the reported state of a stream that begins with this view.
    pub(super) fn reported(&self, view: &Arc<ClusterView>) -> Reported {
        self.with(view, |latest| latest.reported.clone())
    }

    /// Returns the events that a stream must send for this view, and its reported state after them.
    pub(super) fn since(&self, reported: &Reported, view: &Arc<ClusterView>) -> (Arc<[Bytes]>, Reported) {
        self.with(view, |latest| {
            let known = latest.events.iter().find(|(before, _)| before.is(reported));
            let events = match known {
                Some((_, events)) => Arc::clone(events),
                None => {
                    let events: Arc<[Bytes]> = events(reported, &latest.reported, view).into();
                    latest.events.truncate(limits::HTTP_CHANGES - 1);
                    latest.events.push_front((reported.clone(), Arc::clone(&events)));
                    events
                }
            };
            (events, latest.reported.clone())
        })
    }

    /// Calls `get` with the changes up to this view, one caller at a time, so that each change is
    /// encoded once.
    fn with<R>(&self, view: &Arc<ClusterView>, get: impl FnOnce(&mut Latest) -> R) -> R {
        // After a panic, at worst a change is encoded twice.
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&latest.view, view) {
            *latest = Latest {
                view: Arc::clone(view),
                reported: Reported { nodes: nodes(view).into(), plugin_nodes: view.plugin_nodes.clone() },
                events: VecDeque::new(),
            };
        }
        get(&mut latest)
    }
}

fn nodes(view: &ClusterView) -> Nodes {
    let connected = view.peers.iter().filter(|peer| peer.state == PeerState::Connected);
    connected.map(|peer| (peer.name.clone(), peer.since)).collect()
}

/// Returns the events that lead from the state `before` to the state of the view. A node that has
/// reconnected meanwhile goes down and up.
fn events(before: &Reported, now: &Reported, view: &ClusterView) -> Vec<Bytes> {
    let differ = |node: &&NodeName| before.nodes.get(*node) != now.nodes.get(*node);
    let gone = before.nodes.keys().filter(differ).map(|node| ("node_down_v1", node));
    let come = now.nodes.keys().filter(differ).map(|node| ("node_up_v1", node));
    let nodes = gone.chain(come).map(|(name, node)| encode(name, None, &wire::NodeEvent::new(node, peer(view, node))));
    let states = now.plugin_nodes.changed_since(&before.plugin_nodes);
    let states = states
        .into_iter()
        .map(|(node, state)| encode("node_state_changed_v1", None, &wire::NodeStateEvent::new(node, state)));
    nodes.chain(states).collect()
}

fn peer<'a>(view: &'a ClusterView, node: &NodeName) -> Option<&'a PeerView> {
    let place = view.peers.binary_search_by(|peer| peer.name.cmp(node)).ok()?;
    view.peers.get(place)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use beam::node::view::PeerReason;

    use super::*;
    use crate::cluster::view::{NodeState, PeerDetails, PluginNode};

    fn view(peers: &[&str], state: NodeState) -> Arc<ClusterView> {
        let peer = |name: &&str| PeerView {
            name: name.parse().unwrap(),
            on_this_host: false,
            state: PeerState::Connected,
            since: UNIX_EPOCH,
            reason: PeerReason::new("connected", "it connected"),
            details: PeerDetails::default(),
        };
        let mut plugin_nodes = NodeStates::default();
        plugin_nodes.set("oned@h".parse().unwrap(), Some(PluginNode { state, plugins: [].into() }));
        Arc::new(ClusterView { peers: peers.iter().map(peer).collect(), plugin_nodes, ..ClusterView::default() })
    }

    fn names(events: &[Bytes]) -> Vec<String> {
        let name = |event: &Bytes| {
            let text = String::from_utf8(event.to_vec()).unwrap();
            let node = text.split("\"node\":\"").nth(1).unwrap().split('"').next().unwrap();
            format!("{} {node}", text.lines().next().unwrap().strip_prefix("event: ").unwrap())
        };
        events.iter().map(name).collect()
    }

    #[test]
    fn all_streams_share_the_events_of_a_change() {
        let changes = Changes::default();
        let before = view(&["a@h", "b@h"], NodeState::Unknown);
        let mut streams = vec![changes.reported(&before); 100];
        let mut now = view(&["b@h", "c@h"], NodeState::Unknown);
        let states = &mut Arc::get_mut(&mut now).unwrap().plugin_nodes;
        *states = before.plugin_nodes.clone();
        states.set("oned@h".parse().unwrap(), Some(PluginNode { state: NodeState::Connected, plugins: [].into() }));
        let mut encoded: Vec<Arc<[Bytes]>> = Vec::new();
        for reported in &mut streams {
            let (events, next) = changes.since(reported, &now);
            assert_eq!(names(&events), ["node_down_v1 a@h", "node_up_v1 c@h", "node_state_changed_v1 oned@h"]);
            if !encoded.iter().any(|known| Arc::ptr_eq(known, &events)) {
                encoded.push(events);
            }
            *reported = next;
            assert!(changes.since(reported, &now).0.is_empty());
        }
        assert_eq!(encoded.len(), 1);
        assert!(streams.iter().all(|reported| reported.is(&changes.reported(&now))), "they share the next change, too");
    }

    #[test]
    fn the_kept_changes_are_bounded() {
        let changes = Changes::default();
        let views: Vec<_> = (0..=limits::HTTP_CHANGES).map(|_| view(&["a@h"], NodeState::Unknown)).collect();
        let streams: Vec<Reported> = views.iter().map(|view| changes.reported(view)).collect();
        let now = view(&[], NodeState::Unknown);
        for reported in &streams {
            assert_eq!(names(&changes.since(reported, &now).0), ["node_down_v1 a@h"]);
        }
        assert_eq!(changes.0.lock().unwrap().events.len(), limits::HTTP_CHANGES);
    }
}
