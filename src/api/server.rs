//! Accepts connections, knows who is calling, and turns each request into an answer, whatever the request is.
//!
//! HTTP/1.1 (RFC 9112) is hyper's; what is bounded around it is in [`Limits`]. What hyper itself refuses (a head that is
//! no HTTP, too long or with too many fields) it answers with a bare 400 or 431; every other refusal is a
//! [`Problem`]. What a call means is `route`'s and `handlers`'.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, EXPECT, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::events::Streams;
use super::handlers::{self, Answer, Context};
use super::listing::Listing;
use super::metrics;
use super::problem::Problem;
use super::route::{self, Route};
use super::stall::Stall;
use crate::limits;
use crate::log::limit::{self, limited};
use crate::registry::Registrant;

/// The bounds of the server. The default is what `limits.rs` says; tests cross smaller ones.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at a time; more wait in the kernel.
    pub connections: usize,
    /// Connections at a time of users who are refused; more are closed.
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
            strangers: limits::HTTP_STRANGERS,
            head: limits::HTTP_HEAD,
            head_time: limits::HTTP_HEAD_TIME,
            body: limits::HTTP_BODY,
            body_time: limits::HTTP_BODY_TIME,
            stall: limits::HTTP_STALL,
            linger: limits::HTTP_LINGER,
            ready: limits::HTTP_READY,
            streams: limits::HTTP_STREAMS,
            heartbeat: limits::HTTP_HEARTBEAT,
            call: limits::HTTP_CALL,
            drain: limits::HTTP_DRAIN,
        }
    }
}

/// Who is calling, as the kernel says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub registrant: Registrant,
    /// Whether this user may call at all.
    pub allowed: bool,
}

/// What all connections share.
pub(super) struct Server {
    pub context: Context,
    pub limits: Limits,
    pub listing: Listing,
    pub streams: Streams,
    strangers: Arc<Semaphore>,
    stop: CancellationToken,
}

/// Serves until `stop`, and then until the requests under way have ended, at most [`Limits::drain`].
pub async fn serve(listener: UnixListener, context: Context, limits: Limits, stop: CancellationToken) {
    let strangers = Arc::new(Semaphore::new(limits.strangers));
    let streams = Streams::new(limits.streams, limits.heartbeat, stop.clone());
    let server = Arc::new(Server { context, listing: Listing::default(), limits, strangers, streams, stop });
    let mut connections = JoinSet::new();
    while !server.stop.is_cancelled() {
        tokio::select! {
            () = server.stop.cancelled() => {}
            Some(ended) = connections.join_next() => log_panic(ended),
            accepted = listener.accept(), if connections.len() < server.limits.connections => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(Arc::clone(&server), stream));
                }
                Err(error) => {
                    limited!(limit::ACCEPTS, warn, %error, "cannot accept on the socket of the API: too many open files?");
                    // What is wrong will be wrong in a moment too.
                    let _ = tokio::time::timeout(limits::HTTP_ACCEPT_PAUSE, server.stop.cancelled()).await;
                }
            },
        }
    }
    drop(listener);
    let drained = async {
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    };
    if tokio::time::timeout(server.limits.drain, drained).await.is_err() {
        tracing::debug!("requests were still under way when the time to end was over");
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection of the API ended in a panic: please report it");
    }
}

async fn connection(server: Arc<Server>, stream: UnixStream) {
    let caller = match stream.peer_cred() {
        Ok(credentials) => Caller {
            registrant: Registrant {
                uid: credentials.uid(),
                gid: credentials.gid(),
                // 0 is what the kernel says for a process of a pid namespace that we cannot see.
                pid: credentials.pid().filter(|pid| *pid > 0),
            },
            allowed: may_call(credentials.uid(), rustix::process::geteuid().as_raw(), &server.context.allowed_uids),
        },
        Err(error) => {
            tracing::debug!(%error, "a caller without credentials");
            return;
        }
    };
    converse(server, caller, stream).await;
}

