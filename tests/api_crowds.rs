//! Crowds at the API's socket. Thousands of connections that are idle, half sent or unread, or that
//! close and reopen, do not delay other clients. Beyond the limit, probes are still answered.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hecate_daemon::api::{Limits, Phase};
use hecate_daemon::limits;
use hecate_daemon::registry::Membership;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use serde_json::json;
use support::client::{Client, ask, get, in_time, post};
use support::daemon::Daemon;
use support::world::World;
use support::{Host, Process, http, wait_for};

const LIVE: &str = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
const LIST: &str = "GET /api/plugins HTTP/1.1\r\nHost: x\r\n\r\n";

/// Longer than any test.
const HOUR: Duration = Duration::from_secs(3600);

// ---- Which connection is closed ---------------------------------------------------------------

#[tokio::test]
async fn the_connection_that_was_idle_longest_is_closed() {
    let world = World::start(Limits { connections: 2, share: 2, head_time: HOUR, ..Limits::default() }).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::new(&world).await;
        client.send(LIVE).await;
        assert_eq!(client.answer(true).await.status, 200);
        clients.push(client);
    }
    clients[0].send(LIVE).await;
    assert_eq!(clients[0].answer(true).await.status, 200);
    let mut newcomer = Client::new(&world).await;
    newcomer.send(LIST).await;
    assert_eq!(newcomer.answer(true).await.status, 200);
    clients[1].closed().await;
    clients[0].send(LIVE).await;
    assert_eq!(clients[0].answer(true).await.status, 200, "it has asked since");
}

