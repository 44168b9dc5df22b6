//! `status`: how the daemon is doing, from `/health`. It changes nothing.

use hyper::Method;

use super::client::Call;
use super::table;
use crate::api::wire::Health;

pub(super) fn call() -> Call {
    Call::new(Method::GET, "/health", show)
}

fn show(body: &[u8]) -> serde_json::Result<String> {
    let health: Health = serde_json::from_slice(body)?;
    let running = health.plugins.values().filter(|state| *state == "ok").count();
    let mut rows = vec![
        row("status", &health.status),
        row("ready", if health.ready { "yes" } else { "no" }),
        row("version", &health.version),
        row("node", health.node_name.as_deref().unwrap_or("-")),
        row("up", &format!("{} s", health.uptime_seconds)),
        row("plugins", &format!("{running} of {} running", health.plugins.len())),
    ];
    let problems = health.problems.iter();
    rows.extend(problems.map(|problem| row("problem", &format!("{}: {}", problem.code, problem.detail))));
    Ok(table(&rows))
}

fn row(key: &str, value: &str) -> Vec<String> {
    vec![key.to_owned(), value.to_owned()]
}
