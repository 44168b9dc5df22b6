//! Coming up, staying up and going down: with and without EPMD, beside others, after a crash, and under nonsense.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it is surprised")]

mod host;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use host::erl::{Erl, Start};
use host::{Host, PATIENCE, wait_for};
use serde_json::json;

#[test]
fn without_epmd_it_serves_and_says_so_and_joins_when_there_is_one() {
    let host = Host::new();
    let daemon = host.daemon(&[]);
    assert!(daemon.ready().starts_with("none yet"), "it names no node");
    let health = host.ask("GET", "/health").body;
    assert_eq!((&health["status"], &health["ready"]), (&json!("healthy"), &json!(true)));
    assert_eq!(health["problems"][0]["code"], "epmd_unavailable");
    assert_eq!(host.register(&json!({"name": "hecate-traderd"})).status, 201);
    assert_eq!(daemon.log_lines(&["no EPMD answers", "epmd -daemon", "WARN"]).len(), 1, "{}", daemon.log());
    let epmd = host.epmd();
    epmd.port_of("hecate");
    wait_for("it is in the cluster", || host.ask("GET", "/health").body["problems"] == json!([]));
    assert_eq!(host.ask("GET", "/health").body["node_name"], host.node("hecate"));
}

#[test]
fn the_systems_epmd_is_started_where_none_runs() {
    let host = Host::new();
    let path = std::env::var("PATH").unwrap();
    let daemon = host.daemon(&[("PATH", &path)]);
    assert_eq!(daemon.ready(), host.node("hecate"));
    assert!(host::epmd::names(host.epmd_port).contains_key("hecate"));
    daemon.terminate();
    // It outlives us, as one that `erl` starts does: so it is ours to end.
    let port = host.epmd_port.to_string();
    let killed = std::process::Command::new("epmd").args(["-port", &port, "-kill"]).status().unwrap();
    assert!(killed.success());
}

#[test]
fn after_epmd_restarts_it_is_registered_again_and_connections_stay() {
    let host = Host::new();
    let epmd = host.epmd();
    let daemon = host.daemon(&[]);
    let ours = daemon.ready();
    let mut erl = host.erl("hecate_traderd");
    erl.eval_until("nodes()", &format!("[{ours}]"), PATIENCE);
    erl.eval("net_kernel:monitor_nodes(true)");
    epmd.kill();
    daemon.logs(&["EPMD has ended"]);
    let epmd = host.epmd();
    epmd.port_of("hecate");
    assert_eq!(erl.eval("receive {nodedown, _} -> down after 0 -> up end"), "up");
    assert_eq!(erl.eval(&format!("net_adm:ping('{ours}')")), "pong");
}

#[test]
fn a_second_daemon_on_the_same_home_is_refused() {
    let host = Host::new();
    let _epmd = host.epmd();
    let first = host.daemon(&[]);
    first.ready();
    let pid = fs::read_to_string(host.run_file("daemon.pid")).unwrap();
    let mut second = host.daemon(&[]);
    assert_eq!(second.ended(), Some(1));
    wait_for("it says whose the home is", || !second.log_lines(&[&pid]).is_empty());
    assert_eq!(host.ask("GET", "/health").status, 200, "the first is not disturbed");
}

#[test]
fn what_a_killed_predecessor_left_is_cleared() {
    let host = Host::new();
    let _epmd = host.epmd();
    let first = host.daemon(&[]);
    first.ready();
    first.kill();
    assert!(host.socket().exists() && host.run_file("daemon.pid").exists(), "a crash leaves them");
    let second = host.daemon(&[]);
    assert_eq!(second.ready(), host.node("hecate"), "the name is free again");
    assert_eq!(host.ask("GET", "/health").status, 200);
    assert_eq!(fs::read_to_string(host.run_file("daemon.state")).unwrap(), "running");
    assert_eq!(second.terminate().0.code(), Some(0));
    assert!(!host.socket().exists());
}

