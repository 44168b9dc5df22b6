//! The status of a plugin follows from evidence: its node, its socket, the process that registered
//! it, and what of these exists when the daemon restarts. Tests the built daemon with real
//! processes and real Erlang nodes.
//!
//! The tests check the order of events, not a clock. The status of a second plugin depends on time
//! alone, so it shows how much time has passed.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use hecate_daemon::limits;
use serde_json::{Value, json};
use support::daemon::Daemon;
use support::epmd::Epmd;
use support::erl::{Erl, Start};
use support::plugin::{TRADER, dead, inode};
use support::{Host, PATIENCE, program, wait_for};

const MARTHA: &str = "hecate-marthad";

/// The expression for the members of the trader's group.
const MEMBERS: &str = r#"pg:get_members({hecate_plugin, <<"hecate-traderd">>})"#;

/// A grace period that a test can wait for.
const GRACE: (&str, &str) = ("HECATE_REGISTRATION_GRACE", "1");

fn name(plugin: &str) -> Value {
    json!({ "name": plugin })
}

/// Returns since when the status of a plugin holds. The order of these texts is the order of time.
fn since(plugin: &Value) -> String {
    plugin["since"].as_str().expect("since").to_owned()
}

fn reason(plugin: &Value) -> &str {
    plugin["reason"].as_str().expect("a reason")
}

/// Starts a process that is a plugin without a node.
fn process(host: &Host) -> Erl {
    Erl::start(host, Start::default())
}

/// Starts an Erlang node with pg that has connected to the daemon.
fn visitor(host: &Host) -> Erl {
    let mut erl = host.erl("visitor");
    erl.eval("element(1, pg:start_link())");
    erl.pings(&host.node("hecate"));
    erl
}

/// Makes a node watch the only proxy of the trader.
fn watches(erl: &mut Erl) {
    erl.eval_until(&format!("length({MEMBERS})"), "1", PATIENCE);
    let watched = erl.eval(&format!(
        r#"{{Ref, [Proxy]}} = pg:monitor({{hecate_plugin, <<"hecate-traderd">>}}), put(proxy, Proxy), put(group, Ref),
           put(monitor, erlang:monitor(process, Proxy)), {MEMBERS} =:= [Proxy]"#
    ));
    assert_eq!(watched, "true");
}

/// Checks the signals at the watching node: the proxy has left and ended, and another one has
/// joined.
fn sees_another_proxy(erl: &mut Erl) {
    let seen = r"
        Proxy = get(proxy), Ref = get(group), Monitor = get(monitor),
        {receive {Ref, leave, _, [Proxy]} -> left after 20000 -> nothing end,
         receive {'DOWN', Monitor, process, Proxy, Reason} -> Reason after 20000 -> nothing end,
         receive {Ref, join, _, [Other]} -> Other =/= Proxy after 20000 -> nothing end}";
    assert_eq!(erl.eval(seen), "{left,shutdown,true}");
}

fn is_connected(host: &Host, node: &str) {
    wait_for(&format!("{node} is connected"), || host.peer(node).as_deref() == Some("connected"));
}

#[test]
fn a_node_that_joins_after_the_registration_decides() {
    let (host, _epmd, _daemon) = Host::running(&[GRACE]);
    let node = host.node("trader");
    assert_eq!(host.register(&json!({"name": TRADER, "node": node})).status, 201);
    let registered = host.plugin(TRADER);
    assert_eq!((&registered["status"], reason(&registered)), (&json!("running"), "it registered"));

    let mut plugin = host.erl("trader");
    plugin.pings(&host.node("hecate"));
    is_connected(&host, &node);
    host.plugin_until(TRADER, "running");
    host.grace_passes();
    let running = host.plugin(TRADER);
    assert_eq!(running["status"], "running", "a node is a sign of life: {running}");

    plugin.kill();
    let stopped = host.plugin_until(TRADER, "stopped");
    assert!(reason(&stopped).starts_with(&format!("its node {node} left the cluster: ")), "{stopped}");
    assert_eq!(stopped["reason_code"], "node_down");
    let peers = host.ask("GET", "/api/cluster").body["peers"].clone();
    let peer = peers.as_array().unwrap().iter().find(|peer| peer["name"] == *node).expect("the peer was connected");
    assert_eq!((&peer["state"], &peer["reason_code"]), (&json!("disconnected"), &json!("closed_by_peer")));
    assert!(since(&stopped) > since(&running));
    let mut plugin = host.erl("trader");
    plugin.pings(&host.node("hecate"));
    let back = host.plugin_until(TRADER, "running");
    assert_eq!(reason(&back), format!("its node {node} is connected"));
    assert!(since(&back) > since(&stopped));
}

