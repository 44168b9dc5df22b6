//! Accepts connections, and answers every request, however malformed.
//!
//! HTTP/1.1 (RFC 9112) is hyper's; what is bounded around it is in [`Limits`]. What hyper itself refuses (a head that is
//! no HTTP, too long or with too many fields) it answers with a bare 400 or 431; every other refusal is a
//! [`Problem`]. What a call means is `route`'s and `handlers`'.

use std::sync::Arc;
use std::time::{Duration, Instant};

use beam::limited;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, EXPECT, HeaderValue};
use hyper::{Request, StatusCode};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connection::{Caller, Connections, Place, converse};
use super::events::Streams;
use super::handlers::{self, Answer, Context};
use super::listing::Listing;
use super::metrics;
use super::places::Capacity;
use super::problem::Problem;
use super::route::{self, Route};
use super::socket::Listener;
use crate::limits;
use crate::log::limit;
use crate::registry::Registrant;

/// The bounds of the server. The default is what `limits.rs` says; tests cross smaller ones.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at a time that are served: for one more, the one that has been idle longest is
    /// closed.
    pub connections: usize,
    /// Connections of one process.
    pub share: usize,
    /// Connections of all processes of one user that the kernel does not show.
    pub user_share: usize,
    /// Connections beyond these, which may call only the probes; for one more, the oldest is
    /// closed.
    pub limited: usize,
    /// Bytes of a request's head on a limited connection.
    pub limited_head: usize,
    /// Time for such a head.
    pub limited_time: Duration,
    /// Connections at a time of users who are refused; for one more, the oldest is closed.
    pub strangers: usize,
    /// Bytes of a request's head.
    pub head: usize,
    /// Time for a request's head, and between two requests.
    pub head_time: Duration,
    /// Bytes of a request's body.
    pub body: usize,
    /// Time for a request's body.
    pub body_time: Duration,
    /// How long a client may take nothing of an answer.
    pub stall: Duration,
    /// How long the rest of a refused body is taken.
    pub linger: Duration,
    /// How long a call waits for the daemon to be up.
    pub ready: Duration,
    /// Streams of events at a time; more are refused.
    pub streams: usize,
    /// Streams of one process, or of one user whose processes the kernel does not show.
    pub stream_share: usize,
    /// How often a stream shows that it is alive.
    pub heartbeat: Duration,
    /// Time for a whole call.
    pub call: Duration,
    /// How long requests may take to end once we stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: limits::HTTP_CONNECTIONS,
            share: limits::HTTP_SHARE,
            user_share: limits::HTTP_USER_SHARE,
            limited: limits::HTTP_LIMITED,
            limited_head: limits::HTTP_LIMITED_HEAD,
            limited_time: limits::HTTP_LIMITED_TIME,
            strangers: limits::HTTP_STRANGERS,
            head: limits::HTTP_HEAD,
            head_time: limits::HTTP_HEAD_TIME,
            body: limits::HTTP_BODY,
            body_time: limits::HTTP_BODY_TIME,
            stall: limits::HTTP_STALL,
            linger: limits::HTTP_LINGER,
            ready: limits::HTTP_READY,
            streams: limits::HTTP_STREAMS,
            stream_share: limits::HTTP_STREAM_SHARE,
            heartbeat: limits::HTTP_HEARTBEAT,
            call: limits::HTTP_CALL,
            drain: limits::HTTP_DRAIN,
        }
    }
}

impl Limits {
    /// Returns the limits for users who may call.
    fn capacity(&self) -> Capacity {
        Capacity {
            places: self.connections,
            share: self.share,
            user_share: self.user_share,
            limited: self.limited,
            streams: self.streams,
            stream_share: self.stream_share,
        }
    }

    /// Returns the limits for users who may not call, until they have been refused.
    fn strangers(&self) -> Capacity {
        let (places, share) = (self.strangers, self.strangers.div_ceil(2));
        Capacity { places, share, user_share: share, limited: 1, streams: 0, stream_share: 0 }
    }

    /// Returns the most connections that may be open, which leaves descriptors for the rest of the
    /// daemon. Closing ones count too.
    fn open(&self) -> usize {
        self.connections + self.streams + self.limited + self.strangers + limits::HTTP_CLOSING
    }
}

/// What all connections share.
pub(super) struct Server {
    pub context: Context,
    pub limits: Limits,
    pub listing: Listing,
    pub streams: Streams,
    pub stop: CancellationToken,
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
    let open = server.limits.open();
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
    if tokio::time::timeout(server.limits.drain, drained).await.is_err() {
        tracing::debug!("requests were still under way when the time to end was over");
    }
}

