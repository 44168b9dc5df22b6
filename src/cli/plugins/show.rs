//! `plugin NAME`: shows a plugin.

use std::time::SystemTime;

use hyper::Method;

use crate::cli::plugins::list::node_state;
use crate::cli::support::client::Call;
use crate::cli::support::page::{self, Cell, fields, table};
use crate::wire::PluginDetail;

pub(in crate::cli) fn call(name: &str) -> Call {
    Call::about_plugin(Method::GET, name, "", show)
}

fn show(body: &[u8]) -> serde_json::Result<String> {
    let PluginDetail { entry, registered_at, base_dir, paths: _, connectors, extra_directories } =
        serde_json::from_slice(body)?;
    let now = SystemTime::now();
    let mut rows = fields([
        ("name", Cell::from(entry.name)),
        ("version", Cell::optional(entry.version.as_deref())),
        ("description", Cell::optional(entry.description.as_deref())),
        ("status", Cell::state(&entry.status)),
        ("reason", Cell::from(entry.reason)),
        ("reason code", Cell::from(entry.reason_code)),
        ("since", Cell::from(page::since(&entry.since, now))),
        ("registered", Cell::from(page::since(&registered_at, now))),
        ("node", Cell::optional(entry.node.as_deref())),
        ("node state", node_state(entry.node_state.as_ref(), entry.node_failure.as_ref())),
        ("socket", Cell::from(entry.socket)),
        ("base_dir", Cell::from(base_dir)),
    ]);
    rows.extend(connectors.into_iter().map(|connector| {
        let answers = if connector.answers { Cell::good("answers") } else { Cell::bad("does not answer") };
        vec![Cell::head("connector"), Cell::from(format!("{} ({})", connector.id, connector.socket)), answers]
    }));
    rows.extend(extra_directories.into_iter().map(|name| vec![Cell::head("directory"), Cell::from(name)]));
    Ok(table(&rows))
}