#[test]
fn a_node_that_has_joined_before_the_registration_decides() {
    let (host, _epmd, _daemon) = Host::running(&[GRACE]);
    let node = host.node("hecate_traderd");
    let plugin = host.erl("hecate_traderd");
    is_connected(&host, &node);
    assert_eq!(host.ask("GET", "/api/plugins").body, json!([]), "a node alone registers nothing");
    assert_eq!(host.register(&name(TRADER)).status, 201);
    assert_eq!(host.plugin(TRADER)["node"], node, "the response contains the node");
    host.grace_passes();
    assert_eq!(host.plugin(TRADER)["status"], "running");
    plugin.kill();
    let stopped = host.plugin_until(TRADER, "stopped");
    assert!(reason(&stopped).contains(&node), "{stopped}");
}

/// The socket of another plugin dies at the same time, and would be checked earlier by time alone.
#[test]
fn the_end_of_the_registering_process_triggers_a_check_at_once() {
    let host = Host::new();
    let daemon = host.daemon(&[GRACE]);
    daemon.ready();
    for plugin in [MARTHA, TRADER] {
        assert_eq!(host.register(&name(plugin)).status, 201);
    }
    let mut plugin = process(&host);
    for plugin_of_it in [MARTHA, TRADER] {
        plugin.binds(&host.api_sock(plugin_of_it));
    }
    // This process does not end, so only time triggers a check of the other plugin.
    assert_eq!(host.register(&name(MARTHA)).status, 201);
    plugin.registers(&host, TRADER);
    host.grace_passes();
    for plugin in [MARTHA, TRADER] {
        assert_eq!(host.plugin(plugin)["status"], "running", "its socket is a sign of life");
    }
    plugin.kill();
    let at_once = host.plugin_until(TRADER, "stopped");
    let in_time = host.plugin_until(MARTHA, "stopped");
    assert!(since(&at_once) < since(&in_time), "{at_once} {in_time}");
    for stopped in [at_once, in_time] {
        assert_eq!(reason(&stopped), "its socket refuses connections");
    }
}

