//! The life of a plugin with the built daemon and real Erlang nodes. The plugin registers, joins
//! the cluster, is visible to others, is killed, restarts, and is deregistered. The tests repeat
//! this with the daemon killed, and with the daemon stopped.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::json;
use support::daemon::Daemon;
use support::epmd::Epmd;
use support::erl::Erl;
use support::plugin::TRADER;
use support::{Host, PATIENCE, wait_for};

/// The expression for the members of the plugin's group.
const MEMBERS: &str = r#"pg:get_members({hecate_plugin, <<"hecate-traderd">>})"#;

/// The same, in a form that is equal on every node.
const IDENTITIES: &str =
    r#"[binary:encode_hex(term_to_binary(P)) || P <- pg:get_members({hecate_plugin, <<"hecate-traderd">>})]"#;

/// "Within a second" on a machine with other work.
const A_SECOND: Duration = Duration::from_secs(4);

/// The plugin of all these tests.
fn trader() -> serde_json::Value {
    json!({"name": "hecate-traderd", "version": "0.1.0", "description": "Trading daemon for Hecate"})
}

/// Starts an Erlang node with pg.
fn node(host: &Host, name: &str) -> Erl {
    let mut erl = host.erl(name);
    erl.eval("element(1, pg:start_link())");
    erl
}

/// Returns whether the plugin is in the database, read from the file by another connection.
fn stored(host: &Host) -> bool {
    let path = host.namespace("hecate-daemon").join("sqlite/plugins.db");
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = rusqlite::Connection::open_with_flags(path, flags).unwrap();
    let count = |table: &str| -> i64 {
        let query = format!("SELECT count(*) FROM {table} WHERE name = 'hecate-traderd' AND version = '0.1.0'");
        database.query_row(&query, (), |row| row.get(0)).unwrap()
    };
    count("plugins") == 1 && count("events") > 0
}

#[test]
fn a_registration_follows_the_convention_and_is_durable_before_its_response() {
    let host = Host::new();
    let _epmd = host.epmd();
    let daemon = host.daemon(&[]);
    assert_eq!(daemon.ready(), host.node("hecate"));

    let answer = host.register(&trader());
    assert!(stored(&host), "not in the database when the response arrives");
    let base = host.namespace("hecate-traderd");
    let base = base.display();
    let expected = json!({
        "name": "hecate-traderd",
        "base_dir": format!("{base}"),
        "paths": {
            "sqlite": format!("{base}/sqlite"),
            "reckon_db": format!("{base}/reckon-db"),
            "sockets": format!("{base}/sockets"),
            "run": format!("{base}/run"),
            "connectors": format!("{base}/connectors"),
        }
    });
    assert_eq!((answer.status, &answer.body), (201, &expected));
    assert_eq!(answer.header("location"), Some("/api/plugins/hecate-traderd"));
    for directory in ["sqlite", "reckon-db", "sockets", "run", "connectors"] {
        assert!(host.namespace("hecate-traderd").join(directory).is_dir(), "{directory}");
    }
    let list = host.ask("GET", "/api/plugins").body;
    let entry = &list.as_array().unwrap()[0];
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(entry["name"], "hecate-traderd");
    assert_eq!(entry["version"], "0.1.0");
    assert_eq!(entry["socket"], format!("{base}/sockets/api.sock"));
    assert_eq!(entry["status"], "running", "the plugin has just registered");

    daemon.kill();
    let _daemon = host.daemon(&[]);
    wait_for("the daemon answers again", || support::http::ask(&host.socket(), "GET", "/livez", None).is_ok());
    let plugin = host.plugin("hecate-traderd");
    assert_eq!(plugin["version"], "0.1.0");
    assert_eq!(plugin["status"], "stopped", "a stored status needs evidence: {plugin}");
}

#[test]
fn the_life_of_a_plugin_with_a_node() {
    let host = Host::new();
    let epmd = host.epmd();
    let daemon = host.daemon(&[]);
    assert_eq!(daemon.ready(), host.node("hecate"));
    assert_eq!(host.register(&trader()).status, 201);

    let mut plugin = found_by_the_daemon(&host);
    let mut visitor = visited(&host, &mut plugin);
    let plugin = killed_and_started_again(&host, plugin, &mut visitor);
    let (daemon, mut plugin) = daemon_killed_and_started_again(&host, daemon, plugin, &mut visitor);
    let daemon = everything_killed_and_started_again(&host, daemon, &mut plugin);
    deregistered(&host, &mut plugin);
    stopped_cleanly(&host, daemon, &epmd, &mut plugin);
}

