//! Handles each call: reads the published views or sends a command to the registry, and builds the
//! response. Only the registry changes state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use beam::name::NodeName;
use bytes::Bytes;
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, ETAG, HOST, HeaderMap, HeaderValue, IF_NONE_MATCH, LOCATION};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode, Version};

use super::answer::{HttpResponse, json, written};
use super::body::read_body;
use super::bounds::Limits;
use super::connection::{Caller, Place};
use super::context::Context;
use super::events::Streams;
use super::listing::{List, Listing};
use super::metrics;
use super::problem::Problem;
use super::registration;
use super::route::Route;
use super::status::{DaemonStatus, EpmdOwner, Phase};
use super::trace;
use super::whole::Whole;
use crate::plugin::PluginName;
use crate::registry::{Refusal, View};
use crate::wire;

/// When to retry if the daemon is not ready.
const SOON: Duration = Duration::from_secs(1);

/// The state that all calls share.
pub(super) struct Calls {
    pub context: Context,
    pub limits: Limits,
    pub listing: Listing,
    pub streams: Streams,
}

/// Handles a request.
pub(super) async fn call(
    Calls { context, limits, listing, streams }: &Calls,
    place: &Place,
    caller: Caller,
    route: Result<Route, Problem>,
    head: &Parts,
    body: &mut Incoming,
) -> Result<HttpResponse, Problem> {
    if !caller.allowed {
        let detail = format!(
            "uid {} may not call this daemon, which serves only its own user, root and the users in HECATE_ALLOWED_UIDS",
            caller.registrant.uid
        );
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail));
    }
    expect_host(head)?;
    let route = route?;
    if !route.answers_while_starting() {
        started(context, limits.ready).await?;
    }
    match route {
        Route::Register => {
            expect_json(&head.headers)?;
            let body = read_body(limits, place, body).await?;
            register(context, caller, &body).await
        }
        Route::Plugins => Ok(plugins(context, listing, &head.headers)),
        Route::Plugin(name) => plugin(context, &name).await,
        Route::Deregister(name) => deregister(context, &name).await,
        Route::CheckPurge(name) => check_purge(context, &name).await,
        Route::Purge(name) => purge(context, &name).await,
        Route::Events if head.method == Method::HEAD => Ok(Streams::head()),
        Route::Events => streams.open(context, place, &head.headers),
        Route::Cluster => Ok(cluster(context)),
        Route::ClusterPlugins => Ok(cluster_plugins(context)),
        Route::Trace(node) => {
            let node = node_name(&node)?;
            if head.method == Method::HEAD { Ok(Streams::head()) } else { trace::open(streams, place, node) }
        }
        // Boxed, because this future is much larger than the others and would enlarge all calls.
        Route::Diagnosis(node) => Box::pin(diagnosis(context, &node)).await,
        Route::Health => Ok(health(context, listing)),
        Route::Live => Ok(json(StatusCode::OK, &wire::Probe { status: "ok" })),
        Route::Ready => ready(context),
        Route::OpenApi => Ok(written(StatusCode::OK, Bytes::from_static(wire::OPENAPI.as_bytes()))),
        Route::Metrics => metrics_page(context),
    }
}

/// Refuses a request without `Host`, which only HTTP/1.0 may omit, and one with several (RFC 9112,
/// section 3.2).
fn expect_host(head: &Parts) -> Result<(), Problem> {
    let (code, detail) = match head.headers.get_all(HOST).iter().count() {
        0 if head.version < Version::HTTP_11 => return Ok(()),
        0 => ("host_missing", "an HTTP/1.1 request must have a Host header: send `Host: localhost`"),
        1 => return Ok(()),
        _ => ("host_twice", "the request has more than one Host header: send exactly one"),
    };
    Err(Problem::new(StatusCode::BAD_REQUEST, code, detail))
}

// ---- Plugins --------------------------------------------------------------------------------

