//! Follows a stream of server-sent events. After a lost connection, it reconnects and continues
//! after the last event.

use std::path::Path;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Response, StatusCode};
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::client::{self, ClientError};
use super::exit::Exit;
use super::output;
use super::page::{self, Printed, complain};
use super::refusal;
use super::sse::{Event, Parser};
use crate::limits;

// ---- Tuning constants -----------------------------------------------------------------------

/// Pause before the first attempt to reconnect. Each later pause is twice as long. More means that
/// events arrive later after a restart of the daemon; less means more attempts.
const RETRY: Duration = Duration::from_secs(1);

/// Longest pause before an attempt to reconnect. More means that events arrive later after a long
/// downtime of the daemon; less means more attempts until then.
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// Prints each event of the stream at `path`, as JSON or with `show`, until `stopped` completes or
/// standard output is closed, even if no event arrives.
pub(in crate::cli) async fn run(
    socket: &Path,
    path: &str,
    json: bool,
    show: impl Fn(&Event) -> String,
    stopped: impl Future<Output = ()>,
) -> Exit {
    let mut exit = Exit::Done;
    let tell = |event: &Event| {
        let printed = match json {
            true => page::write(&as_json(event)),
            false => page::show(&show(event)),
        };
        exit = printed.exit();
        printed == Printed::All
    };
    let followed = tokio::select! {
        biased;
        () = stopped => return Exit::Done,
        ended = follow(socket, path, Patience::default(), tell) => ended,
        () = output::closed() => return Exit::Done,
    };
    match followed {
        Ended::Unwanted => exit,
        Ended::Refused(why) => {
            complain(&why);
            Exit::Refused
        }
        Ended::NoDaemon(error) => {
            complain(&error.to_string());
            error.exit()
        }
    }
}

/// Returns an event as a JSON object on one line, with its data unchanged.
fn as_json(event: &Event) -> String {
    let is_json = serde_json::from_str::<IgnoredAny>(&event.data).is_ok() && !event.data.contains('\n');
    let data = if is_json { event.data.clone() } else { json!(event.data).to_string() };
    format!("{{\"event\":{},\"id\":{},\"data\":{data}}}\n", json!(event.name), json!(event.id))
}

/// How long to wait.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// Before the first reconnection. Each later wait is twice as long.
    first: Duration,
    /// At most before a reconnection.
    longest: Duration,
    /// For the next event or heartbeat.
    silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { first: RETRY, longest: RETRY_LONGEST, silence: limits::CLIENT_SILENCE }
    }
}

/// Why the stream has ended for good.
#[derive(Debug)]
enum Ended {
    /// The caller does not want more events.
    Unwanted,
    /// The daemon refused the request.
    Refused(String),
    /// No daemon answered the first request.
    NoDaemon(ClientError),
}

async fn follow(socket: &Path, path: &str, patience: Patience, mut tell: impl FnMut(&Event) -> bool) -> Ended {
    let mut seen = None;
    let mut pause = patience.first;
    let mut was_there = false;
    loop {
        let lost = match client::stream(socket, path, seen.as_deref(), limits::CLIENT_TIME).await {
            Err(error) if !was_there => return Ended::NoDaemon(error),
            Err(error) => error.to_string(),
            Ok(answer) if answer.status().is_success() => {
                was_there = true;
                let alive = || pause = patience.first;
                match listen(answer, patience.silence, &mut seen, alive, &mut tell).await {
                    Some(why) => why.to_owned(),
                    None => return Ended::Unwanted,
                }
            }
            Ok(answer) => {
                let status = answer.status();
                let body = client::read(answer, socket).await.unwrap_or_default();
                let why = refusal::for_people(status, &body);
                // The daemon is starting or stopping, or has too many streams: retry.
                if status != StatusCode::SERVICE_UNAVAILABLE {
                    return Ended::Refused(why);
                }
                why
            }
        };
        complain(&format!("{lost}; retrying in {} s", pause.as_secs()));
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(patience.longest);
    }
}

