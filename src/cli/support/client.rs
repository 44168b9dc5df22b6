//! Sends a request to the daemon's socket: HTTP/1.1, one connection per request, bounded in time
//! and size. It prints nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixStream;

use crate::cli::support::exit::Exit;
use crate::limits;

/// A request, and how to show its answer.
pub(in crate::cli) struct Call {
    pub method: Method,
    pub path: String,
    pub body: Option<serde_json::Value>,
    /// The name of the plugin that the request is about, for hints.
    pub plugin: Option<String>,
    /// Returns text for people from the body of a successful answer.
    pub show: fn(&[u8]) -> serde_json::Result<String>,
}

impl Call {
    pub(in crate::cli) fn new(
        method: Method,
        path: impl Into<String>,
        show: fn(&[u8]) -> serde_json::Result<String>,
    ) -> Self {
        let path = path.into();
        Self { method, path, body: None, plugin: None, show }
    }

    /// Makes a request about a plugin, to `/api/plugins/NAME` and `below`.
    pub(in crate::cli) fn about_plugin(
        method: Method,
        name: &str,
        below: &str,
        show: fn(&[u8]) -> serde_json::Result<String>,
    ) -> Self {
        let call = Self::new(method, format!("/api/plugins/{}{below}", encode(name)), show);
        Self { plugin: Some(name.to_owned()), ..call }
    }
}

/// The daemon's answer to a request.
#[derive(Debug)]
pub(in crate::cli) struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum ClientError {
    #[error(
        "no daemon answers at {}: {error}; start one with `hecate-daemon`, name its socket with --socket-path or --home, \
         or run `hecate-daemon doctor`", socket.display()
    )]
    NoDaemon { socket: PathBuf, error: io::Error },
    #[error(
        "this user (uid {uid}) may not open the socket {}; run this as the daemon's user, or set HECATE_ALLOWED_UIDS, \
         HECATE_GROUP, HECATE_DIR_MODE and HECATE_SOCKET_MODE for the daemon as docs/security.md describes",
        .0.display(), uid = rustix::process::geteuid().as_raw()
    )]
    Denied(PathBuf),
    #[error(
        "the daemon at {} is busy; too many clients wait to connect; close unused connections and retry",
        .0.display()
    )]
    Busy(PathBuf),
    #[error(
        "the daemon at {} did not answer within {} s; see its log, or run `hecate-daemon doctor`",
        socket.display(), time.as_secs()
    )]
    Silent { socket: PathBuf, time: Duration },
    #[error("the process at {} does not answer in HTTP ({error}); is it a hecate-daemon?", socket.display())]
    Broken { socket: PathBuf, error: hyper::Error },
    #[error("the answer of the daemon at {} exceeds the {max}-byte limit", .0.display(), max = limits::CLIENT_ANSWER)]
    TooLarge(PathBuf),
}

impl ClientError {
    /// Returns the exit code of a command that failed with this error.
    pub(in crate::cli) fn exit(&self) -> Exit {
        match self {
            Self::Busy(_) => Exit::Busy,
            _ => Exit::NoDaemon,
        }
    }
}

/// Sends a request, and waits at most `time` for the whole answer.
pub(in crate::cli) async fn send(socket: &Path, call: &Call, time: Duration) -> Result<Answer, ClientError> {
    let silent = |_| ClientError::Silent { socket: socket.to_owned(), time };
    tokio::time::timeout(time, exchange(socket, call)).await.map_err(silent)?
}

async fn exchange(socket: &Path, call: &Call) -> Result<Answer, ClientError> {
    let response = begin(socket, request(call)).await?;
    let status = response.status();
    let mut body = read(response, socket).await?;
    // The daemon ends JSON with a newline. The caller that prints the body adds a newline.
    body.truncate(body.trim_ascii_end().len());
    Ok(Answer { status, body })
}

/// Requests the stream of events at `path`, from the event after the one with the id `after`.
/// Returns the response with its body unread.
pub(in crate::cli) async fn stream(
    socket: &Path,
    path: &str,
    after: Option<&str>,
    time: Duration,
) -> Result<Response<Incoming>, ClientError> {
    let mut request = request(&Call::new(Method::GET, path, |_| Ok(String::new())));
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    // The daemon sends no id that is not a valid header value.
    if let Some(id) = after.and_then(|id| HeaderValue::from_str(id).ok()) {
        request.headers_mut().insert("last-event-id", id);
    }
    let silent = |_| ClientError::Silent { socket: socket.to_owned(), time };
    tokio::time::timeout(time, begin(socket, request)).await.map_err(silent)?
}

