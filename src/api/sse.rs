//! Parts that the event streams `events` and `trace` share: the encoding of server-sent events
//! (WHATWG HTML standard, section 9.2), the head of the response, the limit of streams, and the
//! heartbeat. `stall` closes the connections of clients that stop reading.

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

/// When to retry if too many streams are open.
pub(super) const LATER: Duration = Duration::from_secs(3);

/// The comment that shows an idle stream to be alive.
pub(super) const HEARTBEAT: Bytes = Bytes::from_static(b": heartbeat\n\n");

/// Turns the connection into an event stream.
///
/// # Errors
/// 503 if too many streams are open.
pub(super) fn admit(place: &Place) -> Result<(), Problem> {
    place.streams().map_err(|refused| {
        let detail = match refused {
            NoStream::Full => "too many event streams are open: retry later",
            NoStream::Share => "your process has too many event streams open: close unused ones and retry",
        };
        Problem::unavailable("too_many_streams", detail, LATER)
    })
}

/// Returns a response with the head of an event stream.
pub(super) fn response(body: Body) -> HttpResponse {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Returns an interval that ticks when a heartbeat is due.
pub(super) fn heartbeats(every: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Encodes an event, with one line of JSON as its data.
pub(super) fn encode(name: &str, id: Option<u64>, data: &impl Serialize) -> Bytes {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    let data = wire::encode(data);
    // The encoded JSON contains no newline.
    let head = format!("event: {name}\n{id}data: ");
    [head.as_bytes(), &data, b"\n\n"].concat().into()
}
