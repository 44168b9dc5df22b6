//! What `/api/events` tells.

use serde::{Deserialize, Serialize};

use super::{FailureCode, NodeState, PluginEntry};

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
    /// Why, as a sentence.
    pub reason: Option<String>,
    /// The same as a stable code.
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