#[test]
fn a_default_name_that_is_taken_gives_way_and_one_that_was_set_does_not() {
    let host = Host::new();
    let epmd = host.epmd();
    let holder = epmd.register("hecate", 1);
    let daemon = host.daemon(&[]);
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(daemon.ready(), host.node(&format!("hecate_{uid}")));
    daemon.terminate();

    let daemon = host.daemon(&[("HECATE_NODE_NAME", "hecate")]);
    wait_for("it serves", || UnixStream::connect(host.socket()).is_ok());
    wait_for("it is not ready", || {
        let ready = host.ask("GET", "/readyz");
        ready.status == 503 && ready.body["code"] == "node_name_taken"
    });
    assert_eq!(host.ask("GET", "/health").status, 200);
    assert_eq!(daemon.ready_line(), None);
    drop(holder);
    assert_eq!(daemon.ready(), host.node("hecate"));
    assert_eq!(host.ask("GET", "/readyz").status, 200);
}

#[test]
fn a_node_at_localhost_is_dialled_under_that_name() {
    let host = Host::new();
    let _epmd = host.epmd();
    let daemon = host.daemon(&[]);
    let ours = daemon.ready();
    let mut erl = host.erl("hecate_traderd@localhost");
    erl.eval_until("nodes()", &format!("[{ours}]"), PATIENCE);
    assert_eq!(host.peer("hecate_traderd@localhost").as_deref(), Some("connected"));
}

#[test]
fn another_cookie_is_not_let_in_and_ours_is_never_logged() {
    let host = Host::new();
    let _epmd = host.epmd();
    let daemon = host.daemon(&[("HECATE_LOG", "trace")]);
    let ours = daemon.ready();
    let start = Start { name: Some("hecate_strangerd"), cookie: Some("another"), ..Start::default() };
    let mut stranger = Erl::start(&host, start);
    daemon.logs(&["WARN", "hecate_strangerd", "cookie"]);
    assert_eq!(stranger.eval(&format!("net_adm:ping('{ours}')")), "pang");
    assert_eq!(stranger.eval("nodes()"), "[]");
    assert_eq!(host.peer(&host.node("hecate_strangerd")), None);
    assert!(!daemon.log().contains(&host.cookie));
}

#[test]
fn idle_and_nonsensical_connections_hurt_nobody() {
    let host = Host::new();
    let epmd = host.epmd();
    let daemon = host.daemon(&[]);
    let ours = daemon.ready();
    let port = epmd.port_of("hecate");
    // More than may be unfinished, all silent and all kept open.
    let idle: Vec<TcpStream> = (0..80).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap()).collect();
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xFF; 4096], &[0, 0], &[0, 3, b'N', 0, 0], &[0, 1, b'n']] {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let _ = stream.write_all(nonsense);
        let mut stream = UnixStream::connect(host.socket()).unwrap();
        let _ = stream.write_all(nonsense);
    }
    let mut erl = host.erl("somebody");
    assert_eq!(erl.eval(&format!("net_adm:ping('{ours}')")), "pong");
    assert_eq!(host.ask("GET", "/health").body["status"], "healthy");
    drop(idle);
}

#[test]
fn a_port_that_says_nothing_is_given_up_and_the_next_is_dialled() {
    let host = Host::new();
    let epmd = host.epmd();
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let _registered = epmd.register("hecate_silentd", silent.local_addr().unwrap().port());
    let daemon = host.daemon(&[]);
    let ours = daemon.ready();
    let (mut dialled, _) = silent.accept().unwrap();
    let mut erl = host.erl("hecate_traderd");
    erl.eval_until("nodes()", &format!("[{ours}]"), PATIENCE);
    // Our side of the silent one ends within the time of a handshake.
    dialled.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut read = Vec::new();
    dialled.read_to_end(&mut read).unwrap();
    assert_eq!(read.get(2), Some(&b'N'), "all that it got is our name");
}
