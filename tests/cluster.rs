//! The cluster view: every hecate-daemon shows the current plugins of all daemons, and the last
//! known plugins of a lost one as lost.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use serde_json::{Value, json};
use support::daemon::Daemon;
use support::epmd::Epmd;
use support::erl::Erl;
use support::plugin::TRADER;
use support::{Host, PATIENCE, wait_for};

/// A tick time that a test can wait for.
const TICK: (&str, &str) = ("HECATE_NET_TICKTIME", "4");

/// Daemons on one machine with one EPMD and one cookie, each in a separate home, like daemons of
/// several users.
struct Cluster {
    hosts: Vec<Host>,
    daemons: Vec<Daemon>,
    names: Vec<String>,
    _epmd: Epmd,
}

impl Cluster {
    fn new(daemons: usize) -> Self {
        let mut hosts: Vec<Host> = (0..daemons).map(|_| Host::new()).collect();
        let (port, cookie) = (hosts[0].epmd_port, hosts[0].cookie.clone());
        for host in &mut hosts {
            (host.epmd_port, host.cookie) = (port, cookie.clone());
        }
        let epmd = hosts[0].epmd();
        let names = (0..daemons).map(|at| hosts[at].node(&short(at))).collect();
        let mut cluster = Self { hosts, daemons: Vec::new(), names, _epmd: epmd };
        cluster.daemons = (0..daemons).map(|at| cluster.start(at)).collect();
        cluster
    }

    fn start(&self, at: usize) -> Daemon {
        let daemon = self.hosts[at].daemon(&[TICK, ("HECATE_NODE_NAME", &short(at))]);
        assert_eq!(daemon.ready(), self.names[at]);
        daemon
    }

    fn register(&self, at: usize, plugin: &str, version: &str) {
        assert_eq!(self.hosts[at].register(&json!({"name": plugin, "version": version})).status, 201);
    }

    /// Waits until all daemons show the same view, which contains what each shows about itself.
    fn agrees(&self) {
        wait_for("all daemons show what each shows about itself", || {
            let views: Vec<Value> = self.hosts.iter().map(view).collect();
            let own: Vec<Value> = self.hosts.iter().map(own).collect();
            let same = views.iter().all(|view| view["plugins"] == views[0]["plugins"]);
            let is_own = |(name, own): (&String, &Value)| shown(&views[0], name) == Some(("connected", own.clone()));
            same && self.names.iter().zip(&own).all(is_own)
        });
    }
}

fn short(at: usize) -> String {
    format!("hecate_{at}")
}

/// Returns the plugins that a daemon lists.
fn own(host: &Host) -> Value {
    without_node_states(host.ask("GET", "/api/plugins").body)
}

fn view(host: &Host) -> Value {
    let mut view = host.ask("GET", "/api/cluster/plugins").body;
    view["plugins"] = without_node_states(view["plugins"].take());
    view
}

/// Removes the states of nodes, because a daemon knows them only for the plugins of its own host.
fn without_node_states(mut plugins: Value) -> Value {
    for plugin in plugins.as_array_mut().unwrap() {
        let plugin = plugin.as_object_mut().unwrap();
        plugin.remove("node_state");
        plugin.remove("node_failure");
    }
    plugins
}

/// Returns the state of a daemon in a view, and its plugins in the form of its own list.
fn shown<'a>(view: &'a Value, daemon: &str) -> Option<(&'a str, Value)> {
    let host = view["hosts"].as_array().unwrap().iter().find(|host| host["daemon"] == daemon)?;
    let plugins = view["plugins"].as_array().unwrap().iter().filter(|plugin| plugin["daemon"] == daemon);
    let mut plugins: Vec<Value> = plugins.cloned().collect();
    assert_eq!(host["plugins"], plugins.len());
    for plugin in &mut plugins {
        let plugin = plugin.as_object_mut().unwrap();
        assert_eq!(plugin.remove("host"), Some(host["host"].clone()));
        plugin.remove("daemon");
        let lost_since = plugin.remove("lost_since").unwrap();
        assert_eq!(lost_since, if host["state"] == "lost" { host["since"].clone() } else { Value::Null });
    }
    Some((host["state"].as_str().unwrap(), plugins.into()))
}

/// Returns the state of a daemon in a view, and its plugins with their versions.
fn versions(host: &Host, daemon: &str) -> Option<(String, Vec<(String, String)>)> {
    let view = view(host);
    let (state, plugins) = shown(&view, daemon)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let plugins = plugins.as_array().unwrap().iter().map(|p| (text(&p["name"]), text(&p["version"])));
    Some((state.to_owned(), plugins.collect()))
}

