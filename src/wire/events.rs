//! The JSON of `/api/events`.

use serde::{Deserialize, Serialize};

use super::{FailureCode, NodeState, PluginEntry};

/// A stored event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredEvent {
    /// The revision of the registry after the event.
    pub revision: u64,
    /// The time (RFC 3339).
    pub at: String,
    /// The plugin after the event; for a deregistration, before it.
    #[serde(flatten)]
    pub plugin: PluginEntry,
}

/// All plugins. Sent to a client that is new, or whose last event is no longer stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The revision of the registry.
    pub revision: u64,
    /// The plugins in name order.
    pub plugins: Vec<PluginEntry>,
}

/// A node connected or disconnected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEvent {
    /// Its full name.
    pub node: String,
    /// The time (RFC 3339); null if it is no longer known.
    pub at: Option<String>,
    /// The reason, as a sentence.
    pub reason: Option<String>,
    /// The reason, as a stable code.
    #[serde(default)]
    pub reason_code: Option<String>,
}

/// The state of a plugin's node has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStateEvent {
    /// The node's full name.
    pub node: String,
    /// Whether it is connected.
    pub node_state: NodeState,
    /// The code of the failure, if it is not connected and an attempt has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_failure: Option<FailureCode>,
}
