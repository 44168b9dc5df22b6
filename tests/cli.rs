//! What the commands promise to shells and people, held with the built program against a real socket: what is printed
//! where, and the exit codes.

#![allow(clippy::expect_used, reason = "a test ends where it is surprised")]

mod common;

use std::process::Output;

use common::{PATIENCE, World};
use hecate_daemon::api::Limits;
use serde_json::Value;
use tokio::process::Command;

/// Runs the program with nothing of this process's environment but what it is given.
async fn run(environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_hecate-daemon");
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(environment.iter().copied()).kill_on_drop(true);
    tokio::time::timeout(PATIENCE, command.output()).await.expect("in time").expect("ran")
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("text")
}

#[track_caller]
fn ended(output: &Output, code: i32) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "out: {out}\nerr: {err}");
    assert_eq!(err.is_empty(), code == 0, "who fails says why on standard error, and nobody else: {err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_of_a_running_daemon() {
    let world = World::start(Limits::default()).await;
    let socket = world.socket.to_str().expect("text");
    let environment = [("HECATE_SOCKET_PATH", socket)];
    let hecate = |arguments: &'static [&'static str]| run(&environment, arguments);
    let base = world.directory.path().join("home/hecate-traderd").display().to_string();

    let registered = hecate(&["register", "hecate-traderd", "--version", "0.1.0"]).await;
    ended(&registered, 0);
    assert!(text(&registered.stdout).contains(&format!("reckon_db   {base}/reckon-db\n")), "{registered:?}");
    let again = hecate(&["register", "hecate-traderd", "--json"]).await;
    ended(&again, 0);
    let body: Value = serde_json::from_slice(&again.stdout).expect("JSON");
    assert_eq!(body["base_dir"], base.as_str());

    let listed = hecate(&["plugins"]).await;
    ended(&listed, 0);
    let lines: Vec<&str> = text(&listed.stdout).lines().collect();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["NAME", "VERSION", "STATUS", "NODE", "SOCKET"]);
    let socket_of_plugin = format!("{base}/sockets/api.sock");
    let cells = ["hecate-traderd", "0.1.0", "running", "-", socket_of_plugin.as_str()];
    assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), cells);
    let listed: Value = serde_json::from_slice(&hecate(&["plugins", "--json"]).await.stdout).expect("JSON");
    assert_eq!(listed[0]["name"], "hecate-traderd");

    let paths = hecate(&["paths", "hecate-traderd"]).await;
    assert_eq!(text(&paths.stdout), text(&registered.stdout));
    let status = hecate(&["status"]).await;
    ended(&status, 0);
    assert!(text(&status.stdout).contains("plugins  1 of 1 running\n"), "{status:?}");
    ended(&hecate(&["healthcheck"]).await, 0);

    let by_flag = run(&[("HECATE_SOCKET_PATH", "/nowhere")], &["plugins", "--socket-path", socket]).await;
    ended(&by_flag, 0);
    let home = world.directory.path().join("home").display().to_string();
    ended(&run(&[("HECATE_HOME", &home)], &["status"]).await, 0);

    ended(&hecate(&["deregister", "hecate-traderd"]).await, 0);
    let refused = hecate(&["deregister", "hecate-traderd"]).await;
    ended(&refused, 1);
    assert!(text(&refused.stderr).contains("no plugin `hecate-traderd`"), "{refused:?}");
    ended(&hecate(&["register", "hecate-traderw"]).await, 1);
    let odd = hecate(&["paths", "../a b?", "--json"]).await;
    ended(&odd, 1);
    let problem: Value = serde_json::from_slice(&odd.stdout).expect("JSON");
    assert_eq!(problem["code"], "not_found");
}

#[tokio::test]
async fn without_a_daemon() {
    let home = tempfile::tempdir().expect("directory");
    let home = home.path().to_str().expect("text");
    for command in [&["plugins"][..], &["status", "--json"], &["register", "hecate-traderd"], &["paths", "x"]] {
        let output = run(&[("HECATE_HOME", home)], command).await;
        ended(&output, 3);
        assert!(text(&output.stderr).contains("no daemon answers at"), "{output:?}");
    }
    ended(&run(&[("HECATE_HOME", home)], &["healthcheck"]).await, 1);
}

#[tokio::test]
async fn wrong_usage() {
    ended(&run(&[], &["plugins"]).await, 2);
    ended(&run(&[("HECATE_HOME", "/x")], &["serve"]).await, 2);
    ended(&run(&[("HECATE_HOME", "/x")], &["register"]).await, 2);
    let output = run(&[("HECATE_HOME", "/x"), ("HECATE_COOKIE", "secret"), ("HECATE_DIR_MODE", "9")], &[]).await;
    ended(&output, 2);
    assert!(text(&output.stderr).contains("HECATE_DIR_MODE: \"9\" is refused"), "{output:?}");
    let help = run(&[], &["--help"]).await;
    ended(&help, 0);
    assert!(text(&help.stdout).contains("Examples:") && text(&help.stdout).contains("HECATE_CLUSTER_PEERS"));
}
