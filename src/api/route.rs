//! Maps the method and path of a request to a [`Route`], or to the problem to return.
//!
//! Each resource is listed once with its methods, so `Allow` always matches the served methods. The
//! path is split before it is decoded: an encoded slash is part of a name (RFC 3986, section 2.2).

use std::borrow::Cow;

use hyper::{Method, StatusCode};
use percent_encoding::percent_decode_str;

use super::problem::Problem;

/// A call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `POST /api/plugins/register`
    Register,
    /// `GET /api/plugins`
    Plugins,
    /// `GET /api/plugins/{name}`
    Plugin(String),
    /// `DELETE /api/plugins/{name}`
    Deregister(String),
    /// `GET /api/plugins/{name}/data`
    CheckPurge(String),
    /// `DELETE /api/plugins/{name}/data`
    Purge(String),
    /// `GET /api/events`
    Events,
    /// `GET /api/cluster`
    Cluster,
    /// `GET /api/cluster/plugins`
    ClusterPlugins,
    /// `GET /api/cluster/peers/{node}/diagnosis`
    Diagnosis(String),
    /// `GET /api/cluster/peers/{node}/trace`
    Trace(String),
    /// `GET /health`
    Health,
    /// `GET /livez`
    Live,
    /// `GET /readyz`
    Ready,
    /// `GET /openapi.json`
    OpenApi,
    /// `GET /metrics`
    Metrics,
}

impl Route {
    /// Returns whether the call is served while the daemon starts.
    #[must_use]
    pub fn answers_while_starting(&self) -> bool {
        match self {
            Self::Health | Self::Live | Self::Ready | Self::OpenApi | Self::Metrics => true,
            Self::Register
            | Self::Plugins
            | Self::Plugin(_)
            | Self::Deregister(_)
            | Self::CheckPurge(_)
            | Self::Purge(_)
            | Self::Events
            | Self::Cluster
            | Self::ClusterPlugins
            | Self::Diagnosis(_)
            | Self::Trace(_) => false,
        }
    }

    /// Returns the method and the pattern of the path, the label of its requests in the metrics.
    #[must_use]
    pub fn pattern(&self) -> &'static str {
        match self {
            Self::Register => "POST /api/plugins/register",
            Self::Plugins => "GET /api/plugins",
            Self::Plugin(_) => "GET /api/plugins/{name}",
            Self::Deregister(_) => "DELETE /api/plugins/{name}",
            Self::CheckPurge(_) => "GET /api/plugins/{name}/data",
            Self::Purge(_) => "DELETE /api/plugins/{name}/data",
            Self::Cluster => "GET /api/cluster",
            Self::ClusterPlugins => "GET /api/cluster/plugins",
            Self::Diagnosis(_) => "GET /api/cluster/peers/{node}/diagnosis",
            Self::Trace(_) => "GET /api/cluster/peers/{node}/trace",
            Self::Health => "GET /health",
            Self::Live => "GET /livez",
            Self::Ready => "GET /readyz",
            Self::OpenApi => "GET /openapi.json",
            Self::Events => "GET /api/events",
            Self::Metrics => "GET /metrics",
        }
    }
}

const GET: &str = "GET, HEAD";
const GET_DELETE: &str = "GET, HEAD, DELETE";
const POST: &str = "POST";

