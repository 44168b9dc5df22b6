//! The real daemon with a database that is damaged, unreadable, from another release, or not a
//! database.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use hecate_daemon::files::beside;
use rusqlite::Connection;
use serde_json::{Value, json};
use support::daemon::Daemon;
use support::database::{self, Projection};
use support::http::Client;
use support::{Host, wait_for};

/// Returns a host whose daemon has registered one plugin and ended.
fn used_host() -> Host {
    let host = Host::new();
    let daemon = host.daemon(&[]);
    daemon.ready();
    host.register_named("hecate-traderd");
    assert_eq!(daemon.terminate().0.code(), Some(0));
    host
}

fn set_aside(host: &Host) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(database::path(host).parent().unwrap()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    // Files beside a database are set aside with it.
    let is_database =
        |name: &str| name.contains("plugins.db.damaged-") && !name.ends_with("-wal") && !name.ends_with("-shm");
    paths.filter(|path| is_database(path.to_str().unwrap())).collect()
}

fn names(host: &Host) -> Vec<String> {
    let list = host.ask("GET", "/api/plugins").body;
    list.as_array().unwrap().iter().map(|plugin| plugin["name"].as_str().unwrap().to_owned()).collect()
}

/// Checks that the daemon serves, is unhealthy, and reports where the database is, how much was
/// recovered and what to do.
fn check_unhealthy(host: &Host, aside: &Path, recovered: bool) {
    let health = host.ask("GET", "/health").body;
    assert_eq!(health["status"], "unhealthy", "{health}");
    let problems = health["problems"].as_array().unwrap();
    let problem = problems.iter().find(|problem| problem["code"] == "registry_set_aside").expect("the problem");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(aside.to_str().unwrap()) && detail.contains("register missing plugins again"), "{detail}");
    let report = if recovered { "1 plugin and " } else { "0 plugins and 0 events were recovered" };
    assert!(detail.contains(report) && detail.contains("others may be missing"), "{detail}");
    let doctor = Daemon::command(host, &[]).arg("doctor").output().unwrap();
    let shown = String::from_utf8(doctor.stdout).unwrap();
    assert!(shown.contains(report) && doctor.status.code() == Some(1), "{shown}");
}

type Damage = fn(&Path);

/// Each damage, and whether the plugin is recovered from it.
const DAMAGES: [(&str, Damage, bool); 8] = [
    ("garbage", |path| std::fs::write(path, [0x5a; 8192]).unwrap(), false),
    ("a wrong beginning", |path| overwrite(path, 0, 100), true),
    ("a wrong page", |path| overwrite(path, 4096, 4096), true),
    ("cut short", |path| std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(5000).unwrap(), false),
    ("cut to nothing", |path| drop(std::fs::File::create(path).unwrap()), false),
    ("a name that nobody may have", |path| sql(path, "UPDATE plugins SET name = '../../etc'"), true),
    ("a status that there is not", |path| sql(path, "UPDATE plugins SET status = 'perhaps'"), true),
    (
        "a directory",
        |path| {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
            std::fs::write(path.join("kept"), "precious").unwrap();
        },
        false,
    ),
];

fn overwrite(path: &Path, from: usize, length: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[from..from + length].fill(0x5a);
    std::fs::write(path, bytes).unwrap();
}

fn sql(path: &Path, statements: &str) {
    Connection::open(path).unwrap().execute_batch(statements).unwrap();
}

