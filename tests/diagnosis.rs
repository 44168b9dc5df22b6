//! The diagnosis of a node. The tests cause each fault, and check the code that names it. The fault
//! comes from a real node where possible, and otherwise from a socket that misbehaves. A diagnosis
//! disturbs no connection.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

#[path = "diagnosis/command.rs"]
mod command;
mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Output;

use beam::dist::Identity;
use beam::dist::control::Control;
use beam::dist::flags::{self, Flags};
use beam::dist::link::LinkEvent;
use beam::dist::setup;
use hecate_daemon::limits;
use serde_json::{Value, json};
use support::daemon::Daemon;
use support::erl::{Erl, Start};
use support::node::{address, identity, start_link};
use support::{Host, PATIENCE, wait_for, wait_within};

/// Returns the diagnosis of a node, which must match the documented schema.
fn diagnosis(host: &Host, node: &str) -> Value {
    let answer = host.ask("GET", &format!("/api/cluster/peers/{node}/diagnosis"));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_matches_schema(host, "Diagnosis", &answer.body);
    answer.body
}

/// Checks a value against a schema of the served document.
#[track_caller]
fn assert_matches_schema(host: &Host, schema: &str, value: &Value) {
    let document = host.ask("GET", "/openapi.json").body;
    let mut schema = document["components"]["schemas"][schema].clone();
    schema["components"] = document["components"].clone();
    let validator = jsonschema::draft202012::new(&schema).expect("a schema");
    let errors: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
    assert_eq!(errors, Vec::<String>::new(), "{value:#}");
}

/// Returns one stage of a diagnosis.
fn stage<'a>(diagnosis: &'a Value, name: &str) -> &'a Value {
    let stages = diagnosis["stages"].as_array().expect("stages");
    stages.iter().find(|stage| stage["stage"] == name).expect(name)
}

/// Checks that the first failed stage is `at`, with this code. All stages before it passed or were
/// skipped, and its verdict contains these words.
#[track_caller]
fn assert_fails(diagnosis: &Value, at: &str, code: &str, words: &[&str]) {
    assert_eq!(diagnosis["code"], code, "{diagnosis:#}");
    let failed = stage(diagnosis, at);
    assert_eq!((&failed["outcome"], &failed["code"]), (&json!("failed"), &json!(code)), "{diagnosis:#}");
    let before = diagnosis["stages"].as_array().unwrap().iter().take_while(|stage| stage["stage"] != at);
    for stage in before {
        assert_ne!(stage["outcome"], "failed", "{diagnosis:#}");
    }
    let verdict = diagnosis["verdict"].as_str().unwrap();
    assert!(!failed["advice"].as_str().unwrap().is_empty());
    for word in words {
        assert!(verdict.contains(word), "{word}: {verdict}");
    }
}

/// Accepts a connection as a node does, and reads the name of the other node.
fn accept_and_read_name(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut name = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut name).unwrap();
    assert_eq!(name[0], b'N');
    stream
}

fn send(stream: &mut TcpStream, packet: &[u8]) {
    stream.write_all(&[&u16::try_from(packet.len()).unwrap().to_be_bytes(), packet].concat()).unwrap();
}

fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

// ---- Before the handshake -------------------------------------------------------------------------

#[test]
fn failures_before_a_connection_have_their_codes() {
    let (host, epmd, _daemon) = Host::running(&[]);
    assert_fails(
        &diagnosis(&host, "x@no-such-host-anywhere"),
        "resolve",
        "host_unresolved",
        &["no-such-host-anywhere", "DNS"],
    );

    let mut long = host.erl("long@127.0.0.1");
    assert_eq!(long.eval("node()"), "'long@127.0.0.1'");
    let mixed = diagnosis(&host, "long@127.0.0.1");
    assert_fails(&mixed, "name", "shortname_longname_mix", &["HECATE_HOSTNAME", "-sname"]);
    assert_eq!(stage(&mixed, "resolve")["outcome"], "skipped");

    let unknown = diagnosis(&host, &host.node("unknown"));
    assert_fails(&unknown, "registered", "not_registered", &["named unknown", "long", "hecate"]);
    assert_eq!(stage(&unknown, "epmd")["outcome"], "passed");

    let (free, port) = listener();
    drop(free);
    let _refusing = epmd.register("refusing", port);
    let refused = diagnosis(&host, &host.node("refusing"));
    assert_fails(&refused, "tcp", "tcp_refused", &[&format!("127.0.0.1:{port}"), "firewall"]);

    assert_fails(&diagnosis(&host, &host.node("hecate")), "name", "ourselves", &["another node"]);
    let answer = host.ask("GET", "/api/cluster/peers/nonsense/diagnosis");
    assert_eq!((answer.status, &answer.body["code"]), (404, &json!("not_found")));
}

