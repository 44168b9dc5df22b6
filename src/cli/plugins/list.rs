//! `plugins`: lists the plugins of this host, or of all hosts in the cluster.

use std::time::SystemTime;

use clap::Args;
use hyper::Method;

use crate::cli::support::client::Call;
use crate::cli::support::command::Common;
use crate::cli::support::page::{self, Cell, table};
use crate::wire::{ClusterPlugin, ClusterPlugins, FailureCode, Host, NodeState, PluginEntry};

#[derive(Debug, Args)]
pub(in crate::cli) struct Plugins {
    /// List the plugins of all hosts in the cluster
    #[arg(long)]
    cluster: bool,
    #[command(flatten)]
    pub common: Common,
}

impl Plugins {
    pub(in crate::cli) fn call(&self) -> Call {
        match self.cluster {
            true => Call::new(Method::GET, ALL, show_all),
            false => own(),
        }
    }
}

/// Returns the request for the plugins of this host.
pub(in crate::cli) fn own() -> Call {
    Call::new(Method::GET, "/api/plugins", show)
}

/// The path of the plugins of all hosts.
pub(in crate::cli) const ALL: &str = "/api/cluster/plugins";

fn show(body: &[u8]) -> serde_json::Result<String> {
    let plugins: Vec<PluginEntry> = serde_json::from_slice(body)?;
    if plugins.is_empty() {
        return Ok("no plugins are registered; register one with `hecate-daemon register NAME`\n".to_owned());
    }
    let now = SystemTime::now();
    let mut rows = vec![["NAME", "VERSION", "STATUS", "SINCE", "NODE", "NODE STATE"].map(Cell::head).to_vec()];
    rows.extend(plugins.into_iter().map(|plugin| {
        vec![
            Cell::from(plugin.name),
            Cell::optional(plugin.version.as_deref()),
            Cell::state(&plugin.status),
            Cell::from(page::since(&plugin.since, now)),
            Cell::optional(plugin.node.as_deref()),
            node_state(plugin.node_state.as_ref(), plugin.node_failure.as_ref()),
        ]
    }));
    Ok(table(&rows))
}

/// Shows whether the node of a plugin is connected, and why not.
pub(in crate::cli) fn node_state(state: Option<&NodeState>, failure: Option<&FailureCode>) -> Cell {
    match (state, failure) {
        (None, _) => Cell::faint("-"),
        (Some(state), None) => Cell::state(state),
        (Some(state), Some(failure)) => Cell::bad(&format!("{state} ({failure})")),
    }
}

pub(in crate::cli) fn show_all(body: &[u8]) -> serde_json::Result<String> {
    let ClusterPlugins { hosts, plugins } = serde_json::from_slice(body)?;
    let now = SystemTime::now();
    let mut rows = vec![["HOST", "DAEMON", "STATE", "SINCE", "PLUGINS"].map(Cell::head).to_vec()];
    rows.extend(hosts.into_iter().map(|Host { daemon, host, state, since, plugins, left_out }| {
        let since = since.map(|since| page::since(&since, now));
        let plugins = match left_out {
            0 => plugins.to_string(),
            more => format!("{plugins}, and {more} that do not fit"),
        };
        vec![
            Cell::from(host),
            Cell::optional(daemon.as_deref()),
            Cell::state(&state),
            Cell::optional(since.as_deref()),
            Cell::from(plugins),
        ]
    }));
    let mut text = table(&rows);
    if !plugins.is_empty() {
        let mut rows = vec![["PLUGIN", "VERSION", "STATUS", "SINCE", "DAEMON", "NODE"].map(Cell::head).to_vec()];
        rows.extend(plugins.into_iter().map(|ClusterPlugin { entry, host, daemon, lost_since }| {
            let (status, since) = match &lost_since {
                None => (Cell::state(&entry.status), &entry.since),
                Some(lost) => (Cell::warning(&format!("lost, was {}", entry.status)), lost),
            };
            vec![
                Cell::from(entry.name),
                Cell::optional(entry.version.as_deref()),
                status,
                Cell::from(page::since(since, now)),
                // Users of one host have a daemon each. This daemon has no node during its start.
                Cell::from(daemon.unwrap_or(host)),
                Cell::optional(entry.node.as_deref()),
            ]
        }));
        text.push('\n');
        text.push_str(&table(&rows));
    }
    Ok(text)
}
