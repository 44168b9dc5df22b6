//! Accepts connections, and responds to every request.
//!
//! Hyper implements HTTP/1.1 (RFC 9112); [`Limits`] are the limits around it. Hyper itself refuses
//! a head that is not HTTP, is too long or has too many fields, with an empty 400 or 431. Every
//! other error response is a [`Problem`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use beam::limited;

use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, EXPECT, HeaderValue};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::answer::HttpResponse;
use super::bounds::Limits;
use super::connection::{Caller, Connections, Place, converse};
use super::context::Context;
use super::events::Streams;
use super::handlers::{self, Calls};
use super::listing::Listing;
use super::metrics;
use super::problem::{Problem, too_many_connections};
use super::route::{self, Route};
use super::socket::Listener;
use crate::limits;
use crate::log::limit;
use crate::registry::Registrant;

/// The state that all connections share.
struct Server {
    calls: Calls,
    stop: CancellationToken,
    /// The user that the daemon runs as.
    uid: u32,
    callers: Connections,
    /// Connections of users who may not call, limited separately so that they displace no callers.
    strangers: Connections,
}

/// Serves until `stop` is cancelled, and then until all running requests have ended, at most
/// [`Limits::drain`].
pub async fn serve(mut listener: Listener, context: Context, limits: Limits, stop: CancellationToken) {
    let server = Arc::new(Server::new(context, limits, stop));
    let mut connections = JoinSet::new();
    let open = server.calls.limits.open();
    while !server.stop.is_cancelled() {
        tokio::select! {
            () = server.stop.cancelled() => {}
            Some(ended) = connections.join_next() => log_panic(ended),
            // At the limit, evicted connections are still closing.
            accepted = listener.accept(), if connections.len() < open => match accepted {
                Ok((stream, _)) => take(&server, stream, &mut connections),
                Err(error) => accept_failed(&server, &error, &mut connections).await,
            },
        }
    }
    listener.close();
    let drained = async {
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    };
    if tokio::time::timeout(server.calls.limits.drain, drained).await.is_err() {
        tracing::debug!("stopping, although requests are still running");
    }
}

/// Admits a new connection and spawns its task.
fn take(server: &Arc<Server>, stream: UnixStream, connections: &mut JoinSet<()>) {
    let caller = match Caller::of(&stream, server.uid, &server.calls.context.allowed_uids) {
        Ok(caller) => caller,
        Err(error) => return tracing::debug!(%error, "cannot read the credentials of an API client"),
    };
    let kind = if caller.allowed { &server.callers } else { &server.strangers };
    if !caller.allowed {
        let Registrant { uid, pid, .. } = caller.registrant;
        limited!(
            limit::STRANGERS,
            warn,
            uid,
            pid,
            "this user may not call the API; to allow it, add the uid to HECATE_ALLOWED_UIDS"
        );
    }
    let place = kind.admit(caller.owner());
    connections.spawn(converse_with(server, caller, place, stream));
}

/// Responds to the requests of a connection until it ends.
fn converse_with(
    server: &Arc<Server>,
    caller: Caller,
    place: Place,
    stream: UnixStream,
) -> impl Future<Output = ()> + use<> {
    let (limits, stop, server) = (server.calls.limits.clone(), server.stop.clone(), Arc::clone(server));
    let respond = move |place: Arc<Place>, request| {
        let server = Arc::clone(&server);
        async move { answer(&server, &place, caller, request).await }
    };
    converse(limits, stop, place, stream, respond)
}

/// Handles a failed accept: closes a connection to free its descriptor, or waits if none can be
/// closed.
async fn accept_failed(server: &Server, error: &std::io::Error, connections: &mut JoinSet<()>) {
    limited!(beam::log_limit::ACCEPTS, warn, %error, "cannot accept a connection on the API socket");
    if server.strangers.close_one() || server.callers.close_one() {
        connections.join_next().await.map(log_panic).unwrap_or_default();
    } else {
        // An immediate retry would fail too.
        let _ = tokio::time::timeout(limits::HTTP_ACCEPT_PAUSE, server.stop.cancelled()).await;
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "the task of an API connection panicked; please report this bug");
    }
}

impl Server {
    fn new(context: Context, limits: Limits, stop: CancellationToken) -> Self {
        let listing = Listing::default();
        let streams = Streams::new(listing.clone(), limits.heartbeat, stop.clone());
        Self {
            callers: Connections::new(limits.capacity()),
            strangers: Connections::new(limits.strangers()),
            calls: Calls { context, limits, listing, streams },
            stop,
            uid: rustix::process::geteuid().as_raw(),
        }
    }
}

