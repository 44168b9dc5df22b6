//! Plugins in separate pid namespaces, as in pods, and daemons on two hosts, each a network
//! namespace. Run as root: `cargo test --features system-tests --test namespaces`.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use serde_json::{Value, json};
use support::daemon::Daemon;
use support::erl::{Erl, Start};
use support::network::Network;
use support::plugin::TRADER;
use support::{Host, PATIENCE, wait_for};

/// A grace period that a test can wait for.
const GRACE: (&str, &str) = ("HECATE_REGISTRATION_GRACE", "1");

fn as_root() {
    assert!(rustix::process::geteuid().is_root(), "these tests make namespaces: run them as root, in a container");
}

#[test]
fn a_pid_of_another_namespace_is_ignored() {
    as_root();
    let host = Host::new();
    let daemon = host.daemon(&[GRACE]);
    daemon.ready();
    let through = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let mut inside = Erl::start(&host, Start { through: &through, ..Start::default() });
    let mut outside = Erl::start(&host, Start::default());
    assert_eq!(inside.eval("os:getpid()"), r#""1""#);
    // Two of the plugins run in the namespace. One writes its pid there. The other writes the pid
    // that the registering process has outside, which is another process inside.
    let (other, martha) = ("hecate-otherd", "hecate-marthad");
    for (plugin, is_inside) in [(TRADER, true), (other, true), (martha, false)] {
        let erl = if is_inside { &mut inside } else { &mut outside };
        host.register_named(plugin);
        erl.binds(&host.api_sock(plugin));
        erl.writes_run_files(&host.namespace(plugin).join("run"));
        erl.registers(&host, plugin);
    }
    let children = format!("/proc/{pid}/task/{pid}/children", pid = inside.id());
    let pid_here = std::fs::read_to_string(children).unwrap().trim().to_owned();
    std::fs::write(host.namespace(other).join("run/daemon.pid"), &pid_here).unwrap();
    host.grace_passes();
    for plugin in [TRADER, other, martha] {
        assert_eq!(host.plugin(plugin)["status"], "running");
    }

    inside.kill();
    for plugin in [TRADER, other] {
        let stopped = host.plugin_until(plugin, "stopped");
        assert_eq!(stopped["reason"], "its socket refuses connections");
        wait_for("the dead socket is removed", || !host.api_sock(plugin).exists());
    }
    // Once the daemon has removed the run files of a plugin that stops later, it has also had time
    // to remove the files of the others.
    outside.kill();
    wait_for("the run files are removed", || !host.namespace(martha).join("run/daemon.pid").exists());
    for (plugin, pid) in [(TRADER, "1"), (other, &pid_here)] {
        let file = |name: &str| std::fs::read_to_string(host.namespace(plugin).join("run").join(name)).unwrap();
        assert_eq!((file("daemon.pid").as_str(), file("daemon.state").as_str()), (pid, "running"), "{plugin}");
    }
}

/// One of two network namespaces.
struct Side {
    network: Network,
    address: &'static str,
}

impl Side {
    /// Creates two that reach each other.
    fn pair() -> [Self; 2] {
        let [a, b] = ["10.77.0.1", "10.77.0.2"].map(|address| Self { network: Network::new(), address });
        a.network.ip(&format!("link add us type veth peer name us netns {}", b.network.id()));
        for side in [&a, &b] {
            side.network.ip(&format!("address add {}/24 dev us", side.address));
            side.network.ip("link set us up");
        }
        [a, b]
    }

    fn daemon(&self, host: &Host, other: &Self) -> Daemon {
        let peer = format!("hecate@{}", other.address);
        let tick = ("HECATE_NET_TICKTIME", "4");
        let environment = [("HECATE_HOSTNAME", self.address), ("HECATE_CLUSTER_PEERS", &peer), tick];
        self.network.inside(|| host.daemon(&environment))
    }

    /// Starts the node of the plugin on this host, with pg.
    fn plugin(&self, host: &Host) -> Erl {
        let mut erl = self.network.inside(|| host.erl(&host.node("hecate_traderd")));
        erl.eval("element(1, pg:start_link())");
        erl
    }
}

/// Returns the node and the host that each proxy of the trader reports.
const TOLD: &str = r#"lists:sort([{Node, Host} || P <- pg:get_members({hecate_plugin, <<"hecate-traderd">>}),
                      #{node := Node, host := Host} <- [gen_server:call(P, info)]])"#;

/// Creates two hosts of one cluster: the same cookie, and EPMD on the same port.
fn hosts(networks: &[Side; 2]) -> [Host; 2] {
    let mut hosts = [Host::new(), Host::new()];
    for (host, network) in hosts.iter_mut().zip(networks) {
        host.name = network.address.to_owned();
    }
    hosts[1].epmd_port = hosts[0].epmd_port;
    hosts[1].cookie = hosts[0].cookie.clone();
    hosts
}

#[test]
fn plugins_of_the_same_name_on_two_hosts_are_separate() {
    as_root();
    let networks = Side::pair();
    let hosts = hosts(&networks);
    let [a, b] = &hosts;
    let daemons = [networks[0].daemon(a, &networks[1]), networks[1].daemon(b, &networks[0])];
    for (daemon, host) in daemons.iter().zip(&hosts) {
        assert_eq!(daemon.ready(), host.node("hecate"));
        assert_eq!(host.register(&json!({"name": TRADER, "version": host.name})).status, 201);
    }
    let mut at_a = networks[0].plugin(a);
    let at_b = networks[1].plugin(b);
    for host in &hosts {
        wait_for("the plugin has the node of its host", || host.plugin(TRADER)["node"] == host.node("hecate_traderd"));
        for other in &hosts {
            if other.name != host.name {
                wait_for("the node of the other host is connected", || {
                    host.peer(&other.node("hecate_traderd")).as_deref() == Some("connected")
                });
            }
        }
        let plugin = host.plugin(TRADER);
        assert_eq!((&plugin["status"], &plugin["version"]), (&json!("running"), &json!(host.name)));
        assert_eq!(plugin["node"], host.node("hecate_traderd"), "the node of the other host, which is connected too");
    }
    let proxy = |host: &Host| format!("{{'{}', <<\"{}\">>}}", host.node("hecate_traderd"), host.name);
    let both = format!("{TOLD} =:= [{}, {}]", proxy(a), proxy(b));
    at_a.eval_until(&both, "true", PATIENCE);

    let before = a.plugin(TRADER);
    at_b.kill();
    b.plugin_until(TRADER, "stopped");
    at_a.eval_until(&format!("{TOLD} =:= [{}]", proxy(a)), "true", PATIENCE);
    assert_eq!(a.plugin(TRADER), before);
    let mut at_b = networks[1].plugin(b);
    b.plugin_until(TRADER, "running");
    at_b.eval_until(&both, "true", PATIENCE);
    assert_eq!(b.ask("DELETE", "/api/plugins/hecate-traderd").status, 200);
    at_b.eval_until(&format!("{TOLD} =:= [{}]", proxy(a)), "true", PATIENCE);
    assert_eq!((a.plugin(TRADER), b.ask("GET", "/api/plugins").body), (before, json!([])));
}

/// Returns the state of the daemon on `of` as `viewer` shows it, and the versions of its plugins.
fn shown(viewer: &Host, of: &Host) -> (String, Vec<String>) {
    let view = viewer.ask("GET", "/api/cluster/plugins").body;
    let daemon = of.node("hecate");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut hosts = view["hosts"].as_array().unwrap().iter();
    let state = hosts.find(|host| host["daemon"] == daemon).map(|host| text(&host["state"]));
    let plugins = view["plugins"].as_array().unwrap().iter().filter(|plugin| plugin["daemon"] == daemon);
    (state.unwrap_or_default(), plugins.map(|plugin| text(&plugin["version"])).collect())
}

#[test]
fn after_a_cut_both_hosts_show_what_happened_meanwhile() {
    as_root();
    let networks = Side::pair();
    let hosts = hosts(&networks);
    let [a, b] = &hosts;
    let daemons = [networks[0].daemon(a, &networks[1]), networks[1].daemon(b, &networks[0])];
    for (daemon, host) in daemons.iter().zip(&hosts) {
        assert_eq!(daemon.ready(), host.node("hecate"));
    }
    let both_show = |state: &str, versions: [&[&str]; 2]| {
        for (viewer, (of, versions)) in [(b, (a, versions[0])), (a, (b, versions[1]))] {
            let expected = (state.to_owned(), versions.iter().map(|v| (*v).to_owned()).collect());
            wait_for(&format!("{} shows {expected:?} of {}", viewer.name, of.name), || shown(viewer, of) == expected);
            assert_eq!(shown(viewer, viewer).0, "connected", "a daemon shows itself as lost");
        }
    };
    let register = |host: &Host, version: &str| {
        assert_eq!(host.register(&json!({"name": TRADER, "version": version})).status, 201);
    };
    register(a, "a1");
    both_show("connected", [&["a1"], &[]]);
    for round in ["2", "3"] {
        let before = [shown(b, a).1, shown(a, b).1];
        let before = before.each_ref().map(|versions| versions.iter().map(String::as_str).collect::<Vec<_>>());
        networks[0].network.ip("link set us down");
        both_show("lost", [&before[0], &before[1]]);
        let now = [format!("a{round}"), format!("b{round}")];
        register(a, &now[0]);
        register(b, &now[1]);
        networks[0].network.ip("link set us up");
        both_show("connected", [&[&now[0]], &[&now[1]]]);
    }
}
