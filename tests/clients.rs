//! Existing clients, reproduced byte for byte:
//! - the desktop shell `hecate-web`, which reads only `Content-Length` and opens one connection for
//!   each request;
//! - `curl --unix-socket`;
//! - probes that test whether the socket exists;
//! - the smoke test of installations;
//! - `hecate-daemon events`.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test ends where it is surprised")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::daemon::Daemon;
use support::{Host, PATIENCE, Process, wait_within};

/// The health request of the desktop shell.
const HEALTH: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Sends a request as the desktop shell does. Returns the status and the body of `Content-Length`
/// bytes.
fn shell(socket: &Path, head: &str, body: &str) -> Result<(u16, Value), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = UnixStream::connect(socket).map_err(text)?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).map_err(text)?;
    stream.set_write_timeout(Some(Duration::from_secs(2))).map_err(text)?;
    stream.write_all(head.as_bytes()).map_err(text)?;
    // The shell writes the body separately, and writes nothing if it is empty.
    if !body.is_empty() {
        stream.write_all(body.as_bytes()).map_err(text)?;
    }
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).map_err(text)?;
    let status = line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).ok_or(line)?;
    let mut length = None;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).map_err(text)?;
        let Some((key, value)) = line.trim().split_once(':') else {
            break;
        };
        assert!(!key.eq_ignore_ascii_case("transfer-encoding"), "the shell cannot read chunks: {line}");
        if key.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok();
        }
    }
    let mut body = vec![0; length.expect("the shell needs Content-Length")];
    reader.read_exact(&mut body).map_err(text)?;
    assert_eq!(reader.read(&mut [0]).map_err(text)?, 0, "the connection is closed after the response");
    Ok((status, serde_json::from_slice(&body).map_err(|error| error.to_string())?))
}

/// Waits until the socket exists, as a watcher of the directory does, and sends one request.
fn first_health(host: &Host) -> Value {
    let start = Instant::now();
    while !host.socket().exists() {
        assert!(start.elapsed() < PATIENCE, "no socket");
        std::thread::yield_now();
    }
    let (status, health) = shell(&host.socket(), HEALTH, "").expect("the daemon answers as soon as the socket exists");
    assert_eq!(status, 200);
    health
}

#[test]
fn the_desktop_shell_gets_an_answer_as_soon_as_the_socket_exists() {
    for _ in 0..5 {
        let host = Host::new();
        let daemon = host.daemon(&[]);
        let health = first_health(&host);
        assert!(["starting", "healthy"].contains(&health["status"].as_str().unwrap()), "{health}");
        assert_eq!(health["service"], "hecate");
        assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(health["identity"], "not_initialized");
        assert!(health["ready"].is_boolean() && health["uptime_seconds"].is_u64() && health["plugins"].is_object());
        assert!(health["node_name"].is_string() || health["node_name"].is_null());
        daemon.terminate();
    }
}

#[test]
fn health_is_starting_until_all_stored_plugins_have_a_status() {
    let host = Host::new();
    let daemon = host.daemon(&[]);
    daemon.ready();
    let node = host.node("hecate_traderd");
    assert_eq!(host.register(&json!({"name": "hecate-traderd", "node": node})).status, 201);
    daemon.terminate();

    let _daemon = host.daemon(&[]);
    let health = first_health(&host);
    assert_eq!((&health["status"], &health["ready"]), (&json!("starting"), &json!(false)), "{health}");
    // The shell retries every 500 ms. Each try gets an answer, and the last one is `healthy`.
    let mut tries = 0;
    let health = wait_within(PATIENCE, "the daemon is healthy", || {
        let (status, health) = shell(&host.socket(), HEALTH, "").expect("an answer");
        assert_eq!(status, 200, "the status code is always 200");
        tries += 1;
        (health["status"] == "healthy").then_some(health)
    });
    assert!(tries > 1, "the daemon was starting");
    assert_eq!(health["ready"], true);
    assert_ne!(health["plugins"]["hecate-traderd"], "ok", "a reason, because the plugin's node has not returned");
}