/// The node would accept such a connection, but could connect neither to the daemon nor to its
/// peers.
#[test]
fn a_node_with_the_other_kind_of_name_is_not_connected() {
    let host = Host::new();
    let epmd = host.epmd();
    let mut long = host.erl("long@127.0.0.1");
    let daemon = host.daemon(&[("HECATE_CLUSTER_PEERS", "long@127.0.0.1")]);
    daemon.ready();
    daemon.logs(&["WARN", "long@127.0.0.1", "shortname_longname_mix", "HECATE_HOSTNAME"]);
    let failed = |peer: &Value| peer["state"] == "disconnected";
    let peer = wait_within(PATIENCE, "the attempt has failed", || details(&host, "long@127.0.0.1").filter(failed));
    assert_eq!(peer["attempts"], 1, "{peer:#}");
    assert_eq!(peer["last_failure"]["code"], "shortname_longname_mix");
    assert_eq!(long.eval("nodes(connected)"), "[]");
    // A node found by a short name answers with its long name.
    let _alias = epmd.register("alias", epmd.port_of("long"));
    assert_fails(
        &diagnosis(&host, &host.node("alias")),
        "handshake",
        "name_mismatch",
        &["long@127.0.0.1", "HECATE_HOSTNAME"],
    );
}

#[test]
fn a_host_without_epmd_is_reported() {
    let host = Host::new();
    let _epmd = host.epmd();
    let daemon = host.daemon(&[("HECATE_HOSTNAME", "127.0.0.1")]);
    assert_eq!(daemon.ready(), "hecate@127.0.0.1");
    let unreachable = diagnosis(&host, "x@127.0.0.2");
    let epmd = format!("127.0.0.2:{}", host.epmd_port);
    assert_fails(&unreachable, "epmd", "epmd_unreachable", &[&epmd, "ERL_EPMD_PORT"]);
    assert!(stage(&unreachable, "resolve")["detail"].as_str().unwrap().contains("127.0.0.2"));
    // The opposite case: the daemon has the long name.
    assert_fails(&diagnosis(&host, &host.node("x")), "name", "shortname_longname_mix", &["-name"]);
}

#[test]
fn a_port_that_does_not_answer_is_reported() {
    let (host, epmd, _daemon) = Host::running(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        socket.listen(1).unwrap()
    });
    let port = listener.local_addr().unwrap().port();
    // The system does not answer further connections while the listener's backlog is full.
    let mut waiting = Vec::new();
    let patience = std::time::Duration::from_millis(500);
    while let Ok(stream) = TcpStream::connect_timeout(&address(port), patience) {
        waiting.push(stream);
    }
    let _stalling = epmd.register("stalling", port);
    let stalled = diagnosis(&host, &host.node("stalling"));
    assert_fails(&stalled, "tcp", "tcp_timeout", &[&format!("127.0.0.1:{port}"), "firewall", "inet_dist_listen_min"]);
}

// ---- The handshake --------------------------------------------------------------------------------

#[test]
fn a_node_with_another_name_is_reported() {
    let (host, epmd, _daemon) = Host::running(&[]);
    let _erl = host.erl("actual");
    let _other = epmd.register("other", epmd.port_of("actual"));
    let mismatch = diagnosis(&host, &host.node("other"));
    assert_fails(&mismatch, "handshake", "name_mismatch", &["calls itself", &host.node("actual")]);
}

#[test]
fn a_node_that_is_connected_by_another_name_is_reported() {
    let (host, _epmd, _daemon) = Host::running(&[]);
    let _erl = host.erl("hecate_traderd@localhost");
    let known = |peer: &Value| peer["state"] == "connected";
    let actual = "hecate_traderd@localhost";
    let peer = wait_within(PATIENCE, "the node is connected", || details(&host, actual).filter(known));
    assert_eq!(peer["introduced_by"], "epmd", "the name was found in EPMD");
    let mismatch = diagnosis(&host, &host.node("hecate_traderd"));
    assert_fails(&mismatch, "handshake", "name_mismatch", &[&format!("hecate-daemon diagnose {actual}")]);
}

