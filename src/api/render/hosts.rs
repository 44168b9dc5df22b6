//! The JSON of the plugins of all hosts.

use super::time;
use crate::cluster::view::{ClusterView, HostState, HostView, PluginView};
use crate::layout::Home;
use crate::plugin::Plugin;
use crate::registry;
use crate::wire::{self, ClusterPlugin, ClusterPlugins, Host, PluginEntry};

impl ClusterPlugins {
    /// Describes the plugins of all hosts.
    #[must_use]
    pub fn new(view: &ClusterView, registry: &registry::View, home: &Home) -> Self {
        let ours = Host {
            daemon: view.node.as_ref().map(ToString::to_string),
            host: view.host.clone(),
            state: wire::HostState::Connected,
            since: view.since.map(time),
            plugins: registry.plugins.size(),
            left_out: 0,
        };
        let own = |plugin: &Plugin| ClusterPlugin {
            entry: PluginEntry::new(plugin, &home.namespace(&plugin.name)).with_node(&view.plugin_nodes),
            host: view.host.clone(),
            daemon: view.node.as_ref().map(ToString::to_string),
            lost_since: None,
        };
        let mut plugins: Vec<ClusterPlugin> = registry.plugins.values().map(|plugin| own(plugin)).collect();
        plugins.extend(view.hosts.iter().flat_map(|host| {
            let lost_since = (host.state == HostState::Lost).then(|| time(host.since));
            host.plugins.values().map(move |plugin| ClusterPlugin {
                entry: entry(plugin),
                host: host.daemon.host().to_owned(),
                daemon: Some(host.daemon.to_string()),
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
            daemon: Some(host.daemon.to_string()),
            host: host.daemon.host().to_owned(),
            state: match host.state {
                HostState::Connected => wire::HostState::Connected,
                HostState::Lost => wire::HostState::Lost,
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
        status: plugin.status.into(),
        description: plugin.description.clone(),
        node: plugin.node.as_ref().map(ToString::to_string),
        since: time(plugin.since),
        reason: plugin.reason.detail.clone(),
        reason_code: plugin.reason.code.name().to_owned(),
        // Only the daemon of that host knows this.
        node_state: None,
        node_failure: None,
    }
}
