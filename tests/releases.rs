//! Clusters of several OTP releases and our node. All nodes see each other's groups, and the
//! daemon's messages do not crash a scope of any release.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::process::Command;

use serde_json::json;
use support::daemon::Daemon;
use support::epmd::Epmd;
use support::erl::{Erl, Start};
use support::{Host, PATIENCE};

/// The release of the system's `erl`.
const OF_THE_SYSTEM: &str = "25";

/// The other releases, with their names in `releases.sh`: the suite of Debian that contains the
/// release, if any.
const SUITES: [(&str, &str); 3] = [("27", "trixie"), ("28", "28"), ("29", "sid")];

/// Returns the `erl` of a release.
fn program(release: &str) -> Option<String> {
    let (_, suite) = SUITES.iter().find(|(its, _)| *its == release)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/releases.sh");
    let unpacked = Command::new(script).arg(suite).output().expect("the script runs");
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
    Some(format!("{}/erl", String::from_utf8_lossy(&unpacked.stdout).trim()))
}

struct Cluster {
    host: Host,
    nodes: Vec<Node>,
    daemon: Option<Daemon>,
    _epmd: Epmd,
}

struct Node {
    erl: Erl,
    name: String,
    release: &'static str,
    program: Option<String>,
    scope: String,
}

impl Node {
    /// A scope that supports version 1 of the protocol uses it with us, as its state shows. Older
    /// scopes support only version 0.
    fn speaks_its_version(&mut self, us: &str) {
        if self.release == "29" {
            let version = "[V || {P, {_, V, _}} <- maps:to_list(element(8, sys:get_state(pg))), node(P) =:=";
            self.erl.eval_until(&format!("{version} '{us}']"), "[1]", PATIENCE);
        }
    }
}