#[test]
fn a_node_that_lacks_flags_gets_no_proof() {
    let (host, epmd, _daemon) = Host::running(&[]);
    let (listener, port) = listener();
    let _name = epmd.register("ancient", port);
    let node = host.node("ancient");
    let name = node.clone();
    let ancient = std::thread::spawn(move || {
        let mut stream = accept_and_read_name(&listener);
        send(&mut stream, b"sok");
        let lacking = flags::ours(false).bits() & !(1 << 26) & !Flags::MAP_TAGS.bits();
        let length = u16::try_from(name.len()).unwrap().to_be_bytes();
        send(
            &mut stream,
            &[&b"N"[..], &lacking.to_be_bytes(), &[0; 4], &[0, 0, 0, 7], &length, name.as_bytes()].concat(),
        );
        // The daemon sends nothing more.
        stream.read(&mut [0]).unwrap()
    });
    let missing = diagnosis(&host, &node);
    assert_fails(&missing, "flags", "flags_missing", &["OTP 25"]);
    assert_eq!(stage(&missing, "handshake")["outcome"], "passed");
    assert_eq!(ancient.join().unwrap(), 0, "no proof of the cookie");
}

#[test]
fn a_node_with_another_cookie_is_reported() {
    let (host, _epmd, daemon) = Host::running(&[]);
    let start = |name| Start { name: Some(name), cookie: Some("another-cookie"), ..Start::default() };
    // The daemon does not dial the first name. It finds and dials the second one, then waits.
    let _visitor = Erl::start(&host, start("visitor"));
    let hash = host.ask("GET", "/api/cluster").body["cookie_hash"].as_str().unwrap().to_owned();
    let tried = diagnosis(&host, &host.node("visitor"));
    assert_fails(&tried, "cookie", "cookie_mismatch", &["the same cookie", &hash, "erlang:md5"]);
    assert_eq!(stage(&tried, "flags")["outcome"], "passed");

    let mut trader = Erl::start(&host, start("hecate_traderd"));
    let node = host.node("hecate_traderd");
    daemon.logs(&["WARN", &node, "cookie"]);
    let peer =
        wait_within(PATIENCE, "the node is shown", || details(&host, &node).filter(|peer| peer["attempts"] == 1));
    assert_eq!(peer["last_failure"]["code"], "cookie_mismatch", "{peer:#}");
    assert_eq!((&peer["state"], &peer["introduced_by"]), (&json!("disconnected"), &json!("epmd")));
    // A diagnosis does not dial a node that the daemon waits for: with the daemon's cookie, the
    // node would now accept it.
    trader.eval(&format!("erlang:set_cookie('{}')", host.cookie));
    let rests = diagnosis(&host, &node);
    assert_fails(&rests, "cookie", "cookie_mismatch", &[&hash, "tries again"]);
    assert_eq!(stage(&rests, "handshake")["outcome"], "skipped");
    assert!(!rests.to_string().contains(&host.cookie) && !daemon.log().contains(&host.cookie));
}