/// Waits until the view shows a daemon with this state and these plugins.
fn wait_until_shown(host: &Host, daemon: &str, state: &str, plugins: &[(&str, &str)]) {
    let plugins = plugins.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect();
    let expected = Some((state.to_owned(), plugins));
    wait_for(&format!("{daemon} is shown as {expected:?}"), || versions(host, daemon) == expected);
}

#[test]
fn every_daemon_shows_the_current_plugins_of_all_daemons() {
    let cluster = Cluster::new(3);
    cluster.register(0, TRADER, "0");
    cluster.register(1, TRADER, "1");
    cluster.register(1, "hecate-marthad", "1");
    cluster.agrees();
    let [here, _, there] = cluster.hosts.as_slice() else { panic!() };
    let names: Vec<Value> = view(there)["plugins"].as_array().unwrap().iter().map(|p| p["name"].clone()).collect();
    assert_eq!(names, ["hecate-marthad", TRADER, TRADER], "the same name on two hosts is two entries");

    let mut plugin = here.erl("hecate_traderd");
    let node = here.node("hecate_traderd");
    wait_for("the plugin has its node", || here.plugin(TRADER)["node"] == node.as_str());
    cluster.agrees();
    plugin.eval("ok");
    plugin.kill();
    here.plugin_until(TRADER, "stopped");
    cluster.agrees();
    cluster.register(2, "hecate-thirdd", "1");
    cluster.register(1, TRADER, "2");
    cluster.agrees();
    assert_eq!(cluster.hosts[1].ask("DELETE", "/api/plugins/hecate-marthad").status, 200);
    assert_eq!(cluster.hosts[1].ask("DELETE", "/api/plugins/hecate-traderd").status, 200);
    cluster.agrees();
    wait_until_shown(here, &cluster.names[1], "connected", &[]);
    // All daemons register many plugins at the same time.
    for i in 0..50 {
        for at in 0..3 {
            cluster.register(at, &format!("hecate-n{i}d"), "1");
        }
    }
    cluster.agrees();
    for daemon in &cluster.daemons {
        assert_eq!(daemon.log_lines(&["ERROR"]), Vec::<String>::new());
    }
}

#[test]
fn plugins_of_a_dead_daemon_are_lost_until_it_returns() {
    let mut cluster = Cluster::new(2);
    cluster.register(0, TRADER, "0");
    cluster.register(1, TRADER, "1");
    cluster.agrees();
    let (a, b) = (0, cluster.names[1].clone());
    let before = view(&cluster.hosts[a]);
    let dead = cluster.daemons.pop().unwrap();
    dead.kill();
    wait_until_shown(&cluster.hosts[a], &b, "lost", &[(TRADER, "1")]);
    let after = view(&cluster.hosts[a]);
    let since = |view: &Value| view["hosts"][1]["since"].as_str().unwrap().to_owned();
    assert!(since(&after) > since(&before), "{before} {after}");
    assert_eq!(shown(&after, &b).unwrap().1, shown(&before, &b).unwrap().1, "the last known plugins");
    let again = cluster.start(1);
    cluster.daemons.push(again);
    cluster.agrees();
    assert!(since(&view(&cluster.hosts[a])) > since(&after));

    // The daemon returns with an empty database, and its revisions start again.
    cluster.daemons.pop().unwrap().kill();
    wait_until_shown(&cluster.hosts[a], &b, "lost", &[(TRADER, "1")]);
    std::fs::remove_dir_all(cluster.hosts[1].home().join(".hecate")).unwrap();
    let again = cluster.start(1);
    cluster.daemons.push(again);
    wait_until_shown(&cluster.hosts[a], &b, "connected", &[]);
    cluster.register(1, "hecate-newd", "1");
    wait_until_shown(&cluster.hosts[a], &b, "connected", &[("hecate-newd", "1")]);

    // A daemon that stops cleanly is lost as well.
    let (status, _, _) = cluster.daemons.pop().unwrap().terminate();
    assert!(status.success());
    wait_until_shown(&cluster.hosts[a], &b, "lost", &[("hecate-newd", "1")]);
}

