//! `hecate-daemon trace` and the log with a real `erl`, and the limits of traces.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::daemon::Daemon;
use support::erl::{Erl, Start};
use support::{Host, Output, PATIENCE, Process, wait_for};

/// A running `hecate-daemon trace`.
struct Trace {
    process: Process,
    out: Output,
    err: Output,
}

impl Trace {
    /// Starts the command, and waits until the trace runs.
    fn start(host: &Host, node: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hecate-daemon"));
        command.args(["trace", node]).env_clear().env("HOME", host.home());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::start(&mut command, "Build it");
        let out = Output::collect(process.pipes().stdout.take().unwrap(), Some);
        let err = Output::collect(process.pipes().stderr.take().unwrap(), Some);
        let trace = Self { process, out, err };
        wait_for("the trace has started", || trace.out.text().contains(&format!("tracing {node}")));
        trace
    }
}

/// Starts the `erl` of these tests, which dials no node by itself.
fn erl(host: &Host, cookie: Option<&str>) -> Erl {
    let name = host.node("visitor");
    Erl::start(host, Start { name: Some(&name), cookie, ..Start::default() })
}

fn ready(host: &Host, environment: &[(&str, &str)]) -> Daemon {
    let daemon = host.daemon(environment);
    daemon.ready();
    daemon
}

#[test]
fn a_trace_shows_the_handshake_and_a_pg_join_in_both_directions() {
    let host = Host::new();
    let _epmd = host.epmd();
    let daemon = ready(&host, &[("HECATE_LOG", "info,beam::trace=trace")]);
    let visitor = host.node("visitor");
    // The node is not connected, and not even started.
    let mut trace = Trace::start(&host, &visitor);
    let mut erl = erl(&host, None);
    erl.eval("{ok, _} = pg:start(pg)");
    assert_eq!(erl.eval(&format!("net_kernel:connect_node('{}')", host.node("hecate"))), "true");
    for words in [
        &["--  connection", "the peer at 127.0.0.1:", &format!(" is named {visitor}")][..],
        &["<-  handshake", &format!("name: {visitor}, creation"), "DIST_HDR_ATOM_CACHE", "UNICODE_IO"],
        &["->  handshake", "status: ok"],
        &["->  handshake", &format!("challenge: {}, creation", host.node("hecate"))],
        &["<-  handshake", "challenge reply: 20 bytes"],
        &["->  handshake", "challenge acknowledgement: 16 bytes"],
        &["--  connection", "connected: creation"],
        &["<-  frame", &format!("REG_SEND from <{visitor}."), "to pg, payload"],
        &["->  frame", &format!("REG_SEND from <{}.", host.node("hecate")), "to pg, payload"],
    ] {
        trace.out.shows(words);
    }
    // The scopes know each other, so the next message is a join.
    erl.eval_until("length(pg:which_groups(pg)) > 0", "true", PATIENCE);
    let scope = erl.eval("pid_to_list(whereis(pg))").replace("\"<0", &format!("<{visitor}")).replace('"', "");
    let messages = |direction: &str, scope: &str| {
        let words = [direction, "frame", "SEND", scope, ", payload "];
        trace.out.lines(&words).len()
    };
    let (from, to) = (format!(" from {scope} "), format!(" to {scope},"));
    let before = messages("<-", &from);
    erl.eval("pg:join(pg, secret_group, self())");
    wait_for("the node's join is shown", || messages("<-", &from) > before);
    let before = messages("->", &to);
    assert_eq!(host.register(&json!({"name": "hecate-traderd"})).status, 201);
    wait_for("our join is shown", || messages("->", &to) > before);

    // The log shows the same, with the peer and the number of the connection.
    let line = trace.out.lines(&["name: "]).remove(0);
    let text = line.split("name: ").nth(1).unwrap();
    daemon.logs(&["connection{", &format!("peer={visitor}"), "connection=", "handshake <- name: ", text]);
    assert!(!trace.out.text().contains("secret_group"), "no payload is shown");
    assert!(!daemon.log().contains("secret_group"), "no payload is logged");

    erl.kill();
    trace.out.shows(&["--  connection", "connection ended: "]);
    trace.process.signal(Signal::INT);
    assert!(trace.process.ended("the trace ends on Ctrl-C").success());
    assert_eq!(trace.err.text(), "");
}

