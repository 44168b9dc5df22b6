//! The JSON of `/api/cluster/plugins`: the plugins of all hecate-daemons, including our own.

use serde::{Deserialize, Serialize};

use super::{HostState, PluginEntry};

/// `/api/cluster/plugins`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterPlugins {
    /// The hecate-daemons, sorted by node name.
    pub hosts: Vec<Host>,
    /// Their plugins, sorted by name and then by `daemon`.
    pub plugins: Vec<ClusterPlugin>,
}

/// A hecate-daemon. Each user of a host may run one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The full name of its node; null for our own daemon while it has none.
    pub daemon: Option<String>,
    /// The host part of the node name.
    pub host: String,
    /// Whether it is connected. The plugins of a lost daemon are those that it last reported.
    pub state: HostState,
    /// Since when it has its state (RFC 3339); null for our own daemon while it has no node name.
    pub since: Option<String>,
    /// The number of its known plugins.
    pub plugins: usize,
    /// The number of its other plugins, which are invalid or exceed a limit.
    pub left_out: usize,
}

/// One plugin on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterPlugin {
    /// The entry in the list of its own host.
    #[serde(flatten)]
    pub entry: PluginEntry,
    /// Its host.
    pub host: String,
    /// The node of its hecate-daemon; null for our own daemon while it has none.
    pub daemon: Option<String>,
    /// Since when the daemon is lost (RFC 3339); null while it is connected. The entry of a lost
    /// daemon is the last one that it reported.
    pub lost_since: Option<String>,
}
