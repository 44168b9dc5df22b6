//! Explains why the daemon refused a request, for people at a command line. Where the API's own
//! text names an HTTP call, this names the command instead. It branches on the stable `code` only.

use std::path::Path;

use hyper::StatusCode;

use super::client::{Answer, Call};
use super::suggest;
use crate::wire::Problem;

/// Returns why a call was refused. For an unknown plugin, asks the daemon for names like it.
pub(in crate::cli) async fn of_call(socket: &Path, call: &Call, answer: &Answer) -> String {
    match (&call.plugin, code(&answer.body).as_deref()) {
        (Some(name), Some("not_found")) => {
            let plugins = suggest::plugins(socket).await;
            let question = suggest::question(name, plugins.iter().map(String::as_str));
            let hint = if question.is_empty() { "; list the plugins" } else { " List the plugins" };
            format!("no plugin named '{name}'{question}{hint} with `hecate-daemon plugins`")
        }
        (Some(name), Some("no_data")) => {
            let plugins = suggest::plugins(socket).await;
            let question = suggest::question(name, plugins.iter().map(String::as_str));
            format!("{}{question}", detail(answer.status, &answer.body))
        }
        (Some(name), Some("registered")) => {
            format!("'{name}' is registered; deregister it first with `hecate-daemon deregister {name}`")
        }
        _ => for_people(answer.status, &answer.body),
    }
}

/// Returns why a request was refused.
pub(in crate::cli) fn for_people(status: StatusCode, body: &[u8]) -> String {
    let hint = match code(body).as_deref() {
        Some("call_timeout") => {
            "the daemon did not finish the request in time, and the request may or may not have been applied; check \
             with `hecate-daemon status` and `hecate-daemon plugins`"
        }
        Some("method_not_allowed" | "not_found") => {
            "the daemon does not have this request; it may be older than this command: compare `hecate-daemon status` \
             with `hecate-daemon --version`"
        }
        Some("starting") => "the daemon is starting; retry in a few seconds, or see `hecate-daemon status`",
        Some("stopping") => "the daemon is stopping; retry when it runs again",
        Some("node_is_daemon") => {
            "the given node is the daemon's own; leave --node out, or set it to the node that the plugin runs as"
        }
        Some("too_many_connections") => {
            "too many connections to the daemon are open; close unused ones and retry; until then only \
             `hecate-daemon healthcheck` and `hecate-daemon status` work"
        }
        Some("too_many_plugins") => {
            "the daemon has as many plugins as it can register; deregister one with `hecate-daemon deregister NAME`"
        }
        Some("too_many_streams") => {
            "the daemon has too many event streams; stop a `hecate-daemon events` or `hecate-daemon trace`, and retry"
        }
        Some("too_many_traces") => "the daemon has too many traces; stop a `hecate-daemon trace`, and retry",
        _ => return detail(status, body),
    };
    hint.to_owned()
}

/// Returns the API's own text.
pub(in crate::cli) fn detail(status: StatusCode, body: &[u8]) -> String {
    match serde_json::from_slice::<Problem<'_>>(body) {
        Ok(problem) => problem.detail.into_owned(),
        Err(_) => format!("the daemon refused the request with status {status}"),
    }
}

fn code(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<Problem<'_>>(body).ok().map(|problem| problem.code.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_depends_on_the_code_and_not_on_the_text() {
        let body = |code: &str| {
            serde_json::json!({
                "type": "about:blank", "title": "", "status": 503, "code": code, "ok": false, "error": "",
                "detail": "anything: GET /health",
            })
            .to_string()
        };
        for code in [
            "call_timeout",
            "method_not_allowed",
            "not_found",
            "starting",
            "stopping",
            "node_is_daemon",
            "too_many_connections",
            "too_many_plugins",
            "too_many_streams",
            "too_many_traces",
        ] {
            let shown = for_people(StatusCode::SERVICE_UNAVAILABLE, body(code).as_bytes());
            assert!(!shown.contains("anything") && !shown.contains("GET"), "{code}: {shown}");
        }
        let shown = for_people(StatusCode::CONFLICT, body("node_conflict").as_bytes());
        assert_eq!(shown, "anything: GET /health");
        let shown = for_people(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(shown, "the daemon refused the request with status 502 Bad Gateway");
    }
}