/// Passes on each event as it arrives. Returns why the stream has ended, or `None` if the caller
/// does not want more.
async fn listen(
    answer: Response<Incoming>,
    silence: Duration,
    seen: &mut Option<String>,
    mut alive: impl FnMut(),
    tell: &mut impl FnMut(&Event) -> bool,
) -> Option<&'static str> {
    let mut body = answer.into_body();
    let mut parser = Parser::default();
    loop {
        let frame = match timeout(silence, body.frame()).await {
            Err(_) => return Some("no heartbeat from the daemon"),
            Ok(None | Some(Err(_))) => return Some("the event stream has ended"),
            Ok(Some(Ok(frame))) => frame,
        };
        alive();
        let mut events = Vec::new();
        let parsed = parser.feed(&frame.into_data().unwrap_or_default(), &mut events);
        for event in events {
            if event.id.is_some() {
                seen.clone_from(&event.id);
            }
            if !tell(&event) {
                return None;
            }
        }
        if parsed.is_err() {
            return Some("an event is too large");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{UnixListener, UnixStream};
    use tokio::time::Instant;

    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

    const PATIENCE: Patience = Patience {
        first: Duration::from_millis(1),
        longest: Duration::from_millis(4),
        silence: Duration::from_secs(20),
    };

    /// A server of events that the test controls.
    struct Server {
        listener: UnixListener,
        path: PathBuf,
        _home: tempfile::TempDir,
    }

    impl Server {
        fn new() -> Self {
            let home = tempfile::tempdir().expect("directory");
            let path = home.path().join("api.sock");
            Self { listener: UnixListener::bind(&path).expect("bound"), path, _home: home }
        }

        /// Accepts a connection, and answers with the head and one chunk per event. Returns the
        /// request too.
        async fn serve(&self, head: &str, events: &[&str]) -> (UnixStream, String) {
            let (mut stream, _) = self.listener.accept().await.expect("a client");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.expect("a request"));
            }
            stream.write_all(head.as_bytes()).await.expect("taken");
            for event in events {
                let chunk = format!("{:x}\r\n{event}\r\n", event.len());
                stream.write_all(chunk.as_bytes()).await.expect("taken");
            }
            (stream, String::from_utf8(request).expect("text"))
        }
    }

    /// Follows until `wanted` events have arrived.
    async fn names(path: PathBuf, patience: Patience, wanted: usize) -> (Ended, Vec<String>) {
        let mut names = Vec::new();
        let ended = follow(&path, "/api/events", patience, |event| {
            names.push(event.name.clone());
            names.len() < wanted
        });
        let ended = timeout(Duration::from_secs(200), ended).await.expect("in time");
        (ended, names)
    }

    #[tokio::test]
    async fn a_lost_stream_continues_after_the_last_event() {
        let server = Server::new();
        let client = tokio::spawn(names(server.path.clone(), PATIENCE, 3));
        let (stream, first) =
            server.serve(HEAD, &["event: a_v1\nid: 7\ndata: {}\n\n", "event: b_v1\ndata: {}\n\n"]).await;
        assert!(first.starts_with("GET /api/events HTTP/1.1\r\n"), "{first}");
        assert!(!first.to_lowercase().contains("last-event-id"), "{first}");
        drop(stream);
        // The daemon restarts: first not ready, then gone without an answer.
        drop(server.serve("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", &[]).await);
        drop(server.serve("", &[]).await);
        let (_stream, again) = server.serve(HEAD, &[": heartbeat\n\n", "event: c_v1\nid: 8\ndata: {}\n\n"]).await;
        assert!(again.to_lowercase().contains("last-event-id: 7\r\n"), "{again}");
        let (ended, names) = client.await.expect("ended");
        assert!(matches!(ended, Ended::Unwanted), "{ended:?}");
        assert_eq!(names, ["a_v1", "b_v1", "c_v1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_a_loss_and_a_heartbeat_is_not() {
        let server = Server::new();
        let patience = Patience { silence: Patience::default().silence, ..PATIENCE };
        let client = tokio::spawn(names(server.path.clone(), patience, 1));
        // Only the head, and the connection stays open.
        let (mut silent, _) = server.serve(HEAD, &[]).await;
        // Virtual time: the pause is the silence under test.
        let begun = Instant::now();
        sleep(Duration::from_secs(70)).await;
        silent.write_all(b"d\r\n: heartbeat\n\n\r\n").await.expect("still open");
        let again = server.serve(HEAD, &["event: a_v1\ndata: {}\n\n"]);
        let _stream = timeout(Duration::from_secs(300), again).await.expect("silence is a loss");
        let promised = Duration::from_secs(70 + 75)..Duration::from_millis(145_100);
        assert!(promised.contains(&begun.elapsed()), "{:?}", begun.elapsed());
        assert_eq!(client.await.expect("ended").1, ["a_v1"]);
    }

    #[tokio::test]
    async fn an_event_that_is_too_large_is_a_loss() {
        let server = Server::new();
        let client = tokio::spawn(names(server.path.clone(), PATIENCE, 1));
        let large = format!("data: {}", "x".repeat(limits::CLIENT_EVENT));
        let (_stream, _) = server.serve(HEAD, &[&large]).await;
        let (_stream, _) = server.serve(HEAD, &["event: a_v1\ndata: {}\n\n"]).await;
        assert_eq!(client.await.expect("ended").1, ["a_v1"]);
    }

    #[tokio::test]
    async fn a_refusal_or_a_missing_daemon_is_not_retried() {
        let server = Server::new();
        let client = tokio::spawn(names(server.path.clone(), PATIENCE, 1));
        drop(server.serve("HTTP/1.1 404 Not Found\r\nContent-Length: 16\r\n\r\n{\"detail\":\"gone\"", &[]).await);
        let (ended, _) = client.await.expect("ended");
        assert!(matches!(&ended, Ended::Refused(why) if why.contains("404")), "{ended:?}");
        let (ended, _) = names("/nowhere/api.sock".into(), PATIENCE, 1).await;
        assert!(matches!(ended, Ended::NoDaemon(_)), "{ended:?}");
    }

    #[test]
    fn the_json_of_an_event_is_one_line() {
        let event = |data: &str| Event { name: "x_v1".to_owned(), id: Some("7".to_owned()), data: data.to_owned() };
        assert_eq!(
            as_json(&event("{\"b\":1,\"a\":2}")),
            "{\"event\":\"x_v1\",\"id\":\"7\",\"data\":{\"b\":1,\"a\":2}}\n"
        );
        assert_eq!(as_json(&event("a\nb")), "{\"event\":\"x_v1\",\"id\":\"7\",\"data\":\"a\\nb\"}\n");
    }
}