#[test]
fn a_handshake_with_another_cookie_is_shown_without_cookies_and_digests() {
    let host = Host::new();
    let _epmd = host.epmd();
    let daemon = ready(&host, &[("HECATE_LOG", "info,beam=trace")]);
    let visitor = host.node("visitor");
    let trace = Trace::start(&host, &visitor);
    let mut erl = erl(&host, Some("quite-another"));
    assert_eq!(erl.eval(&format!("net_kernel:connect_node('{}')", host.node("hecate"))), "false");
    trace.out.shows(&["<-  handshake", "challenge reply: 20 bytes"]);
    trace.out.shows(&["--  connection", "handshake failed: the peer has another cookie"]);
    // The daemon dials the node of a plugin, and the node refuses it.
    assert_eq!(host.register(&json!({"name": "hecate-traderd", "node": visitor})).status, 201);
    trace.out.shows(&["->  epmd", "PORT_PLEASE2_REQ: visitor (to 127.0.0.1:"]);
    trace.out.shows(&["<-  epmd", "PORT2_RESP: port "]);
    trace.out.shows(&["--  connection", "TCP connection to 127.0.0.1:"]);
    trace.out.shows(&["->  handshake", "challenge reply: 20 bytes"]);
    trace.out.shows(&["--  connection", "handshake failed: ", "rejected our cookie"]);

    for shown in [trace.out.text(), daemon.log()] {
        for secret in [&*host.cookie, "quite-another", "secret"] {
            assert!(!shown.contains(secret), "{secret} is shown:\n{shown}");
        }
        let shows_proof = |line: &str| line.contains("challenge reply") || line.contains("acknowledgement");
        for line in shown.lines().filter(|line| shows_proof(line)) {
            assert!(line.ends_with("with the proof of the cookie"), "the trace must end with the proof: {line}");
        }
    }
}

/// Opens a trace whose client reads only on request.
fn open(host: &Host, node: &str) -> BufReader<UnixStream> {
    let mut stream = UnixStream::connect(host.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /api/cluster/peers/{node}/trace HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    BufReader::new(stream)
}

/// Reads to the next event, and returns its name and data.
fn next_event(stream: &mut impl BufRead) -> (String, Value) {
    let mut line = || {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the stream has ended");
        line.trim_end().to_owned()
    };
    loop {
        if let Some(name) = line().strip_prefix("event: ") {
            let data = line();
            return (name.to_owned(), serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap());
        }
    }
}

#[test]
fn a_slow_reader_gets_the_number_of_missed_events_and_delays_no_peer() {
    const MESSAGES: u64 = 20_000;
    let host = Host::new();
    let _epmd = host.epmd();
    let _daemon = ready(&host, &[]);
    let mut erl = erl(&host, None);
    let hecate = host.node("hecate");
    assert_eq!(erl.eval(&format!("net_kernel:connect_node('{hecate}')")), "true");
    let mut slow = open(&host, &host.node("visitor"));
    let (name, data) = next_event(&mut slow);
    assert_eq!((&*name, &data["node"]), ("trace_started_v1", &host.node("visitor").into()));
    // The client does not read meanwhile, and the node still answers.
    erl.eval(&format!("[{{nobody, '{hecate}'}} ! x || _ <- lists:seq(1, {MESSAGES})], ok"));
    erl.pings(&hecate);
    let (mut shown, mut dropped) = (0, 0);
    while shown + dropped < MESSAGES {
        let (name, data) = next_event(&mut slow);
        match &*name {
            "traced_v1" if data["text"].as_str().unwrap().contains("to nobody, payload") => shown += 1,
            "trace_dropped_v1" => dropped += data["dropped"].as_u64().unwrap(),
            _ => {}
        }
    }
    assert!(dropped > 0 && shown >= u64::try_from(beam::limits::TRACE_QUEUE).unwrap() / 2, "{shown} {dropped}");
}

#[test]
fn concurrent_traces_are_bounded() {
    let host = Host::new();
    let _epmd = host.epmd();
    let _daemon = ready(&host, &[]);
    let mut open: Vec<_> = (0..beam::limits::TRACE_SUBSCRIPTIONS)
        .map(|_| {
            let mut stream = open(&host, "x@y");
            assert_eq!(next_event(&mut stream).0, "trace_started_v1");
            stream
        })
        .collect();
    let refused = host.ask("GET", "/api/cluster/peers/x@y/trace");
    assert_eq!((refused.status, &refused.body["code"]), (503, &"too_many_traces".into()));
    open.pop();
    wait_for("a trace is free", || {
        let mut answer = [0; 12];
        self::open(&host, "x@y").read_exact(&mut answer).unwrap();
        &answer == b"HTTP/1.1 200"
    });
}