async fn register(context: &Context, caller: Caller, body: &[u8]) -> Result<HttpResponse, Problem> {
    let registration = registration::read(body)?;
    let plugin = context.registry.register(registration, Some(caller.registrant)).await.map_err(refused)?;
    let name = &plugin.name;
    let mut answer = json(StatusCode::CREATED, &wire::Registered::new(name, &context.home.namespace(name)));
    // A name consists of letters, digits and hyphens, so this is always a valid header value.
    if let Ok(location) = HeaderValue::try_from(format!("/api/plugins/{name}")) {
        answer.headers_mut().insert(LOCATION, location);
    }
    Ok(answer)
}

fn plugins(context: &Context, listing: &Listing, headers: &HeaderMap) -> HttpResponse {
    let List { body, tag } = listing.of(&context.registry.view(), &context.plugin_nodes(), &context.home);
    let mut answer = if matches_tag(headers, &tag) {
        let mut unchanged = Response::new(Either::Left(Whole::default()));
        *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
        unchanged
    } else {
        written(StatusCode::OK, body)
    };
    answer.headers_mut().insert(ETAG, tag);
    answer
}

/// Returns whether `If-None-Match` contains this entity tag, by weak comparison (RFC 9110, section
/// 13.1.2).
fn matches_tag(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|tag_given| tag_given == "*" || tag_given.strip_prefix("W/").unwrap_or(tag_given).as_bytes() == tag)
}

async fn plugin(context: &Context, name: &str) -> Result<HttpResponse, Problem> {
    let name = plugin_name(name)?;
    let view = context.registry.view();
    let Some(plugin) = view.plugins.get(&name) else {
        return Err(refused(Refusal::NotFound { name }));
    };
    let contents = context.registry.contents(name.clone()).await.map_err(refused)?;
    let namespace = context.home.namespace(&name);
    let detail = wire::PluginDetail::new(plugin, &namespace, &context.plugin_nodes(), contents);
    Ok(json(StatusCode::OK, &detail))
}

async fn deregister(context: &Context, name: &str) -> Result<HttpResponse, Problem> {
    let name = plugin_name(name)?;
    context.registry.deregister(name).await.map_err(refused)?;
    Ok(json(StatusCode::OK, &wire::Done { ok: true }))
}

async fn check_purge(context: &Context, name: &str) -> Result<HttpResponse, Problem> {
    let name = plugin_name(name)?;
    context.registry.check_purge(name.clone()).await.map_err(refused)?;
    Ok(json(StatusCode::OK, &wire::Purgeable::new(&name, &context.home.namespace(&name))))
}

async fn purge(context: &Context, name: &str) -> Result<HttpResponse, Problem> {
    let name = plugin_name(name)?;
    let removed = context.registry.purge(name.clone()).await.map_err(refused)?;
    Ok(json(StatusCode::OK, &wire::Purged::new(&name, &context.home.namespace(&name), removed)))
}

/// Parses the name of a plugin in a path. No plugin can have an invalid name, so that is 404.
fn plugin_name(name: &str) -> Result<PluginName, Problem> {
    PluginName::parse(name)
        .map_err(|error| Problem::new(StatusCode::NOT_FOUND, "not_found", format!("no such plugin: {error}")))
}

