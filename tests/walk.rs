//! The main job, end to end: a plugin registers, real Erlang nodes see it, the disk agrees. What an Erlang program sees of
//! it more closely is in `erlang_test/`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it is surprised")]

mod host;

use std::fs;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use host::{Host, PATIENCE, wait_for};
use serde_json::{Value, json};

const PROXIES: &str = "length(pg:get_members({hecate_plugin, <<\"hecate-traderd\">>}))";
const PROXY: &str = "hd(pg:get_members({hecate_plugin, <<\"hecate-traderd\">>}))";

fn trader() -> Value {
    json!({"name": "hecate-traderd", "version": "0.1.0", "description": "Trading daemon for Hecate"})
}

/// What the database holds of the plugin, read by a second connection.
fn stored(host: &Host) -> Vec<(String, Option<String>)> {
    let file = host.namespace("hecate-daemon").join("sqlite/plugins.db");
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = rusqlite::Connection::open_with_flags(file, flags).unwrap();
    let mut statement = connection.prepare("SELECT name, version FROM plugins ORDER BY name").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[test]
fn the_walk() {
    let host = Host::new();
    let epmd = host.epmd();
    let daemon = host.daemon(&[]);
    assert_eq!(daemon.ready(), host.node("hecate"));
    let ours = host.node("hecate");

    // A plugin registers: the convention's answer, its directories, and a registration that is on disk by then.
    let answer = host.register(&trader());
    let base = host.namespace("hecate-traderd");
    let path = |name: &str| base.join(name).display().to_string();
    assert_eq!(answer.status, 201);
    assert_eq!(
        answer.body,
        json!({
            "name": "hecate-traderd",
            "base_dir": base.display().to_string(),
            "paths": {
                "sqlite": path("sqlite"), "reckon_db": path("reckon-db"), "sockets": path("sockets"), "run": path("run"),
                "connectors": path("connectors"),
            }
        })
    );
    assert_eq!(stored(&host), [("hecate-traderd".to_owned(), Some("0.1.0".to_owned()))]);
    for directory in ["sqlite", "reckon-db", "sockets", "run", "connectors"] {
        assert!(base.join(directory).is_dir(), "{directory}");
    }
    let list = host.ask("GET", "/api/plugins").body;
    let expected = [
        ("name", json!("hecate-traderd")),
        ("version", json!("0.1.0")),
        ("socket", json!(path("sockets/api.sock"))),
        ("status", json!("running")),
    ];
    for (key, value) in expected {
        assert_eq!(list[0][key], value, "{key}");
    }

    // Its node is found, sees us, and finds the proxy.
    let mut plugin = host.erl("hecate_traderd");
    plugin.eval_until("nodes()", &format!("[{ours}]"), PATIENCE);
    assert_eq!(plugin.eval(&format!("net_adm:ping('{ours}')")), "pong");
    plugin.eval("{ok, _} = pg:start_link()");
    plugin.eval_until(PROXIES, "1", PATIENCE);
    plugin.eval_until("length(pg:get_members(hecate_plugins))", "1", PATIENCE);
    let node_seen = format!("maps:get(node, gen_server:call({PROXY}, info))");
    plugin.eval_until(&node_seen, &host.node("hecate_traderd"), PATIENCE);
    assert_eq!(plugin.eval(&format!("maps:get(status, gen_server:call({PROXY}, info))")), "running");

    // A second one, which pings us, sees the same, and is told of what changes.
    let mut other = host.erl("somebody");
    assert_eq!(other.eval(&format!("net_adm:ping('{ours}')")), "pong");
    other.eval("{ok, _} = pg:start_link()");
    other.eval_until(PROXIES, "1", PATIENCE);
    let first = other.eval(PROXY);
    other.eval("{Ref, _} = pg:monitor({hecate_plugin, <<\"hecate-traderd\">>}), put(ref, Ref)");
    let change = "Ref = get(ref), receive {Ref, What, _, [_]} -> What after 0 -> none end";

    // Killed, it is stopped, its proxy gone, its dead socket removed, its data kept.
    fs::write(base.join("sqlite/data"), "kept").unwrap();
    drop(UnixListener::bind(base.join("sockets/api.sock")).unwrap());
    plugin.kill();
    let stopped = host.plugin_until("hecate-traderd", "stopped");
    assert!(stopped["reason"].as_str().unwrap().contains("left the cluster"), "{stopped}");
    other.eval_until(change, "leave", PATIENCE);
    wait_for("the dead socket is removed", || !base.join("sockets/api.sock").exists());
    assert_eq!(fs::read_to_string(base.join("sqlite/data")).unwrap(), "kept");

    // Started again, it runs, with another proxy.
    let mut plugin = host.erl("hecate_traderd");
    host.plugin_until("hecate-traderd", "running");
    other.eval_until(change, "join", PATIENCE);
    assert_ne!(other.eval(PROXY), first);

    // We are killed, and are back: nothing is lost, and statuses are judged anew.
    daemon.kill();
    other.eval_until(PROXIES, "0", PATIENCE);
    let daemon = host.daemon(&[]);
    daemon.ready();
    assert_eq!(host.plugin("hecate-traderd")["status"], "running");
    other.eval_until(PROXIES, "1", PATIENCE);
    plugin.eval_until(&format!("lists:member('{ours}', nodes())"), "true", PATIENCE);

    // Deregistered, it is gone from pg; its data is not.
    let answer = host.ask("DELETE", "/api/plugins/hecate-traderd");
    assert_eq!((answer.status, answer.body), (200, json!({"ok": true})));
    other.eval_until(PROXIES, "0", PATIENCE);
    assert_eq!(host.ask("GET", "/api/plugins").body, json!([]));
    assert_eq!(stored(&host), []);
    assert_eq!(fs::read_to_string(base.join("sqlite/data")).unwrap(), "kept");

    // SIGTERM: in good order, within a second.
    let (status, took, _) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(!host.socket().exists());
    assert!(!host.run_file("daemon.pid").exists() && !host.run_file("daemon.state").exists());
    wait_for("the name is given back", || !epmd.names().contains_key("hecate"));
    other.eval_until("pg:get_members(hecate_daemons)", "[]", PATIENCE);
}

#[test]
fn nodes_that_know_nothing_of_each_other_are_introduced_within_a_second() {
    let host = Host::new();
    let _epmd = host.epmd();
    let daemon = host.daemon(&[]);
    let ours = daemon.ready();
    let join = "{ok, _} = pg:start_link(), ok = pg:join(workers, self())";
    let mut first = host.erl("hecate_traderd");
    first.eval(join);
    first.eval_until("nodes()", &format!("[{ours}]"), PATIENCE);
    let mut second = host.erl("hecate_marthad");
    second.eval(join);
    second.eval_until(&format!("lists:member('{ours}', nodes())"), "true", PATIENCE);
    let joined = Instant::now();
    second.eval_until(&format!("lists:member('{}', nodes())", host.node("hecate_traderd")), "true", PATIENCE);
    second.eval_until("length(pg:get_members(workers))", "2", PATIENCE);
    assert!(joined.elapsed() < Duration::from_secs(1), "{:?}", joined.elapsed());
    first.eval_until("length(pg:get_members(workers))", "2", PATIENCE);
}

#[test]
fn what_only_a_peer_knows_is_dialled_when_we_are_back() {
    let host = Host::new();
    let _epmd = host.epmd();
    let daemon = host.daemon(&[]);
    let ours = daemon.ready();
    let mut plugin = host.erl("hecate_traderd");
    plugin.eval_until("nodes()", &format!("[{ours}]"), PATIENCE);
    daemon.kill();
    plugin.eval_until("nodes()", "[]", PATIENCE);
    // It has never heard of us, and its name is none that we look for.
    let mut other = host.erl("somebody");
    assert_eq!(other.eval(&format!("net_adm:ping('{}')", host.node("hecate_traderd"))), "pong");
    let daemon = host.daemon(&[]);
    daemon.ready();
    other.eval_until(&format!("lists:member('{ours}', nodes())"), "true", Duration::from_secs(10));
}

#[test]
fn global_waits_for_nobody_because_of_us() {
    let host = Host::new();
    let _epmd = host.epmd();
    let daemon = host.daemon(&[]);
    let ours = daemon.ready();
    let mut first = host.erl("hecate_traderd");
    let mut second = host.erl("hecate_marthad");
    for node in [&mut first, &mut second] {
        node.eval_until(&format!("length(nodes()) =:= 2 andalso lists:member('{ours}', nodes())"), "true", PATIENCE);
    }
    // Each has the harness' time limit; one that is held up never returns.
    assert_eq!(first.eval("global:sync()"), "ok");
    assert_eq!(first.eval("global:register_name(a_name, self())"), "yes");
    assert_eq!(second.eval("global:sync(), is_pid(global:whereis_name(a_name))"), "true");
    assert_eq!(second.eval("global:trans({a_lock, self()}, fun() -> done end)"), "done");
}