/// Checks that a node in this host's EPMD is dialled, and sees the plugins.
fn found_by_the_daemon(host: &Host) -> Erl {
    let mut plugin = host.erl("hecate_traderd");
    let us = host.node("hecate");
    // The node's host part may need quotes.
    plugin.eval_until(&format!("nodes() =:= ['{us}']"), "true", PATIENCE);
    plugin.pings(&us);
    plugin.eval("element(1, pg:start_link())");
    plugin.eval_until(&format!("[node(P) =:= '{us}' || P <- {MEMBERS}]"), "[true]", PATIENCE);
    plugin.eval_until("length(pg:get_members(hecate_plugins))", "1", PATIENCE);
    plugin.eval_until("length(pg:get_members(hecate_daemons))", "1", PATIENCE);

    // The plugin is running since it registered. The daemon finds its node at the same time as the
    // node finds the daemon.
    wait_for("the plugin has its node", || host.plugin("hecate-traderd")["node"] == host.node("hecate_traderd"));
    assert_eq!(host.plugin("hecate-traderd")["status"], "running");
    let base = host.namespace("hecate-traderd");
    let base = base.display();
    let expected = format!(
        r#"#{{name => <<"hecate-traderd">>, version => <<"0.1.0">>, description => <<"Trading daemon for Hecate">>,
             status => running, reason_code => node_connected,
             reason => <<"its node ", (atom_to_binary(node()))/binary, " is connected">>,
             node => node(), node_state => connected, host => <<"{}">>, base_dir => <<"{base}">>,
             socket => <<"{base}/sockets/api.sock">>,
             paths => #{{sqlite => <<"{base}/sqlite">>, reckon_db => <<"{base}/reckon-db">>,
                         sockets => <<"{base}/sockets">>, run => <<"{base}/run">>,
                         connectors => <<"{base}/connectors">>}}}}"#,
        host.name
    );
    let info = plugin.eval(&format!("gen_server:call(hd({MEMBERS}), info)"));
    assert_eq!(
        plugin.eval(&format!("{expected} =:= maps:remove(since, gen_server:call(hd({MEMBERS}), info))")),
        "true",
        "{info}"
    );
    let forwarded =
        plugin.eval(&format!("gen_server:call(hd({MEMBERS}), buy) =:= {{error, {{not_forwarded, '{us}'}}}}"));
    assert_eq!(forwarded, "true");
    assert_eq!(
        plugin.eval(&format!("{{ok, [Listed]}} = gen_server:call({{hecate_plugins, '{us}'}}, list), {expected} =:= maps:remove(since, Listed)")),
        "true"
    );
    plugin
}

/// Checks that a node that the daemon does not dial sees the same after a ping.
fn visited(host: &Host, plugin: &mut Erl) -> Erl {
    let mut visitor = node(host, "visitor");
    let us = host.node("hecate");
    visitor.pings(&us);
    let identity = plugin.eval(IDENTITIES);
    visitor.eval_until(IDENTITIES, &identity, PATIENCE);
    assert_eq!(visitor.eval("length(pg:get_members(hecate_plugins))"), "1");
    visitor
}