#[tokio::test]
async fn a_newer_connection_evicts_one_that_sends_no_body_or_reads_no_responses() {
    let limits =
        Limits { connections: 1, share: 1, body_time: HOUR, stall: HOUR, head_time: HOUR, ..Limits::default() };
    let world = World::start(limits).await;
    let mut slow = Client::new(&world).await;
    slow.send("POST /api/plugins/register HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!((slow.line().await, slow.line().await), ("HTTP/1.1 100 Continue".to_owned(), String::new()));
    assert_eq!(get(&world, "/api/plugins").await.status, 200);
    slow.closed().await;

    let mut unread = Client::new(&world).await;
    let many = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
    // The response is stuck once the socket's buffer is full.
    while unread.0.get_ref().try_write(many.as_bytes()).is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(get(&world, "/api/plugins").await.status, 200);
    let mut rest = Vec::new();
    let _ = in_time(tokio::io::AsyncReadExt::read_to_end(&mut unread.0, &mut rest)).await;
}

#[tokio::test]
async fn a_request_that_is_unread_when_its_connection_is_evicted_gets_503() {
    let world = World::start(Limits { connections: 1, share: 1, ..Limits::default() }).await;
    // The server runs in this thread, so it reads nothing in between.
    let mut unread = UnixStream::connect(&world.socket).unwrap();
    unread.write_all(LIST.as_bytes()).unwrap();
    let mut newer = UnixStream::connect(&world.socket).unwrap();
    newer.write_all(LIST.as_bytes()).unwrap();
    let answer = in_time(tokio::task::spawn_blocking(move || {
        let mut answers = [String::new(), String::new()];
        unread.read_to_string(&mut answers[0]).unwrap();
        newer.shutdown(std::net::Shutdown::Write).unwrap();
        newer.read_to_string(&mut answers[1]).unwrap();
        answers
    }));
    let [unread, newer] = answer.await.unwrap();
    assert!(unread.starts_with("HTTP/1.1 503 ") && unread.contains("\"too_many_connections\""), "{unread:?}");
    assert!(unread.contains("\r\nconnection: close\r\n") && newer.starts_with("HTTP/1.1 200 "), "{newer:?}");
}

#[tokio::test]
async fn beyond_the_limit_only_probes_are_answered() {
    let limited_time = limits::HTTP_LIMITED_TIME;
    let limits = Limits { connections: 1, share: 1, ready: HOUR, call: HOUR, head_time: HOUR, ..Limits::default() };
    let world = World::starting(limits).await;
    let mut waiting = Client::new(&world).await;
    // The server handles the second request once it has answered the first one. The second one
    // waits until the daemon is up.
    waiting.send(&format!("{LIVE}{LIST}")).await;
    assert_eq!(waiting.answer(true).await.status, 200);
    for (path, status) in [("/livez", 200), ("/health", 200), ("/readyz", 503)] {
        let answer = get(&world, path).await;
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{path}");
    }
    for request in [LIST, &post(r#"{"name":"hecate-traderd"}"#), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let answer = ask(&world, request).await;
        assert_eq!(answer.refusal(), (503, "too_many_connections".to_owned()));
        assert_eq!((answer.header("connection"), answer.header("retry-after")), (Some("close"), Some("1")));
    }
    let long = format!("GET /livez HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(limits::HTTP_LIMITED_HEAD));
    assert_eq!(ask(&world, &long).await.status, 431);
    let begun = tokio::time::Instant::now();
    let mut slow = Client::new(&world).await;
    slow.send("GET /livez HTTP/1.1\r\n").await;
    slow.closed().await;
    assert!(begun.elapsed() >= limited_time, "the connection was closed before its time limit");

    world.status.send_modify(|status| status.phase = Phase::Running);
    world.registry.membership(Membership::Settled).await;
    assert_eq!(waiting.answer(true).await.status, 200, "an older connection was closed");
    assert_eq!(get(&world, "/api/plugins").await.status, 200);
}

#[tokio::test]
async fn an_event_stream_is_never_closed_for_another_connection() {
    let world = World::start(Limits { connections: 1, share: 1, ..Limits::default() }).await;
    let mut stream = Client::new(&world).await;
    stream.send("GET /api/events HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(stream.line().await, "HTTP/1.1 200 OK");
    for number in 0..10 {
        let body = json!({"name": format!("hecate-x{number}d")}).to_string();
        assert_eq!(ask(&world, &post(&body)).await.status, 201);
    }
    while stream.line().await != "id: 10" {}
}

// ---- Thousands of connections to the built daemon ---------------------------------------------

/// The socket that [`crowd`] connects to, and the number of connections.
const CROWD: &str = "HECATE_TEST_CROWD";

/// Runs in another process: opens connections, reports it, and keeps them until its standard input
/// ends.
#[test]
#[ignore = "a part of other tests"]
fn crowd() {
    let Ok(crowd) = std::env::var(CROWD) else { return };
    let (count, socket) = crowd.split_once(' ').unwrap();
    allow_open_files();
    let connections: Vec<UnixStream> = (0..count.parse().unwrap()).map(|n| stalled_connection(socket, n)).collect();
    println!("\nopen");
    let _ = std::io::stdin().read(&mut [0]);
    drop(connections);
}

/// Opens a connection that is idle, in the middle of a head or of a body, or with unread answers.
fn stalled_connection(socket: &str, number: usize) -> UnixStream {
    let mut connection = UnixStream::connect(socket).expect("listening");
    connection.set_nonblocking(true).unwrap();
    let sent = match number % 4 {
        0 => String::new(),
        1 => "GET /livez HTTP/1.1\r\nHos".to_owned(),
        2 => "POST /api/plugins/register HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{".to_owned(),
        _ => "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50),
    };
    // The server may have closed it already.
    let _ = connection.write_all(sent.as_bytes());
    connection
}

/// The socket that [`churn`] connects to.
const CHURN: &str = "HECATE_TEST_CHURN";

/// Runs in another process: opens connections and closes them again, until its standard input ends.
#[test]
#[ignore = "a part of other tests"]
fn churn() {
    let Ok(socket) = std::env::var(CHURN) else { return };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for held in [0, 1, 16, 64] {
            let (socket, over) = (&socket, &over);
            scope.spawn(move || {
                let mut open = VecDeque::new();
                for number in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    open.push_back(stalled_connection(socket, number));
                    if open.len() > held {
                        open.pop_front();
                    }
                }
            });
        }
        println!("\nopen");
        let _ = std::io::stdin().read(&mut [0]);
        over.store(true, Ordering::Relaxed);
    });
}

/// Raises the limit of open files as far as the system allows.
fn allow_open_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

/// Starts processes that hold so many connections together, and waits until all are open.
fn crowds(host: &Host, processes: usize, connections: usize) -> Vec<Process> {
    let crowd = format!("{} {}", connections / processes, host.socket().display());
    attackers("crowd", CROWD, &crowd, processes)
}

/// Starts processes that run a test of this file, and waits until each has begun.
fn attackers(test: &str, variable: &str, value: &str, processes: usize) -> Vec<Process> {
    let start = |_| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--ignored", "--nocapture"]).env(variable, value);
        Process::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()), "Build it")
    };
    let mut started: Vec<Process> = (0..processes).map(start).collect();
    for process in &mut started {
        let lines = BufReader::new(process.pipes().stdout.as_mut().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == "open"), "a crowd could not connect");
    }
    started
}

