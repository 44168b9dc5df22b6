//! `plugins`: the registered plugins as a table. It changes nothing.

use std::time::SystemTime;

use hyper::Method;

use super::client::Call;
use super::page::{self, Cell, table};
use crate::api::wire::PluginEntry;

pub(super) fn call() -> Call {
    Call::new(Method::GET, "/api/plugins", show)
}

fn show(body: &[u8]) -> serde_json::Result<String> {
    let plugins: Vec<PluginEntry> = serde_json::from_slice(body)?;
    if plugins.is_empty() {
        return Ok("no plugin is registered: `hecate-daemon register NAME` does it\n".to_owned());
    }
    let now = SystemTime::now();
    let mut rows = vec![["NAME", "VERSION", "STATUS", "SINCE", "NODE"].map(Cell::head).to_vec()];
    rows.extend(plugins.into_iter().map(|plugin| {
        vec![
            Cell::from(plugin.name),
            Cell::optional(plugin.version.as_deref()),
            Cell::state(&plugin.status),
            Cell::from(page::since(&plugin.since, now)),
            Cell::optional(plugin.node.as_deref()),
        ]
    }));
    Ok(table(&rows))
}
