//! The messages at `NOTIFY_SOCKET` to a service manager, which the test plays: readiness, status,
//! watchdog notifications only while the daemon's owner tasks answer, and the stop. And the shipped
//! unit, checked by systemd's own tool.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use beam::etf::{Atom, Atoms, Raw, Term};
use beam::node::{Answer, Behaviour, Caller};
use serde_json::json;
use support::daemon::Daemon;
use support::node::Node;
use support::{Host, PATIENCE, wait_for};

/// A notify socket, and its messages with their times.
struct Manager {
    path: PathBuf,
    heard: Receiver<(Instant, String)>,
}

impl Manager {
    fn new(host: &Host) -> Self {
        let path = host.home().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let (sender, heard) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n) = socket.recv(&mut buffer) {
                let text = String::from_utf8(buffer[..n].to_vec()).expect("text");
                if sender.send((Instant::now(), text)).is_err() {
                    break;
                }
            }
        });
        Self { path, heard }
    }

    fn daemon(&self, host: &Host, more: &[(&str, &str)]) -> Daemon {
        let mut environment = vec![("NOTIFY_SOCKET", self.path.to_str().unwrap())];
        environment.extend_from_slice(more);
        host.daemon(&environment)
    }

    /// Waits for a message of this kind. Returns it and those before it.
    fn until(&self, wanted: &str) -> (Instant, String, Vec<String>) {
        let mut before = Vec::new();
        loop {
            let Ok((at, text)) = self.heard.recv_timeout(PATIENCE) else { panic!("no {wanted} after {before:?}") };
            if text.starts_with(wanted) {
                return (at, text, before);
            }
            before.push(text);
        }
    }
}

#[test]
fn the_service_manager_gets_ready_status_and_stopping() {
    let host = Host::new();
    let _epmd = host.epmd();
    let manager = Manager::new(&host);
    let daemon = manager.daemon(&host, &[]);
    let (_, text, before) = manager.until("READY");
    assert_eq!(text, "READY=1\n");
    assert_eq!(before, ["STATUS=starting: looking for nodes and plugins\n"]);
    wait_for("the ready line is printed", || daemon.ready_line().is_some());
    let us = host.node("hecate");
    assert_eq!(manager.until("STATUS").1, format!("STATUS={us}: 0 of 0 plugins running\n"));
    host.register(&json!({"name": "hecate-traderd"}));
    assert_eq!(manager.until("STATUS").1, format!("STATUS={us}: 1 of 1 plugins running\n"));
    let (status, _, _) = daemon.terminate();
    assert!(status.success());
    let (_, text, before) = manager.until("STOPPING");
    assert_eq!(
        (text.as_str(), before),
        ("STOPPING=1\n", vec![]),
        "no other messages, and no watchdog without WATCHDOG_USEC"
    );
}

#[test]
fn the_service_manager_gets_the_reason_for_a_delayed_start() {
    let host = Host::new();
    let epmd = host.epmd();
    let holder = epmd.register("hecate", 1);
    let manager = Manager::new(&host);
    let _daemon = manager.daemon(&host, &[("HECATE_NODE_NAME", "hecate")]);
    let (_, text, before) = manager.until("STATUS=not ready");
    assert!(text.contains("the node name hecate is in use"), "{text}");
    assert!(!before.iter().any(|text| text.starts_with("READY")), "{before:?}");
    drop(holder);
    let (_, _, before) = manager.until("READY");
    assert_eq!(before, Vec::<String>::new());
}

#[test]
fn the_watchdog_is_notified_only_while_the_registry_answers() {
    let host = Host::new();
    let manager = Manager::new(&host);
    let daemon = manager.daemon(&host, &[("WATCHDOG_USEC", "400000")]);
    daemon.ready();
    let mut times: Vec<Instant> = (0..5).map(|_| manager.until("WATCHDOG=1").0).collect();
    // Another connection locks the database: a commit waits for it, and the registry for the
    // commit.
    let path = host.namespace("hecate-daemon").join("sqlite/plugins.db");
    let database = rusqlite::Connection::open(path).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begun = Instant::now();
    assert_eq!(host.register(&json!({"name": "hecate-traderd"})).status, 503);
    let stuck = begun.elapsed();
    assert!(stuck > Duration::from_secs(1), "the registry was not stuck: {stuck:?}");
    database.execute_batch("ROLLBACK").unwrap();
    while times.last().is_some_and(|at| *at <= begun + stuck) {
        times.push(manager.until("WATCHDOG=1").0);
    }
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().expect("several");
    assert!(longest > stuck / 2, "the longest pause is {longest:?}, and the registry was stuck for {stuck:?}");
    for _ in 0..5 {
        manager.until("WATCHDOG=1");
    }
}