fn refused(refusal: Refusal) -> Problem {
    let status = match &refusal {
        Refusal::NotFound { .. } | Refusal::NoData { .. } => StatusCode::NOT_FOUND,
        Refusal::NodeConflict { .. }
        | Refusal::OwnNode { .. }
        | Refusal::Registered { .. }
        | Refusal::StillRunning { .. }
        | Refusal::MayRun { .. } => StatusCode::CONFLICT,
        Refusal::SocketPathTooLong(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::Full => StatusCode::INSUFFICIENT_STORAGE,
        Refusal::Layout(_) | Refusal::PurgeIncomplete(..) => StatusCode::INTERNAL_SERVER_ERROR,
        // A retry may succeed: a full disk may be emptied, and a stopping daemon may start again.
        Refusal::Store(_) | Refusal::Read(_) | Refusal::Stopping => {
            return Problem::unavailable(refusal.code(), refusal.to_string(), SOON);
        }
    };
    Problem::new(status, refusal.code(), refusal.to_string())
}

/// Refuses a `Content-Type` other than `application/json`, ignoring parameters. It may be absent.
fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(given) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let media_type = given.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    if media_type.trim_ascii().eq_ignore_ascii_case(b"application/json") {
        return Ok(());
    }
    let detail = format!(
        "the body must be JSON, but its Content-Type is {}; with curl, add -H 'Content-Type: application/json'",
        String::from_utf8_lossy(given.as_bytes())
    );
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json_type", detail))
}

// ---- The daemon -----------------------------------------------------------------------------

/// Waits until the daemon has started and the registry knows which plugins are running.
async fn started(context: &Context, patience: Duration) -> Result<(), Problem> {
    let (started, judged) = (|status: &DaemonStatus| status.phase != Phase::Starting, |view: &Arc<View>| view.ready);
    if started(&context.status.borrow()) && judged(&context.registry.view()) {
        return Ok(());
    }
    let mut status = context.status.clone();
    let mut view = context.registry.watch();
    let up = async {
        // These fail only when their publishers end because the daemon stops. The registry then
        // refuses the call.
        let _ = status.wait_for(started).await;
        let _ = view.wait_for(judged).await;
    };
    tokio::time::timeout(patience, up).await.map_err(|_| starting())
}

fn starting() -> Problem {
    let detail = "the daemon is starting and does not know yet which plugins are running: retry";
    Problem::unavailable("starting", detail, SOON)
}

fn health(context: &Context, listing: &Listing) -> HttpResponse {
    let status = context.status.borrow().clone();
    let view = context.registry.view();
    let health = wire::Health {
        status: status.health(view.ready),
        ready: unready(&status, view.ready).is_none(),
        service: "hecate".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node_name: status.node_name.as_ref().map(ToString::to_string),
        uptime_seconds: context.started.elapsed().as_secs(),
        epmd_owners: status
            .epmd_owners
            .into_iter()
            .map(|EpmdOwner { uid, user, pid, program }| wire::EpmdOwner { uid, user, pid, program })
            .collect(),
        identity: "not_initialized".to_owned(),
        plugins: BTreeMap::new(),
        problems: status
            .problems
            .into_iter()
            .map(|problem| wire::HealthProblem { code: problem.code.into(), detail: problem.detail })
            .collect(),
    };
    written(StatusCode::OK, with_plugins(&wire::encode(&health), listing.health(&view)))
}

/// Replaces the empty object of plugins in `/health` by these plugins, whose bytes are shared.
fn with_plugins(health: &Bytes, plugins: Bytes) -> Whole {
    /// Occurs only once, because quotes in strings are escaped.
    const NONE: &[u8] = b"\"plugins\":{}";
    let Some(at) = health.windows(NONE.len()).position(|window| window == NONE) else {
        return health.clone().into();
    };
    let end = at + NONE.len();
    Whole::new([health.slice(..end - 2), plugins, health.slice(end..)])
}

fn ready(context: &Context) -> Result<HttpResponse, Problem> {
    let judged = context.registry.view().ready;
    match unready(&context.status.borrow(), judged) {
        None => Ok(json(StatusCode::OK, &wire::Probe { status: "ok" })),
        Some(problem) => Err(problem),
    }
}

/// Returns why the daemon is not ready; none if it is ready.
fn unready(status: &DaemonStatus, judged: bool) -> Option<Problem> {
    match status.phase {
        Phase::Stopping => {
            let detail = "the daemon is stopping: retry when it has started again";
            Some(Problem::unavailable("stopping", detail, SOON))
        }
        Phase::Starting => Some(starting()),
        Phase::Running if !judged => Some(starting()),
        Phase::Running => {
            let blocker = status.blocker()?;
            Some(Problem::unavailable(blocker.code, blocker.detail.clone(), SOON))
        }
    }
}

