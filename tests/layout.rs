//! The directories of plugins and their dead sockets. The built daemon creates and removes its own
//! files, and never deletes files of others.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::erl::{Erl, Start};
use support::plugin::{TRADER, bound, dead, full, inode, listen, tree};
use support::{Host, PATIENCE, wait_for};

/// The directories of a namespace.
const DIRECTORIES: [&str; 5] = ["sqlite", "reckon-db", "sockets", "run", "connectors"];

/// A grace period that a test can wait for.
const GRACE: (&str, &str) = ("HECATE_REGISTRATION_GRACE", "1");

/// Registers the trader without a node, and waits until its current socket was seen alive.
fn alive(host: &Host) -> UnixListener {
    host.register_named(TRADER);
    let listener = UnixListener::bind(host.api_sock(TRADER)).unwrap();
    host.register_named(TRADER);
    host.grace_passes();
    assert_eq!(host.plugin(TRADER)["status"], "running");
    listener
}

#[test]
fn a_socket_between_bind_and_listen_stays() {
    let host = Host::new();
    let daemon = host.daemon(&[GRACE]);
    daemon.ready();
    let before = alive(&host);
    // A plugin that restarts removes its old socket and binds a new one in its place.
    let socket = host.api_sock(TRADER);
    std::fs::remove_file(&socket).unwrap();
    let slow = bound(&socket);
    let its_own = inode(&socket);
    drop(before);
    host.plugin_until(TRADER, "stopped");
    listen(&slow);
    host.plugin_until(TRADER, "running");
    assert_eq!(inode(&socket), its_own);
    UnixStream::connect(&socket).unwrap();
}

#[test]
fn a_socket_with_a_full_backlog_is_alive_and_stays() {
    let host = Host::new();
    let daemon = host.daemon(&[GRACE]);
    daemon.ready();
    host.register_named(TRADER);
    let socket = host.api_sock(TRADER);
    let _busy = full(&socket);
    let its_own = inode(&socket);
    host.register_named(TRADER);
    host.grace_passes();
    let plugin = host.plugin(TRADER);
    assert_eq!(plugin["status"], "running", "{plugin}");
    assert_eq!(inode(&socket), its_own);
}

#[test]
fn a_socket_that_was_just_replaced_stays() {
    let host = Host::new();
    let daemon = host.daemon(&[GRACE]);
    daemon.ready();
    let before = alive(&host);
    let socket = host.api_sock(TRADER);
    drop(before);
    host.plugin_until(TRADER, "stopped");
    // Its removal has begun.
    std::fs::remove_file(&socket).unwrap();
    let _after = UnixListener::bind(&socket).unwrap();
    let its_own = inode(&socket);
    host.plugin_until(TRADER, "running");
    assert_eq!(inode(&socket), its_own);
    UnixStream::connect(&socket).unwrap();
}

/// Returns all files in home except those that the daemon writes and removes in its own namespace.
fn foreign(host: &Host) -> BTreeMap<PathBuf, String> {
    let own = ["sockets/api.sock", "run/daemon.pid", "run/daemon.state", "sqlite/plugins.db"];
    let own = own.map(|path| host.namespace("hecate-daemon").join(path).display().to_string());
    let home = host.home().join(".hecate");
    let mut all = tree(&home);
    // SQLite appends a suffix for its log.
    all.retain(|path, _| !own.iter().any(|own| home.join(path).display().to_string().starts_with(own)));
    all
}

