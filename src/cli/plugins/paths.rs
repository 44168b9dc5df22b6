//! `paths NAME`: shows the directories of a plugin, one per line after its key.

use hyper::Method;

use crate::cli::support::client::Call;
use crate::cli::support::page::{Cell, fields, table};
use crate::wire::{Paths, PluginDetail};

pub(in crate::cli) fn call(name: &str) -> Call {
    Call::about_plugin(Method::GET, name, "", show)
}

fn show(body: &[u8]) -> serde_json::Result<String> {
    let plugin: PluginDetail = serde_json::from_slice(body)?;
    Ok(lines(plugin.base_dir, plugin.paths))
}

pub(in crate::cli) fn lines(base_dir: String, paths: Paths) -> String {
    table(&fields([
        ("base_dir", Cell::from(base_dir)),
        ("sqlite", Cell::from(paths.sqlite)),
        ("reckon_db", Cell::from(paths.reckon_db)),
        ("sockets", Cell::from(paths.sockets)),
        ("run", Cell::from(paths.run)),
        ("connectors", Cell::from(paths.connectors)),
    ]))
}