/// A process whose call does not return before the test allows it.
struct Stuck {
    begun: Sender<()>,
    free: Receiver<()>,
}

impl Behaviour for Stuck {
    fn call(&mut self, _: &Raw, _: &Caller, _: &mut Atoms) -> Answer {
        self.begun.send(()).unwrap();
        self.free.recv().unwrap();
        Answer::Now(Term::atom("free"))
    }

    fn state(&self) -> Term {
        Term::atom("stuck")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_task_is_stuck_does_not_answer() {
    let host = Host::new();
    let _epmd = host.epmd();
    let node = Node::start(&host, "ours").await;
    node.handle.answers().await.expect("the node runs");
    let (begun, is_stuck) = channel();
    let (free, freed) = channel();
    let stuck = Stuck { begun, free: freed };
    node.handle.spawn(Some(Atom::literal("stuck")), Box::new(stuck), Vec::new()).await.unwrap();
    let mut erl = host.erl("visitor");
    let name = node.name.clone();
    let called =
        tokio::task::spawn_blocking(move || erl.eval(&format!("gen_server:call({{stuck, '{name}'}}, x, infinity)")));
    tokio::task::block_in_place(|| is_stuck.recv_timeout(PATIENCE)).expect("the process is called");
    let mut answers = tokio::spawn({
        let handle = node.handle.clone();
        async move { handle.answers().await }
    });
    assert!(
        tokio::time::timeout(Duration::from_millis(300), &mut answers).await.is_err(),
        "the node answered while its task was stuck"
    );
    free.send(()).unwrap();
    answers.await.unwrap().expect("the node answers again");
    assert_eq!(called.await.unwrap(), "free");
    node.handle.stop().await;
    assert!(node.handle.answers().await.is_err(), "the node has ended");
}

#[test]
fn a_watchdog_for_another_process_is_not_notified() {
    let host = Host::new();
    let manager = Manager::new(&host);
    let daemon = manager.daemon(&host, &[("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")]);
    daemon.ready();
    daemon.terminate();
    let (_, _, before) = manager.until("STOPPING");
    assert!(!before.iter().any(|text| text.starts_with("WATCHDOG")), "{before:?}");
}

#[test]
fn a_closed_notify_socket_does_not_affect_the_daemon() {
    let host = Host::new();
    let daemon = host.daemon(&[("NOTIFY_SOCKET", "/nowhere/notify"), ("WATCHDOG_USEC", "10000")]);
    daemon.ready();
    daemon.logs(&["WARN", "NOTIFY_SOCKET"]);
    assert_eq!(host.ask("GET", "/readyz").status, 200);
}

#[test]
fn a_full_notify_socket_does_not_delay_the_daemon() {
    let host = Host::new();
    let path = host.home().join("notify");
    let _deaf = UnixDatagram::bind(&path).unwrap();
    let other = UnixDatagram::unbound().unwrap();
    other.set_nonblocking(true).unwrap();
    // Fills the buffer of the socket.
    while other.send_to(b"X=1", &path).is_ok() {}
    let daemon = host.daemon(&[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "10000")]);
    daemon.ready();
    for number in 0..20 {
        host.register_named(&format!("hecate-x{number}d"));
    }
    assert_eq!(host.ask("GET", "/readyz").status, 200);
    let (status, took, log) = daemon.terminate();
    assert!(status.success() && !log.contains("WARN"), "{log}");
    assert!(took < PATIENCE / 4, "the daemon waited for the manager: {took:?}");
}

#[test]
fn systemd_accepts_the_unit() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let host = Host::new();
    let unit = host.home().join("hecate-daemon.service");
    let text = std::fs::read_to_string(root.join("deploy/systemd/hecate-daemon.service")).unwrap();
    // The tool checks that the program exists.
    let program = env!("CARGO_BIN_EXE_hecate-daemon");
    std::fs::write(&unit, text.replace("%h/.local/bin/hecate-daemon", program)).unwrap();
    let mut command = Command::new("systemd-analyze");
    command.args(["--user", "--man=no", "verify"]).arg(&unit);
    command.env("HOME", host.home()).env("XDG_RUNTIME_DIR", host.home());
    let output = command.output().expect("systemd-analyze: install systemd (Debian: apt-get install systemd)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("hecate-daemon.service"), "{said}");
}
