//! `plugins`: the registered plugins as a table. It changes nothing.

use hyper::Method;

use super::client::Call;
use super::table;
use crate::api::wire::PluginEntry;

pub(super) fn call() -> Call {
    Call::new(Method::GET, "/api/plugins", show)
}

fn show(body: &[u8]) -> serde_json::Result<String> {
    let plugins: Vec<PluginEntry> = serde_json::from_slice(body)?;
    let mut rows = vec![["NAME", "VERSION", "STATUS", "NODE", "SOCKET"].map(str::to_owned).to_vec()];
    let absent = || "-".to_owned();
    rows.extend(plugins.into_iter().map(|plugin| {
        vec![
            plugin.name,
            plugin.version.unwrap_or_else(absent),
            plugin.status,
            plugin.node.unwrap_or_else(absent),
            plugin.socket,
        ]
    }));
    Ok(table(&rows))
}
