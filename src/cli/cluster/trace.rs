//! `trace NODE`: follows the messages between the daemon's node and another, until Ctrl-C.

use std::path::Path;

use beam::name::NodeName;
use clap::Args;

use super::diagnose::node;
use crate::cli::support::client::encode;
use crate::cli::support::command::Common;
use crate::cli::support::exit::Exit;
use crate::cli::support::follow;
use crate::cli::support::page::{Cell, complain, table};
use crate::cli::support::sse::Event;
use crate::cli::support::suggest;
use crate::wire::{TraceDirection, TraceDropped, TraceEvent, TraceStarted};

/// The arguments of `trace`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Trace {
    /// Full name of the node, such as hecate_traderd@beam00
    #[arg(value_parser = node)]
    node: NodeName,
    #[command(flatten)]
    pub(in crate::cli) common: Common,
}

impl Trace {
    /// Follows until Ctrl-C, or until standard output is closed.
    pub(in crate::cli) async fn run(&self, socket: &Path) -> Exit {
        if let Some(known) = suggest::node(socket, &self.node).await {
            complain(&format!("warning: no node named '{}' is known; did you mean '{known}'?", self.node));
        }
        let path = format!("/api/cluster/peers/{}/trace", encode(self.node.as_str()));
        let interrupted = async {
            // Without a handler, the signal ends the process.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending().await
            }
        };
        follow::run(socket, &path, self.common.json, for_people, interrupted).await
    }
}

/// Shows an event on one line: time, direction, layer, connection, text.
fn for_people(event: &Event) -> String {
    let shown = match event.name.as_str() {
        "traced_v1" => serde_json::from_str(&event.data).map(|event| traced(&event)).ok(),
        "trace_started_v1" => serde_json::from_str(&event.data).map(|event| started(&event)).ok(),
        "trace_dropped_v1" => serde_json::from_str(&event.data).map(|event| dropped(&event)).ok(),
        _ => None,
    };
    table(&[shown.unwrap_or_else(|| vec![Cell::head(&event.name), Cell::from(&*event.data)])])
}

fn traced(event: &TraceEvent) -> Vec<Cell> {
    let arrow = match event.direction {
        TraceDirection::Received => Cell::good("<-"),
        TraceDirection::Sent => Cell::warning("->"),
        TraceDirection::Local => Cell::faint("--"),
    };
    let connection = event.connection.map_or_else(String::new, |number| format!("#{number}"));
    // Fixed widths, because each line is rendered as a separate table.
    let (layer, connection) = (format!("{:<10}", event.layer.name()), format!("{connection:<4}"));
    vec![Cell::faint(&event.at), arrow, Cell::head(&layer), connection.into(), event.text.as_str().into()]
}

fn started(event: &TraceStarted) -> Vec<Cell> {
    vec![Cell::faint(&event.at), Cell::faint("--"), Cell::from(format!("tracing {}; press Ctrl-C to stop", event.node))]
}

fn dropped(event: &TraceDropped) -> Vec<Cell> {
    vec![Cell::bad(&format!("{} events dropped, because they were not read in time", event.dropped))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str, data: &str) -> String {
        let event = Event { name: name.to_owned(), id: None, data: data.to_owned() };
        anstream::adapter::strip_str(&for_people(&event)).to_string()
    }

    #[test]
    fn an_event_is_one_line() {
        let frame = r#"{"at":"T","node":"b@h","connection":3,"layer":"frame","direction":"received","text":"tick\n"}"#;
        assert_eq!(shown("traced_v1", frame), "T  <-  frame       #3    tick \n");
        let epmd = r#"{"at":"T","node":null,"connection":null,"layer":"epmd","direction":"sent","text":"NAMES_REQ"}"#;
        assert_eq!(shown("traced_v1", epmd), "T  ->  epmd              NAMES_REQ\n");
        assert_eq!(
            shown("trace_started_v1", r#"{"at":"T","node":"b@h"}"#),
            "T  --  tracing b@h; press Ctrl-C to stop\n"
        );
        assert_eq!(
            shown("trace_dropped_v1", r#"{"dropped":7}"#),
            "7 events dropped, because they were not read in time\n"
        );
        assert_eq!(shown("later_v1", "{\"a\":1}"), "later_v1  {\"a\":1}\n");
    }
}