#[test]
fn a_node_that_does_not_allow_the_daemon_is_reported() {
    let (host, _epmd, _daemon) = Host::running(&[]);
    let mut erl = host.erl("choosy");
    assert_eq!(erl.eval("net_kernel:allow(['friend@elsewhere'])"), "ok");
    assert_fails(&diagnosis(&host, &host.node("choosy")), "handshake", "not_allowed", &["net_kernel:allow", "hecate@"]);
    // The node accepts only the daemon's name, so a trial under another name cannot find out more.
    assert_eq!(erl.eval(&format!("net_kernel:allow(['{}'])", host.node("hecate"))), "ok");
    let allowed = diagnosis(&host, &host.node("choosy"));
    assert_eq!((&allowed["code"], &stage(&allowed, "cookie")["outcome"]), (&Value::Null, &json!("skipped")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diagnosis_does_not_replace_a_connection_that_the_node_has() {
    let (host, epmd, _daemon) = Host::running(&[]);
    let mut erl = host.erl("visitor");
    let us = identity(&host, "hecate", 7);
    let stream = tokio::net::TcpStream::connect(address(epmd.port_of("visitor"))).await.unwrap();
    let older = setup::dial(stream, &us, host.node("visitor").parse().unwrap(), async || true).await.unwrap();
    tokio::task::block_in_place(|| {
        let connected = format!("[{}]", host.node("hecate"));
        assert_eq!(erl.eval("nodes()"), connected);
        assert_fails(
            &diagnosis(&host, &host.node("visitor")),
            "handshake",
            "already_alive",
            &["disconnect_node", "hecate@"],
        );
        assert_eq!(erl.eval("nodes()"), connected, "the connection was replaced");
    });
    drop(older);
}

/// The daemon is already connecting to the node, and the diagnosis waits a limited time for that
/// attempt.
#[test]
fn a_silent_node_is_reported() {
    let (host, epmd, _daemon) = Host::running(&[]);
    let (listener, port) = listener();
    let _name = epmd.register("hecate_silentd", port);
    // The node is shown after the first attempt.
    drop(listener.accept().unwrap());
    let (dialled, _) = listener.accept().unwrap();
    let node = host.node("hecate_silentd");
    wait_for("the daemon is connecting", || host.peer(&node).as_deref() == Some("connecting"));
    let silent = std::thread::spawn(move || {
        let trial = accept_and_read_name(&listener);
        (is_open(&dialled), dialled, trial)
    });
    let diagnosis = diagnosis(&host, &node);
    assert_fails(&diagnosis, "handshake", "handshake_failed", &["does not answer"]);
    assert!(silent.join().unwrap().0, "the trial came while the daemon's own attempt was under way");
}

/// Returns whether the other side has not closed the connection yet.
fn is_open(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    loop {
        match stream.read(&mut [0; 64]) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(e) => return e.kind() == ErrorKind::WouldBlock,
        }
    }
}

// ---- Nodes that can be connected ------------------------------------------------------------------

/// Returns a peer of `/api/cluster`.
fn details(host: &Host, node: &str) -> Option<Value> {
    let cluster = host.ask("GET", "/api/cluster").body;
    assert_matches_schema(host, "Cluster", &cluster);
    cluster["peers"].as_array().expect("peers").iter().find(|peer| peer["name"] == node).cloned()
}

#[test]
fn a_diagnosis_does_not_connect_a_node() {
    let (host, _epmd, _daemon) = Host::running(&[]);
    let mut erl = host.erl("visitor");
    erl.eval("net_kernel:monitor_nodes(true)");
    let well = diagnosis(&host, &host.node("visitor"));
    assert_eq!((&well["code"], &well["connected"], &well["peer"]), (&Value::Null, &json!(false), &Value::Null));
    let outcomes: Vec<&str> =
        well["stages"].as_array().unwrap().iter().map(|stage| stage["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, [["passed"; 9].as_slice(), &["skipped"; 2]].concat(), "{well:#}");
    assert!(well["verdict"].as_str().unwrap().contains("HECATE_CLUSTER_PEERS"), "{well:#}");
    erl.eval_until("nodes(connected)", "[]", PATIENCE);
    assert_eq!(
        erl.eval("receive {nodeup, Node} -> Node after 0 -> none end"),
        "none",
        "the diagnosis connected the node"
    );
    assert_eq!(host.peer(&host.node("visitor")), None);
}

#[test]
fn a_diagnosis_shows_the_view_of_a_connected_node() {
    let (host, _epmd, daemon) = Host::running(&[]);
    let mut erl = host.erl("hecate_traderd");
    let (us, node) = (host.node("hecate"), host.node("hecate_traderd"));
    erl.eval_until("nodes()", &format!("[{us}]"), PATIENCE);
    let release = erl.eval("erlang:system_info(otp_release)").trim_matches('"').to_owned();
    let up = |peer: &Value| peer["state"] == "connected" && !peer["round_trip_ms"].is_null();
    let peer = wait_within(PATIENCE, "the peer has sent its details", || details(&host, &node).filter(up));
    assert_eq!(
        (&peer["otp_release"], &peer["net_ticktime"], &peer["hidden"]),
        (&json!(release), &json!(60), &json!(false))
    );
    assert_eq!((&peer["introduced_by"], &peer["attempts"]), (&json!("epmd"), &json!(0)), "{peer:#}");
    assert!(peer["flags"].as_array().unwrap().contains(&json!("SPAWN")), "{peer:#}");
    assert!(peer["round_trip_ms"].as_f64().unwrap() > 0.0);

    // A node without pg is not in any group.
    let absent = diagnosis(&host, &node);
    assert_fails(&absent, "scope", "scope_absent", &["pg:start_link()"]);
    assert_eq!(absent["connected"], true);
    erl.eval("pg:start_link()");
    let well = diagnosis(&host, &node);
    assert_eq!((&well["code"], &stage(&well, "ticks")["outcome"]), (&Value::Null, &json!("passed")), "{well:#}");
    let view = &well["peer"];
    assert_eq!((&view["otp_release"], &view["net_ticktime"]), (&json!(release), &json!(60)));
    assert_eq!((&view["nodes"], &view["scopes"]), (&json!([us]), &json!([{"name": "pg", "runs": true}])));
    assert_eq!(daemon.log_lines(&["node down"]), Vec::<String>::new());

    // A suspended node stays connected until it times out.
    erl.stop();
    let silent = diagnosis(&host, &node);
    assert_fails(&silent, "ticks", "tick_timeout", &["stopped", "60 s"]);
    assert_eq!(silent["connected"], true);
    erl.resume();
    erl.pings(&us);
}

/// Another daemon runs few functions for peers. The diagnosis gets its details in other ways.
#[test]
fn a_diagnosis_shows_the_view_of_another_daemon() {
    let (host, _epmd, daemon) = Host::running(&[]);
    let home = host.home().join("other");
    std::fs::create_dir(&home).unwrap();
    let home = home.to_str().unwrap().to_owned();
    let other = host.daemon(&[("HOME", &home), ("HECATE_NODE_NAME", "hecate_b"), ("HECATE_NET_TICKTIME", "30")]);
    let node = other.ready();
    wait_for("the scopes know each other", || {
        host.ask("GET", "/api/cluster").body["scopes"][0]["peer_members"].as_u64() > Some(0)
    });
    let well = diagnosis(&host, &node);
    assert_eq!((&well["code"], &stage(&well, "scope")["outcome"]), (&Value::Null, &json!("passed")), "{well:#}");
    let view = &well["peer"];
    assert_eq!((&view["otp_release"], &view["net_ticktime"]), (&Value::Null, &json!(30)));
    assert_eq!(view["nodes"], json!([daemon.ready()]));
    assert!(view["round_trip_ms"].as_f64().unwrap() > 0.0);
    let answered = |peer: &Value| !peer["round_trip_ms"].is_null();
    let peer = wait_within(PATIENCE, "the peer has answered", || details(&host, &node).filter(answered));
    assert_eq!((&peer["otp_release"], &peer["net_ticktime"]), (&Value::Null, &json!(30)), "{peer:#}");
}

#[test]
fn a_diagnosis_shows_the_view_of_a_hidden_node() {
    let (host, _epmd, daemon) = Host::running(&[]);
    let start = Start { name: Some("monitor"), args: &["-hidden"], ..Start::default() };
    let mut erl = Erl::start(&host, start);
    erl.pings(&daemon.ready());
    let answered = |peer: &Value| !peer["round_trip_ms"].is_null();
    let node = host.node("monitor");
    let peer = wait_within(PATIENCE, "the peer has answered", || details(&host, &node).filter(answered));
    let release = erl.eval("erlang:system_info(otp_release)").trim_matches('"').to_owned();
    assert_eq!((&peer["hidden"], &peer["otp_release"]), (&json!(true), &json!(release)), "{peer:#}");
}

/// The EPMD of another host reads the request and does not answer.
#[test]
fn a_first_attempt_is_shown_while_it_runs() {
    let host = Host::new();
    let _epmd = host.epmd();
    let _silent = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), host.epmd_port)).unwrap();
    let us = ("HECATE_NODE_NAME", "hecate@127.0.0.1");
    let daemon = host.daemon(&[us, ("HECATE_CLUSTER_PEERS", "far@127.0.0.2")]);
    daemon.ready();
    let first = wait_within(PATIENCE, "the node is being dialled", || details(&host, "far@127.0.0.2"));
    assert_eq!((&first["state"], &first["last_failure"]), (&json!("connecting"), &Value::Null), "{first:#}");
    let failed = |peer: &Value| !peer["last_failure"].is_null();
    let then = wait_within(PATIENCE, "the attempt has failed", || details(&host, "far@127.0.0.2").filter(failed));
    assert_eq!(then["last_failure"]["code"], "epmd_unreachable", "{then:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_refuses_calls_is_not_reported_as_silent() {
    let (host, epmd, _daemon) = Host::running(&[]);
    let lacking = Flags::from_bits_truncate(flags::ours(false).bits() & !Flags::SPAWN.bits());
    let deaf = Identity { flags: lacking, ..identity(&host, "deaf", 7) };
    let stream = tokio::net::TcpStream::connect(address(epmd.port_of("hecate"))).await.unwrap();
    let held = setup::dial(stream, &deaf, host.node("hecate").parse().unwrap(), async || true).await.unwrap();
    tokio::task::block_in_place(|| {
        wait_for("the node is connected", || host.peer(&deaf.name).as_deref() == Some("connected"));
        let well = diagnosis(&host, &deaf.name);
        assert_eq!((&well["code"], &well["connected"]), (&Value::Null, &json!(true)), "{well:#}");
        assert_eq!(stage(&well, "ticks")["outcome"], "skipped");
        assert_eq!(details(&host, &deaf.name).unwrap()["round_trip_ms"], Value::Null);
    });
    drop(held);
}

/// The diagnosis then treats it as an unconnected node.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_may_end_during_a_diagnosis() {
    let (host, epmd, _daemon) = Host::running(&[]);
    let silent = identity(&host, "silent", 7);
    let stream = tokio::net::TcpStream::connect(address(epmd.port_of("hecate"))).await.unwrap();
    let connection = setup::dial(stream, &silent, host.node("hecate").parse().unwrap(), async || true).await.unwrap();
    let (sender, mut events) = start_link(connection, 8);
    let diagnosing = tokio::task::spawn_blocking(move || {
        wait_for("the node is connected", || host.peer(&silent.name).as_deref() == Some("connected"));
        diagnosis(&host, &silent.name)
    });
    let is_ping = |event: LinkEvent| match event {
        LinkEvent::Messages(batch, _) => {
            batch.iter().any(|(signal, _)| matches!(signal, Control::SendName { to, .. } if *to == "net_kernel"))
        }
        LinkEvent::Closed(_) => panic!("the connection closed before the diagnosis"),
    };
    while !is_ping(events.recv().await.unwrap()) {}
    drop(sender);
    let diagnosis = diagnosing.await.unwrap();
    assert_fails(&diagnosis, "registered", "not_registered", &["silent"]);
    assert_eq!(diagnosis["connected"], json!(false));
}

#[test]
fn the_source_of_a_nodes_name_is_shown() {
    let host = Host::new();
    let _epmd = host.epmd();
    let configured = host.node("configured");
    let daemon = host.daemon(&[("HECATE_CLUSTER_PEERS", &configured)]);
    let us = daemon.ready();
    let failed = |peer: &Value| peer["attempts"] == 2;
    let peer = wait_within(PATIENCE, "the node is dialled again", || details(&host, &configured).filter(failed));
    assert_eq!(
        (&peer["introduced_by"], &peer["last_failure"]["code"]),
        (&json!("configuration"), &json!("not_registered"))
    );
    let mut visitor = host.erl("visitor");
    visitor.pings(&us);
    let visiting = wait_within(PATIENCE, "the node is shown", || details(&host, &host.node("visitor")));
    assert_eq!(visiting["introduced_by"], "itself");
    let mut friend = host.erl("friend");
    friend.pings(&host.node("visitor"));
    let by = wait_within(PATIENCE, "the node is learned", || details(&host, &host.node("friend")));
    assert!(["peers", &host.node("visitor")].contains(&by["introduced_by"].as_str().unwrap()), "{by:#}");
}

#[test]
fn concurrent_diagnoses_are_bounded() {
    let (host, epmd, _daemon) = Host::running(&[]);
    let (listener, port) = listener();
    let _name = epmd.register("silent", port);
    let path = format!("/api/cluster/peers/{}/diagnosis", host.node("silent"));
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..limits::DIAGNOSES).map(|_| scope.spawn(|| host.ask("GET", &path).status)).collect();
        let _held: Vec<_> = asking.iter().map(|_| listener.accept().unwrap()).collect();
        let refused = host.ask("GET", &path);
        assert_eq!((refused.status, &refused.body["code"]), (503, &json!("diagnoses_busy")));
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
        for asked in asking {
            assert_eq!(asked.join().unwrap(), 200);
        }
    });
    assert_eq!(host.ask("GET", &format!("/api/cluster/peers/{}/diagnosis", host.node("x"))).status, 200, "again");
}
