//! `paths NAME`: the directories of a plugin, one a line with its key first, for people and scripts.

use hyper::Method;

use super::client::{Call, encode};
use super::table;
use crate::api::wire::{Paths, PluginDetail};

pub(super) fn call(name: &str) -> Call {
    Call::new(Method::GET, format!("/api/plugins/{}", encode(name)), show)
}

fn show(body: &[u8]) -> serde_json::Result<String> {
    let plugin: PluginDetail = serde_json::from_slice(body)?;
    Ok(lines(plugin.base_dir, plugin.paths))
}

pub(super) fn lines(base_dir: String, paths: Paths) -> String {
    let rows = [
        ("base_dir", base_dir),
        ("sqlite", paths.sqlite),
        ("reckon_db", paths.reckon_db),
        ("sockets", paths.sockets),
        ("run", paths.run),
        ("connectors", paths.connectors),
    ];
    table(&rows.map(|(key, path)| vec![key.to_owned(), path]))
}