/// Kills the plugin's node, which leaves a stopped plugin and its data, and starts it again.
fn killed_and_started_again(host: &Host, mut plugin: Erl, visitor: &mut Erl) -> Erl {
    plugin.binds(&host.api_sock(TRADER));
    assert!(host.api_sock(TRADER).exists());
    let sock = host.namespace("hecate-traderd").join("sockets/api.sock");
    let data = host.namespace("hecate-traderd").join("sqlite/trades.db");
    std::fs::write(&data, "precious").unwrap();
    let before = visitor.eval(IDENTITIES);
    let watched = visitor.eval(&format!(
        r#"{{Ref, [Proxy]}} = pg:monitor({{hecate_plugin, <<"hecate-traderd">>}}), put(ref, Ref), put(proxy, Proxy),
           put(monitor, erlang:monitor(process, Proxy)), {MEMBERS} =:= [Proxy]"#
    ));
    assert_eq!(watched, "true");

    plugin.kill();
    let stopped = host.plugin_until("hecate-traderd", "stopped");
    let reason = stopped["reason"].as_str().unwrap();
    assert!(reason.contains(&host.node("hecate_traderd")), "{reason}");
    visitor.eval_until(IDENTITIES, "[]", PATIENCE);
    let monitors = r#"
        Proxy = get(proxy), Ref = get(ref), Monitor = get(monitor),
        {receive {Ref, leave, _, [Proxy]} -> left after 5000 -> nothing end,
         receive {'DOWN', Monitor, process, Proxy, Reason} -> Reason after 5000 -> nothing end}"#;
    assert_eq!(visitor.eval(monitors), "{left,shutdown}");
    wait_for("the dead api.sock is removed", || !sock.exists());
    assert_eq!(std::fs::read_to_string(&data).unwrap(), "precious");
    let list = host.ask("GET", "/api/plugins").body;
    assert_eq!(list[0]["status"], "stopped", "the plugin stays registered");

    let plugin = node(host, "hecate_traderd");
    host.plugin_until("hecate-traderd", "running");
    let after = visitor.eval_other(IDENTITIES, &["[]"]);
    assert_ne!(after, before, "another proxy");
    let joined = "Ref = get(ref), receive {Ref, join, _, [_]} -> joined after 5000 -> nothing end";
    assert_eq!(visitor.eval(joined), "joined");
    plugin
}

/// Kills the daemon. Its peers lose the proxies, and find new ones after its restart.
fn daemon_killed_and_started_again(host: &Host, daemon: Daemon, mut plugin: Erl, visitor: &mut Erl) -> (Daemon, Erl) {
    let before = plugin.eval(IDENTITIES);
    daemon.kill();
    for erl in [&mut plugin, &mut *visitor] {
        erl.eval_until("{pg:get_members(hecate_plugins), pg:get_members(hecate_daemons)}", "{[],[]}", PATIENCE);
    }
    let daemon = host.daemon(&[]);
    assert_eq!(daemon.ready(), host.node("hecate"));
    let status = host.plugin("hecate-traderd");
    assert_eq!(status["status"], "running", "the plugin's node runs: {status}");
    let after = plugin.eval_other(IDENTITIES, &["[]"]);
    assert_ne!(after, before, "another creation, another pid");
    // The daemon does not dial this name, and this node does not dial the daemon. The plugin's node
    // introduces them.
    visitor.eval_until(IDENTITIES, &after, PATIENCE);
    (daemon, plugin)
}

/// Kills everything, and restarts it in the other order. The daemon judges stored plugins again.
fn everything_killed_and_started_again(host: &Host, daemon: Daemon, plugin: &mut Erl) -> Daemon {
    daemon.kill();
    let dead = std::mem::replace(plugin, node(host, "somebody_else"));
    dead.kill();
    let daemon = host.daemon(&[]);
    daemon.ready();
    let status = host.plugin("hecate-traderd");
    assert_eq!(status["status"], "stopped", "{status}");
    *plugin = node(host, "hecate_traderd");
    host.plugin_until("hecate-traderd", "running");
    plugin.eval_until(&format!("length({MEMBERS})"), "1", PATIENCE);
    daemon
}

fn deregistered(host: &Host, plugin: &mut Erl) {
    let answer = host.ask("DELETE", "/api/plugins/hecate-traderd");
    assert_eq!((answer.status, answer.body), (200, json!({"ok": true})));
    plugin.eval_until(&format!("{{{MEMBERS}, pg:get_members(hecate_plugins)}}"), "{[],[]}", PATIENCE);
    let data = host.namespace("hecate-traderd").join("sqlite/trades.db");
    assert_eq!(std::fs::read_to_string(data).unwrap(), "precious");
    assert_eq!(host.ask("GET", "/api/plugins").body, json!([]));
    assert_eq!(host.ask("GET", "/api/plugins/hecate-traderd").status, 404);
    assert_eq!(host.ask("DELETE", "/api/plugins/hecate-traderd").status, 404);
    assert_eq!(host.register(&trader()).status, 201, "a plugin may register again");
    plugin.eval_until(&format!("length({MEMBERS})"), "1", PATIENCE);
}

