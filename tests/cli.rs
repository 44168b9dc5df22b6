//! The commands with the built program and a real socket: standard output, standard error, exit
//! codes.

#![allow(clippy::expect_used, reason = "a test ends where it is surprised")]

mod support;

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Output, Stdio};
use std::sync::Arc;

use hecate_daemon::api::Limits;
use serde_json::Value;
use support::PATIENCE;
use support::client as http;
use support::world::World;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

/// Runs the program with only this environment.
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
    assert_eq!(err.is_empty(), code == 0, "only a failure prints to standard error: {err}");
}

/// Checks the tables of a cluster that has lost the host of `hecate-marthad`.
fn shows_a_lost_host(output: &Output) {
    let all = text(&output.stdout);
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = all.lines().map(words).collect();
    let has = |begin: &str, end: &str| lines.iter().any(|line| line.starts_with(begin) && line.ends_with(end));
    assert!(has("beam00 hecate@beam00 connected 1970-01-01T00:00:00Z (", " ago) 1"), "{all}");
    assert!(has("beam01 hecate@beam01 lost 1970-01-01T00:00:01Z (", " ago) 1, and 2 that do not fit"), "{all}");
    assert!(
        has("hecate-marthad 0.1.0 lost, was running 1970-01-01T00:00:01Z (", "beam01 hecate_traderd@beam01"),
        "{all}"
    );
    assert!(has("hecate-traderd 0.1.0 running 20", "beam00 -"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_works_with_a_running_daemon() {
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
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["NAME", "VERSION", "STATUS", "SINCE", "NODE", "NODE", "STATE"]
    );
    let cells: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!((cells[..3].as_ref(), cells.last()), (["hecate-traderd", "0.1.0", "running"].as_ref(), Some(&"-")));
    assert!(lines[1].contains("Z (just now)") || lines[1].contains(" s ago)"), "the age follows the time: {listed:?}");
    let listed: Value = serde_json::from_slice(&hecate(&["plugins", "--json"]).await.stdout).expect("JSON");
    assert_eq!(listed[0]["name"], "hecate-traderd");

    let paths = hecate(&["paths", "hecate-traderd"]).await;
    assert_eq!(text(&paths.stdout), text(&registered.stdout));
    let status = hecate(&["status"]).await;
    ended(&status, 0);
    assert!(text(&status.stdout).contains("plugins  1 of 1 running\n"), "{status:?}");
    ended(&hecate(&["healthcheck"]).await, 0);
    let plugin = hecate(&["plugin", "hecate-traderd"]).await;
    ended(&plugin, 0);
    assert!(text(&plugin.stdout).contains(&format!("socket       {base}/sockets/api.sock\n")), "{plugin:?}");
    let cluster = hecate(&["cluster"]).await;
    ended(&cluster, 0);
    assert!(text(&cluster.stdout).contains("peers  0\n"), "{cluster:?}");
    let all = hecate(&["plugins", "--cluster"]).await;
    ended(&all, 0);
    assert!(text(&cluster.stdout).ends_with(&format!("\n\n{}", text(&all.stdout))), "{cluster:?} has {all:?}");

    world.cluster.send_replace(Arc::new(support::world::with_a_lost_host("hecate-marthad")));
    let all = hecate(&["cluster"]).await;
    ended(&all, 0);
    shows_a_lost_host(&all);

    let by_flag = run(&[("HECATE_SOCKET_PATH", "/nowhere")], &["plugins", "--socket-path", socket]).await;
    ended(&by_flag, 0);
    let home = world.directory.path().join("home").display().to_string();
    ended(&run(&[("HECATE_HOME", &home)], &["status"]).await, 0);

    let kept = hecate(&["purge", "hecate-traderd", "--yes"]).await;
    ended(&kept, 1);
    assert!(text(&kept.stderr).contains("deregister"), "the message has a hint: {kept:?}");
    ended(&hecate(&["deregister", "hecate-traderd"]).await, 0);
    let unasked = hecate(&["purge", "hecate-traderd"]).await;
    ended(&unasked, 2);
    assert!(text(&unasked.stderr).contains("without a terminal; add --yes"), "{unasked:?}");
    assert!(std::path::Path::new(&base).join("sqlite").is_dir(), "nothing is deleted without confirmation");
    let purged = hecate(&["purge", "hecate-traderd", "--yes"]).await;
    ended(&purged, 0);
    assert_eq!(text(&purged.stdout), format!("deleted {base}: 6 directories, 0 files, 0 bytes\n"));
    let refused = hecate(&["deregister", "hecate-traderd"]).await;
    ended(&refused, 1);
    assert!(text(&refused.stderr).contains("no plugin named 'hecate-traderd'"), "{refused:?}");
    ended(&hecate(&["register", "hecate-traderw"]).await, 1);
    let odd = hecate(&["paths", "../a b?", "--json"]).await;
    ended(&odd, 1);
    let problem: Value = serde_json::from_slice(&odd.stdout).expect("JSON");
    assert_eq!(problem["code"], "not_found");
}

/// With `--json`, each command prints the body of the API on one line, byte for byte.
#[tokio::test(flavor = "multi_thread")]
async fn json_is_the_body_of_the_api() {
    let world = World::start(Limits::default()).await;
    let environment = [("HECATE_SOCKET_PATH", world.socket.to_str().expect("text"))];
    ended(&run(&environment, &["register", "hecate-traderd"]).await, 0);
    for (arguments, path) in [
        (&["plugins", "--json"][..], "/api/plugins"),
        (&["plugin", "hecate-traderd", "--json"], "/api/plugins/hecate-traderd"),
        (&["paths", "hecate-traderd", "--json"], "/api/plugins/hecate-traderd"),
        (&["plugins", "--cluster", "--json"], "/api/cluster/plugins"),
    ] {
        let output = run(&environment, arguments).await;
        ended(&output, 0);
        assert_eq!(text(&output.stdout), format!("{}\n", http::get(&world, path).await.text), "{arguments:?}");
    }
    let cluster = run(&environment, &["cluster", "--json"]).await;
    ended(&cluster, 0);
    let mut whole = serde_json::Map::new();
    for path in ["/api/cluster", "/api/cluster/plugins"] {
        whole.extend(http::get(&world, path).await.body.as_object().expect("an object").clone());
    }
    assert!(whole.contains_key("peers") && whole.contains_key("plugins"));
    assert_eq!(text(&cluster.stdout), format!("{}\n", Value::Object(whole)), "both answers are one object");
    for arguments in
        [&["status", "--json"][..], &["healthcheck", "--json"], &["deregister", "hecate-traderd", "--json"]]
    {
        let output = run(&environment, arguments).await;
        ended(&output, 0);
        assert_eq!(text(&output.stdout).lines().count(), 1);
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON");
    }
    let purged = run(&environment, &["purge", "hecate-traderd", "--json", "--yes"]).await;
    let body: Value = serde_json::from_slice(&purged.stdout).expect("JSON");
    assert_eq!((&body["name"], &body["removed"]["directories"]), (&"hecate-traderd".into(), &6.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_printed_as_they_happen() {
    let world = World::start(Limits::default()).await;
    let program = env!("CARGO_BIN_EXE_hecate-daemon");
    let mut command = Command::new(program);
    command.args(["events", "--json"]).env_clear().env("HECATE_SOCKET_PATH", &world.socket);
    let mut follower = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("ran");
    let mut lines = BufReader::new(follower.stdout.take().expect("a pipe")).lines();
    let mut next = async || {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("readable");
        let event: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        (event["event"].as_str().expect("a name").to_owned(), event)
    };
    let (name, snapshot) = next().await;
    assert_eq!((name.as_str(), &snapshot["data"]["plugins"]), ("snapshot_v1", &serde_json::json!([])));
    http::register(&world, serde_json::json!({"name": "hecate-traderd"})).await;
    let (name, event) = next().await;
    assert_eq!((name.as_str(), &event["data"]["name"]), ("plugin_registered_v1", &"hecate-traderd".into()));
    assert_eq!(event["id"], event["data"]["revision"].to_string(), "{event}");
    http::delete(&world, "/api/plugins/hecate-traderd").await;
    assert_eq!(next().await.0, "plugin_deregistered_v1");
    drop(lines);
    let status = tokio::time::timeout(PATIENCE, follower.wait()).await.expect("in time").expect("ended");
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_ends_with_ctrl_c() {
    let world = World::start(Limits::default()).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_hecate-daemon"));
    command.args(["trace", "x@y", "--json"]).env_clear().env("HECATE_SOCKET_PATH", &world.socket);
    let mut tracer = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("ran");
    let mut lines = BufReader::new(tracer.stdout.take().expect("a pipe")).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("readable");
    let event: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
    assert_eq!((&event["event"], &event["data"]["node"]), (&"trace_started_v1".into(), &"x@y".into()));
    let pid = i32::try_from(tracer.id().expect("it runs")).expect("a pid");
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    let status = tokio::time::timeout(PATIENCE, tracer.wait()).await.expect("in time").expect("ended");
    assert_eq!(status.code(), Some(0));
}

/// Like `hecate-daemon events --json | head -1`. No event occurs, so no write can notice the closed
/// reader.
#[tokio::test(flavor = "multi_thread")]
async fn events_ends_when_its_reader_closes_even_without_an_event() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let world = World::start(Limits::default()).await;
    let (pipe, into_pipe) = std::io::pipe().expect("a pipe");
    let (socket, into_socket) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    grantpt(&terminal).expect("granted");
    unlockpt(&terminal).expect("unlocked");
    let name = ptsname(&terminal, Vec::new()).expect("a name").into_string().expect("text");
    let into_terminal = std::fs::OpenOptions::new().write(true).open(&name).expect("opened");
    let outputs: [(&str, OwnedFd, Stdio); 3] = [
        ("pipe", pipe.into(), into_pipe.into()),
        ("socket", socket.into(), OwnedFd::from(into_socket).into()),
        ("terminal", terminal, into_terminal.into()),
    ];
    for (kind, reader, output) in outputs {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hecate-daemon"));
        command.args(["events", "--json"]).env_clear().env("HECATE_SOCKET_PATH", &world.socket);
        let mut follower = command.stdout(output).kill_on_drop(true).spawn().expect("ran");
        drop(command);
        let mut first = String::new();
        let mut reader = std::io::BufReader::new(std::fs::File::from(reader));
        std::io::BufRead::read_line(&mut reader, &mut first).expect("readable");
        assert!(first.contains("snapshot_v1"), "{kind}: {first}");
        drop(reader);
        let ended = tokio::time::timeout(PATIENCE, follower.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("{kind}: it still runs")).expect("ended");
        assert_eq!(status.code(), Some(0), "{kind}");
    }
}

/// `events` waits for a stopped daemon, but ends when its reader closes.
#[tokio::test(flavor = "multi_thread")]
async fn events_ends_when_its_reader_closes_while_it_reconnects() {
    let world = World::start(Limits::default()).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_hecate-daemon"));
    command.args(["events", "--json"]).env_clear().env("HECATE_SOCKET_PATH", &world.socket);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut follower = command.spawn().expect("ran");
    let mut lines = BufReader::new(follower.stdout.take().expect("a pipe")).lines();
    let mut complaints = BufReader::new(follower.stderr.take().expect("a pipe")).lines();
    tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("readable").expect("a line");
    world.stop.cancel();
    // A long wait before the next attempt shows that the end does not depend on an attempt.
    for _ in 0..3 {
        let line = tokio::time::timeout(PATIENCE, complaints.next_line()).await.expect("in time").expect("readable");
        assert!(line.expect("a line").contains("retrying in"));
    }
    drop(lines);
    let status = tokio::time::timeout(PATIENCE, follower.wait()).await.expect("in time").expect("ended");
    assert_eq!(status.code(), Some(0));
}

/// A script that saves the output must learn that it could not be written.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_an_error() {
    let world = World::start(Limits::default()).await;
    let home = world.directory.path().display().to_string();
    let environment = [("HECATE_SOCKET_PATH", world.socket.to_str().expect("text")), ("HOME", home.as_str())];
    for arguments in [
        &["register", "hecate-traderd"][..],
        &["paths", "hecate-traderd", "--json"],
        &["events"],
        &["events", "--json"],
        &["trace", "x@y"],
        &["completions", "fish"],
        &["run", "--check-config"],
    ] {
        let full = std::fs::File::create("/dev/full").expect("a device");
        let mut command = Command::new(env!("CARGO_BIN_EXE_hecate-daemon"));
        command.args(arguments).env_clear().envs(environment).stdout(full).stderr(Stdio::piped()).kill_on_drop(true);
        let ran = command.spawn().expect("ran").wait_with_output();
        let output = tokio::time::timeout(PATIENCE, ran).await.expect("in time").expect("ended");
        ended(&output, 1);
        assert!(text(&output.stderr).contains("cannot write to standard output"), "{arguments:?}: {output:?}");
    }
    assert!(http::get(&world, "/api/plugins").await.text.contains("hecate-traderd"), "the registration took effect");
}

/// Runs the program on a new terminal. Returns the exit code and the text on the terminal.
fn on_a_terminal(environment: &[(&str, &str)], arguments: &[&str], typed: &str) -> (Option<i32>, String) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    grantpt(&terminal).expect("granted");
    unlockpt(&terminal).expect("unlocked");
    let name = ptsname(&terminal, Vec::new()).expect("a name").into_string().expect("text");
    let side = || std::fs::OpenOptions::new().read(true).write(true).open(&name).expect("opened");
    let mut terminal = std::fs::File::from(terminal);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_hecate-daemon"));
    command.args(arguments).env_clear().env("TERM", "xterm").envs(environment.iter().copied());
    let mut child = command.stdin(side()).stdout(side()).stderr(side()).spawn().expect("ran");
    drop(command);
    terminal.write_all(typed.as_bytes()).expect("typed");
    let mut shown = Vec::new();
    // Fails when the last process has closed the other side.
    let _ = terminal.read_to_end(&mut shown);
    let status = child.wait().expect("ended");
    (status.code(), String::from_utf8(shown).expect("text"))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_terminal_gets_colours() {
    let world = World::start(Limits::default()).await;
    let socket = world.socket.to_str().expect("text").to_owned();
    http::register(&world, serde_json::json!({"name": "hecate-traderd"})).await;
    let piped = run(&[("HECATE_SOCKET_PATH", &socket), ("TERM", "xterm")], &["plugins"]).await;
    assert!(!text(&piped.stdout).contains('\u{1b}'), "{piped:?}");
    let shown = tokio::task::spawn_blocking(move || {
        let place = ("HECATE_SOCKET_PATH", socket.as_str());
        let (_, coloured) = on_a_terminal(&[place], &["plugins"], "");
        let (_, plain) = on_a_terminal(&[place, ("NO_COLOR", "1")], &["plugins"], "");
        let (_, json) = on_a_terminal(&[place], &["plugins", "--json"], "");
        (coloured, plain, json)
    });
    let (coloured, plain, json) = shown.await.expect("ran");
    assert!(coloured.contains("\u{1b}[32mrunning\u{1b}[0m"), "{coloured:?}");
    assert!(plain.contains("running") && !plain.contains('\u{1b}'), "{plain:?}");
    assert!(!json.contains('\u{1b}'), "{json:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_asks_for_confirmation_on_a_terminal() {
    let world = World::start(Limits::default()).await;
    let socket = world.socket.to_str().expect("text").to_owned();
    http::register(&world, serde_json::json!({"name": "hecate-traderd"})).await;
    let place = socket.clone();
    let refused = tokio::task::spawn_blocking(move || {
        on_a_terminal(&[("HECATE_SOCKET_PATH", &place)], &["purge", "hecate-traderd"], "y\n")
    });
    let (code, shown) = refused.await.expect("ran");
    assert!(code == Some(1) && shown.contains("deregister it first") && !shown.contains("Delete all"), "{shown:?}");
    http::delete(&world, "/api/plugins/hecate-traderd").await;
    let base = world.directory.path().join("home/hecate-traderd");
    let (kept, asked, gone) = tokio::task::spawn_blocking(move || {
        let purge = |typed| on_a_terminal(&[("HECATE_SOCKET_PATH", &socket)], &["purge", "hecate-traderd"], typed);
        let (code, asked) = purge("n\n");
        let kept = code == Some(1) && base.exists();
        let (code, _) = purge("y\n");
        (kept, asked, code == Some(0) && !base.exists())
    })
    .await
    .expect("ran");
    assert!(kept && asked.contains("Delete all data of hecate-traderd in "), "{asked:?}");
    assert!(asked.contains("nothing was deleted"), "{asked:?}");
    assert!(gone);
}

#[tokio::test]
async fn an_unreachable_daemon_is_reported() {
    let home = tempfile::tempdir().expect("directory");
    let home = home.path().to_str().expect("text");
    for command in [
        &["plugins"][..],
        &["status", "--json"],
        &["register", "hecate-traderd"],
        &["events"],
        &["trace", "x@y"],
        &["purge", "x", "--yes"],
    ] {
        let output = run(&[("HECATE_HOME", home)], command).await;
        ended(&output, 3);
        let shown = text(&output.stderr);
        assert!(shown.contains("no daemon answers at") && shown.contains("hecate-daemon doctor"), "{output:?}");
    }
    ended(&run(&[("HECATE_HOME", home)], &["healthcheck"]).await, 1);
}

#[tokio::test]
async fn usage_errors_are_reported() {
    ended(&run(&[], &["plugins"]).await, 2);
    ended(&run(&[("HECATE_HOME", "/x")], &["serve"]).await, 2);
    ended(&run(&[("HECATE_HOME", "/x")], &["register"]).await, 2);
    let nameless = run(&[("HECATE_HOME", "/x")], &["trace", "hecate-traderd"]).await;
    ended(&nameless, 2);
    assert!(text(&nameless.stderr).contains("a node name is `name@host`"), "{nameless:?}");
    for command in ["plugin", "paths", "deregister", "purge"] {
        // As `"$NAME"` of an unset variable. No request is sent.
        ended(&run(&[("HECATE_HOME", "/x")], &[command, ""]).await, 2);
    }
    let output = run(&[("HECATE_HOME", "/x"), ("HECATE_COOKIE", "secret"), ("HECATE_DIR_MODE", "9")], &[]).await;
    ended(&output, 2);
    assert!(text(&output.stderr).contains("HECATE_DIR_MODE: invalid value \"9\""), "{output:?}");
    let help = run(&[], &["--help"]).await;
    ended(&help, 0);
    assert!(text(&help.stdout).contains("Examples:"));
    let settings = run(&[], &["run", "--help"]).await;
    assert!(text(&settings.stdout).contains("HECATE_CLUSTER_PEERS"));
}

#[test]
fn every_command_prints_json_or_a_document() {
    let command = hecate_daemon::cli::command();
    let gitops = command.find_subcommand("gitops").expect("a command");
    for command in command.get_subcommands().chain(gitops.get_subcommands()) {
        let speaks_json = !["run", "completions", "gitops", "openapi"].contains(&command.get_name());
        let has_flag = command.get_arguments().any(|argument| argument.get_long() == Some("json"));
        assert_eq!(has_flag, speaks_json, "{}", command.get_name());
    }
}

#[tokio::test]
async fn completion_scripts_complete_words() {
    for (shell, word) in [
        ("bash", "complete -F _hecate__daemon"),
        ("zsh", "#compdef hecate-daemon"),
        ("fish", "complete -c hecate-daemon"),
    ] {
        let script = run(&[], &["completions", shell]).await;
        ended(&script, 0);
        for word in [word, "deregister", "doctor", "socket-path"] {
            assert!(text(&script.stdout).contains(word), "{word} for {shell}");
        }
    }
    let script = run(&[], &["completions", "bash"]).await;
    for (before, begun, completed) in [
        ("hecate-daemon", "de", "deregister\n"),
        ("hecate-daemon purge", "--y", "--yes\n"),
        ("hecate-daemon completions", "b", "bash\n"),
    ] {
        let last = before.split(' ').next_back().expect("a word");
        let ask = format!(
            "\nCOMP_WORDS=({before} {begun}); COMP_CWORD={}; _hecate__daemon hecate-daemon {begun} {last}; echo \"${{COMPREPLY[@]}}\"",
            before.split(' ').count()
        );
        let mut bash = Command::new("bash");
        let output = bash.args(["-c", &format!("{}{ask}", text(&script.stdout))]).output().await.expect("bash");
        assert_eq!(text(&output.stdout), completed, "{before} {begun}: {output:?}");
    }
    ended(&run(&[], &["completions", "tcsh"]).await, 2);
}

#[tokio::test]
async fn check_config_shows_settings_and_errors() {
    let home = tempfile::tempdir().expect("directory");
    let home = home.path().to_str().expect("text");
    let file = format!("{home}/sys.config");
    std::fs::write(&file, "[{hecate, [{hidden, true},\n {dirmode, 7}]}].").expect("written");
    let environment = [("HOME", home), ("HECATE_COOKIE", "secret"), ("HECATE_LOG", "warn")];
    let checked = run(&environment, &["--check-config", "--config", &file, "--listen", "127.0.0.1"]).await;
    let (out, err) = (text(&checked.stdout), text(&checked.stderr));
    assert_eq!(checked.status.code(), Some(0), "{err}");
    let from = |setting: &str| {
        let line = out.lines().find(|line| line.split_whitespace().next() == Some(setting)).expect(setting);
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(from("home"), format!("{home}/.hecate default"));
    assert_eq!(from("hidden"), format!("true {file} line 1"));
    assert_eq!(from("listen"), "127.0.0.1 --listen");
    assert_eq!(from("log"), "warn HECATE_LOG");
    assert_eq!(from("cookie"), "(set, hidden) HECATE_COOKIE");
    assert!(!out.contains("secret") && !err.contains("secret"));
    assert!(err.contains("`dirmode`") && err.contains("did you mean `dir_mode`?"), "{err}");

    let wrong = [("HOME", home), ("HECATE_COOKIE", "a"), ("HECATE_ERLANG_COOKIE", "b"), ("HECATE_DIR_MODE", "9")];
    let refused = run(&wrong, &["run", "--check-config"]).await;
    ended(&refused, 2);
    let shown = text(&refused.stderr);
    assert!(
        shown.contains("HECATE_DIR_MODE: invalid value \"9\"") && shown.contains("set only one of them"),
        "{shown}"
    );
    assert_eq!(std::fs::read_dir(home).expect("readable").count(), 1, "nothing is created");
    ended(&run(&[("HOME", home)], &["--check-config", "--config", "/does/not/exist"]).await, 2);
}