/// Answers a caller's requests until one of us closes.
async fn converse(server: Arc<Server>, caller: Caller, stream: UnixStream) {
    if !caller.allowed {
        let Registrant { uid, pid, .. } = caller.registrant;
        limited!(limit::STRANGERS, warn, uid, pid, "this user may not call the API: see HECATE_ALLOWED_UIDS");
    }
    // Few of those who are refused at a time, so that they cannot take the place of those who are not.
    let _stranger = match caller.allowed {
        true => None,
        false => match Arc::clone(&server.strangers).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => return,
        },
    };
    let service = service_fn(|request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(answer(&server, caller, request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(server.limits.head_time)
        .max_buf_size(server.limits.head)
        // Shell clients close their half once they have asked.
        .half_close(true);
    let stream = TokioIo::new(Stall::new(stream, server.limits.stall));
    let mut connection = std::pin::pin!(http.serve_connection(stream, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = server.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(uid = caller.registrant.uid, %error, "a connection ended early");
    }
}

/// Our own user, root, and those who were named.
fn may_call(uid: u32, own: u32, allowed: &[u32]) -> bool {
    uid == own || uid == 0 || allowed.contains(&uid)
}

/// Answers whatever is asked. A body that the call did not want to the end is taken for a while longer: a client that
/// writes all before it reads would otherwise find its connection broken, and never see the answer.
async fn answer(server: &Server, caller: Caller, request: Request<Incoming>) -> Answer {
    let begun = Instant::now();
    let (head, mut body) = request.into_parts();
    let route = route::route(&head.method, head.uri.path());
    let pattern = route.as_ref().ok().map(Route::pattern);
    // Large, and moved several times otherwise.
    let call = Box::pin(handlers::call(server, caller, route, &head, &mut body));
    let mut response = match tokio::time::timeout(server.limits.call, call).await {
        Ok(Ok(response)) => response,
        Ok(Err(problem)) => problem.into_response(),
        Err(_) => {
            let detail = "the call took too long, and whether it took effect is open: ask again";
            Problem::unavailable("call_timeout", detail, Duration::from_secs(1)).into_response()
        }
    };
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
    response
}

/// Reads a body to its end, within its bounds.
pub(super) async fn read_body(limits: &Limits, body: &mut Incoming) -> Result<Bytes, Problem> {
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
    use super::*;
    use std::collections::BTreeSet;

    use crate::api::DaemonStatus;
    use crate::cluster::diagnosis::{self, Diagnostician};
    use crate::cookie::Cookie;
    use crate::layout::{Home, Layout, Modes};
    use crate::node::dial::Dialling;
    use crate::registry;
    use crate::store::Store;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::watch;

    #[test]
    fn who_may_call() {
        assert!(may_call(1000, 1000, &[]), "our own user");
        assert!(may_call(0, 1000, &[]), "root");
        assert!(may_call(1001, 1000, &[1001]), "who was named");
        assert!(!may_call(1001, 1000, &[1002]));
        assert!(!may_call(1001, 0, &[]), "being root ourselves opens nothing");
    }

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
        let (registry, _task) = registry::start(registry::Config::default(), Arc::new(layout), opened);
        let context = Context {
            registry,
            home,
            status: watch::channel(DaemonStatus::default()).1,
            cluster: watch::channel(Arc::default()).1,
            diagnostician: diagnostician(),
            allowed_uids: Vec::new(),
            started: std::time::Instant::now(),
        };
        let server = Server {
            strangers: Arc::new(Semaphore::new(1)),
            streams: Streams::new(1, limits::HTTP_HEARTBEAT, CancellationToken::new()),
            context,
            listing: Listing::default(),
            limits: Limits::default(),
            stop: CancellationToken::new(),
        };
        (directory, Arc::new(server))
    }

    #[tokio::test]
    async fn strangers_are_refused_and_few() {
        let (_directory, server) = server();
        let stranger = Caller { registrant: Registrant { uid: 4242, gid: 4242, pid: None }, allowed: false };
        let call = async |server: &Arc<Server>| {
            let (mut ours, theirs) = UnixStream::pair().expect("a pair");
            let conversation = tokio::spawn(converse(Arc::clone(server), stranger, theirs));
            let mut answer = String::new();
            let _ = ours.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
            let _ = ours.read_to_string(&mut answer).await;
            conversation.await.expect("no panic");
            answer
        };
        let answer = call(&server).await;
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
        assert!(answer.contains("\"code\":\"forbidden\"") && answer.contains("uid 4242"), "{answer}");

        let held = server.strangers.acquire().await.expect("open");
        assert_eq!(call(&server).await, "", "one at a time here, and that one is held");
        drop(held);
        assert!(call(&server).await.starts_with("HTTP/1.1 403"));
    }
}
