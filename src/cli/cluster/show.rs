//! `cluster`: our node, its EPMD, its process groups and its peers, and the plugins of every host. It changes nothing.

use std::path::Path;
use std::time::SystemTime;

use hyper::Method;
use serde_json::{Map, Value};

use super::peers;
use crate::cli::plugins::list;
use crate::cli::support::client::{self, Call};
use crate::cli::support::command::{ask, report};
use crate::cli::support::exit::Exit;
use crate::cli::support::page::{self, Cell, complain, fields, table};
use crate::limits;
use crate::wire::Cluster;

/// Two answers of the API: one below the other, or, for scripts, as one object with the keys of both.
pub(in crate::cli) async fn run(socket: &Path, json: bool) -> Exit {
    let calls = [
        Call::new(Method::GET, "/api/cluster", show),
        Call::new(Method::GET, list::ALL, |body| Ok(format!("\n{}", list::show_all(body)?))),
    ];
    if json {
        return whole(socket, &calls).await;
    }
    for call in &calls {
        match ask(socket, call, json).await {
            Exit::Done => {}
            exit => return exit,
        }
    }
    Exit::Done
}

async fn whole(socket: &Path, calls: &[Call]) -> Exit {
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
        text.push('\n');
        text.push_str(&peers::shown(cluster.peers, SystemTime::now()));
    }
    Ok(text)
}