#[test]
fn the_desktop_shell_registers_and_lists_plugins() {
    let host = Host::new();
    let daemon = host.daemon(&[]);
    daemon.ready();
    let get =
        |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\naccept: */*\r\n\r\n");
    let (status, health) = shell(&host.socket(), &get("/health"), "").unwrap();
    assert_eq!((status, &health["status"]), (200, &json!("healthy")));

    let body = r#"{"name":"hecate-app-traderd"}"#;
    let post = format!(
        "POST /api/plugins/register HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\naccept: */*\r\nx-hecate-user-id: u\r\n\r\n",
        body.len()
    );
    let (status, registered) = shell(&host.socket(), &post, body).unwrap();
    assert_eq!((status, &registered["name"]), (201, &json!("hecate-app-traderd")));
    let (status, plugins) = shell(&host.socket(), &get("/api/plugins?x=1"), "").unwrap();
    assert_eq!((status, plugins[0]["status"].as_str()), (200, Some("running")));
    let (_, health) = shell(&host.socket(), HEALTH, "").unwrap();
    assert_eq!(health["plugins"], json!({"hecate-app-traderd": "ok"}));
    // Clients of the ecosystem read `ok` and `error` of a refusal.
    let (status, refused) = shell(&host.socket(), &get("/api/plugins/hecate-nod"), "").unwrap();
    assert_eq!((status, &refused["ok"]), (404, &json!(false)));
    assert!(refused["error"].is_string(), "{refused}");
}

/// Runs a line of a script in a shell whose environment has only `HOME` and `PATH`.
fn sh(host: &Host, line: &str) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", line]).env_clear().env("HOME", host.home()).env("PATH", std::env::var("PATH").unwrap());
    command.output().expect("sh")
}

#[test]
fn the_socket_exists_only_while_the_daemon_runs() {
    const PROBE: &str = r#"test -S "$HOME/.hecate/hecate-daemon/sockets/api.sock""#;
    let host = Host::new();
    assert!(!sh(&host, PROBE).status.success(), "before the start");
    let daemon = host.daemon(&[]);
    daemon.ready();
    assert!(sh(&host, PROBE).status.success());
    daemon.terminate();
    assert!(!sh(&host, PROBE).status.success(), "after the stop");
}

#[test]
fn curl_and_the_smoke_test_of_installations_work() {
    let host = Host::new();
    let daemon = host.daemon(&[]);
    daemon.ready();
    for curl in [
        "curl --unix-socket ~/.hecate/hecate-daemon/sockets/api.sock http://localhost/health",
        "curl -sf --unix-socket \"$HOME/.hecate/hecate-daemon/sockets/api.sock\" http://localhost/health",
    ] {
        let output = sh(&host, curl);
        assert!(output.status.success(), "{output:?}");
        let health: Value = serde_json::from_slice(&output.stdout).expect("JSON, and nothing else");
        assert_eq!((&health["ready"], &health["status"]), (&json!(true), &json!("healthy")));
        assert!(health["uptime_seconds"].is_u64() && health["identity"].is_string(), "{health}");
    }
    let refused = sh(&host, "curl -sf --unix-socket ~/.hecate/hecate-daemon/sockets/api.sock http://localhost/nothing");
    assert_eq!(refused.status.code(), Some(22), "curl -f fails for a refusal");
}

#[test]
fn the_events_command_continues_after_a_restart_of_the_daemon() {
    let host = Host::new();
    let daemon = host.daemon(&[]);
    daemon.ready();
    let mut command = Daemon::command(&host, &[]);
    command.args(["events", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut follower = Process::start(&mut command, "Build it");
    let printed = support::Output::collect(follower.pipes().stdout.take().unwrap(), Some);
    let complaints = support::Output::collect(follower.pipes().stderr.take().unwrap(), Some);
    let events = || -> Vec<(String, Value)> {
        let text = printed.text();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        lines.map(|line| (line["event"].as_str().unwrap().to_owned(), line["data"]["name"].clone())).collect()
    };
    let registered = |name: &str| ("plugin_registered_v1".to_owned(), json!(name));
    support::wait_for("the snapshot", || !events().is_empty());
    host.register(&json!({"name": "hecate-traderd"}));
    support::wait_for("the first registration is printed", || events().contains(&registered("hecate-traderd")));
    daemon.kill();
    support::wait_for("the command reports the lost connection", || complaints.text().contains("retrying in"));

    let daemon = host.daemon(&[]);
    daemon.ready();
    host.register(&json!({"name": "hecate-marthad"}));
    support::wait_for("the second registration is printed", || events().contains(&registered("hecate-marthad")));
    let count = |event: &(String, Value)| events().iter().filter(|other| *other == event).count();
    assert_eq!(
        count(&("snapshot_v1".to_owned(), Value::Null)),
        1,
        "the stream continues after the last event: {:?}",
        events()
    );
    assert_eq!((count(&registered("hecate-traderd")), count(&registered("hecate-marthad"))), (1, 1));
}