/// Stops the daemon with SIGTERM, while a client has sent half a request.
fn stopped_cleanly(host: &Host, daemon: Daemon, epmd: &Epmd, plugin: &mut Erl) {
    plugin.eval(&format!("put(monitor, erlang:monitor(process, hd({MEMBERS}))), net_kernel:monitor_nodes(true)"));
    let mut client = UnixStream::connect(host.socket()).unwrap();
    client.write_all(b"GET /health HTTP/1.1\r\nHost:").unwrap();
    let (status, time, log) = daemon.terminate();
    println!("stopped after {time:?}");
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(time < A_SECOND, "{time:?}\n{log}");
    let down = r#"
        Monitor = get(monitor),
        {receive {'DOWN', Monitor, process, _, Reason} -> Reason after 5000 -> nothing end,
         receive {nodedown, _} -> nodedown after 5000 -> nothing end}"#;
    assert_eq!(plugin.eval(down), "{shutdown,nodedown}", "the daemon leaves pg before it closes the connection");
    assert_eq!(plugin.eval("{pg:get_members(hecate_plugins), pg:get_members(hecate_daemons)}"), "{[],[]}");
    assert!(!epmd.names().contains_key("hecate"), "the name is still registered");
    for path in [host.socket(), host.run_file("daemon.pid"), host.run_file("daemon.state")] {
        assert!(!path.exists(), "{}", path.display());
    }
}

#[test]
fn unconnected_plugins_are_introduced() {
    let (host, _epmd, daemon) = Host::running(&[]);
    let us = host.node("hecate");
    let mut trader = node(&host, "hecate_traderd");
    assert_eq!(trader.eval("pg:join(trades, self())"), "ok");
    trader.eval_until(&format!("nodes() =:= ['{us}']"), "true", PATIENCE);

    let mut martha = node(&host, "hecate_marthad");
    assert_eq!(martha.eval("pg:join(advice, self())"), "ok");
    martha.eval_until(&format!("lists:member('{us}', nodes())"), "true", PATIENCE);
    let joined = Instant::now();
    let sees = |group: &str, node: &str| format!("[node(P) =:= '{node}' || P <- pg:get_members({group})]");
    let (trader_node, martha_node) = (host.node("hecate_traderd"), host.node("hecate_marthad"));
    martha.eval_until(&sees("trades", &trader_node), "[true]", A_SECOND);
    trader.eval_until(&sees("advice", &martha_node), "[true]", A_SECOND);
    println!("introduced after {:?}", joined.elapsed());
    assert!(joined.elapsed() < A_SECOND);

    // `global` works among them as without the daemon.
    let quick = |erl: &mut Erl, expression: &str| {
        let start = Instant::now();
        let value = erl.eval(expression);
        assert!(start.elapsed() < Duration::from_secs(10), "{expression} took {:?}", start.elapsed());
        value
    };
    assert_eq!(quick(&mut trader, "global:sync()"), "ok");
    assert_eq!(quick(&mut martha, "global:sync()"), "ok");
    assert_eq!(quick(&mut trader, "global:register_name(market, self())"), "yes");
    martha.eval_until(&format!("node(global:whereis_name(market)) =:= '{trader_node}'"), "true", PATIENCE);
    assert_eq!(quick(&mut martha, "global:register_name(market, self())"), "no");
    assert_eq!(quick(&mut martha, "global:trans({market, self()}, fun() -> done end)"), "done");

    // The mesh outlives the daemon.
    daemon.kill();
    martha.eval_until(&format!("lists:member('{us}', nodes())"), "false", PATIENCE);
    assert_eq!(martha.eval(&sees("trades", &trader_node)), "[true]");
    assert_eq!(quick(&mut martha, "global:sync()"), "ok");
}

