//! `cluster`: shows the daemon's node, its EPMD, process groups and peers, and the plugins of all
//! hosts.

use std::path::Path;
use std::time::SystemTime;

use hyper::Method;
use serde_json::{Map, Value};

use super::peers;
use crate::cli::plugins::list;
use crate::cli::support::client::{self, Call};
use crate::cli::support::command::{ask, report};
use crate::cli::support::exit::Exit;
use crate::cli::support::page::{self, Cell, complain, counted, fields, table};
use crate::limits;
use crate::wire::Cluster;

/// Shows two answers of the API: one below the other, or as one JSON object with the keys of both.
pub(in crate::cli) async fn run(socket: &Path, json: bool) -> Exit {
    let calls = [
        Call::new(Method::GET, "/api/cluster", show),
        Call::new(Method::GET, list::ALL, |body| Ok(format!("\n{}", list::show_all(body)?))),
    ];
    if json {
        return merged(socket, &calls).await;
    }
    for call in &calls {
        match ask(socket, call, json).await {
            Exit::Done => {}
            exit => return exit,
        }
    }
    Exit::Done
}

async fn merged(socket: &Path, calls: &[Call]) -> Exit {
    let mut whole: Map<String, Value> = Map::new();
    for call in calls {
        let answer = match client::send(socket, call, limits::CLIENT_TIME).await {
            Ok(answer) => answer,
            Err(error) => {
                complain(&error.to_string());
                return error.exit();
            }
        };
        match serde_json::from_slice::<Map<String, Value>>(&answer.body) {
            Ok(keys) if answer.status.is_success() && (call.show)(&answer.body).is_ok() => whole.extend(keys),
            _ => return report(socket, call, &answer, true).await,
        }
    }
    page::write(&format!("{}\n", Value::Object(whole))).exit()
}

fn show(body: &[u8]) -> serde_json::Result<String> {
    let cluster: Cluster = serde_json::from_slice(body)?;
    let epmd = match &cluster.epmd.reason {
        Some(reason) => Cell::warning(&format!("{}: {reason}", cluster.epmd.state)),
        None => Cell::state(&cluster.epmd.state),
    };
    let mut about = fields([
        ("node", Cell::optional(cluster.node.as_deref())),
        ("epmd", epmd),
        ("peers", Cell::from(cluster.peers.len().to_string())),
    ]);
    let members = |count| counted(count, "member", "members");
    let groups = |count| counted(count, "group", "groups");
    about.extend(cluster.scopes.into_iter().map(|scope| {
        let groups = format!(
            "{}: this node has {} in {}, peers have {} in {}",
            scope.name,
            members(scope.own_members),
            groups(scope.own_groups),
            members(scope.peer_members),
            groups(scope.peer_groups)
        );
        vec![Cell::head("scope"), Cell::from(groups)]
    }));
    about.extend(cluster.unregistered.into_iter().map(|node| {
        let advice = format!("{node} is named like the node of a plugin, but no plugin has it; register the plugin");
        vec![Cell::warning("unregistered"), Cell::from(advice)]
    }));
    let mut text = table(&about);
    if !cluster.peers.is_empty() {
        text.push('\n');
        text.push_str(&peers::shown(cluster.peers, SystemTime::now()));
    }
    Ok(text)
}
