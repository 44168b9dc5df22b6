//! What `/api/cluster/plugins` tells: the plugins of every hecate-daemon, our own among them.

use serde::{Deserialize, Serialize};

use super::{HostState, PluginEntry};

/// `/api/cluster/plugins`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterPlugins {
    /// The hecate-daemons, in the order of their nodes' names.
    pub hosts: Vec<Host>,
    /// Their plugins, in name order, those of one name in the order of `daemon`.
    pub plugins: Vec<ClusterPlugin>,
}

/// One hecate-daemon. Two users of one host have one each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its node's full name; null for ours while it has none.
    pub daemon: Option<String>,
    /// The host part of that.
    pub host: String,
    /// Whether it is there; the plugins of one that is not are what it said last.
    pub state: HostState,
    /// Since when it has its state, RFC 3339; null for ours while it is in no cluster.
    pub since: Option<String>,
    /// How many plugins of it are known.
    pub plugins: usize,
    /// How many there are besides, which could not be taken.
    pub left_out: usize,
}

/// One plugin on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterPlugin {
    /// What the list of its own host says.
    #[serde(flatten)]
    pub entry: PluginEntry,
    /// Its host.
    pub host: String,
    /// The node of the hecate-daemon that says so; null for ours while it has none.
    pub daemon: Option<String>,
    /// Since when that daemon is lost, RFC 3339: then this is what it said last. Null while it is connected.
    pub lost_since: Option<String>,
}
