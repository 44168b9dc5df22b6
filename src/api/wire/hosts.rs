//! What `/api/cluster/plugins` tells: the plugins of every hecate-daemon, our own among them.

use crate::plugin::Plugin;

use super::{ClusterView, Deserialize, Home, PluginEntry, Serialize, registry, time};
use crate::cluster::view::{HostState, HostView, PluginStatus, PluginView};

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
    /// `connected`, or `lost`: then its plugins are what it said last.
    pub state: String,
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

impl ClusterPlugins {
    /// The plugins of the cluster.
    #[must_use]
    pub fn new(view: &ClusterView, registry: &registry::View, home: &Home) -> Self {
        let ours = Host {
            daemon: view.node.clone(),
            host: view.host.clone(),
            state: "connected".to_owned(),
            since: view.since.map(time),
            plugins: registry.plugins.size(),
            left_out: 0,
        };
        let own = |plugin: &Plugin| ClusterPlugin {
            entry: PluginEntry::new(plugin, &home.namespace(&plugin.name)).with_node(&view.plugin_nodes),
            host: view.host.clone(),
            daemon: view.node.clone(),
            lost_since: None,
        };
        let mut plugins: Vec<ClusterPlugin> = registry.plugins.values().map(|plugin| own(plugin)).collect();
        plugins.extend(view.hosts.iter().flat_map(|host| {
            let lost_since = (host.state == HostState::Lost).then(|| time(host.since));
            host.plugins.values().map(move |plugin| ClusterPlugin {
                entry: entry(plugin),
                host: host.host.clone(),
                daemon: Some(host.daemon.clone()),
                lost_since: lost_since.clone(),
            })
        }));
        plugins.sort_by(|a, b| (&a.entry.name, &a.daemon).cmp(&(&b.entry.name, &b.daemon)));
        let mut hosts: Vec<Host> = view.hosts.iter().map(Host::new).chain([ours]).collect();
        hosts.sort_by(|a, b| a.daemon.cmp(&b.daemon));
        Self { hosts, plugins }
    }
}

impl Host {
    fn new(host: &HostView) -> Self {
        Self {
            daemon: Some(host.daemon.clone()),
            host: host.host.clone(),
            state: match host.state {
                HostState::Connected => "connected".to_owned(),
                HostState::Lost => "lost".to_owned(),
            },
            since: Some(time(host.since)),
            plugins: host.plugins.size(),
            left_out: host.left_out,
        }
    }
}

fn entry(plugin: &PluginView) -> PluginEntry {
    PluginEntry {
        name: plugin.name.clone(),
        version: plugin.version.clone(),
        socket: plugin.socket.clone(),
        status: match plugin.status {
            PluginStatus::Running => "running".to_owned(),
            PluginStatus::Stopped => "stopped".to_owned(),
        },
        description: plugin.description.clone(),
        node: plugin.node.clone(),
        since: time(plugin.since),
        reason: plugin.reason.clone(),
        // Only its own daemon knows.
        node_state: None,
        node_failure: None,
    }
}
