//! `events`: follows the events of plugins and nodes.

use std::future::pending;
use std::path::Path;

use serde_json::Value;

use crate::cli::support::exit::Exit;
use crate::cli::support::follow;
use crate::cli::support::page::{Cell, counted, table};
use crate::cli::support::sse::Event;
use crate::wire::{EventName, PluginStatus};

/// Follows until standard output is closed.
pub(in crate::cli) async fn run(socket: &Path, json: bool) -> Exit {
    follow::run(socket, "/api/events", json, for_people, pending()).await
}

/// Shows an event on one line: time, event, plugin or node, status, reason.
fn for_people(event: &Event) -> String {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    let text = |key: &str| data.get(key).and_then(Value::as_str);
    let status = text("status").map(PluginStatus::from);
    let kind = EventName::from(&*event.name);
    let name = match &kind {
        EventName::PluginRegisteredV1 | EventName::NodeUpV1 => Cell::good(&event.name),
        EventName::PluginStatusChangedV1 if status == Some(PluginStatus::Running) => Cell::good(&event.name),
        EventName::PluginStatusChangedV1 | EventName::NodeDownV1 => Cell::bad(&event.name),
        _ => Cell::head(&event.name),
    };
    let at = text("at").or(text("since")).unwrap_or("-");
    let subject = match data.get("plugins").and_then(Value::as_array) {
        Some(plugins) => counted(plugins.len(), "plugin", "plugins"),
        None => text("name").or(text("node")).unwrap_or("-").to_owned(),
    };
    // The last status of a removed plugin is not shown.
    let gone = matches!(kind, EventName::PluginDeregisteredV1 | EventName::PluginDataPurgedV1);
    let (status, reason) = if gone { (None, None) } else { (status, text("reason")) };
    let status = status.map_or_else(|| Cell::from(""), |status| Cell::state(&status));
    table(&[vec![Cell::faint(at), name, subject.into(), status, Cell::from(reason.unwrap_or_default())]])
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
