//! `cluster`: our node, its EPMD, its process groups and its peers, and the plugins of every host. It changes nothing.

use std::time::SystemTime;

use hyper::Method;

use super::client::Call;
use super::page::{self, Cell, fields, table};
use super::plugins;
use crate::api::wire::Cluster;

pub(super) fn call() -> Call {
    Call::new(Method::GET, "/api/cluster", show)
}

/// What stands below it: the hosts and their plugins.
pub(super) fn plugins() -> Call {
    Call::new(Method::GET, plugins::ALL, |body| Ok(format!("\n{}", plugins::show_all(body)?)))
}

fn show(body: &[u8]) -> serde_json::Result<String> {
    let cluster: Cluster = serde_json::from_slice(body)?;
    let now = SystemTime::now();
    let epmd = match &cluster.epmd.reason {
        Some(reason) => Cell::odd(&format!("{}: {reason}", cluster.epmd.state)),
        None => Cell::state(&cluster.epmd.state),
    };
    let mut about = fields([
        ("node", Cell::optional(cluster.node.as_deref())),
        ("epmd", epmd),
        ("peers", Cell::from(cluster.peers.len().to_string())),
    ]);
    about.extend(cluster.scopes.into_iter().map(|scope| {
        let groups = format!(
            "{}: {} members in {} groups of ours, {} in {} of peers",
            scope.name, scope.own_members, scope.own_groups, scope.peer_members, scope.peer_groups
        );
        vec![Cell::head("scope"), Cell::from(groups)]
    }));
    about.extend(cluster.unregistered.into_iter().map(|node| {
        let advice = format!("{node} is called like a plugin's node, and no plugin's: register it");
        vec![Cell::odd("unregistered"), Cell::from(advice)]
    }));
    let mut text = table(&about);
    if !cluster.peers.is_empty() {
        let mut peers = vec![["PEER", "STATE", "SINCE", "REASON"].map(Cell::head).to_vec()];
        peers.extend(cluster.peers.into_iter().map(|peer| {
            let since = Cell::from(page::since(&peer.since, now));
            vec![Cell::from(peer.name), Cell::state(&peer.state), since, Cell::from(peer.reason)]
        }));
        text.push('\n');
        text.push_str(&table(&peers));
    }
    Ok(text)
}
