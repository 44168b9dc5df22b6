//! Error responses: problem details (RFC 9457) with a stable `code`, and with the keys `ok` and
//! `error` that other Hecate clients read.

use std::borrow::Cow;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{ALLOW, HeaderValue, RETRY_AFTER};

use super::answer::{HttpResponse, json_of_type};
use crate::wire;

/// The media type of RFC 9457.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// An error response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The status code.
    pub status: StatusCode,
    /// The stable code for programs.
    pub code: &'static str,
    /// What is wrong and what to do, for people.
    pub detail: Cow<'static, str>,
    /// The methods of the resource, for 405.
    pub allow: Option<&'static str>,
    /// When to retry, for 503.
    pub retry_after: Option<Duration>,
}

impl Problem {
    /// Returns a problem without further headers.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, detail: detail.into(), allow: None, retry_after: None }
    }

    /// Returns a temporary problem: 503 with `Retry-After`.
    pub fn unavailable(code: &'static str, detail: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail) }
    }

    /// Returns the response.
    #[must_use]
    pub(super) fn into_response(self) -> HttpResponse {
        let body = wire::Problem {
            r#type: "about:blank".into(),
            title: self.status.canonical_reason().unwrap_or_default().into(),
            status: self.status.as_u16(),
            detail: self.detail.as_ref().into(),
            code: self.code.into(),
            ok: false,
            error: self.detail.as_ref().into(),
        };
        let mut response = json_of_type(MEDIA_TYPE, self.status, wire::encode(&body));
        let headers = response.headers_mut();
        if let Some(methods) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(methods));
        }
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        response
    }
}

/// Returns the problem of a connection that is limited or was evicted.
pub(super) fn too_many_connections() -> Problem {
    let detail = "too many connections are open: close unused ones and retry; until then only /livez, /readyz and \
                  /health answer";
    Problem::unavailable("too_many_connections", detail, Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use hyper::header::CONTENT_TYPE;

    async fn body(problem: Problem) -> String {
        let body = problem.into_response().into_body().collect().await;
        String::from_utf8(body.expect("whole").to_bytes().to_vec()).expect("text")
    }

    #[tokio::test]
    async fn a_problem_has_the_keys_of_both_conventions() {
        let problem = Problem::new(StatusCode::CONFLICT, "node_conflict", "held by \"x@y\"");
        assert_eq!(
            body(problem).await,
            r#"{"type":"about:blank","title":"Conflict","status":409,"detail":"held by \"x@y\"","code":"node_conflict","ok":false,"error":"held by \"x@y\""}
"#
        );
    }

    #[test]
    fn problems_have_allow_and_retry_after() {
        let mut problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "no");
        problem.allow = Some("GET, HEAD");
        let response = problem.into_response();
        assert_eq!(response.headers()[CONTENT_TYPE], MEDIA_TYPE);
        assert_eq!(response.headers()[ALLOW], "GET, HEAD");
        assert!(!response.headers().contains_key(RETRY_AFTER));

        let soon = Problem::unavailable("starting", "wait", Duration::from_millis(10)).into_response();
        assert_eq!(soon.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(soon.headers()[RETRY_AFTER], "1", "at least 1 s");
    }
}