impl Cluster {
    fn with(releases: &[&'static str], environment: &[(&str, &str)]) -> Self {
        let (host, epmd, daemon) = Host::running(environment);
        let mut cluster = Self { host, nodes: Vec::new(), daemon: Some(daemon), _epmd: epmd };
        for release in releases {
            let node = cluster.start(release, program(release));
            cluster.nodes.push(node);
        }
        cluster
    }

    /// Starts a node of that release, with pg and a member in a group of all nodes. It knows only
    /// our names in EPMD.
    fn start(&self, release: &'static str, program: Option<String>) -> Node {
        let short = format!("hecate_otp{release}d");
        let start = Start { name: Some(&short), program: program.as_deref(), ..Start::default() };
        let mut erl = Erl::start(&self.host, start);
        assert_eq!(erl.eval("list_to_integer(erlang:system_info(otp_release))"), release);
        erl.eval("{ok, _} = pg:start_link(), pg:join(everybody, self())");
        let scope = erl.eval("pid_to_list(whereis(pg))");
        Node { erl, name: self.host.node(&short), release, program, scope }
    }

    /// Checks that all nodes see whether the plugin runs, and that their scopes still run.
    fn sees_the_plugin(&mut self, runs: bool) {
        for node in &mut self.nodes {
            let members = "length(pg:get_members({hecate_plugin, <<\"hecate-traderd\">>}))";
            node.erl.eval_until(members, if runs { "1" } else { "0" }, PATIENCE);
            assert_eq!(
                node.erl.eval("pid_to_list(whereis(pg))"),
                node.scope,
                "the scope of {} has restarted",
                node.release
            );
            node.speaks_its_version(&self.host.node("hecate"));
        }
    }

    /// Checks that all nodes are connected, see the same members, and call us and each other.
    fn is_whole(&mut self) {
        let us = self.host.node("hecate");
        let mut names: Vec<String> = self.nodes.iter().map(|node| node.name.clone()).collect();
        names.sort();
        let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
        let all = quoted.join(",");
        for node in &mut self.nodes {
            let others = format!("lists:sort([node() | nodes()]) =:= lists:sort(['{us}',{all}])");
            node.erl.eval_until(&others, "true", PATIENCE);
            let members = format!("lists:sort([node(P) || P <- pg:get_members(everybody)]) =:= lists:sort([{all}])");
            node.erl.eval_until(&members, "true", PATIENCE);
            let proxies = "[node(P) || P <- pg:get_members({hecate_plugin, <<\"hecate-traderd\">>})]";
            node.erl.eval_until(&format!("{proxies} =:= ['{us}']"), "true", PATIENCE);
            assert_eq!(node.erl.eval(&format!("net_adm:ping('{us}')")), "pong", "{}", node.release);
            let called = format!("[erpc:call(N, erlang, node, []) || N <- [{all}]] =:= [{all}]");
            assert_eq!(node.erl.eval(&called), "true", "{}", node.release);
            let paths = format!("is_list(erpc:call('{us}', shared_paths, base_dir, []))");
            assert_eq!(node.erl.eval(&paths), "true", "{}", node.release);
            assert_eq!(node.erl.eval("global:sync()"), "ok", "{}", node.release);
            assert_eq!(
                node.erl.eval("pid_to_list(whereis(pg))"),
                node.scope,
                "the scope of {} has restarted",
                node.release
            );
            node.speaks_its_version(&us);
        }
    }
}

fn whole_through_kills_and_returns(releases: &[&'static str]) {
    let mut cluster = Cluster::with(releases, &[]);
    cluster.host.register_named("hecate-traderd");
    cluster.is_whole();
    for i in 0..cluster.nodes.len() {
        let Node { erl, release, program, .. } = cluster.nodes.remove(i);
        erl.kill();
        for node in &mut cluster.nodes {
            let count = format!("{}", releases.len() - 1);
            node.erl.eval_until("length(pg:get_members(everybody))", &count, PATIENCE);
        }
        let back = cluster.start(release, program);
        cluster.nodes.insert(i, back);
        cluster.is_whole();
    }
    // Our daemon ends and restarts twice: killed, and stopped cleanly.
    cluster.daemon.take().unwrap().kill();
    for node in &mut cluster.nodes {
        node.erl.eval_until("pg:get_members(hecate_plugins)", "[]", PATIENCE);
    }
    let daemon = cluster.host.daemon(&[]);
    daemon.ready();
    cluster.host.register_named("hecate-traderd");
    cluster.is_whole();
    daemon.terminate();
    for node in &mut cluster.nodes {
        node.erl.eval_until("pg:get_members(hecate_plugins)", "[]", PATIENCE);
        assert_eq!(node.erl.eval("pid_to_list(whereis(pg))"), node.scope);
    }
}

#[test]
fn otp_27_and_29_form_a_cluster_with_the_daemon() {
    whole_through_kills_and_returns(&["27", "29"]);
}

#[test]
fn otp_28_and_29_form_a_cluster_with_the_daemon() {
    whole_through_kills_and_returns(&["28", "29"]);
}

#[test]
fn otp_25_and_27_form_a_cluster_with_the_daemon() {
    whole_through_kills_and_returns(&[OF_THE_SYSTEM, "27"]);
}

#[test]
fn otp_25_and_28_form_a_cluster_with_the_daemon() {
    whole_through_kills_and_returns(&[OF_THE_SYSTEM, "28"]);
}

/// The `pg` of OTP 29 crashes the `pg` of OTP 25 when the two connect. So the daemon does not
/// introduce these nodes to each other, not even through a node of OTP 27, and stays connected to
/// both.
#[test]
fn otp_25_and_29_are_kept_apart_and_27_joins_29() {
    let mut cluster = Cluster::with(&[OF_THE_SYSTEM, "29"], &[]);
    for registered in [true, false, true] {
        let answer = match registered {
            true => cluster.host.register(&json!({"name": "hecate-traderd"})),
            false => cluster.host.ask("DELETE", "/api/plugins/hecate-traderd"),
        };
        assert!(matches!(answer.status, 200 | 201));
        cluster.sees_the_plugin(registered);
    }
    let daemon = cluster.daemon.as_ref().unwrap();
    daemon.logs(&["are not introduced to nodes with OTP 29", "old=hecate_otp25d", "new=hecate_otp29d"]);
    let node = cluster.start("27", program("27"));
    cluster.nodes.push(node);
    let new = cluster.nodes[1].name.clone();
    cluster.nodes[2].erl.eval_until(&format!("lists:member('{new}', nodes())"), "true", PATIENCE);
    cluster.sees_the_plugin(true);
    assert_eq!(cluster.nodes[0].erl.eval("length(nodes())"), "1", "OTP 25 knows only us");
}