/// Responds to a request. If the call has not read the whole body, the rest is read and discarded
/// for a while. Otherwise a client that writes its whole request before it reads would get a broken
/// connection instead of the response.
async fn answer(server: &Server, place: &Place, caller: Caller, request: Request<Incoming>) -> HttpResponse {
    let begun = Instant::now();
    let may_call_all = place.works();
    let (head, mut body) = request.into_parts();
    let mut route = route::route(&head.method, head.uri.path());
    let pattern = route.as_ref().ok().map(Route::pattern);
    if !may_call_all {
        route = route.and_then(only_probes);
    }
    // Boxed, because the future is large and would be moved several times.
    let call = Box::pin(handlers::call(&server.calls, place, caller, route, &head, &mut body));
    let mut response = match tokio::time::timeout(server.calls.limits.call, call).await {
        Ok(Ok(response)) => response,
        Ok(Err(problem)) => problem.into_response(),
        Err(_) => {
            let detail = "the call took too long and may or may not have been applied: check, and retry";
            Problem::unavailable("call_timeout", detail, Duration::from_secs(1)).into_response()
        }
    };
    if !may_call_all {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if !body.is_end_stream() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        // A client that waits for `100 Continue` has not sent its body.
        if !head.headers.contains_key(EXPECT) {
            tokio::spawn(tokio::time::timeout(server.calls.limits.linger, async move {
                while let Some(Ok(_)) = body.frame().await {}
            }));
        }
    }
    metrics::requested(pattern, response.status(), begun.elapsed());
    place.waits();
    response
}

/// Refuses every route except the probes, for a limited or evicted connection.
fn only_probes(route: Route) -> Result<Route, Problem> {
    match route {
        Route::Health | Route::Live | Route::Ready => Ok(route),
        _ => Err(too_many_connections()),
    }
}

#[cfg(test)]
mod tests {
    use beam::connect::dial::Dialer;
    use beam::cookie::Cookie;

    use super::*;
    use std::collections::BTreeSet;

    use crate::api::DaemonStatus;
    use crate::cluster::diagnosis::{self, Diagnostician};
    use crate::layout::{Home, Layout, Modes};
    use crate::registry;
    use crate::store::Store;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::watch;

    fn diagnostician() -> Diagnostician {
        let dialer =
            Dialer { epmd_port: 0, default_port: None, this_host: BTreeSet::new(), allowed_uids: BTreeSet::new() };
        let settings = diagnosis::DiagnosisSettings {
            dialer,
            cookie: Cookie::parse(b"cookie").expect("a cookie"),
            challenges: Default::default(),
            hidden: false,
            scopes: Vec::new(),
            tick_time: Duration::from_secs(60),
        };
        Diagnostician::new(settings, watch::channel(Arc::default()).1, watch::channel(None).1)
    }

    fn server() -> (tempfile::TempDir, Arc<Server>) {
        let directory = tempfile::tempdir().expect("directory");
        let home = Home::new(directory.path().to_owned()).expect("absolute");
        let layout = Layout::open(home.clone(), Modes::default()).expect("made");
        let sqlite = layout.ensure_own().expect("made").sqlite();
        let opened = Store::open(&sqlite, std::time::SystemTime::now()).expect("opened");
        let (registry, _task) = registry::start(registry::Config::default(), Arc::new(layout), opened, Arc::new(|| ()));
        let context = Context {
            registry,
            home,
            status: watch::channel(DaemonStatus::default()).1,
            cluster: watch::channel(Arc::default()).1,
            diagnostician: diagnostician(),
            allowed_uids: Vec::new(),
            started: std::time::Instant::now(),
        };
        (directory, Arc::new(Server::new(context, Limits::default(), CancellationToken::new())))
    }

    #[tokio::test]
    async fn connections_of_other_users_are_refused_and_bounded() {
        let (_directory, server) = server();
        let of = |uid| Caller { registrant: Registrant { uid, gid: uid, pid: None }, allowed: false };
        let stranger = of(4242);
        let call = async |server: &Arc<Server>| {
            let (mut ours, theirs) = UnixStream::pair().expect("a pair");
            let place = server.strangers.admit(stranger.owner());
            let conversation = tokio::spawn(converse_with(server, stranger, place, theirs));
            let mut answer = String::new();
            let _ = ours.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
            let _ = ours.read_to_string(&mut answer).await;
            conversation.await.expect("no panic");
            answer
        };
        let answer = call(&server).await;
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
        assert!(answer.contains("\"code\":\"forbidden\"") && answer.contains("uid 4242"), "{answer}");

        // At most 16 at a time. For one more, the oldest is closed, but never a connection of an
        // allowed user.
        let mut silent = Vec::new();
        for uid in 1..=16 {
            let (ours, theirs) = UnixStream::pair().expect("a pair");
            let place = server.strangers.admit(of(uid).owner());
            silent.push((ours, tokio::spawn(converse_with(&server, of(uid), place, theirs))));
        }
        assert!(call(&server).await.starts_with("HTTP/1.1 403"));
        let (mut oldest, conversation) = silent.remove(0);
        let closed = tokio::time::timeout(limits::HTTP_HEAD_TIME / 3, oldest.read(&mut [0])).await;
        assert_eq!(closed.expect("for the 17th").expect("closed"), 0);
        conversation.await.expect("no panic");
        for (number, (still, conversation)) in silent.iter().enumerate() {
            let unread = still.try_read(&mut [0]).expect_err("no answer");
            assert_eq!(
                (unread.kind(), conversation.is_finished()),
                (std::io::ErrorKind::WouldBlock, false),
                "{number}"
            );
        }
    }

    #[test]
    fn the_api_leaves_descriptors_for_the_rest_of_the_daemon() {
        // 1024 is the usual soft limit.
        assert!(Limits::default().open() <= 1024 - 256);
    }
}
