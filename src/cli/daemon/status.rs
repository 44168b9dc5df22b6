//! `status`: shows the answer of `/health`.

use std::time::Duration;

use hyper::Method;

use crate::cli::support::client::Call;
use crate::cli::support::page::{Cell, fields, rough, table};
use crate::wire::{Health, PluginHealth};

pub(in crate::cli) fn call() -> Call {
    Call::new(Method::GET, "/health", show)
}

fn show(body: &[u8]) -> serde_json::Result<String> {
    let health: Health = serde_json::from_slice(body)?;
    let running = health.plugins.values().filter(|state| **state == PluginHealth::Ok).count();
    let plugins = format!("{running} of {} running", health.plugins.len());
    let all = running == health.plugins.len();
    let mut rows = fields([
        ("status", Cell::state(&health.status)),
        ("ready", if health.ready { Cell::good("yes") } else { Cell::bad("no") }),
        ("version", Cell::from(health.version)),
        ("node", Cell::optional(health.node_name.as_deref())),
        ("up", Cell::from(rough(Duration::from_secs(health.uptime_seconds)))),
        ("plugins", if all { Cell::from(plugins) } else { Cell::warning(&plugins) }),
    ]);
    let stopped = health.plugins.iter().filter(|(_, state)| **state != PluginHealth::Ok);
    rows.extend(stopped.map(|(name, why)| vec![Cell::head("not running"), Cell::from(format!("{name}: {why}"))]));
    let problems = health.problems.iter();
    rows.extend(problems.map(|p| vec![Cell::bad("problem"), Cell::from(format!("{}: {}", p.code, p.detail))]));
    Ok(table(&rows))
}