#[test]
fn a_plugin_that_never_registers_is_announced_by_its_group() {
    let (host, _epmd, _daemon) = Host::running(&[]);
    let mut plugin = node(&host, "hecate_under_another_name");
    assert_eq!(plugin.eval(r#"pg:join({hecate_plugin, <<"hecate-traderd">>}, self())"#), "ok");
    let base = host.namespace("hecate-traderd");
    wait_for("the directories are created", || base.join("connectors").is_dir());
    assert_eq!(host.ask("GET", "/api/plugins").body, json!([]), "joining the group registers nothing");

    assert_eq!(host.register(&trader()).status, 201);
    let status = host.plugin_until("hecate-traderd", "running");
    assert_eq!(status["node"], host.node("hecate_under_another_name"), "a member of the plugin's group is its node");
    plugin.kill();
    host.plugin_until("hecate-traderd", "stopped");
}

#[test]
fn a_node_that_only_global_of_a_peer_knows_is_dialled() {
    let host = Host::new();
    let _epmd = host.epmd();
    let mut plugin = node(&host, "hecate_traderd");
    let mut helper = node(&host, "helper");
    helper.pings(&host.node("hecate_traderd"));
    assert_eq!(plugin.eval("global:sync()"), "ok");
    // Without introductions, no peer is asked for its nodes(), so only `global` reports the node.
    let daemon = host.daemon(&[("HECATE_INTRODUCE_PEERS", "false")]);
    daemon.ready();
    let us = host.node("hecate");
    helper.eval_until(&format!("lists:member('{us}', nodes())"), "true", PATIENCE);
    wait_for("the node is connected", || host.peer(&host.node("helper")).as_deref() == Some("connected"));
}

/// Each event arrives once as `{Group, Map}`, in the order of the revisions, even if a process has
/// joined several times or in several scopes.
#[test]
fn each_process_in_the_group_of_an_event_gets_it_once() {
    let (host, _epmd, _daemon) = Host::running(&[("HECATE_PG_SCOPES", "pg,other")]);
    let mut listener = node(&host, "listener");
    let us = host.node("hecate");
    listener.eval(&format!("pong = net_adm:ping('{us}'), {{ok, _}} = pg:start(other)"));
    listener.eval(
        "[ok = pg:join(Scope, Group, self()) || Scope <- [pg, other], _ <- [once, twice],
          Group <- [plugin_registered_v1, plugin_deregistered_v1, plugin_status_changed_v1, plugin_data_purged_v1]]",
    );
    // Calls and messages between two nodes keep their order, so the joins are known when this call
    // is answered.
    listener.eval(&format!("[sys:get_state({{Scope, '{us}'}}) || Scope <- [pg, other]]"));

    let base = host.namespace("hecate-traderd");
    host.register(&trader());
    let _node = node(&host, "hecate_traderd");
    wait_for("the plugin has its node", || host.plugin("hecate-traderd")["node"] == host.node("hecate_traderd"));
    assert_eq!(host.ask("DELETE", "/api/plugins/hecate-traderd").status, 200);
    drop(_node);
    wait_for("the data is purged", || host.ask("DELETE", "/api/plugins/hecate-traderd/data").status == 200);

    let receive =
        "fun() -> receive {Group, Map} when is_map(Map) -> put(map, Map), Group after 20000 -> nothing end end";
    listener.eval(&format!("put(receive_event, {receive})"));
    let mut next = |expected: &str, facts: &str| {
        assert_eq!(listener.eval("(get(receive_event))()"), expected);
        assert_eq!(listener.eval(&format!("Map = get(map), {facts}")), "true", "{}", listener.eval("get(map)"));
    };
    let base = base.display();
    next(
        "plugin_registered_v1",
        &format!(
            "#{{revision := 1, name := <<\"hecate-traderd\">>, version := <<\"0.1.0\">>, status := running,
                node := undefined, reason := <<\"it registered\">>, reason_code := registered, base_dir := <<\"{base}\">>, at := At}} = Map,
             abs(At - os:system_time(millisecond)) < 60000"
        ),
    );
    next(
        "plugin_status_changed_v1",
        "#{revision := 2, node := hecate_traderd@HOST} = Map, true"
            .replace("hecate_traderd@HOST", &format!("'{}'", host.node("hecate_traderd")))
            .as_str(),
    );
    next("plugin_deregistered_v1", "map_get(revision, Map) =:= 3");
    next("plugin_data_purged_v1", "#{revision := 4, version := undefined, status := stopped} = Map, true");
    assert_eq!(listener.eval("receive Other -> Other after 0 -> nothing end"), "nothing", "an event came twice");
}
