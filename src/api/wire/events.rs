//! What `/api/events` tells.

use super::{Deserialize, Home, Namespace, PeerView, PluginEntry, Serialize, registry, time};

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

impl StoredEvent {
    /// An event of a plugin with this namespace.
    #[must_use]
    pub fn new(event: &registry::Event, namespace: &Namespace) -> Self {
        let plugin = PluginEntry::new(&event.plugin, namespace);
        Self { revision: event.revision, at: time(event.at), plugin }
    }
}

impl Snapshot {
    /// The registry as it is.
    #[must_use]
    pub fn new(view: &registry::View, home: &Home) -> Self {
        let plugins = view.plugins.values();
        Self {
            revision: view.revision,
            plugins: plugins.map(|plugin| PluginEntry::new(plugin, &home.namespace(&plugin.name))).collect(),
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