#[test]
fn watching_live_processes_leaves_descriptors_for_connections() {
    const DESCRIPTORS: usize = 128;
    let host = Host::new();
    let limited = format!(r#"ulimit -n {DESCRIPTORS} && exec "$0""#);
    let daemon = Daemon::start_as(&host, &[&program("sh"), "-c", &limited], &[]);
    daemon.ready();
    // This process registers all plugins, and ends after them.
    for number in 0..DESCRIPTORS {
        assert_eq!(host.register(&name(&format!("hecate-x{number}d"))).status, 201);
    }
    assert_eq!(host.ask("GET", "/api/plugins").body.as_array().unwrap().len(), DESCRIPTORS);
}

#[test]
fn the_socket_decides_without_a_node() {
    let host = Host::new();
    let daemon = host.daemon(&[GRACE]);
    daemon.ready();
    assert_eq!(host.register(&name(TRADER)).status, 201);
    let socket = host.api_sock(TRADER);
    let listener = UnixListener::bind(&socket).unwrap();
    assert_eq!(host.register(&name(TRADER)).status, 201);
    host.grace_passes();
    assert_eq!(host.plugin(TRADER)["status"], "running", "its socket is a sign of life");

    std::fs::remove_file(&socket).unwrap();
    let gone = host.plugin_until(TRADER, "stopped");
    assert_eq!(reason(&gone), "its socket is gone");
    drop(listener);
    let listener = UnixListener::bind(&socket).unwrap();
    let back = host.plugin_until(TRADER, "running");
    assert_eq!(reason(&back), "its socket answers");
    drop(listener);
    let refused = host.plugin_until(TRADER, "stopped");
    assert_eq!(reason(&refused), "its socket refuses connections");
    assert!(since(&gone) < since(&back) && since(&back) < since(&refused));
}

#[test]
fn a_script_may_register_for_a_plugin() {
    let host = Host::new();
    let daemon = host.daemon(&[GRACE]);
    daemon.ready();
    // At the first registration, the socket does not listen yet.
    host.register_by_script(TRADER);
    let listener = UnixListener::bind(host.api_sock(TRADER)).unwrap();
    host.register_by_script(TRADER);
    host.grace_passes();
    let running = host.plugin(TRADER);
    assert_eq!(running["status"], "running", "{running}");
    drop(listener);
    let stopped = host.plugin_until(TRADER, "stopped");
    assert_eq!(reason(&stopped), "its socket refuses connections");
}

#[test]
fn a_plugin_that_never_shows_a_sign_of_life_is_stopped_after_the_grace_period() {
    let host = Host::new();
    let daemon = host.daemon(&[GRACE]);
    daemon.ready();
    // A socket that has always refused and a node that was never connected are not signs of life.
    assert_eq!(host.register(&json!({"name": TRADER, "node": host.node("nobody")})).status, 201);
    dead(&host.api_sock(TRADER));
    let registered = host.plugin(TRADER);
    assert_eq!(registered["status"], "running");
    let silent = host.grace_passes();
    let stopped = host.plugin_until(TRADER, "stopped");
    for stopped in [&silent, &stopped] {
        assert!(reason(stopped).starts_with("no sign of life within 1 s of its registration ("), "{stopped}");
    }
    let found = "no sign of life within 1 s of its registration (it has no `sockets/api.sock`)";
    wait_for("the dead socket is removed", || reason(&host.plugin(TRADER)) == found);
    let stopped = host.plugin(TRADER);
    assert!(since(&stopped) > since(&registered));
    let health = host.ask("GET", "/health").body;
    assert_eq!(health["plugins"][TRADER], reason(&stopped));

    host.register_by_script(TRADER);
    assert_eq!(host.plugin(TRADER)["status"], "running", "the plugin has registered again");
}

/// The old process is suspended, so its connection stays open, and its name passes to a new one.
#[test]
fn a_restarted_node_is_noticed_even_if_its_old_connection_stays() {
    let (host, epmd, _daemon) = Host::running(&[]);
    assert_eq!(host.register(&name(TRADER)).status, 201);
    let before = host.erl("hecate_traderd");
    let node = host.node("hecate_traderd");
    wait_for("the plugin has its node", || host.plugin(TRADER)["node"] == node);
    let mut visitor = visitor(&host);
    watches(&mut visitor);
    let running = host.plugin(TRADER);

    before.stop();
    epmd.kill();
    let epmd = Epmd::start(host.epmd_port);
    epmd.port_of("hecate");
    assert_eq!(host.plugin(TRADER), running, "the daemon has noticed the restart too early");
    let mut after = host.erl("hecate_traderd");
    after.pings(&host.node("hecate"));
    wait_for("the restart is noticed", || since(&host.plugin(TRADER)) > since(&running));
    let back = host.plugin_until(TRADER, "running");
    assert_eq!(reason(&back), format!("its node {node} is connected"));
    sees_another_proxy(&mut visitor);
    before.kill();
    assert_eq!(host.plugin(TRADER), back, "the end of the old process changed the plugin");
}

#[test]
fn a_dead_socket_is_removed_after_a_second_and_run_files_with_their_process() {
    let host = Host::new();
    let daemon = host.daemon(&[GRACE]);
    daemon.ready();
    let mut plugin = process(&host);
    assert_eq!(host.register(&name(TRADER)).status, 201);
    let (socket, run) = (host.api_sock(TRADER), host.namespace(TRADER).join("run"));
    plugin.binds(&socket);
    plugin.writes_run_files(&run);
    plugin.registers(&host, TRADER);
    std::fs::write(host.namespace(TRADER).join("sqlite/trades.db"), "precious").unwrap();
    host.grace_passes();

    let dying = Instant::now();
    plugin.kill();
    wait_for("the dead socket is removed", || !socket.exists());
    let took = dying.elapsed();
    assert!(took >= Duration::from_secs(1), "two refusals at least a second apart, not {took:?}");
    wait_for("the run files are removed", || !run.join("daemon.pid").exists() && !run.join("daemon.state").exists());
    assert_eq!(host.plugin(TRADER)["status"], "stopped");
    let data = std::fs::read_to_string(host.namespace(TRADER).join("sqlite/trades.db")).unwrap();
    assert_eq!(data, "precious");
}

#[test]
fn a_plugin_that_is_deregistered_leaves_no_dead_socket() {
    let host = Host::new();
    let daemon = host.daemon(&[]);
    daemon.ready();
    let names = ["hecate-deadd", "hecate-alived"];
    let [dead, alive] = names.map(|name| host.api_sock(name));
    let listeners = names.map(|plugin| {
        assert_eq!(host.register(&name(plugin)).status, 201);
        UnixListener::bind(host.api_sock(plugin)).unwrap()
    });
    let [dying, _living] = listeners;
    // The plugin is still shown as running.
    drop(dying);
    for plugin in names {
        assert_eq!(host.ask("DELETE", &format!("/api/plugins/{plugin}")).status, 200);
    }
    wait_for("the dead socket is removed", || !dead.exists());
    assert!(alive.exists(), "the socket of a living plugin was removed");
}

#[test]
fn only_a_few_dead_plugins_are_cleaned_up_at_once() {
    let host = Host::new();
    let daemon = host.daemon(&[]);
    daemon.ready();
    let names: Vec<String> = (0..2 * limits::CLEAN_UPS).map(|number| format!("hecate-x{number}d")).collect();
    let mut listeners = Vec::new();
    for plugin in &names {
        assert_eq!(host.register(&name(plugin)).status, 201);
        let listener = UnixListener::bind(host.api_sock(plugin)).unwrap();
        listener.set_nonblocking(true).unwrap();
        assert_eq!(host.register(&name(plugin)).status, 201);
        listeners.push(listener);
    }
    // A plugin that was never seen alive would stay registered for 1 minute. A registration
    // connects to the socket too, so only a connection after all registrations is certainly a
    // probe.
    for listener in &listeners {
        while listener.accept().is_ok() {}
    }
    for (plugin, listener) in names.iter().zip(&listeners) {
        wait_for(&format!("{plugin} is seen alive"), || listener.accept().is_ok());
    }
    let open = || std::fs::read_dir(format!("/proc/{}/fd", daemon.id())).unwrap().count();
    let (before, mut most) = (open(), 0);
    drop(listeners);
    // A deadline for each, not for all together, because a busy host is slow.
    for plugin in &names {
        wait_for(&format!("the files of {plugin} are removed"), || {
            most = most.max(open());
            !host.api_sock(plugin).exists()
        });
    }
    // Two descriptors for each clean-up, and some for checks and connections.
    assert!(most <= before + 2 * limits::CLEAN_UPS + limits::CLEAN_UPS / 2, "{most} open files, {before} before");
}

#[test]
fn plugins_that_stopped_while_the_daemon_was_down_are_stopped_in_its_first_response() {
    let (host, _epmd, daemon) = Host::running(&[]);
    let node = host.erl("hecate_traderd");
    let mut plugin = process(&host);
    assert_eq!(host.register(&name(TRADER)).status, 201);
    host.register_by_script(MARTHA);
    assert_eq!(host.register(&name("hecate-alived")).status, 201);
    let _alive = UnixListener::bind(host.api_sock("hecate-alived")).unwrap();
    plugin.binds(&host.api_sock(MARTHA));
    // A plugin that has only a node, which outlives the daemon.
    let _other = host.erl("hecate_otherd");
    assert_eq!(host.register(&name("hecate-otherd")).status, 201);
    for (plugin, node) in [(TRADER, "hecate_traderd"), ("hecate-otherd", "hecate_otherd")] {
        wait_for("the plugin has its node", || host.plugin(plugin)["node"] == host.node(node));
    }
    let other = host.plugin("hecate-otherd");
    let before = [TRADER, MARTHA].map(|plugin| host.plugin(plugin));

    daemon.kill();
    node.kill();
    plugin.kill();
    let _daemon = host.daemon(&[]);
    wait_for("the daemon answers", || support::http::ask(&host.socket(), "GET", "/livez", None).is_ok());
    let after = [TRADER, MARTHA].map(|plugin| host.plugin(plugin));
    let reasons = ["it has no `sockets/api.sock`", "its socket refuses connections"];
    for ((before, after), expected) in before.iter().zip(&after).zip(reasons) {
        assert_eq!((&before["status"], &after["status"]), (&json!("running"), &json!("stopped")));
        assert!(since(after) > since(before), "{before} {after}");
        assert_eq!(reason(after), expected);
    }
    let alive = host.plugin("hecate-alived");
    assert_eq!(alive["status"], "running", "{alive}");
    assert_eq!(host.plugin("hecate-otherd"), other, "the plugin has never stopped");
    wait_for("the dead socket is removed", || !host.api_sock(MARTHA).exists());
    assert!(host.api_sock("hecate-alived").exists());
}

#[test]
fn a_plugin_recovers_from_a_netsplit() {
    let (host, _epmd, _daemon) = Host::running(&[]);
    let us = host.node("hecate");
    assert_eq!(host.register(&name(TRADER)).status, 201);
    let mut plugin = host.erl("hecate_traderd");
    let socket = host.api_sock(TRADER);
    plugin.binds(&socket);
    wait_for("the plugin has its node", || host.plugin(TRADER)["node"] == host.node("hecate_traderd"));
    let mut visitor = visitor(&host);
    watches(&mut visitor);
    let (whole, bound) = (host.plugin(TRADER), inode(&socket));

    plugin.eval(&format!("erlang:set_cookie('{us}', cut), erlang:disconnect_node('{us}')"));
    let mut split = host.plugin_until(TRADER, "stopped");
    assert!(since(&split) > since(&whole));
    wait_for("the reason contains the cause", || {
        split = host.plugin(TRADER);
        reason(&split).ends_with("; its socket still answers")
    });
    visitor.eval_until(MEMBERS, "[]", PATIENCE);

    plugin.eval(&format!("erlang:set_cookie('{us}', '{}')", host.cookie));
    plugin.pings(&us);
    let healed = host.plugin_until(TRADER, "running");
    assert!(since(&healed) > since(&split));
    sees_another_proxy(&mut visitor);
    assert_eq!(inode(&socket), bound, "the socket of a living plugin was replaced");

    // A lost connection alone recovers without help.
    plugin.eval(&format!("erlang:disconnect_node('{us}')"));
    wait_for("the plugin was stopped", || since(&host.plugin(TRADER)) > since(&healed));
    host.plugin_until(TRADER, "running");
}

/// The proxies of the other daemon are in the plugin's group, and its node is on this host.
#[test]
fn another_daemon_on_this_host_is_not_a_plugins_node() {
    let ours = Host::new();
    let mut theirs = Host::new();
    (theirs.epmd_port, theirs.cookie) = (ours.epmd_port, ours.cookie.clone());
    let _epmd = ours.epmd();
    let daemon = ours.daemon(&[GRACE]);
    let us = daemon.ready();
    let other = theirs.daemon(&[("HECATE_NODE_NAME", "hecate_of_another")]);
    let them = other.ready();
    is_connected(&ours, &them);
    is_connected(&theirs, &us);
    // The node sees both daemons before the second test step.
    let mut visitor = visitor(&ours);
    visitor.eval_until(&format!("lists:sort(nodes()) =:= ['{us}', '{them}']"), "true", PATIENCE);
    for host in [&ours, &theirs] {
        assert_eq!(host.register(&json!({"name": TRADER, "version": host.epmd_port.to_string()})).status, 201);
    }
    let nodes = format!("lists:sort([node(P) || P <- {MEMBERS}]) =:= ['{us}', '{them}']");
    visitor.eval_until(&nodes, "true", PATIENCE);
    // Our plugin has shown no sign of life, whatever another daemon reports about its own.
    let stopped = ours.plugin_until(TRADER, "stopped");
    let silent = "no sign of life within 1 s of its registration (it has no `sockets/api.sock`)";
    assert_eq!((&stopped["node"], reason(&stopped)), (&Value::Null, silent));
    assert_eq!(theirs.plugin(TRADER)["status"], "running");
    visitor.eval_until(&format!("[node(P) || P <- {MEMBERS}] =:= ['{them}']"), "true", PATIENCE);
}

#[test]
fn a_plugins_node_with_a_long_name_never_connects_to_a_short_one() {
    let (host, _epmd, _daemon) = Host::running(&[]);
    assert_eq!(host.register(&json!({"name": TRADER, "node": "trader@beam00.lab"})).status, 201);
    let state = |plugin: &Value| (plugin["node_state"].clone(), plugin["node_failure"].clone());
    let never = (json!("not_connected"), json!("shortname_longname_mix"));
    wait_for("the state is shown", || state(&host.plugin(TRADER)) == never);
}

/// As a default `rebar3 release` makes it: a node with another cookie, whose plugin registers,
/// answers and seems healthy.
#[test]
fn a_node_with_another_cookie_is_shown_as_not_connected() {
    let (host, _epmd, _daemon) = Host::running(&[]);
    let node = host.node("hecate_traderd");
    let start = || Start { name: Some("hecate_traderd"), ..Start::default() };
    let stranger = Erl::start(&host, Start { cookie: Some("of-the-release"), ..start() });
    assert_eq!(host.register(&json!({"name": TRADER, "node": node})).status, 201);
    assert_eq!(host.register(&name(MARTHA)).status, 201);
    let state = |plugin: &Value| (plugin["node_state"].clone(), plugin["node_failure"].clone());
    let mismatch = (json!("not_connected"), json!("cookie_mismatch"));
    wait_for("the failure is shown", || state(&host.plugin(TRADER)) == mismatch);

    let list = host.ask("GET", "/api/plugins").body;
    assert_eq!(
        (&list[0]["name"], &list[1]["status"], state(&list[1])),
        (&json!(MARTHA), &json!("running"), mismatch.clone())
    );
    assert_eq!(list[0].get("node_state").or(list[0].get("node_failure")), None, "a plugin without a node: {list}");
    let problem = || {
        let health = host.ask("GET", "/health").body;
        assert_eq!(health["status"], "healthy", "a notice keeps the status: {health}");
        let problems = health["problems"].as_array().expect("problems").clone();
        problems.into_iter().find(|problem| problem["code"] == "plugin_node_not_connected")
    };
    wait_for("the problem is reported", || problem().is_some());
    let detail = problem().expect("still there")["detail"].to_string();
    for word in [TRADER, &node, "cookie_mismatch", &format!("hecate-daemon diagnose {node}")] {
        assert!(detail.contains(word), "{word}: {detail}");
    }
    for (arguments, words) in [
        (&["status"][..], &["plugin_node_not_connected", "cookie_mismatch"][..]),
        (&["plugins"], &["not_connected (cookie_mismatch)"]),
        (&["plugin", TRADER], &["node state", "not_connected (cookie_mismatch)"]),
    ] {
        let output = Daemon::command(&host, &[]).args(arguments).output().expect("ran");
        let shown = String::from_utf8(output.stdout).expect("text");
        assert!(words.iter().all(|word| shown.contains(word)), "{arguments:?}: {shown}");
    }
    let mut visitor = visitor(&host);
    let info = format!(
        r#"{{ok, Info}} = gen_server:call({{hecate_plugins, '{}'}}, {{info, <<"hecate-traderd">>}}),
           {{maps:get(node_state, Info), maps:get(node_failure, Info)}}"#,
        host.node("hecate")
    );
    assert_eq!(visitor.eval(&info), "{not_connected,cookie_mismatch}");
    let nodeless = info.replace("hecate-traderd", "hecate-marthad").replace("maps:get(node_state, Info), ", "");
    let nodeless = nodeless.replace("maps:get(node_failure, Info)", "maps:is_key(node_state, Info)");
    assert_eq!(visitor.eval(&nodeless), "{false}");

    // With the right cookie, the problem and the failure end.
    stranger.kill();
    let plugin = Erl::start(&host, start());
    wait_for("the node is connected", || state(&host.plugin(TRADER)) == (json!("connected"), Value::Null));
    assert_eq!(state(&host.ask("GET", "/api/plugins").body[1]).0, "connected");
    assert_eq!(
        visitor.eval(&info.replace("maps:get(node_failure, Info)", "maps:is_key(node_failure, Info)")),
        "{connected,false}"
    );
    wait_for("no problem is left", || problem().is_none());

    // A failure ends with the node that caused it, even if that node was connected before.
    plugin.kill();
    host.plugin_until(TRADER, "stopped");
    let stranger = Erl::start(&host, Start { cookie: Some("of-the-release"), ..start() });
    wait_for("the failure is shown again", || state(&host.plugin(TRADER)) == mismatch);
    stranger.kill();
    wait_for("no failure is left", || state(&host.plugin(TRADER)) == (json!("not_connected"), Value::Null));
}

/// The name of a node in EPMD shows whose it is, even if it has never been connected.
#[test]
fn a_node_that_refuses_the_daemon_keeps_its_plugin_running() {
    let (host, _epmd, daemon) = Host::running(&[GRACE]);
    let node = host.node("hecate_traderd");
    let start = |cookie| Erl::start(&host, Start { name: Some("hecate_traderd"), cookie, ..Start::default() });
    let stranger = start(Some("of-the-release"));
    assert_eq!(host.register(&name(TRADER)).status, 201);
    let refused = |plugin: &Value| plugin["node"] == node && plugin["node_failure"] == "cookie_mismatch";
    wait_for("the plugin has its node", || refused(&host.plugin(TRADER)));
    host.grace_passes();
    let why = format!("its node {node} is running, but refuses to connect (cookie_mismatch)");
    let plugin = host.plugin(TRADER);
    assert_eq!((&plugin["status"], reason(&plugin), refused(&plugin)), (&json!("running"), &*why, true));
    let problem = || {
        let problems = host.ask("GET", "/health").body["problems"].to_string();
        problems.contains("plugin_node_not_connected") && problems.contains(TRADER)
    };
    wait_for("the problem is reported", problem);
    let output = Daemon::command(&host, &[]).arg("plugins").output().expect("ran");
    assert!(String::from_utf8_lossy(&output.stdout).contains("not_connected (cookie_mismatch)"), "{output:?}");
    let mut visitor = visitor(&host);
    let info = format!(
        r#"[Proxy] = {MEMBERS}, #{{node := Node, node_failure := Code}} = gen_server:call(Proxy, info), {{Node, Code}}"#
    );
    visitor.eval_until(&info, &format!("{{{node},cookie_mismatch}}"), PATIENCE);

    // The same holds after a restart, in the first response.
    daemon.kill();
    let daemon = host.daemon(&[GRACE]);
    wait_for("the daemon answers", || support::http::ask(&host.socket(), "GET", "/livez", None).is_ok());
    let again = host.plugin(TRADER);
    assert_eq!((&again["status"], &again["since"], reason(&again)), (&plugin["status"], &plugin["since"], &*why));
    daemon.ready();

    stranger.kill();
    let stopped = host.plugin_until(TRADER, "stopped");
    assert_eq!(reason(&stopped), format!("its node {node} has ended, and it has no `sockets/api.sock`"));
    assert_ne!(stopped["node_failure"], "cookie_mismatch");
    let _plugin = start(None);
    let running = host.plugin_until(TRADER, "running");
    assert_eq!(reason(&running), format!("its node {node} is connected"));
    wait_for("the node is connected", || host.plugin(TRADER)["node_state"] == "connected");
}

#[test]
fn a_node_that_is_not_registered_with_epmd_is_shown_as_such() {
    let (host, _epmd, _daemon) = Host::running(&[]);
    assert_eq!(host.register(&json!({"name": TRADER, "node": host.node("trader")})).status, 201);
    wait_for("EPMD does not know it", || host.plugin(TRADER)["node_failure"] == "not_registered");
    assert_eq!(host.plugin(TRADER)["node_state"], "not_connected");
}