fn evictions(host: &Host) -> u64 {
    let metrics = host.ask("GET", "/metrics").text;
    let line = metrics.lines().find_map(|line| line.strip_prefix("hecate_http_evictions_total ")).expect("a number");
    line.parse().expect("a number")
}

/// Makes requests that must succeed in each round, and prints how long they take.
fn answers_four_calls(host: &Host, rounds: usize) {
    for round in 0..rounds {
        let begun = std::time::Instant::now();
        assert_eq!(host.ask("GET", "/livez").status, 200);
        assert_eq!(host.ask("GET", "/health").status, 200);
        host.register_named("hecate-traderd");
        assert_eq!(host.ask("GET", "/api/plugins").status, 200);
        println!("round {round}: four calls within {:?}", begun.elapsed());
    }
}

fn no_other_client_is_delayed_by(processes: usize, connections: usize) {
    let (host, _epmd, daemon) = Host::running(&[]);
    // The usual limit of a login session.
    let pid = Pid::from_raw(i32::try_from(daemon.id()).unwrap());
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(1024), maximum: getrlimit(Resource::Nofile).maximum })
        .unwrap();
    let crowds = crowds(&host, processes, connections);
    answers_four_calls(&host, 20);
    let kept = limits::HTTP_CONNECTIONS + limits::HTTP_LIMITED;
    wait_for("the other connections are closed", || evictions(&host) >= u64::try_from(connections - kept).unwrap());
    assert_eq!(daemon.log_lines(&["open files"]), Vec::<String>::new());
    drop(crowds);
}

#[test]
fn connections_that_close_and_reopen_reset_no_complete_request() {
    let (host, _epmd, _daemon) = Host::running(&[]);
    let attackers = attackers("churn", CHURN, host.socket().to_str().unwrap(), 10);
    answers_four_calls(&host, 10);
    let status = Daemon::command(&host, &[]).arg("status").output().unwrap();
    assert!(status.status.success(), "a command failed: {status:?}");
    assert!(evictions(&host) > 0, "there were too few connections");
    drop(attackers);
}

#[test]
fn unread_streams_share_a_few_snapshots() {
    const PLUGINS: usize = 300;
    const STREAMS: usize = 100;
    let (host, _epmd, daemon) = Host::running(&[]);
    let description = "x".repeat(limits::PLUGIN_DESCRIPTION);
    for number in 0..PLUGINS {
        let body = json!({"name": format!("hecate-x{number}d"), "description": description});
        assert_eq!(host.register(&body).status, 201);
    }
    let before = daemon.peak_memory();
    let streams: Vec<_> = (0..STREAMS)
        .map(|number| {
            let stream = http::Client::connect(&host.socket()).unwrap().follow(None);
            // The next snapshot has another state.
            let body = json!({"name": "hecate-x0d", "version": number.to_string()});
            assert_eq!(host.register(&body).status, 201);
            stream
        })
        .collect();
    assert_eq!(host.ask("GET", "/health").status, 200);
    let more = daemon.peak_memory() - before;
    let each = PLUGINS * limits::PLUGIN_DESCRIPTION;
    // Besides the snapshots, each stream has at most a page of events.
    assert!(more < STREAMS / 2 * each, "{} MiB more for {STREAMS} streams", more >> 20);
    drop(streams);
}

#[test]
fn thousands_of_connections_of_one_process_delay_no_other_client() {
    no_other_client_is_delayed_by(1, 5_000);
}

#[test]
fn thousands_of_connections_of_many_processes_delay_no_other_client() {
    no_other_client_is_delayed_by(10, 5_000);
}
