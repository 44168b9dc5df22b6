//! Asks "did you mean" with the plugins and nodes that the daemon knows.

use std::collections::BTreeSet;
use std::path::Path;

use beam::name::NodeName;
use hyper::Method;
use serde::de::DeserializeOwned;

use super::client::{self, Call};
use crate::wire::{Cluster, PluginEntry};
use crate::{limits, similar};

/// Returns the name that is most like `name`, unless each differs in more than a third of the
/// bytes.
pub(in crate::cli) fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    similar::closest(name, known, (name.len() / 3).clamp(1, 8))
}

/// Returns `; did you mean 'x'?` with the most similar name, or an empty string if there is none.
pub(in crate::cli) fn question<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    closest(name, known).map(|known| format!("; did you mean '{known}'?")).unwrap_or_default()
}

/// Returns the names of the registered plugins, or none if the daemon does not list them.
pub(in crate::cli) async fn plugins(socket: &Path) -> Vec<String> {
    let plugins: Option<Vec<PluginEntry>> = get(socket, "/api/plugins").await;
    plugins.unwrap_or_default().into_iter().map(|plugin| plugin.name).collect()
}

/// Returns the most similar node if the daemon does not know `node`: a peer, or the node of a
/// plugin.
pub(in crate::cli) async fn node(socket: &Path, node: &NodeName) -> Option<String> {
    let cluster: Option<Cluster> = get(socket, "/api/cluster").await;
    let plugins: Option<Vec<PluginEntry>> = get(socket, "/api/plugins").await;
    let peers = cluster.map(|cluster| (cluster.node, cluster.peers));
    let (own, peers) = peers.unwrap_or_default();
    let mut known: BTreeSet<String> = peers.into_iter().map(|peer| peer.name).collect();
    known.extend(plugins.unwrap_or_default().into_iter().filter_map(|plugin| plugin.node));
    if known.contains(node.as_str()) || own.as_deref() == Some(node.as_str()) {
        return None;
    }
    closest(node.as_str(), known.iter().map(String::as_str)).map(str::to_owned)
}

async fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Option<T> {
    let call = Call::new(Method::GET, path, |_| Ok(String::new()));
    let answer = client::send(socket, &call, limits::CLIENT_TIME).await.ok()?;
    serde_json::from_slice(&answer.body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_name_finds_the_closest() {
        let known = ["hecate-martha", "hecate-noded", "hecate-traderd"];
        for (name, expected) in [
            ("hecate-nod", Some("hecate-noded")),
            ("hecate-tradred", Some("hecate-traderd")),
            ("hecate_traderd", Some("hecate-traderd")),
            ("x", None),
            ("", None),
            ("something-else", None),
        ] {
            assert_eq!(closest(name, known), expected, "{name}");
        }
        assert_eq!(question("hecate-nod", known), "; did you mean 'hecate-noded'?");
        assert_eq!(question("x", known), "");
    }
}
