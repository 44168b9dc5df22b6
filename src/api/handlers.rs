//! What each call does: ask the registry or look at what the daemon publishes, and word the answer. No call changes
//! anything but through the registry's handle.

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

/// When to ask again, where it is the daemon that is not ready.
const SOON: Duration = Duration::from_secs(1);

/// The state that all calls share.
pub(super) struct Calls {
    pub context: Context,
    pub limits: Limits,
    pub listing: Listing,
    pub streams: Streams,
}

/// Does what a request asks.
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
            "uid {} may not call this daemon: it serves its own user, root, and those in HECATE_ALLOWED_UIDS",
            caller.registrant.uid
        );
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail));
    }
    expect_host(head)?;
    let route = route?;
    if !route.answers_while_starting() {
        up(context, limits.ready).await?;
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
            let node = known_node(&node)?;
            if head.method == Method::HEAD { Ok(Streams::head()) } else { trace::open(streams, place, node) }
        }
        // Many times as large as any other, and every call would be.
        Route::Diagnosis(node) => Box::pin(diagnosis(context, &node)).await,
        Route::Health => Ok(health(context, listing)),
        Route::Live => Ok(json(StatusCode::OK, &wire::Probe { status: "ok" })),
        Route::Ready => ready(context),
        Route::OpenApi => Ok(written(StatusCode::OK, Bytes::from_static(wire::OPENAPI.as_bytes()))),
        Route::Metrics => measured(context),
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
    // A name is of letters, digits and hyphens, so that this always is a header value.
    if let Ok(location) = HeaderValue::try_from(format!("/api/plugins/{name}")) {
        answer.headers_mut().insert(LOCATION, location);
    }
    Ok(answer)
}

fn plugins(context: &Context, listing: &Listing, headers: &HeaderMap) -> HttpResponse {
    let List { body, tag } = listing.of(&context.registry.view(), &context.plugin_nodes(), &context.home);
    let mut answer = if knows(headers, &tag) {
        let mut unchanged = Response::new(Either::Left(Whole::default()));
        *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
        unchanged
    } else {
        written(StatusCode::OK, body)
    };
    answer.headers_mut().insert(ETAG, tag);
    answer
}

/// Whether `If-None-Match` names this validator, in the weak comparison (RFC 9110, section 13.1.2).
fn knows(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known).as_bytes() == tag)
}

async fn plugin(context: &Context, name: &str) -> Result<HttpResponse, Problem> {
    let name = known_form(name)?;
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
    let name = known_form(name)?;
    context.registry.deregister(name).await.map_err(refused)?;
    Ok(json(StatusCode::OK, &wire::Done { ok: true }))
}

async fn check_purge(context: &Context, name: &str) -> Result<HttpResponse, Problem> {
    let name = known_form(name)?;
    context.registry.check_purge(name.clone()).await.map_err(refused)?;
    Ok(json(StatusCode::OK, &wire::Purgeable::new(&name, &context.home.namespace(&name))))
}

async fn purge(context: &Context, name: &str) -> Result<HttpResponse, Problem> {
    let name = known_form(name)?;
    let removed = context.registry.purge(name.clone()).await.map_err(refused)?;
    Ok(json(StatusCode::OK, &wire::Purged::new(&name, &context.home.namespace(&name), removed)))
}

/// A name that no plugin can have is the name of none.
fn known_form(name: &str) -> Result<PluginName, Problem> {
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
        // A full disk may be emptied, and a stopping daemon comes back.
        Refusal::Store(_) | Refusal::Read(_) | Refusal::Stopping => {
            return Problem::unavailable(refusal.code(), refusal.to_string(), SOON);
        }
    };
    Problem::new(status, refusal.code(), refusal.to_string())
}

/// `application/json`, with whatever parameters. One that is missing is taken for it.
fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(given) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let media_type = given.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    if media_type.trim_ascii().eq_ignore_ascii_case(b"application/json") {
        return Ok(());
    }
    let detail = format!(
        "the body must be JSON, and its Content-Type says {}: with curl, add -H 'Content-Type: application/json'",
        String::from_utf8_lossy(given.as_bytes())
    );
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json_type", detail))
}

// ---- The daemon -----------------------------------------------------------------------------

/// Waits until the daemon is up and the registry knows which plugins live.
async fn up(context: &Context, patience: Duration) -> Result<(), Problem> {
    let (started, judged) = (|status: &DaemonStatus| status.phase != Phase::Starting, |view: &Arc<View>| view.ready);
    if started(&context.status.borrow()) && judged(&context.registry.view()) {
        return Ok(());
    }
    let mut status = context.status.clone();
    let mut view = context.registry.watch();
    let up = async {
        // Whoever published these has gone if it fails: then we stop, and the registry will say so.
        let _ = status.wait_for(started).await;
        let _ = view.wait_for(judged).await;
    };
    tokio::time::timeout(patience, up).await.map_err(|_| starting())
}

fn starting() -> Problem {
    let detail = "the daemon is starting and does not know yet which plugins live: ask again";
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

/// Returns `/health` with these plugins, whose bytes are shared, in place of the empty object.
fn with_plugins(health: &Bytes, plugins: Bytes) -> Whole {
    /// Occurs only once, since a quote within a string is escaped.
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

/// Why we are not ready, if we are not.
fn unready(status: &DaemonStatus, judged: bool) -> Option<Problem> {
    match status.phase {
        Phase::Stopping => {
            let detail = "the daemon is stopping: ask again when it is back";
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

/// A name that no node can have is the name of none.
fn known_node(name: &str) -> Result<NodeName, Problem> {
    NodeName::parse(name)
        .map_err(|error| Problem::new(StatusCode::NOT_FOUND, "not_found", format!("no such node: {error}")))
}

async fn diagnosis(context: &Context, node: &str) -> Result<HttpResponse, Problem> {
    let node = known_node(node)?;
    match context.diagnostician.diagnose(&node).await {
        Ok(report) => Ok(json(StatusCode::OK, &wire::Diagnosis::new(&report))),
        Err(busy) => Err(Problem::unavailable("diagnoses_busy", busy.to_string(), SOON)),
    }
}

fn measured(context: &Context) -> Result<HttpResponse, Problem> {
    let cluster = context.cluster();
    let text = metrics::page(&context.registry.view(), &cluster).map_err(|error| {
        let detail = format!("the metrics could not be written, which is our fault: {error}");
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
    fn a_validator_is_known_however_it_is_written() {
        let tag = etag(b"[]");
        assert_eq!(tag, etag(b"[]"));
        assert_ne!(tag, etag(b"[1]"));
        let headers =
            |value: &str| HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_str(value).expect("text"))]);
        let text = tag.to_str().expect("text");
        for known in [text.to_owned(), format!("W/{text}"), format!("\"x\",  {text}"), "*".to_owned()] {
            assert!(knows(&headers(&known), &tag), "{known}");
        }
        for unknown in ["", "\"x\"", &text.to_uppercase().replace('"', ""), "W/"] {
            assert!(!knows(&headers(unknown), &tag), "{unknown}");
        }
        assert!(!knows(&HeaderMap::new(), &tag));
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
        assert!(parts.iter().any(|part| part.as_ptr() == plugins.as_ptr()), "they are not copied");
    }

    #[test]
    fn we_are_ready_only_once_the_plugins_are_judged() {
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
