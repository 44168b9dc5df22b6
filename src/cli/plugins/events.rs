//! `events`: follows what happens to plugins and nodes until it is stopped. It changes nothing.

use std::future::pending;
use std::path::Path;

use serde_json::Value;

use crate::cli::support::exit::Exit;
use crate::cli::support::follow;
use crate::cli::support::page::{Cell, table};
use crate::cli::support::sse::Event;

/// Follows until standard output is closed.
pub(in crate::cli) async fn run(socket: &Path, json: bool) -> Exit {
    follow::run(socket, "/api/events", json, for_people, pending()).await
}

/// When, what, of whom, and how it is with it now.
fn for_people(event: &Event) -> String {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    let text = |key: &str| data.get(key).and_then(Value::as_str);
    let name = match event.name.as_str() {
        "plugin_registered_v1" | "node_up_v1" => Cell::good(&event.name),
        "plugin_status_changed_v1" if text("status") == Some("running") => Cell::good(&event.name),
        "plugin_status_changed_v1" | "node_down_v1" => Cell::bad(&event.name),
        _ => Cell::head(&event.name),
    };
    let at = text("at").or(text("since")).unwrap_or("-");
    let whom = match data.get("plugins").and_then(Value::as_array) {
        Some(plugins) => format!("{} plugins", plugins.len()),
        None => text("name").or(text("node")).unwrap_or("-").to_owned(),
    };
    // How a plugin was that is gone is of no interest.
    let gone = matches!(event.name.as_str(), "plugin_deregistered_v1" | "plugin_data_purged_v1");
    let (status, reason) = if gone { (None, None) } else { (text("status"), text("reason")) };
    let status = status.map_or_else(|| Cell::from(""), Cell::state);
    table(&[vec![Cell::faint(at), name, whom.into(), status, Cell::from(reason.unwrap_or_default())]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event = |data: &str| Event { name: "x_v1".to_owned(), id: Some("7".to_owned()), data: data.to_owned() };
        let status =
            event(r#"{"name":"hecate-traderd","status":"stopped","reason":"its\nnode","at":"2026-11-23T11:23:59Z"}"#);
        let shown = anstream::adapter::strip_str(&for_people(&status)).to_string();
        assert_eq!(shown, "2026-11-23T11:23:59Z  x_v1  hecate-traderd  stopped  its node\n");
        let shown = anstream::adapter::strip_str(&for_people(&event(r#"{"plugins":[1,2]}"#))).to_string();
        assert_eq!(shown, "-  x_v1  2 plugins\n");
    }
}
