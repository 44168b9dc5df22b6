//! Accepts connections, and answers every request, however malformed.
//!
//! HTTP/1.1 (RFC 9112) is hyper's; what is bounded around it is in [`Limits`]. What hyper itself refuses (a head that is
//! no HTTP, too long or with too many fields) it answers with a bare 400 or 431; every other refusal is a
//! [`Problem`]. What a call means is `route`'s and `handlers`'.

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

/// What all connections share.
struct Server {
    calls: Calls,
    stop: CancellationToken,
    /// The user that the daemon runs as.
    uid: u32,
    callers: Connections,
    /// Connections of users who may not call, counted apart so that they displace no others.
    strangers: Connections,
}

/// Serves until `stop`, and then until the requests under way have ended, at most [`Limits::drain`].
pub async fn serve(mut listener: Listener, context: Context, limits: Limits, stop: CancellationToken) {
    let server = Arc::new(Server::new(context, limits, stop));
    let mut connections = JoinSet::new();
    let open = server.calls.limits.open();
    while !server.stop.is_cancelled() {
        tokio::select! {
            () = server.stop.cancelled() => {}
            Some(ended) = connections.join_next() => log_panic(ended),
            // At this number, some have been evicted and are closing.
            accepted = listener.accept(), if connections.len() < open => match accepted {
                Ok((stream, _)) => take(&server, stream, &mut connections),
                Err(error) => refused(&server, &error, &mut connections).await,
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
        tracing::debug!("requests were still under way when the time to end was over");
    }
}

/// Admits a new connection and spawns its task.
fn take(server: &Arc<Server>, stream: UnixStream, connections: &mut JoinSet<()>) {
    let caller = match Caller::of(&stream, server.uid, &server.calls.context.allowed_uids) {
        Ok(caller) => caller,
        Err(error) => return tracing::debug!(%error, "a caller without credentials"),
    };
    let kind = if caller.allowed { &server.callers } else { &server.strangers };
    if !caller.allowed {
        let Registrant { uid, pid, .. } = caller.registrant;
        limited!(limit::STRANGERS, warn, uid, pid, "this user may not call the API: see HECATE_ALLOWED_UIDS");
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

/// The system has no room for another connection: closes one for it, or waits if none can be
/// closed.
async fn refused(server: &Server, error: &std::io::Error, connections: &mut JoinSet<()>) {
    limited!(beam::log_limit::ACCEPTS, warn, %error, "cannot accept on the socket of the API: too many open files?");
    if server.strangers.spare() || server.callers.spare() {
        connections.join_next().await.map(log_panic).unwrap_or_default();
    } else {
        // An immediate retry would fail in the same way.
        let _ = tokio::time::timeout(limits::HTTP_ACCEPT_PAUSE, server.stop.cancelled()).await;
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection of the API ended in a panic: please report it");
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

/// Answers whatever is asked. A body that the call did not want to the end is taken for a while longer: a client that
/// writes all before it reads would otherwise find its connection broken, and never see the answer.
async fn answer(server: &Server, place: &Place, caller: Caller, request: Request<Incoming>) -> HttpResponse {
    let begun = Instant::now();
    let may_ask_all = place.works();
    let (head, mut body) = request.into_parts();
    let mut route = route::route(&head.method, head.uri.path());
    let pattern = route.as_ref().ok().map(Route::pattern);
    if !may_ask_all {
        route = route.and_then(only_probes);
    }
    // Large, and moved several times otherwise.
    let call = Box::pin(handlers::call(&server.calls, place, caller, route, &head, &mut body));
    let mut response = match tokio::time::timeout(server.calls.limits.call, call).await {
        Ok(Ok(response)) => response,
        Ok(Err(problem)) => problem.into_response(),
        Err(_) => {
            let detail = "the call took too long, and whether it took effect is open: ask again";
            Problem::unavailable("call_timeout", detail, Duration::from_secs(1)).into_response()
        }
    };
    if !may_ask_all {
        // The connection is limited or was evicted, so it closes.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if !body.is_end_stream() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        // Who waits for `100 Continue` has not begun to send.
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

/// Refuses every route but the probes, for a limited or evicted connection.
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
    async fn strangers_are_refused_and_few() {
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

        // 16 at a time: for one more, the oldest is closed. It displaces no permitted caller.
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
    fn descriptors_are_left_for_all_else() {
        // 1024 is the usual soft limit.
        assert!(Limits::default().open() <= 1024 - 256);
    }
}
