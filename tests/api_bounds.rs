//! The limits of the API: bodies, heads, connections and their pace at and beyond each limit, the
//! start and the stop. The tests use real connections.

#![allow(clippy::expect_used, reason = "a failed expectation fails the test")]

mod support;

use std::time::Duration;

use hecate_daemon::api::{Limits, Phase};
use hecate_daemon::limits;
use hecate_daemon::registry::Membership;
use serde_json::json;
use support::client::{Client, ask, get, in_time, post, register};
use support::world::World;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

/// Short enough for a test, and long enough that only the tested limit is exceeded on a busy
/// machine.
const SHORT: Duration = Duration::from_millis(150);

// ---- Bodies ---------------------------------------------------------------------------------

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_the_client_sees_it() {
    let world = World::start(Limits::default()).await;
    let fits = format!(r#"{{"name":"hecate-traderd","x":"{}"}}"#, "x".repeat(limits::HTTP_BODY - 32));
    assert_eq!(fits.len(), limits::HTTP_BODY);
    assert_eq!(ask(&world, &post(&fits)).await.status, 201);
    // The client writes the whole body before it reads, far more than all buffers hold.
    let refused = (413, "body_too_large".to_owned());
    for length in [limits::HTTP_BODY + 1, 8 << 20] {
        let mut client = Client::new(&world).await;
        client.send(&post(&"x".repeat(length))).await;
        let answer = client.answer(true).await;
        assert_eq!(answer.refusal(), refused, "{length}");
        assert_eq!(answer.header("connection"), Some("close"));
        client.closed().await;
    }
    let mut client = Client::new(&world).await;
    client.send("POST /api/plugins/register HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..64 {
        client.send(&format!("10000\r\n{}\r\n", "x".repeat(0x10000))).await;
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.answer(true).await.refusal(), refused, "a body without a content-length");
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_is_refused_before_it_sends() {
    // If the server waited for the rest of the body, this long limit would keep the connection open
    // for longer than the test waits.
    let linger = Duration::from_secs(3600);
    let world = World::start(Limits { linger, ..Limits::default() }).await;
    let head = "POST /api/plugins/register HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: ";
    let mut client = Client::new(&world).await;
    client.send(&format!("{head}{}\r\n\r\n", limits::HTTP_BODY + 1)).await;
    assert_eq!(client.answer(true).await.status, 413, "without a 100 response before it");
    client.closed().await;

    let body = r#"{"name":"hecate-traderd"}"#;
    let mut client = Client::new(&world).await;
    client.send(&format!("{head}{}\r\n\r\n", body.len())).await;
    assert_eq!(client.line().await, "HTTP/1.1 100 Continue");
    assert_eq!(client.line().await, "");
    client.send(body).await;
    assert_eq!(client.answer(true).await.status, 201);
}

#[tokio::test]
async fn an_endless_body_is_read_for_a_limited_time() {
    let world = World::start(Limits { linger: SHORT, ..Limits::default() }).await;
    let mut client = Client::new(&world).await;
    client.send("POST /api/plugins HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n").await;
    let chunk = vec![b'x'; 1 << 16];
    let ended = async { while client.0.write_all(&chunk).await.is_ok() {} };
    in_time(ended).await;
    assert_eq!(client.answer(true).await.refusal(), (405, "method_not_allowed".to_owned()));
}

#[tokio::test]
async fn a_slow_body_ends_with_408() {
    let world = World::start(Limits { body_time: SHORT, ..Limits::default() }).await;
    let mut client = Client::new(&world).await;
    client.send(&post("12345678").replace("12345678", "1234")).await;
    let answer = client.answer(true).await;
    assert_eq!(answer.refusal(), (408, "body_timeout".to_owned()));
    assert_eq!(answer.header("connection"), Some("close"));
}

#[tokio::test]
async fn a_body_that_ends_early_registers_nothing() {
    let world = World::start(Limits::default()).await;
    let mut client = Client::new(&world).await;
    let body = r#"{"name":"hecate-traderd"}"#;
    client.send(&post(body).replace("Content-Length: 25", "Content-Length: 26")).await;
    in_time(client.0.shutdown()).await.expect("half closed");
    assert_eq!(client.answer(true).await.refusal(), (400, "body_incomplete".to_owned()));
    assert!(world.registry.view().plugins.is_empty());
}

// ---- Connections ----------------------------------------------------------------------------

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let world = World::start(Limits::default()).await;
    let mut client = Client::new(&world).await;
    for _ in 0..3 {
        client.send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(client.answer(true).await.text, r#"{"status":"ok"}"#);
    }
    // Pipelined requests are answered in order.
    let name = r#"{"name":"hecate-traderd"}"#;
    client
        .send(&format!("{}GET /api/plugins HTTP/1.1\r\nHost: x\r\n\r\nGET /no HTTP/1.1\r\nHost: x\r\n\r\n", post(name)))
        .await;
    assert_eq!(client.answer(true).await.status, 201);
    assert_eq!(client.answer(true).await.body[0]["name"], "hecate-traderd");
    assert_eq!(client.answer(true).await.status, 404);
}

#[tokio::test]
async fn a_connection_closes_when_the_client_requests_it() {
    let world = World::start(Limits::default()).await;
    for request in [
        "GET /health HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        "GET /health HTTP/1.0\r\n\r\n",
    ] {
        let mut client = Client::new(&world).await;
        client.send(request).await;
        assert_eq!(client.answer(true).await.status, 200);
        client.closed().await;
    }
}

#[tokio::test]
async fn a_client_may_close_its_sending_half_after_a_request() {
    let world = World::starting(Limits::default()).await;
    let mut client = Client::new(&world).await;
    client.send("GET /api/plugins HTTP/1.1\r\nHost: x\r\n\r\n").await;
    in_time(client.0.shutdown()).await.expect("half closed");
    // The request waits for the start, so the server sees the closed half before it responds.
    for _ in 0..10 {
        assert_eq!(get(&world, "/livez").await.status, 200);
    }
    world.status.send_modify(|status| status.phase = Phase::Running);
    world.registry.membership(Membership::Settled).await;
    assert_eq!(client.answer(true).await.status, 200);
    client.closed().await;
}

#[tokio::test]
async fn head_answers_like_get_without_the_body() {
    let world = World::start(Limits::default()).await;
    let mut client = Client::new(&world).await;
    client.send("HEAD /api/plugins HTTP/1.1\r\nHost: x\r\n\r\nHEAD /no HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = client.answer(false).await;
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("3")), "`[]` and a newline");
    assert_eq!(client.answer(false).await.status, 404);
    assert_eq!(client.answer(true).await.status, 200, "no body was sent");
}

#[tokio::test]
async fn a_slow_head_and_an_idle_connection_are_closed() {
    let world = World::start(Limits { head_time: SHORT, ..Limits::default() }).await;
    let mut silent = Client::new(&world).await;
    silent.closed().await;
    let mut slow = Client::new(&world).await;
    slow.send("GET /livez HTTP/1.1\r\nHost").await;
    slow.closed().await;
    let mut idle = Client::new(&world).await;
    idle.send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(idle.answer(true).await.status, 200);
    idle.closed().await;
}

#[tokio::test]
async fn request_heads_are_bounded() {
    let world = World::start(Limits::default()).await;
    let fields = |count: usize| (1..count).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
    let with = |fields: String| format!("GET /livez HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    assert_eq!(ask(&world, &with(fields(limits::HTTP_HEADERS))).await.status, 200);
    assert_eq!(ask(&world, &with(fields(limits::HTTP_HEADERS + 1))).await.status, 431);
    let long = format!("X: {}\r\n", "y".repeat(limits::HTTP_HEAD));
    assert_eq!(ask(&world, &with(long)).await.status, 431);
}

#[tokio::test]
async fn a_client_that_reads_no_response_is_disconnected() {
    let world = World::start(Limits { stall: SHORT, ..Limits::default() }).await;
    let mut client = Client::new(&world).await;
    let many = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
    let ended = async { while client.0.write_all(many.as_bytes()).await.is_ok() {} };
    in_time(ended).await;
}

// ---- Starting and stopping ------------------------------------------------------------------

#[tokio::test]
async fn requests_wait_while_the_daemon_starts() {
    let world = World::starting(Limits::default()).await;
    let health = get(&world, "/health").await;
    assert_eq!((health.status, &health.body["status"]), (200, &json!("starting")));
    assert_eq!(get(&world, "/readyz").await.refusal(), (503, "starting".to_owned()));
    assert_eq!(get(&world, "/livez").await.status, 200);

    let mut waiting = Client::new(&world).await;
    waiting.send("GET /api/plugins HTTP/1.1\r\nHost: x\r\n\r\n").await;
    world.status.send_modify(|status| status.phase = Phase::Running);
    world.registry.membership(Membership::Settled).await;
    assert_eq!(waiting.answer(true).await.text, "[]");
    assert_eq!(get(&world, "/readyz").await.status, 200);
}

#[tokio::test]
async fn a_request_waits_for_the_start_for_a_limited_time() {
    let world = World::starting(Limits { ready: SHORT, ..Limits::default() }).await;
    let answer = get(&world, "/api/plugins").await;
    assert_eq!(answer.refusal(), (503, "starting".to_owned()));
    assert_eq!(answer.header("retry-after"), Some("1"));
    let posted = register(&world, json!({"name": "hecate-traderd"})).await;
    assert_eq!(posted.refusal(), (503, "starting".to_owned()));
}

#[tokio::test]
async fn a_request_that_takes_too_long_times_out() {
    let world = World::starting(Limits { call: SHORT, ..Limits::default() }).await;
    assert_eq!(get(&world, "/api/plugins").await.refusal(), (503, "call_timeout".to_owned()));
}

#[tokio::test]
async fn a_stop_finishes_requests_in_progress() {
    let world = World::start(Limits::default()).await;
    let body = r#"{"name":"hecate-traderd"}"#;
    let request = post(body);
    let (first, rest) = request.split_at(request.len() - 5);
    let mut under_way = Client::new(&world).await;
    under_way.send(&first.replace("Host: localhost", "Host: localhost\r\nExpect: 100-continue")).await;
    // The request has reached the daemon once it asks for the body.
    assert_eq!(under_way.line().await, "HTTP/1.1 100 Continue");
    assert_eq!(under_way.line().await, "");
    let mut idle = Client::new(&world).await;
    idle.send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(idle.answer(true).await.status, 200);

    world.stop.cancel();
    idle.closed().await;
    under_way.send(rest).await;
    let answer = under_way.answer(true).await;
    assert_eq!((answer.status, answer.header("connection")), (201, Some("close")));
    under_way.closed().await;
    in_time(world.server).await.expect("ended");
    UnixStream::connect(&world.socket).await.expect_err("nobody listens");
}

#[tokio::test]
async fn a_stop_waits_for_requests_for_a_limited_time() {
    // Nothing else ends this request within the time that the test waits.
    let hour = Duration::from_secs(3600);
    let world = World::start(Limits { drain: SHORT, body_time: hour, call: hour, ..Limits::default() }).await;
    let mut stuck = Client::new(&world).await;
    let head = "POST /api/plugins/register HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n";
    stuck.send(head).await;
    assert_eq!(stuck.line().await, "HTTP/1.1 100 Continue", "the request is in progress");
    assert_eq!(stuck.line().await, "");
    world.stop.cancel();
    in_time(world.server).await.expect("ended");
    stuck.closed().await;
}
