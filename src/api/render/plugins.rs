//! The JSON of this host's plugins.

use super::time;
use crate::cluster::view::{NodeState, NodeStates};
use crate::layout::{self, Namespace};
use crate::plugin::{Plugin, PluginName, Status};
use crate::wire::{self, Connector, Paths, PluginDetail, PluginEntry, Purgeable, Purged, Registered, Removed};

impl Registered {
    /// Describes a registration, as the convention requires.
    #[must_use]
    pub fn new(name: &PluginName, namespace: &Namespace) -> Self {
        Self { name: name.to_string(), base_dir: namespace.base().display().to_string(), paths: Paths::new(namespace) }
    }
}

impl Purgeable {
    /// Describes the data in this namespace.
    #[must_use]
    pub fn new(name: &PluginName, namespace: &Namespace) -> Self {
        Self { name: name.to_string(), base_dir: namespace.base().display().to_string() }
    }
}

impl Purged {
    /// Describes the removal of this namespace.
    #[must_use]
    pub fn new(name: &PluginName, namespace: &Namespace, removed: layout::Removed) -> Self {
        let layout::Removed { directories, files, bytes } = removed;
        Self {
            ok: true,
            name: name.to_string(),
            base_dir: namespace.base().display().to_string(),
            removed: Removed { directories, files, bytes },
        }
    }
}

impl Paths {
    fn new(namespace: &Namespace) -> Self {
        // The path of home is UTF-8, so `display` loses nothing.
        Self {
            sqlite: namespace.sqlite().display().to_string(),
            reckon_db: namespace.reckon_db().display().to_string(),
            sockets: namespace.sockets().display().to_string(),
            run: namespace.run().display().to_string(),
            connectors: namespace.connectors().display().to_string(),
        }
    }
}

impl From<Status> for wire::PluginStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Running => Self::Running,
            Status::Stopped => Self::Stopped,
        }
    }
}

impl From<NodeState> for wire::NodeState {
    fn from(state: NodeState) -> Self {
        match state {
            NodeState::Unknown => Self::Unknown,
            NodeState::Connected => Self::Connected,
            NodeState::NotConnected(_) => Self::NotConnected,
        }
    }
}

impl PluginEntry {
    /// Describes a plugin in the list, without its node's state.
    #[must_use]
    pub fn new(plugin: &Plugin, namespace: &Namespace) -> Self {
        Self {
            name: plugin.name.to_string(),
            version: plugin.version.clone(),
            socket: namespace.api_sock().display().to_string(),
            status: plugin.status.into(),
            description: plugin.description.clone(),
            node: plugin.node.as_ref().map(ToString::to_string),
            since: time(plugin.since),
            reason: plugin.reason.detail.clone(),
            reason_code: plugin.reason.code.name().to_owned(),
            node_state: None,
            node_failure: None,
        }
    }

    /// Adds the state of the plugin's node.
    #[must_use]
    pub fn with_node(mut self, nodes: &NodeStates) -> Self {
        let state = self.node.as_deref().map(|node| nodes.of(node));
        self.node_state = state.map(wire::NodeState::from);
        self.node_failure = state.and_then(NodeState::failure).map(|code| code.name().into());
        self
    }
}

impl PluginDetail {
    /// Describes a plugin and its namespace.
    #[must_use]
    pub fn new(plugin: &Plugin, namespace: &Namespace, nodes: &NodeStates, contents: layout::Contents) -> Self {
        let connector = |connector: layout::Connector| Connector {
            id: connector.id,
            socket: connector.socket.display().to_string(),
            answers: connector.answers,
        };
        Self {
            connectors: contents.connectors.into_iter().map(connector).collect(),
            extra_directories: contents.extra_directories,
            entry: PluginEntry::new(plugin, namespace).with_node(nodes),
            registered_at: time(plugin.registered_at),
            base_dir: namespace.base().display().to_string(),
            paths: Paths::new(namespace),
        }
    }
}