/// Creates one file of each kind.
fn plant(directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    std::fs::create_dir_all(directory.join("theirs/deeper")).unwrap();
    for file in ["theirs/deeper/file", "file", "daemon.log", ".hidden"] {
        std::fs::write(directory.join(file), directory.display().to_string()).unwrap();
    }
    symlink("/etc/hostname", directory.join("link")).unwrap();
    symlink("nowhere", directory.join("dangling")).unwrap();
    dead(&directory.join("other.sock"));
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, directory.join("fifo"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

#[test]
fn files_of_others_are_never_deleted() {
    let host = Host::new();
    let daemon = host.daemon(&[GRACE]);
    daemon.ready();
    let mut plugin = Erl::start(&host, Start::default());
    host.register_named(TRADER);
    let home = host.home().join(".hecate");
    for place in ["", "gitops", "hecate-marthad", "hecate-marthad/sockets", "hecate-traderd/hecate-agents"] {
        plant(&home.join(place));
    }
    for namespace in ["hecate-daemon", TRADER] {
        plant(&home.join(namespace));
        for directory in DIRECTORIES {
            plant(&home.join(namespace).join(directory));
        }
    }
    // An unregistered plugin keeps its dead socket. A pid file names another process.
    dead(&host.api_sock("hecate-marthad"));
    std::fs::write(home.join("hecate-traderd/run/daemon.pid"), "1").unwrap();
    std::fs::write(home.join("hecate-traderd/run/daemon.state"), "running").unwrap();
    let planted = foreign(&host);

    let socket = host.api_sock(TRADER);
    plugin.binds(&socket);
    plugin.registers(&host, TRADER);
    host.grace_passes();
    plugin.kill();
    host.plugin_until(TRADER, "stopped");
    wait_for("the dead socket is removed", || !socket.exists());
    let silent = "hecate-silentd";
    let but_silent = |mut all: BTreeMap<PathBuf, String>| {
        // The namespace of the plugin that showed the passing of time stays, because deregistration
        // deletes no data.
        let before = all.len();
        all.retain(|path, _| !path.starts_with(silent));
        assert_eq!(before - all.len(), 1 + DIRECTORIES.len());
        all
    };
    assert_eq!(but_silent(foreign(&host)), planted, "after a stop");

    assert_eq!(host.ask("DELETE", "/api/plugins/hecate-traderd").status, 200);
    assert_eq!(but_silent(foreign(&host)), planted, "after a deregistration");
    host.register_named(TRADER);
    let (status, _, log) = daemon.terminate();
    assert!(status.success(), "{log}");
    assert_eq!(but_silent(foreign(&host)), planted, "after a clean stop");
    let daemon = host.daemon(&[GRACE]);
    daemon.ready();
    assert_eq!(host.plugin(TRADER)["status"], "stopped");
    daemon.kill();
    assert_eq!(but_silent(foreign(&host)), planted, "after a crash");
    let daemon = host.daemon(&[GRACE]);
    daemon.ready();
    host.register_named(TRADER);
    assert_eq!(host.ask("DELETE", "/api/plugins/hecate-traderd").status, 200);
    assert_eq!(but_silent(foreign(&host)), planted, "after all");
}

#[test]
fn missing_directories_are_created_when_the_node_of_a_plugin_joins() {
    let (host, _epmd, _daemon) = Host::running(&[]);
    host.register_named(TRADER);
    let base = host.namespace(TRADER);
    std::fs::write(base.join("run/kept"), "kept").unwrap();
    for missing in ["sqlite", "sockets", "connectors"] {
        std::fs::remove_dir(base.join(missing)).unwrap();
    }
    let plugin = host.erl("hecate_traderd");
    let whole = || DIRECTORIES.iter().all(|directory| base.join(directory).is_dir());
    wait_for("the directories exist again", whole);
    assert_eq!(std::fs::read_to_string(base.join("run/kept")).unwrap(), "kept");

    plugin.kill();
    host.plugin_until(TRADER, "stopped");
    std::fs::remove_dir_all(&base).unwrap();
    let _plugin = host.erl("hecate_traderd");
    wait_for("all directories exist again", whole);
}

#[test]
fn directories_are_created_when_an_unregistered_plugin_announces_itself() {
    let (host, _epmd, _daemon) = Host::running(&[]);
    let mut plugin = host.erl("hecate_traderd");
    plugin.eval("element(1, pg:start_link())");
    plugin.eval_until(&format!("nodes() =:= ['{}']", host.node("hecate")), "true", PATIENCE);
    let base = host.namespace(TRADER);
    assert!(!base.exists(), "the name alone creates no directories");
    assert_eq!(plugin.eval(r#"pg:join({hecate_plugin, <<"hecate-traderd">>}, self())"#), "ok");
    wait_for("the directories are created", || DIRECTORIES.iter().all(|directory| base.join(directory).is_dir()));
    assert_eq!(host.ask("GET", "/api/plugins").body, json!([]));
}

#[test]
fn a_node_that_announces_many_plugins_gets_few_directories() {
    let (host, _epmd, daemon) = Host::running(&[]);
    let mut node = host.erl("hecate_other");
    node.eval("element(1, pg:start_link())");
    node.eval_until(&format!("nodes() =:= ['{}']", host.node("hecate")), "true", PATIENCE);
    let join = r#"[pg:join({hecate_plugin, <<"hecate-x", (integer_to_binary(N))/binary, "d">>}, self())"#;
    assert_eq!(node.eval(&format!("length({join} || N <- lists:seq(1, 500)])")), "500");
    daemon.logs(&["WARN", "too many announced plugins are not registered"]);
    // Messages are handled in order, so all earlier ones were handled.
    assert_eq!(node.eval(r#"pg:join({hecate_plugin, <<"hecate-traderd">>}, self())"#), "ok");
    host.register_named(TRADER);
    wait_for("the plugin's node is found", || host.plugin(TRADER)["node"] == json!(host.node("hecate_other")));
    let made = || {
        let entries = std::fs::read_dir(host.home().join(".hecate")).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("hecate-x")).count()
    };
    wait_for("the directories are made", || made() >= 64);
    // The daemon would create the others before it ends.
    assert_eq!(daemon.terminate().0.code(), Some(0));
    assert_eq!(made(), 64);
}

#[test]
fn registering_again_keeps_and_clears_fields_and_refuses_another_node() {
    let (host, _epmd, _daemon) = Host::running(&[]);
    let (holder, other) = (host.node("hecate_traderd"), host.node("hecate_other"));
    let node = host.erl("hecate_traderd");
    let first = json!({"name": TRADER, "version": "1", "description": "d", "node": holder});
    let answer = host.register(&first);
    wait_for("the node is connected", || host.peer(&holder).as_deref() == Some("connected"));
    let data = host.namespace(TRADER).join("reckon-db/events");
    std::fs::write(&data, "precious").unwrap();
    let planted = tree(&host.namespace(TRADER));

    let again = host.register(&json!({ "name": TRADER }));
    assert_eq!((again.status, &again.body), (201, &answer.body));
    let kept = host.plugin(TRADER);
    assert_eq!((&kept["version"], &kept["description"], &kept["node"]), (&json!("1"), &json!("d"), &json!(holder)));
    let cleared = json!({"name": TRADER, "version": null, "description": null, "node": null});
    assert_eq!(host.register(&cleared).status, 201);
    let found = host.plugin(TRADER);
    assert_eq!((&found["version"], &found["description"]), (&Value::Null, &Value::Null));
    assert_eq!(found["node"], json!(holder), "the node is found by its name");

    let refused = host.register(&json!({"name": TRADER, "node": other, "version": "2"}));
    assert_eq!((refused.status, &refused.body["code"]), (409, &json!("node_conflict")));
    let detail = refused.body["detail"].as_str().unwrap();
    let since = kept["since"].as_str().unwrap().split('.').next().unwrap();
    assert!(detail.contains(&holder) && detail.contains(since), "no node, or not {since}: {detail}");
    assert_eq!(host.plugin(TRADER)["version"], Value::Null, "a refused registration has changed the plugin");
    node.kill();
    host.plugin_until(TRADER, "stopped");
    assert_eq!(host.register(&json!({"name": TRADER, "node": other})).status, 201);
    assert_eq!(host.plugin(TRADER)["node"], json!(other));

    assert_eq!(host.ask("DELETE", "/api/plugins/hecate-traderd").status, 200);
    assert_eq!(tree(&host.namespace(TRADER)), planted, "the files have changed");
}
