//! The JSON of events.

use super::time;
use crate::cluster::view::{NodeState, NodeStates, PeerView};
use crate::layout::{Home, Namespace};
use crate::plugin::{Event, EventKind, Plugin};
use crate::registry;
use crate::wire::{NodeEvent, NodeStateEvent, PluginEntry, Snapshot, StoredEvent};

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
    /// Describes all plugins of the registry.
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
            node_state: state.into(),
            node_failure: state.failure().map(|code| code.name().into()),
        }
    }
}

impl NodeEvent {
    /// Describes a node, with the details of the peer if they are still known.
    #[must_use]
    pub fn new(node: &str, peer: Option<&PeerView>) -> Self {
        Self {
            node: node.to_owned(),
            at: peer.map(|peer| time(peer.since)),
            reason: peer.map(|peer| peer.reason.detail.clone()),
            reason_code: peer.map(|peer| peer.reason.code.to_owned()),
        }
    }
}
