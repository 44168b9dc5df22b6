//! Reads the body of a request, within its limits.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};

use super::bounds::Limits;
use super::connection::Place;
use super::problem::{Problem, too_many_connections};

/// Reads a body to its end, within its limits. Meanwhile the connection counts as idle.
pub(super) async fn read_body(limits: &Limits, place: &Place, body: &mut Incoming) -> Result<Bytes, Problem> {
    place.waits();
    let read = read_to_end(limits, body).await;
    if place.works() { read } else { Err(too_many_connections()) }
}

async fn read_to_end(limits: &Limits, body: &mut Incoming) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("the body is larger than the limit of {} bytes", limits.body);
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
    };
    // If Content-Length is too large, the body is not read.
    if body.size_hint().lower() > u64::try_from(limits.body).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    let collected = async {
        let mut collected = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                let detail = format!("the body ended early or its transfer encoding is invalid: {error}");
                Problem::new(StatusCode::BAD_REQUEST, "body_incomplete", detail)
            })?;
            let data = frame.into_data().unwrap_or_default();
            if collected.len().saturating_add(data.len()) > limits.body {
                return Err(too_large());
            }
            collected.extend_from_slice(&data);
        }
        Ok(collected.freeze())
    };
    tokio::time::timeout(limits.body_time, collected).await.unwrap_or_else(|_| {
        let detail = format!("the body was not complete within {:?}: send it without pauses", limits.body_time);
        Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail))
    })
}