/// Returns the route of a request. `HEAD` has the route of `GET`; the server omits the body.
///
/// # Errors
/// 400 for an invalid encoding of the path, 404, or 405 with the methods of the resource.
pub fn route(method: &Method, path: &str) -> Result<Route, Problem> {
    let decoded;
    let segments: Vec<&str> = if path.contains('%') {
        decoded = segments(path).map(percent_decode).collect::<Option<Vec<_>>>().ok_or_else(malformed)?;
        decoded.iter().map(AsRef::as_ref).collect()
    } else {
        segments(path).collect()
    };
    let get = method == Method::GET || method == Method::HEAD;
    let post = method == Method::POST;
    let delete = method == Method::DELETE;
    match segments.as_slice() {
        ["health"] if get => Ok(Route::Health),
        ["livez"] if get => Ok(Route::Live),
        ["readyz"] if get => Ok(Route::Ready),
        ["openapi.json"] if get => Ok(Route::OpenApi),
        ["metrics"] if get => Ok(Route::Metrics),
        ["api", "events"] if get => Ok(Route::Events),
        ["api", "cluster"] if get => Ok(Route::Cluster),
        ["api", "cluster", "plugins"] if get => Ok(Route::ClusterPlugins),
        ["api", "plugins"] if get => Ok(Route::Plugins),
        ["health" | "livez" | "readyz" | "openapi.json" | "metrics"]
        | ["api", "events" | "cluster" | "plugins"]
        | ["api", "cluster", "plugins"] => Err(not_allowed(method, path, GET)),

        ["api", "plugins", "register"] if post => Ok(Route::Register),
        ["api", "plugins", "register"] => Err(not_allowed(method, path, POST)),

        ["api", "plugins", name] if get && !name.is_empty() => Ok(Route::Plugin((*name).to_owned())),
        ["api", "plugins", name] if delete && !name.is_empty() => Ok(Route::Deregister((*name).to_owned())),
        ["api", "plugins", name] if !name.is_empty() => Err(not_allowed(method, path, GET_DELETE)),

        ["api", "plugins", name, "data"] if get && !name.is_empty() => Ok(Route::CheckPurge((*name).to_owned())),
        ["api", "plugins", name, "data"] if delete && !name.is_empty() => Ok(Route::Purge((*name).to_owned())),
        ["api", "plugins", name, "data"] if !name.is_empty() => Err(not_allowed(method, path, GET_DELETE)),

        ["api", "cluster", "peers", node, "diagnosis" | "trace"] if !node.is_empty() && !get => {
            Err(not_allowed(method, path, GET))
        }
        ["api", "cluster", "peers", node, "diagnosis"] if !node.is_empty() => Ok(Route::Diagnosis((*node).to_owned())),
        ["api", "cluster", "peers", node, "trace"] if !node.is_empty() => Ok(Route::Trace((*node).to_owned())),

        _ => Err(Problem::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("no resource at {path}: GET /health checks the daemon, GET /api/plugins lists the plugins"),
        )),
    }
}

fn not_allowed(method: &Method, path: &str, methods: &'static str) -> Problem {
    let detail = format!("{path} does not support {method}, only {methods}");
    Problem { allow: Some(methods), ..Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail) }
}

/// Returns the segments of a path after its first slash.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

fn malformed() -> Problem {
    let detail =
        "the encoding of the path is invalid: `%` needs two hexadecimal digits, and the decoded path must be UTF-8";
    Problem::new(StatusCode::BAD_REQUEST, "path_malformed", detail)
}