fn cluster(context: &Context) -> HttpResponse {
    let view = context.cluster();
    json(StatusCode::OK, &wire::Cluster::new(&view, &context.registry.view()))
}

fn cluster_plugins(context: &Context) -> HttpResponse {
    let view = context.cluster();
    json(StatusCode::OK, &wire::ClusterPlugins::new(&view, &context.registry.view(), &context.home))
}

/// Parses the name of a node in a path. No node can have an invalid name, so that is 404.
fn node_name(name: &str) -> Result<NodeName, Problem> {
    NodeName::parse(name)
        .map_err(|error| Problem::new(StatusCode::NOT_FOUND, "not_found", format!("no such node: {error}")))
}

async fn diagnosis(context: &Context, node: &str) -> Result<HttpResponse, Problem> {
    let node = node_name(node)?;
    match context.diagnostician.diagnose(&node).await {
        Ok(report) => Ok(json(StatusCode::OK, &wire::Diagnosis::new(&report))),
        Err(busy) => Err(Problem::unavailable("diagnoses_busy", busy.to_string(), SOON)),
    }
}

fn metrics_page(context: &Context) -> Result<HttpResponse, Problem> {
    let cluster = context.cluster();
    let text = metrics::page(&context.registry.view(), &cluster).map_err(|error| {
        let detail = format!("cannot write the metrics: {error}; this is a bug in the daemon, please report it");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    })?;
    let mut answer = Response::new(Either::Left(Bytes::from(text).into()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::super::listing::etag;
    use super::*;

    #[test]
    fn an_entity_tag_is_found_in_each_valid_form() {
        let tag = etag(b"[]");
        assert_eq!(tag, etag(b"[]"));
        assert_ne!(tag, etag(b"[1]"));
        let headers =
            |value: &str| HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_str(value).expect("text"))]);
        let text = tag.to_str().expect("text");
        for known in [text.to_owned(), format!("W/{text}"), format!("\"x\",  {text}"), "*".to_owned()] {
            assert!(matches_tag(&headers(&known), &tag), "{known}");
        }
        for unknown in ["", "\"x\"", &text.to_uppercase().replace('"', ""), "W/"] {
            assert!(!matches_tag(&headers(unknown), &tag), "{unknown}");
        }
        assert!(!matches_tag(&HeaderMap::new(), &tag));
    }

    #[test]
    fn the_plugins_of_health_are_inserted_without_a_copy() {
        let health = Bytes::from_static(br#"{"a":"\"plugins\":{}","plugins":{},"problems":[]}"#);
        let plugins = Bytes::from_static(br#"{"x":"ok"}"#);
        let whole = with_plugins(&health, plugins.clone());
        let parts: Vec<&Bytes> = whole.parts().collect();
        assert_eq!(
            parts.iter().map(|part| &part[..]).collect::<Vec<_>>().concat(),
            *br#"{"a":"\"plugins\":{}","plugins":{"x":"ok"},"problems":[]}"#
        );
        assert!(parts.iter().any(|part| part.as_ptr() == plugins.as_ptr()), "the bytes are shared");
    }

    #[test]
    fn the_daemon_is_ready_once_plugins_are_judged() {
        let code = |phase, judged| {
            let status = DaemonStatus { phase, ..DaemonStatus::default() };
            unready(&status, judged).map(|problem| problem.code)
        };
        assert_eq!(code(Phase::Starting, true), Some("starting"));
        assert_eq!(code(Phase::Running, false), Some("starting"));
        assert_eq!(code(Phase::Running, true), None);
        assert_eq!(code(Phase::Stopping, true), Some("stopping"));
    }
}
