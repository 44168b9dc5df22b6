//! Server-sent events (the WHATWG's HTML standard, section 9.2): their encoding, the head of the response, the place of a
//! stream among others, and its heartbeat.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::answer::{Body, HttpResponse};
use super::connection::Place;
use super::places::NoStream;
use super::problem::Problem;
use crate::wire;

/// When to come back, where there are too many streams.
pub(super) const LATER: Duration = Duration::from_secs(3);

/// Shows that a stream is alive.
pub(super) const HEARTBEAT: Bytes = Bytes::from_static(b": heartbeat\n\n");

/// The connection becomes a stream.
pub(super) fn admit(place: &Place) -> Result<(), Problem> {
    place.streams().map_err(|refused| {
        let detail = match refused {
            NoStream::Full => "too many event streams are open: retry later",
            NoStream::Share => "your process has too many event streams open: close unused ones and retry",
        };
        Problem::unavailable("too_many_streams", detail, LATER)
    })
}

/// Returns the response whose body is a stream.
pub(super) fn response(body: Body) -> HttpResponse {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Ticks when a heartbeat is due.
pub(super) fn heartbeats(every: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Encodes an event, with one line of JSON as its data.
pub(super) fn encode(name: &str, id: Option<u64>, data: &impl Serialize) -> Bytes {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    let data = wire::encode(data);
    // JSON has no newline outside of its strings, and in them it is written `\n`.
    let head = format!("event: {name}\n{id}data: ");
    [head.as_bytes(), &data, b"\n\n"].concat().into()
}