#[test]
fn all_views_are_correct_after_a_netsplit() {
    let cluster = Cluster::new(3);
    for at in 0..3 {
        cluster.register(at, TRADER, "before");
    }
    cluster.agrees();
    // The third daemon is suspended while the others continue. It loses them and reconnects later.
    let apart = &cluster.names[2];
    cluster.daemons[2].stop();
    for at in 0..2 {
        wait_until_shown(&cluster.hosts[at], apart, "lost", &[(TRADER, "before")]);
        cluster.register(at, TRADER, "meanwhile");
        cluster.register(at, "hecate-newd", "1");
        assert_eq!(cluster.hosts[at].ask("DELETE", "/api/plugins/hecate-newd").status, 200);
    }
    cluster.daemons[2].resume();
    cluster.agrees();
    wait_until_shown(&cluster.hosts[2], &cluster.names[0], "connected", &[(TRADER, "meanwhile")]);
    cluster.register(2, TRADER, "after");
    cluster.agrees();
}

/// An Erlang node that acts as a hecate-daemon. The test sets its answers and events.
struct Other {
    erl: Erl,
    name: String,
}

impl Other {
    fn start(host: &Host) -> Self {
        let name = host.node("hecate_other");
        let mut erl = host.erl("hecate_other");
        erl.eval("element(1, pg:start_link())");
        Self { erl, name }
    }

    /// Starts `hecate_plugins`, which answers with what [`Self::set_answer`] has set.
    fn start_server(&mut self) {
        self.erl.eval(
            "put(server, spawn(fun() -> register(hecate_plugins, self()), pg:join(hecate_daemons, self()), \
               (fun Loop() -> receive {'$gen_call', From, snapshot} -> gen:reply(From, persistent_term:get(answer)) end, \
                 Loop() end)() end))",
        );
    }

    fn set_answer(&mut self, answer: &str) {
        self.erl.eval(&format!("persistent_term:put(answer, {answer})"));
    }

    fn send_event(&mut self, event: &str, map: &str) {
        let members = format!("pg:get_members({event})");
        self.erl.eval_until(&format!("length({members})"), "1", PATIENCE);
        self.erl.eval(&format!("[P ! {{{event}, {map}}} || P <- {members}]"));
    }
}

/// Returns the map of a plugin as daemons send it, with more pairs.
fn plugin_map(name: &str, version: &str, more: &str) -> String {
    format!(
        "#{{name => <<\"{name}\">>, version => <<\"{version}\">>, description => undefined, status => running, node => undefined, \
           socket => <<\"/s\">>, since => 1500, reason => <<\"it registered\">>{more}}}"
    )
}

fn snapshot(revision: u64, plugins: &[String]) -> String {
    format!("{{ok, #{{revision => {revision}, plugins => [{}]}}}}", plugins.join(","))
}

#[test]
fn a_view_recovers_from_missed_events_and_from_a_cut() {
    let cluster = Cluster::new(1);
    let (host, us) = (&cluster.hosts[0], cluster.names[0].clone());
    let mut other = Other::start(host);
    other.set_answer(&snapshot(5, &[plugin_map(TRADER, "5", "")]));
    other.start_server();
    wait_until_shown(host, &other.name, "connected", &[(TRADER, "5")]);
    let view = view(host);
    let entry = &view["plugins"][0];
    assert_eq!((&entry["host"], &entry["since"]), (&json!(host.name), &json!("1970-01-01T00:00:01.500Z")));
    assert_eq!(entry["reason_code"], "unknown", "an older daemon sends no reason code");

    // The next event is applied as sent, although the other daemon would still answer with the old
    // state.
    other.send_event(
        "plugin_status_changed_v1",
        &plugin_map(TRADER, "6", ", revision => 6, at => 1, reason_code => node_down"),
    );
    wait_until_shown(host, &other.name, "connected", &[(TRADER, "6")]);
    assert_eq!(self::view(host)["plugins"][0]["reason_code"], "node_down");
    other.send_event("plugin_registered_v1", &plugin_map(TRADER, "old", ", revision => 4, at => 1"));
    other.send_event("plugin_registered_v1", &plugin_map("hecate-marthad", "7", ", revision => 7, at => 1"));
    wait_until_shown(host, &other.name, "connected", &[("hecate-marthad", "7"), (TRADER, "6")]);
    // Event 8 is lost, so after event 9 the daemon asks the other one for all plugins.
    other.set_answer(&snapshot(9, &[plugin_map("hecate-otherd", "8", "")]));
    other.send_event("plugin_deregistered_v1", &plugin_map(TRADER, "6", ", revision => 9, at => 1"));
    wait_until_shown(host, &other.name, "connected", &[("hecate-otherd", "8")]);

    other.erl.eval(&format!("erlang:set_cookie('{us}', cut), erlang:disconnect_node('{us}')"));
    wait_until_shown(host, &other.name, "lost", &[("hecate-otherd", "8")]);
    other.set_answer(&snapshot(1, &[plugin_map("hecate-newd", "1", "")]));
    other.erl.eval(&format!("erlang:set_cookie('{us}', '{}')", host.cookie));
    other.erl.pings(&us);
    wait_until_shown(host, &other.name, "connected", &[("hecate-newd", "1")]);
    other.send_event("plugin_deregistered_v1", &plugin_map("hecate-newd", "1", ", revision => 2, at => 1"));
    wait_until_shown(host, &other.name, "connected", &[]);
    // A node that leaves the group is no longer a daemon.
    other.erl.eval("pg:leave(hecate_daemons, get(server))");
    wait_until_shown(host, &other.name, "lost", &[]);
}

