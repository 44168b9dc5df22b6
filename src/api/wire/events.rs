//! What `/api/events` tells.

use crate::plugin::{Event, Plugin};

use super::{Deserialize, Home, Namespace, NodeState, NodeStates, PeerView, PluginEntry, Serialize, registry, time};
use crate::plugin::EventKind;

/// A stored event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredEvent {
    /// The revision that it made.
    pub revision: u64,
    /// When, RFC 3339.
    pub at: String,
    /// The plugin after it (before it, for a deregistration).
    #[serde(flatten)]
    pub plugin: PluginEntry,
}

/// All that is registered, for a client that knows nothing, or nothing that is still known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The revision at which it was so.
    pub revision: u64,
    /// The plugins in name order.
    pub plugins: Vec<PluginEntry>,
}

/// A node's coming or going.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEvent {
    /// Its full name.
    pub node: String,
    /// When, RFC 3339; null if that isn't known any more.
    pub at: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// The state of a plugin's node has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStateEvent {
    /// The node's full name.
    pub node: String,
    /// `connected`, `not_connected` or `unknown`.
    pub node_state: String,
    /// The code of the failure, if it is not connected and an attempt has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_failure: Option<String>,
}

impl StoredEvent {
    /// Describes an event of a plugin with this namespace. A deregistered plugin has no node.
    #[must_use]
    pub fn new(event: &Event, namespace: &Namespace, nodes: &NodeStates) -> Self {
        let plugin = PluginEntry::new(&event.plugin, namespace);
        let plugin = if event.kind == EventKind::Deregistered { plugin } else { plugin.with_node(nodes) };
        Self { revision: event.revision, at: time(event.at), plugin }
    }
}

impl Snapshot {
    /// The registry as it is.
    #[must_use]
    pub fn new(view: &registry::View, home: &Home, nodes: &NodeStates) -> Self {
        let plugins = view.plugins.values();
        let entry = |plugin: &Plugin| PluginEntry::new(plugin, &home.namespace(&plugin.name)).with_node(nodes);
        Self { revision: view.revision, plugins: plugins.map(|plugin| entry(plugin)).collect() }
    }
}

impl NodeStateEvent {
    /// Describes the new state of a node.
    #[must_use]
    pub fn new(node: &str, state: NodeState) -> Self {
        Self {
            node: node.to_owned(),
            node_state: state.name().to_owned(),
            node_failure: state.failure().map(str::to_owned),
        }
    }
}

impl NodeEvent {
    /// What is known of the node now.
    #[must_use]
    pub fn new(node: &str, peer: Option<&PeerView>) -> Self {
        Self {
            node: node.to_owned(),
            at: peer.map(|peer| time(peer.since)),
            reason: peer.map(|peer| peer.reason.clone()),
        }
    }
}
