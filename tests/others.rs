//! Nodes other than `erl`: Elixir, C with `ei`, Java with jinterface. Each meets the built daemon
//! both ways: it dials the daemon, and the daemon finds its name in EPMD and dials it. Then it
//! pings, sends, monitors or links as far as it can, and finds the plugins. The programs are in
//! `tests/peers`; this test compares what they print.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{Host, Output, Process, wait_for};

const INSTALL: &str = "`make test-others` installs what is missing";

fn program(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(path)
}

/// The path of the library on Debian.
const JINTERFACE: &str = "/usr/share/java/OtpErlang.jar";

/// Runs the command for each way to meet and its name, and compares what it prints.
fn connects_both_ways(hidden: bool, seen: &[&str], command: impl Fn(&Host, &str, &str) -> Command) {
    let (host, _epmd, daemon) = Host::running(&[]);
    host.register_named("hecate-traderd");
    // The daemon looks up only names like the second in EPMD.
    for (way, short) in [("dial", "visitor"), ("wait", "hecate_strangerd")] {
        let mut command = command(&host, way, short);
        command.env("HOME", host.home()).env("ERL_EPMD_PORT", host.epmd_port.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = Process::start(&mut command, INSTALL);
        let said = Output::collect(process.pipes().stdout.take().unwrap(), Some);
        let ended = process.ended(&format!("{short} ends"));
        wait_for("all output is read", || !ended.success() || said.text().lines().count() >= seen.len());
        assert!(ended.success(), "{short}: {ended}\n{}", said.text());
        let base = host.namespace("hecate-daemon").display().to_string();
        let expected: Vec<String> = seen.iter().map(|line| line.replace("BASE", &base)).collect();
        assert_eq!(said.text().lines().collect::<Vec<_>>(), expected, "{short}");
        let up = if hidden { "node up (hidden)" } else { "node up" };
        daemon.logs(&[up, &host.node(short)]);
        daemon.logs(&["node down: connection closed by the peer", &host.node(short)]);
        let ups = daemon.log_lines(&[up, &host.node(short)]);
        assert_eq!(ups.len(), 1, "more than one connection: {ups:#?}");
    }
    let complaints = [daemon.log_lines(&["WARN"]), daemon.log_lines(&["ERROR"])].concat();
    assert_eq!(complaints, Vec::<String>::new());
}

#[test]
fn an_elixir_node_pings_calls_finds_the_plugins_and_monitors() {
    let seen = [
        "connected",
        "pong",
        "plugin hecate-traderd",
        "base_dir BASE",
        "groups 8",
        "exit enough",
        "down enough",
        "pong",
    ];
    connects_both_ways(false, &seen, |host, way, short| {
        let mut command = Command::new("elixir");
        command.args(["--erl", "-start_epmd false", "--sname", short, "--cookie", &host.cookie]);
        command.arg(program("elixir/peer.exs")).args([way, &host.node("hecate")]);
        command
    });
}

#[test]
fn a_c_node_pings_calls_finds_the_plugins_links_and_keeps_its_connection() {
    let seen = ["connected", "pong", "plugin hecate-traderd", "base_dir BASE", "exit enough", "groups", "pong"];
    let built = tempfile::tempdir().unwrap();
    let peer = built.path().join("peer");
    let mut cc = Command::new("cc");
    cc.args(["-Wall", "-Wextra", "-Werror", "-pthread", "-o"]).arg(&peer).arg(program("c/peer.c")).arg("-lei");
    assert!(Process::start(&mut cc, INSTALL).ended("the compiler ends").success(), "{INSTALL}");
    connects_both_ways(true, &seen, |host, way, short| {
        let mut command = Command::new(&peer);
        command.args([way, short, &host.name, &host.cookie, &host.node("hecate")]);
        command
    });
}

#[test]
fn a_java_node_pings_calls_finds_the_plugins_links_and_keeps_its_connection() {
    assert!(Path::new(JINTERFACE).exists(), "no {JINTERFACE}: {INSTALL}");
    let dials = [
        "pong",
        "connected",
        "plugin hecate-traderd",
        "base_dir BASE",
        "exit enough",
        "exit noproc",
        "groups 7",
        "pong",
    ];
    connects_both_ways(true, &dials, |host, way, short| {
        let mut command = Command::new("java");
        command.args(["-cp", JINTERFACE]).arg(program("java/Peer.java"));
        command.args([way, short, &host.name, &host.cookie, &host.node("hecate")]);
        command
    });
}