#[test]
fn nodes_that_are_not_daemons_are_hidden_and_invalid_plugins_left_out() {
    let cluster = Cluster::new(1);
    let host = &cluster.hosts[0];
    let mut other = Other::start(host);
    // The node is in the group, but does not answer, neither before nor after it sends events.
    other.erl.eval("pg:join(hecate_daemons, self())");
    for rubbish in ["rubbish", "[]", "#{}", "#{revision => 1}", "#{revision => 1, name => <<\"../etc\">>}"] {
        other.send_event("plugin_registered_v1", rubbish);
    }
    other.send_event("plugin_deregistered_v1", "lists:seq(1, 100000)");
    other.send_event("plugin_registered_v1", &plugin_map(TRADER, "1", ", revision => 1, at => 1"));
    let hosts = |host: &Host| view(host)["hosts"].as_array().unwrap().len();
    assert_eq!(
        other.erl.eval(&format!("net_adm:ping('{}')", cluster.names[0])),
        "pong",
        "the daemon has handled all events"
    );
    assert_eq!(hosts(host), 1);

    other.set_answer("{error, notsup}");
    other.start_server();
    let long = format!("lists:duplicate({}, $x)", 4097);
    let rubbish = [
        "rubbish".to_owned(),
        plugin_map("../etc", "1", ""),
        plugin_map("hecate-traderw", "1", ""),
        plugin_map("hecate-ad", "1", ", status => happy"),
        plugin_map("hecate-bd", "1", ", since => -1"),
        plugin_map("hecate-cd", "1", ", since => 1 bsl 60"),
        plugin_map("hecate-dd", "1", &format!(", description => {long}")),
        plugin_map("hecate-ed", "1", ", reason => <<27, \"[2J\">>"),
        plugin_map("hecate-fd", "1", ", node => nowhere"),
    ];
    let all: Vec<String> = rubbish.iter().cloned().chain([plugin_map(TRADER, "1", "")]).collect();
    // The daemon retries with growing delays until the node answers.
    other.set_answer(&snapshot(1, &all));
    wait_until_shown(host, &other.name, "connected", &[(TRADER, "1")]);
    let of_other = view(host)["hosts"].as_array().unwrap().iter().find(|h| h["daemon"] == other.name).cloned();
    assert_eq!(of_other.unwrap()["left_out"], rubbish.len());
    assert_eq!(cluster.daemons[0].log_lines(&["ERROR"]), Vec::<String>::new());
}

#[test]
fn an_erlang_program_can_follow_a_daemon() {
    let cluster = Cluster::new(1);
    let (host, us) = (&cluster.hosts[0], &cluster.names[0]);
    cluster.register(0, TRADER, "1");
    let mut erl = host.erl("visitor");
    erl.eval(
        "element(1, pg:start_link()), [pg:join(E, self()) || E <- [plugin_registered_v1, plugin_deregistered_v1]]",
    );
    erl.eval_until(&format!("net_adm:ping('{us}')"), "pong", PATIENCE);
    erl.eval_until("length(pg:get_members(hecate_daemons))", "1", PATIENCE);
    let asked = format!(
        "{{ok, #{{revision := Revision, plugins := [#{{name := <<\"{TRADER}\">>, version := <<\"1\">>, status := running, \
           since := Since, reason := <<\"it registered\">>, \
           reason_code := registered, host := <<\"{}\">>}}]}}}} = \
           gen_server:call({{hecate_plugins, '{us}'}}, snapshot), put(revision, Revision), \
           abs(Since - erlang:system_time(millisecond)) < 60000",
        host.name
    );
    assert_eq!(erl.eval(&asked), "true");
    assert_eq!(host.ask("DELETE", "/api/plugins/hecate-traderd").status, 200);
    let next = "receive {plugin_deregistered_v1, #{revision := Next, since := _}} -> Next - get(revision) end";
    assert_eq!(erl.eval(next), "1");
}