/// Admits a new connection and spawns its task.
fn take(server: &Arc<Server>, stream: UnixStream, connections: &mut JoinSet<()>) {
    let caller = match Caller::of(&stream, server.uid, &server.context.allowed_uids) {
        Ok(caller) => caller,
        Err(error) => return tracing::debug!(%error, "a caller without credentials"),
    };
    let kind = if caller.allowed { &server.callers } else { &server.strangers };
    if !caller.allowed {
        let Registrant { uid, pid, .. } = caller.registrant;
        limited!(limit::STRANGERS, warn, uid, pid, "this user may not call the API: see HECATE_ALLOWED_UIDS");
    }
    let place = kind.admit(caller.owner());
    connections.spawn(converse(Arc::clone(server), caller, place, stream));
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
        Self {
            context,
            streams: Streams::new(listing.clone(), limits.heartbeat, stop.clone()),
            listing,
            callers: Connections::new(limits.capacity()),
            strangers: Connections::new(limits.strangers()),
            limits,
            stop,
            uid: rustix::process::geteuid().as_raw(),
        }
    }
}

/// Answers whatever is asked. A body that the call did not want to the end is taken for a while longer: a client that
/// writes all before it reads would otherwise find its connection broken, and never see the answer.
pub(super) async fn answer(server: &Server, place: &Place, caller: Caller, request: Request<Incoming>) -> Answer {
    let begun = Instant::now();
    let may_ask_all = place.works();
    let (head, mut body) = request.into_parts();
    let mut route = route::route(&head.method, head.uri.path());
    let pattern = route.as_ref().ok().map(Route::pattern);
    if !may_ask_all {
        route = route.and_then(only_probes);
    }
    // Large, and moved several times otherwise.
    let call = Box::pin(handlers::call(server, place, caller, route, &head, &mut body));
    let mut response = match tokio::time::timeout(server.limits.call, call).await {
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
            tokio::spawn(tokio::time::timeout(server.limits.linger, async move {
                while let Some(Ok(_)) = body.frame().await {}
            }));
        }
    }
    metrics::requested(pattern, response.status().as_u16(), begun.elapsed());
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

fn too_many_connections() -> Problem {
    let detail = "too many connections are open: close unused ones and retry; until then only /livez, /readyz and \
                  /health answer";
    Problem::unavailable("too_many_connections", detail, Duration::from_secs(1))
}

/// Reads a body to its end, within its bounds. Meanwhile the connection counts as idle.
pub(super) async fn read_body(limits: &Limits, place: &Place, body: &mut Incoming) -> Result<Bytes, Problem> {
    place.waits();
    let read = read_to_end(limits, body).await;
    if place.works() { read } else { Err(too_many_connections()) }
}

async fn read_to_end(limits: &Limits, body: &mut Incoming) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("the body is larger than {} bytes, which no registration needs", limits.body);
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
    };
    // A length that is announced is judged before the body is read.
    if body.size_hint().lower() > u64::try_from(limits.body).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    let collected = async {
        let mut collected = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                let detail = format!("the body ended early or is wrongly encoded: {error}");
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
        let detail = format!("the body was not complete within {:?}: send it at once", limits.body_time);
        Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail))
    })
}

#[cfg(test)]
mod tests {
    use beam::cookie::Cookie;
    use beam::node::dial::Dialling;

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
        let dialling =
            Dialling { epmd_port: 0, default_port: None, this_host: BTreeSet::new(), allowed_uids: BTreeSet::new() };
        let settings = diagnosis::Settings {
            dialling,
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
        let limits = Limits { strangers: 1, ..Limits::default() };
        (directory, Arc::new(Server::new(context, limits, CancellationToken::new())))
    }

    #[tokio::test]
    async fn strangers_are_refused_and_few() {
        let (_directory, server) = server();
        let stranger = Caller { registrant: Registrant { uid: 4242, gid: 4242, pid: None }, allowed: false };
        let call = async |server: &Arc<Server>| {
            let (mut ours, theirs) = UnixStream::pair().expect("a pair");
            let place = server.strangers.admit(stranger.owner());
            let conversation = tokio::spawn(converse(Arc::clone(server), stranger, place, theirs));
            let mut answer = String::new();
            let _ = ours.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
            let _ = ours.read_to_string(&mut answer).await;
            conversation.await.expect("no panic");
            answer
        };
        let answer = call(&server).await;
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
        assert!(answer.contains("\"code\":\"forbidden\"") && answer.contains("uid 4242"), "{answer}");

        // One at a time here: a silent one is closed, and displaces no permitted caller.
        let (mut silent, theirs) = UnixStream::pair().expect("a pair");
        let place = server.strangers.admit(stranger.owner());
        let conversation = tokio::spawn(converse(Arc::clone(&server), stranger, place, theirs));
        assert!(call(&server).await.starts_with("HTTP/1.1 403"));
        assert_eq!(silent.read(&mut [0]).await.expect("closed"), 0);
        conversation.await.expect("no panic");
    }

    #[test]
    fn descriptors_are_left_for_all_else() {
        // 1024 is the usual soft limit.
        assert!(Limits::default().open() <= 1024 - 256);
    }
}