/// Sends a request over a new connection, and waits for the head of the answer.
async fn begin(socket: &Path, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError> {
    let broken = |error| ClientError::Broken { socket: socket.to_owned(), error };
    let stream = connect(socket, limits::CLIENT_CONNECT).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // The task ends with the connection. The sender returns its errors.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(broken)
}

/// Connects. Waits up to `time` while the daemon's queue of unaccepted connections is full.
async fn connect(socket: &Path, time: Duration) -> Result<UnixStream, ClientError> {
    let path = socket.to_owned();
    // The kernel admits blocked clients in turn, but refuses non-blocking ones.
    let connected = tokio::task::spawn_blocking(move || connect_within(&path, time)).await;
    match connected.unwrap_or_else(|error| Err(io::Error::other(error))).and_then(UnixStream::from_std) {
        Ok(stream) => Ok(stream),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(ClientError::Busy(socket.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(ClientError::Denied(socket.to_owned())),
        Err(error) => Err(ClientError::NoDaemon { socket: socket.to_owned(), error }),
    }
}

/// Connects, or fails with `WouldBlock` after `time`.
fn connect_within(path: &Path, time: Duration) -> io::Result<std::os::unix::net::UnixStream> {
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    net::sockopt::set_socket_timeout(&socket, net::sockopt::Timeout::Send, Some(time))?;
    let address = SocketAddrUnix::new(path)?;
    while let Err(error) = net::connect(&socket, &address) {
        if error != Errno::INTR {
            return Err(error.into());
        }
    }
    let stream = std::os::unix::net::UnixStream::from(socket);
    stream.set_nonblocking(true)?;
    Ok(stream)
}

fn request(call: &Call) -> Request<Full<Bytes>> {
    let body = call.body.as_ref().map(|body| Bytes::from(body.to_string()));
    let mut request = Request::new(Full::from(body.unwrap_or_default()));
    *request.method_mut() = call.method.clone();
    // Paths consist of constants and of the results of `encode`, so they are always valid URIs.
    *request.uri_mut() = call.path.parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_static("localhost"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if call.body.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    request
}

/// Reads the body of a response, of at most [`limits::CLIENT_ANSWER`] bytes.
pub(in crate::cli) async fn read(response: Response<Incoming>, socket: &Path) -> Result<Bytes, ClientError> {
    let mut incoming = response.into_body();
    let mut body = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| ClientError::Broken { socket: socket.to_owned(), error })?;
        let data = frame.into_data().unwrap_or_default();
        if body.len().saturating_add(data.len()) > limits::CLIENT_ANSWER {
            return Err(ClientError::TooLarge(socket.to_owned()));
        }
        body.extend_from_slice(&data);
    }
    Ok(body.freeze())
}

/// The characters that are encoded in a path segment: all except the unreserved ones of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Percent-encodes one segment of a path.
pub(in crate::cli) fn encode(segment: &str) -> String {
    utf8_percent_encode(segment, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    fn call() -> Call {
        Call::new(Method::GET, "/health", |_| Ok(String::new()))
    }

    #[test]
    fn segments_are_encoded() {
        assert_eq!(encode("hecate-traderd"), "hecate-traderd");
        assert_eq!(encode("../a b%\u{e4}"), "..%2Fa%20b%25%C3%A4");
        assert!(format!("/{}", encode("\0\n?#")).parse::<hyper::Uri>().is_ok());
    }

    #[tokio::test]
    async fn a_missing_socket_is_reported() {
        let home = tempfile::tempdir().expect("directory");
        let error = send(&home.path().join("api.sock"), &call(), limits::CLIENT_TIME).await.expect_err("no daemon");
        assert!(matches!(error, ClientError::NoDaemon { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_client_waits_for_a_busy_daemon_and_reports_that_it_is_busy() {
        let home = tempfile::tempdir().expect("directory");
        let path = home.path().join("api.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        net::listen(&listener, 0).expect("listening");
        let _queued = connect(&path, Duration::from_secs(1)).await.expect("queued");
        let error = connect(&path, Duration::from_millis(20)).await.expect_err("full");
        assert!(matches!(error, ClientError::Busy(_)) && error.exit() == Exit::Busy, "{error}");

        let waiting = std::thread::spawn(move || connect_within(&path, limits::CLIENT_CONNECT));
        listener.accept().expect("the first");
        listener.accept().expect("the waiting client, not the one that gave up");
        let connected = waiting.join().expect("no panic").expect("connected");
        // The kernel applies the write timeout to `connect` too.
        assert_eq!(connected.write_timeout().expect("known"), Some(Duration::from_secs(2)));
    }

    async fn answered_by(answer: Vec<u8>) -> Result<Answer, ClientError> {
        let home = tempfile::tempdir().expect("directory");
        let path = home.path().join("api.sock");
        let listener = UnixListener::bind(&path).expect("bound");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.expect("a request");
            let _ = stream.write_all(&answer).await;
        });
        send(&path, &call(), limits::CLIENT_TIME).await
    }

    #[tokio::test]
    async fn an_answer_is_bounded() {
        let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        answer.resize(answer.len() + limits::CLIENT_ANSWER, b'x');
        let whole = answered_by(answer.clone()).await.expect("as large as allowed");
        assert_eq!(whole.body.len(), limits::CLIENT_ANSWER);
        answer.push(b'x');
        let error = answered_by(answer).await.expect_err("one byte more");
        assert!(matches!(error, ClientError::TooLarge(_)), "{error}");
    }

    #[tokio::test]
    async fn an_answer_that_is_not_http_is_an_error() {
        let error = answered_by(b"SSH-2.0-x\r\n".to_vec()).await.expect_err("not HTTP");
        assert!(matches!(error, ClientError::Broken { .. }), "{error}");
    }
}