/// Decodes a segment. Returns `None` if a `%` is not followed by two hexadecimal digits, which
/// [`percent_decode_str`] would keep as it is, or if the result is not UTF-8.
fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    let mut escapes = text.split('%').skip(1).map(|escape| escape.as_bytes().get(..2));
    let is_valid = escapes.all(|digits| digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)));
    is_valid.then(|| percent_decode_str(text).decode_utf8().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(method: &Method, path: &str) -> (u16, &'static str, Option<&'static str>) {
        let problem = route(method, path).expect_err(path);
        (problem.status.as_u16(), problem.code, problem.allow)
    }

    #[test]
    fn each_call_has_its_route() {
        let plugin = || "hecate-traderd".to_owned();
        let table = [
            (Method::POST, "/api/plugins/register", Route::Register),
            (Method::GET, "/api/plugins", Route::Plugins),
            (Method::GET, "/api/plugins/hecate-traderd", Route::Plugin(plugin())),
            (Method::DELETE, "/api/plugins/hecate-traderd", Route::Deregister(plugin())),
            (Method::GET, "/api/plugins/hecate-traderd/data", Route::CheckPurge(plugin())),
            (Method::DELETE, "/api/plugins/hecate-traderd/data", Route::Purge(plugin())),
            (Method::GET, "/api/events", Route::Events),
            (Method::GET, "/api/cluster", Route::Cluster),
            (Method::GET, "/api/cluster/plugins", Route::ClusterPlugins),
            (Method::GET, "/api/cluster/peers/x@y/diagnosis", Route::Diagnosis("x@y".to_owned())),
            (Method::GET, "/api/cluster/peers/x@y/trace", Route::Trace("x@y".to_owned())),
            (Method::GET, "/health", Route::Health),
            (Method::GET, "/livez", Route::Live),
            (Method::GET, "/readyz", Route::Ready),
            (Method::GET, "/openapi.json", Route::OpenApi),
            (Method::GET, "/metrics", Route::Metrics),
        ];
        for (method, path, expected) in table {
            let pattern = format!("{method} {path}").replace("hecate-traderd", "{name}").replace("x@y", "{node}");
            assert_eq!(expected.pattern(), pattern, "the label in the metrics");
            assert_eq!(route(&method, path), Ok(expected.clone()), "{method} {path}");
            if method == Method::GET {
                assert_eq!(route(&Method::HEAD, path), Ok(expected), "HEAD {path}");
            }
        }
    }

    #[test]
    fn an_unsupported_method_is_refused_with_the_supported_ones() {
        let table = [
            (Method::GET, "/api/plugins/register", "POST"),
            (Method::HEAD, "/api/plugins/register", "POST"),
            (Method::DELETE, "/api/plugins/register", "POST"),
            (Method::POST, "/api/plugins", "GET, HEAD"),
            (Method::PUT, "/api/plugins/hecate-traderd", "GET, HEAD, DELETE"),
            (Method::PUT, "/api/plugins/hecate-traderd/data", "GET, HEAD, DELETE"),
            (Method::POST, "/health", "GET, HEAD"),
            (Method::OPTIONS, "/api/cluster", "GET, HEAD"),
            (Method::POST, "/api/cluster/plugins", "GET, HEAD"),
            (Method::POST, "/api/cluster/peers/x@y/diagnosis", "GET, HEAD"),
            (Method::POST, "/api/cluster/peers/x@y/trace", "GET, HEAD"),
        ];
        for (method, path, allow) in table {
            assert_eq!(refusal(&method, path), (405, "method_not_allowed", Some(allow)), "{method} {path}");
        }
    }

    #[test]
    fn similar_paths_are_not_found() {
        for path in [
            "",
            "/",
            "/api",
            "/api/",
            "/api/plugins/",
            "//api/plugins",
            "/api//plugins",
            "/API/plugins",
            "/health/",
            "/api/plugins/hecate-traderd/",
            "/api/plugins/hecate-traderd/x",
            "/api/plugins//data",
            "/api/cluster/peers",
            "/api/cluster/peers/x@y",
            "/api/cluster/peers//diagnosis",
            "/api/cluster/peers//trace",
            "/api%2Fplugins",
            "/api/plugins/..//",
        ] {
            assert_eq!(refusal(&Method::GET, path), (404, "not_found", None), "{path}");
        }
    }

    #[test]
    fn percent_decoding_is_strict() {
        let name = |path| route(&Method::GET, path);
        let plugin = |name: &str| Ok(Route::Plugin(name.to_owned()));
        assert_eq!(name("/api/plugins/hecate%2Dtraderd"), plugin("hecate-traderd"));
        assert_eq!(name("/api/plugins/a%2Fb"), plugin("a/b"), "an encoded slash is not a separator");
        assert_eq!(name("/api/plugins/%c3%A4"), plugin("\u{e4}"));
        assert_eq!(name("/api/plugins/a+b"), plugin("a+b"));
        for bad in ["%", "%2", "%zz", "%+1", "%-1", "% 1", "%ff", "%c3", "a%"] {
            assert_eq!(refusal(&Method::GET, &format!("/api/plugins/{bad}")), (400, "path_malformed", None), "{bad}");
        }
    }
}