#[test]
fn a_damaged_database_is_set_aside_and_reported_until_it_is_moved_away() {
    for (what, damage, recovered) in DAMAGES {
        let host = used_host();
        damage(&database::path(&host));
        let before = std::fs::read(database::path(&host)).ok();

        let daemon = host.daemon(&[]);
        daemon.ready();
        let aside = set_aside(&host);
        assert_eq!(aside.len(), 1, "{what}: {aside:?}");
        daemon.logs(&["ERROR", "set_aside", aside[0].to_str().unwrap()]);
        match before {
            Some(bytes) => assert_eq!(std::fs::read(&aside[0]).unwrap(), bytes, "{what}: the file has changed"),
            None => assert_eq!(std::fs::read_to_string(aside[0].join("kept")).unwrap(), "precious"),
        }
        check_unhealthy(&host, &aside[0], recovered);
        assert_eq!(host.ask("GET", "/readyz").status, 200, "{what}: the daemon must serve");
        let with = |more: &[&'static str]| [more, if recovered { &["hecate-traderd"][..] } else { &[] }].concat();
        assert_eq!(names(&host), with(&[]), "{what}");
        host.register_named("hecate-marthad");

        // A restart does not end the report.
        daemon.kill();
        let daemon = host.daemon(&[]);
        daemon.ready();
        check_unhealthy(&host, &aside[0], recovered);
        assert_eq!(names(&host), with(&["hecate-marthad"]), "{what}");
        daemon.terminate();

        for tail in ["", "-wal", "-shm"] {
            let _ = std::fs::rename(beside(&aside[0], tail), host.home().join(format!("looked-at{tail}")));
        }
        let daemon = host.daemon(&[]);
        daemon.ready();
        let health = host.ask("GET", "/health").body;
        assert_eq!((&health["status"], &health["problems"]), (&json!("healthy"), &json!([])), "{what}");
        assert_eq!(names(&host), with(&["hecate-marthad"]), "{what}");
    }
}

#[test]
fn a_database_of_another_release_or_program_is_refused_unchanged() {
    let cases: [(&str, Damage, &str); 4] = [
        ("a later schema", |path| sql(path, "PRAGMA user_version = 9999"), "schema version 9999"),
        ("another schema", |path| sql(path, "PRAGMA user_version = 0"), "is not a database of hecate-daemon"),
        ("a negative version", |path| sql(path, "PRAGMA user_version = -1"), "is not a database of hecate-daemon"),
        (
            "a link",
            |path| {
                std::fs::rename(path, path.with_file_name("elsewhere")).unwrap();
                std::os::unix::fs::symlink("elsewhere", path).unwrap();
            },
            "symbolic link",
        ),
    ];
    for (what, change, words) in cases {
        let host = used_host();
        let path = database::path(&host);
        change(&path);
        let before = std::fs::read(&path).unwrap();
        let mut daemon = host.daemon(&[]);
        assert_eq!(daemon.ended(), Some(1), "{what}");
        daemon.logs(&["ERROR", path.to_str().unwrap(), words]);
        assert_eq!(daemon.ready_line(), None);
        assert_eq!(std::fs::read(&path).unwrap(), before, "{what}");
        assert_eq!(set_aside(&host), Vec::<PathBuf>::new(), "{what}");
        for file in ["daemon.pid", "daemon.state"] {
            assert!(!host.run_file(file).exists(), "{file} would look like a crash");
        }
    }
}

#[test]
fn a_daemon_that_cannot_save_reports_it_and_shows_the_saved_state() {
    let host = Host::new();
    let daemon = host.daemon(&[]);
    daemon.ready();
    host.register_named("hecate-traderd");
    let listener = std::os::unix::net::UnixListener::bind(host.api_sock("hecate-traderd")).unwrap();
    host.register_named("hecate-traderd");
    // Waits until the daemon has probed the socket. Without that sign of life, the plugin would
    // stay running for the grace period.
    drop(listener.accept().unwrap());
    let path = database::path(&host);
    sql(&path, "ALTER TABLE events RENAME TO lost");
    drop(listener);
    wait_for("the daemon is unhealthy and reports the reason", || {
        let health = host.ask("GET", "/health").body;
        let problem = health["problems"].as_array().unwrap().iter().find(|problem| problem["code"] == "store_failed");
        health["status"] == "unhealthy"
            && problem.is_some_and(|problem| problem["detail"].as_str().unwrap().contains(path.to_str().unwrap()))
    });
    assert_eq!(host.plugin("hecate-traderd")["status"], "running", "the last saved status");
    sql(&path, "ALTER TABLE lost RENAME TO events");
    host.plugin_until("hecate-traderd", "stopped");
    let health = host.ask("GET", "/health").body;
    assert_eq!((&health["status"], &health["problems"]), (&json!("healthy"), &json!([])));
}

/// Returns the first events of a stream after revision 0.
fn stored_events(host: &Host, wanted: usize) -> Vec<Value> {
    let lines = Client::connect(&host.socket()).unwrap().follow(Some("0"));
    let data = lines.filter_map(|line| line.strip_prefix("data: ").map(|data| serde_json::from_str(data).unwrap()));
    data.take(wanted).collect()
}

/// Returns the output of a command that ends by itself.
fn printed(host: &Host, arguments: &[&str]) -> String {
    let output = Daemon::command(host, &[]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the first line of `events --json`, which is the snapshot.
fn first_of_events(host: &Host) -> Value {
    let mut events = Daemon::command(host, &[]);
    let mut child = events.args(["events", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    serde_json::from_str(&line).unwrap()
}

#[test]
fn invalid_stored_times_are_shown_as_the_nearest_valid_time() {
    let (first, last) = ("1970-01-01T00:00:00.000Z", "2262-04-11T23:47:16.854Z");
    for (stored, shown) in [(i64::MIN, first), (-1, first), (i64::MAX, last)] {
        let host = used_host();
        let path = database::path(&host);
        sql(&path, &format!("UPDATE plugins SET since = {stored}, registered_at = {stored}"));
        sql(&path, &format!("UPDATE events SET at = {stored}, since = {stored}, registered_at = {stored}"));

        // Nothing changes the status and `since` meanwhile.
        let daemon = host.daemon(&[]);
        daemon.ready();
        let list = host.ask("GET", "/api/plugins");
        assert_eq!((list.status, list.body.as_array().unwrap().len()), (200, 1), "{stored}: {list:?}");
        let detail = host.plugin("hecate-traderd");
        assert_eq!(detail["registered_at"], shown, "{stored}: {detail}");
        let event = &stored_events(&host, 1)[0];
        assert_eq!((&event["at"], &event["since"]), (&json!(shown), &json!(shown)), "{stored}: {event}");
        assert_eq!(host.ask("GET", "/health").body["status"], "healthy", "{stored}");
        assert!(printed(&host, &["plugins"]).contains("hecate-traderd"), "{stored}");
        assert!(printed(&host, &["plugin", "hecate-traderd"]).contains(&shown[..19]), "{stored}");
        assert!(printed(&host, &["cluster"]).contains("hecate-traderd"), "{stored}");
        assert!(first_of_events(&host).to_string().contains("hecate-traderd"), "{stored}");
        // The plugin can be stored again.
        assert_eq!(host.register(&json!({"name": "hecate-traderd", "version": "2"})).status, 201, "{stored}");
        assert_eq!(set_aside(&host), Vec::<PathBuf>::new(), "{stored}");
        assert!(!daemon.log().contains("panicked"), "{stored}: {}", daemon.log());
    }
}

/// The database as the first release wrote it. Tests never rewrite this file, because such files
/// are in use.
const FIRST: &str = include_str!("database/version-1.sql");

#[test]
fn the_first_schema_opens_and_keeps_its_plugins() {
    let host = Host::new();
    let path = database::path(&host);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    sql(&path, FIRST);

    let daemon = host.daemon(&[]);
    daemon.ready();
    assert_eq!(names(&host), ["hecate-app-traderd", "hecate-marthad"]);
    let trader = host.plugin("hecate-app-traderd");
    let expected =
        json!({"version": "0.1.0", "description": "Trading \u{2014} daemon", "node": "hecate_traderd@first"});
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&trader[key], value, "{trader}");
    }
    let martha = host.plugin("hecate-marthad");
    assert_eq!((&martha["version"], &martha["description"], &martha["node"]), (&Value::Null, &json!(""), &Value::Null));
    host.register_named("hecate-newd");
    assert_eq!(host.ask("GET", "/health").body["status"], "healthy");
    let stored = Projection::default().follow(&path);
    assert_eq!(stored.keys().collect::<Vec<_>>(), ["hecate-app-traderd", "hecate-marthad", "hecate-newd"]);
    daemon.kill();
    let daemon = host.daemon(&[]);
    daemon.ready();
    assert_eq!(names(&host).len(), 3);
}
