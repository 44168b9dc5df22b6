//! The type of all responses, and the JSON responses.

use bytes::Bytes;
use http_body_util::Either;
use http_body_util::channel::Channel;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::whole::Whole;
use crate::wire;

/// The response to a call.
pub(super) type HttpResponse = Response<Body>;

/// The body of a response: whole, with `Content-Length`, because some clients understand nothing
/// else; or a stream of events.
pub(super) type Body = Either<Whole, Channel<Bytes>>;

/// Returns a response with this JSON.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    written(status, wire::encode(body))
}

/// Returns a response whose JSON is encoded already.
pub(super) fn written(status: StatusCode, body: impl Into<Whole>) -> HttpResponse {
    json_of_type("application/json", status, body)
}

/// Returns a response with encoded JSON of this media type. The body ends with a newline, so that a
/// terminal shows the next prompt on a new line.
pub(super) fn json_of_type(media_type: &'static str, status: StatusCode, body: impl Into<Whole>) -> HttpResponse {
    let mut answer = Response::new(Either::Left(body.into().with_newline()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer
}
