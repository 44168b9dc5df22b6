//! One call to the daemon's socket: HTTP/1.1 over a connection of its own, bounded in time and size. It knows no command
//! and prints nothing.

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

/// What to ask, and how to show what comes back.
pub(in crate::cli) struct Call {
    pub method: Method,
    pub path: String,
    pub body: Option<serde_json::Value>,
    /// Text for people from the body of a success.
    pub show: fn(&[u8]) -> serde_json::Result<String>,
}

impl Call {
    pub(in crate::cli) fn new(
        method: Method,
        path: impl Into<String>,
        show: fn(&[u8]) -> serde_json::Result<String>,
    ) -> Self {
        let path = path.into();
        Self { method, path, body: None, show }
    }
}

/// What came back.
#[derive(Debug)]
pub(in crate::cli) struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum ClientError {
    #[error(
        "no daemon answers at {}: {error}; start one (`hecate-daemon`), say where it is (--socket-path, --home), or ask \
         `hecate-daemon doctor`", socket.display()
    )]
    NoDaemon { socket: PathBuf, error: io::Error },
    #[error(
        "the daemon at {} is busy: too many clients are waiting to connect; close unused connections and retry",
        .0.display()
    )]
    Busy(PathBuf),
    #[error(
        "the daemon at {} did not answer within {} s: its log says why, or ask `hecate-daemon doctor`",
        socket.display(), time.as_secs()
    )]
    Silent { socket: PathBuf, time: Duration },
    #[error("what answers at {} does not speak HTTP as we do: {error}", socket.display())]
    Broken { socket: PathBuf, error: hyper::Error },
    #[error("the answer of {} is larger than {max} bytes", .0.display(), max = limits::CLIENT_ANSWER)]
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

/// Asks the daemon.
pub(in crate::cli) async fn send(socket: &Path, call: &Call, time: Duration) -> Result<Answer, ClientError> {
    let silent = |_| ClientError::Silent { socket: socket.to_owned(), time };
    tokio::time::timeout(time, exchange(socket, call)).await.map_err(silent)?
}

async fn exchange(socket: &Path, call: &Call) -> Result<Answer, ClientError> {
    let response = begin(socket, request(call)).await?;
    let status = response.status();
    let mut body = read(response, socket).await?;
    // The daemon ends JSON with a newline. What prints the body adds its own.
    body.truncate(body.trim_ascii_end().len());
    Ok(Answer { status, body })
}

/// Asks for the stream of events at `path` after the one with the id `after`. Returns the response with its body unread.
pub(in crate::cli) async fn stream(
    socket: &Path,
    path: &str,
    after: Option<&str>,
    time: Duration,
) -> Result<Response<Incoming>, ClientError> {
    let mut request = request(&Call::new(Method::GET, path, |_| Ok(String::new())));
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    // An id that can't be a header's value is none of this server's.
    if let Some(id) = after.and_then(|id| HeaderValue::from_str(id).ok()) {
        request.headers_mut().insert("last-event-id", id);
    }
    let silent = |_| ClientError::Silent { socket: socket.to_owned(), time };
    tokio::time::timeout(time, begin(socket, request)).await.map_err(silent)?
}

/// Sends a request over a connection of its own, and waits for the head of the answer.
async fn begin(socket: &Path, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError> {
    let broken = |error| ClientError::Broken { socket: socket.to_owned(), error };
    let stream = connect(socket, limits::CLIENT_CONNECT).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // It ends with the connection; what goes wrong with it the sender is told too.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(broken)
}

/// Connects. Waits up to `time` while the daemon's queue of unaccepted connections is full.
async fn connect(socket: &Path, time: Duration) -> Result<UnixStream, ClientError> {
    let path = socket.to_owned();
    // Blocks, because the kernel lets blocked clients in by turns and refuses non-blocking ones.
    let connected = tokio::task::spawn_blocking(move || connect_within(&path, time)).await;
    match connected.unwrap_or_else(|error| Err(io::Error::other(error))).and_then(UnixStream::from_std) {
        Ok(stream) => Ok(stream),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(ClientError::Busy(socket.to_owned())),
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
    // Paths are made of constants and of what `encode` gives, which always are URIs.
    *request.uri_mut() = call.path.parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_static("localhost"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if call.body.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    request
}

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

/// The characters of a path segment that are encoded: all but the unreserved of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Encodes one segment of a path.
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
    async fn where_nobody_listens_is_said() {
        let home = tempfile::tempdir().expect("directory");
        let error = send(&home.path().join("api.sock"), &call(), limits::CLIENT_TIME).await.expect_err("nobody");
        assert!(matches!(error, ClientError::NoDaemon { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_client_waits_for_a_busy_daemon_and_reports_that_it_is_busy() {
        let home = tempfile::tempdir().expect("directory");
        let path = home.path().join("api.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        net::listen(&listener, 0).expect("listening");
        let _queued = connect(&path, Duration::from_secs(1)).await.expect("the one that fits");
        let error = connect(&path, Duration::from_millis(20)).await.expect_err("full");
        assert!(matches!(error, ClientError::Busy(_)) && error.exit() == Exit::Busy, "{error}");

        let waiting = std::thread::spawn(move || connect_within(&path, limits::CLIENT_CONNECT).map(drop));
        listener.accept().expect("the first");
        listener.accept().expect("the one that waits, without the one that gave up");
        waiting.join().expect("no panic").expect("connected");
    }

    #[tokio::test]
    async fn a_daemon_that_is_silent_is_given_up() {
        let home = tempfile::tempdir().expect("directory");
        let path = home.path().join("api.sock");
        let _listener = UnixListener::bind(&path).expect("bound");
        let error = send(&path, &call(), Duration::from_millis(50)).await.expect_err("silent");
        assert!(matches!(error, ClientError::Silent { .. }), "{error}");
    }

    async fn answered_by(answer: Vec<u8>) -> Result<Answer, ClientError> {
        let home = tempfile::tempdir().expect("directory");
        let path = home.path().join("api.sock");
        let listener = UnixListener::bind(&path).expect("bound");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.expect("asks");
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
    async fn who_speaks_something_else_is_no_daemon() {
        let error = answered_by(b"SSH-2.0-x\r\n".to_vec()).await.expect_err("no HTTP");
        assert!(matches!(error, ClientError::Broken { .. }), "{error}");
    }
}
