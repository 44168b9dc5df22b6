//! The daemon introduces only nodes that mesh by `global` themselves, and each pair once. Real
//! nodes that their administrator connected to some nodes only stay as they are, and
//! `global:sync/0` returns on all.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::time::Duration;

use support::daemon::Daemon;
use support::epmd::Epmd;
use support::erl::{Erl, Start};
use support::{Host, PATIENCE};

/// Two rounds, of 5 s each, on a machine with other work.
const ROUNDS: Duration = PATIENCE.saturating_mul(2);

struct Cluster {
    host: Host,
    _daemon: Daemon,
    _epmd: Epmd,
}

impl Cluster {
    fn new() -> Self {
        let (host, epmd, daemon) = Host::running(&[]);
        Self { host, _daemon: daemon, _epmd: epmd }
    }

    /// Starts a node that counts how many times the daemon asks for its `nodes()`.
    fn erl(&self, name: &str, args: &[&str]) -> Erl {
        let mut erl = Erl::start(&self.host, Start { name: Some(name), args, ..Start::default() });
        let count = "fun Count(N) -> receive \
                         {trace, _, call, {erpc, execute_call, [_, erlang, nodes, []]}} -> Count(N + 1); \
                         {count, From} -> From ! {count, N}, Count(N); \
                         _ -> Count(N) \
                     end end";
        erl.eval(&format!("register(counter, spawn(fun() -> ({count})(0) end))"));
        erl.eval("code:ensure_loaded(erpc), erlang:trace_pattern({erpc, execute_call, 4}, true, [])");
        erl.eval("erlang:trace(new_processes, true, [call, {tracer, whereis(counter)}])");
        erl
    }

    /// Waits until the daemon has asked each of these nodes for its `nodes()` twice. By then, the
    /// daemon has read at least one answer to a request that it sent after this call began.
    fn looks_again(&self, erls: &mut [&mut Erl]) {
        let asked: Vec<usize> = erls.iter_mut().map(|erl| erl.eval(ASKED).parse().unwrap()).collect();
        for (erl, asked) in erls.iter_mut().zip(asked) {
            erl.eval_until(&format!("({ASKED}) >= {}", asked + 2), "true", ROUNDS);
        }
    }

    fn others(&self, names: &[&str]) -> String {
        let names: Vec<_> = names.iter().map(|name| format!("'{}'", self.host.node(name))).collect();
        format!("[{}]", names.join(","))
    }

    /// Waits until the visible nodes that a node sees are these.
    fn sees(&self, erl: &mut Erl, names: &[&str]) {
        erl.eval_until(&format!("lists:sort(nodes()) =:= lists:sort({})", self.others(names)), "true", PATIENCE);
    }

    /// Checks that the visible nodes that a node sees are these now.
    fn still_sees(&self, erl: &mut Erl, names: &[&str]) {
        assert_eq!(erl.eval(&format!("lists:sort(nodes()) -- {}", self.others(names))), "[]", "of {names:?}");
        self.sees(erl, names);
    }
}

const ASKED: &str = "(fun() -> counter ! {count, self()}, receive {count, N} -> N end end)()";

fn syncs(erls: &mut [&mut Erl]) {
    for erl in erls {
        assert_eq!(erl.eval("global:sync()"), "ok");
    }
}

#[test]
fn a_node_without_connect_all_is_connected_to_the_daemon_only() {
    let cluster = Cluster::new();
    let mut lone = cluster.erl("hecate_lone", &["-connect_all", "false"]);
    cluster.sees(&mut lone, &["hecate"]);
    let mut ordinary = cluster.erl("hecate_a", &[]);
    let mut later = cluster.erl("hecate_b", &[]);
    cluster.sees(&mut later, &["hecate", "hecate_a"]);
    cluster.looks_again(&mut [&mut lone, &mut ordinary, &mut later]);
    cluster.still_sees(&mut lone, &["hecate"]);
    cluster.still_sees(&mut ordinary, &["hecate", "hecate_b"]);
    syncs(&mut [&mut lone, &mut ordinary, &mut later]);
}

#[test]
fn nodes_of_global_groups_are_connected_to_the_daemon_and_their_groups() {
    let cluster = Cluster::new();
    let names = ["hecate_a", "hecate_b", "hecate_c", "hecate_d"];
    let groups = format!("[{{one,{}}},{{two,{}}}]", cluster.others(&names[..2]), cluster.others(&names[2..]));
    let args = ["-kernel", "global_groups", groups.as_str()];
    let mut erls: Vec<Erl> = names.iter().map(|name| cluster.erl(name, &args)).collect();
    let mut ordinary = cluster.erl("hecate_o", &[]);
    cluster.sees(&mut ordinary, &["hecate"]);
    let mut all: Vec<&mut Erl> = erls.iter_mut().chain([&mut ordinary]).collect();
    cluster.looks_again(&mut all);
    for (at, erl) in erls.iter_mut().enumerate() {
        // The nodes of a group decide themselves whether they connect.
        let allowed = ["hecate", names[at ^ 1]];
        assert_eq!(erl.eval(&format!("nodes() -- {}", cluster.others(&allowed))), "[]", "of {}", names[at]);
    }
    cluster.still_sees(&mut ordinary, &["hecate"]);
    let mut all: Vec<&mut Erl> = erls.iter_mut().chain([&mut ordinary]).collect();
    syncs(&mut all);
}

/// `global:disconnect/0` closes the connection to us as well. We dial the node again, but do not
/// introduce it.
#[test]
fn a_node_that_global_disconnected_is_not_introduced_again() {
    let cluster = Cluster::new();
    let mut erls = ["hecate_a", "hecate_b", "hecate_c"].map(|name| cluster.erl(name, &[]));
    let [a, b, c] = &mut erls;
    cluster.sees(a, &["hecate", "hecate_b", "hecate_c"]);
    cluster.sees(b, &["hecate", "hecate_a", "hecate_c"]);
    cluster.looks_again(&mut [a, b, c]);
    a.eval("global:disconnect()");
    assert_eq!(a.eval("nodes()"), "[]");
    cluster.sees(a, &["hecate"]);
    cluster.looks_again(&mut [a, b, c]);
    cluster.still_sees(a, &["hecate"]);
    cluster.still_sees(b, &["hecate", "hecate_c"]);
    syncs(&mut [a, b, c]);
    // It stays so until it dials us.
    let us = cluster.host.node("hecate");
    a.eval(&format!("erlang:disconnect_node('{us}')"));
    a.eval_until(&format!("net_adm:ping('{us}')"), "pong", PATIENCE);
    cluster.sees(a, &["hecate", "hecate_b", "hecate_c"]);
    syncs(&mut [a, b, c]);
}

#[test]
fn a_pair_that_disconnects_is_introduced_again_when_one_dials_the_daemon() {
    let cluster = Cluster::new();
    let mut erls = ["hecate_a", "hecate_b"].map(|name| cluster.erl(name, &[]));
    let [a, b] = &mut erls;
    cluster.sees(a, &["hecate", "hecate_b"]);
    cluster.looks_again(&mut [a, b]);
    let (us, name_b) = (cluster.host.node("hecate"), cluster.host.node("hecate_b"));
    a.eval(&format!("erlang:disconnect_node('{name_b}')"));
    cluster.looks_again(&mut [a, b]);
    cluster.still_sees(a, &["hecate"]);
    cluster.still_sees(b, &["hecate"]);
    syncs(&mut [a, b]);
    a.eval(&format!("erlang:disconnect_node('{us}')"));
    a.eval_until(&format!("net_adm:ping('{us}')"), "pong", PATIENCE);
    cluster.sees(a, &["hecate", "hecate_b"]);
    syncs(&mut [a, b]);
}

#[test]
fn a_node_whose_global_answers_late_is_introduced_then() {
    let cluster = Cluster::new();
    let mut late = cluster.erl("late", &[]);
    let mut ordinary = cluster.erl("hecate_a", &[]);
    let us = cluster.host.node("hecate");
    late.eval("sys:suspend(global_name_server)");
    late.pings(&us);
    cluster.looks_again(&mut [&mut late, &mut ordinary]);
    cluster.still_sees(&mut late, &["hecate"]);
    late.eval("sys:resume(global_name_server)");
    cluster.sees(&mut late, &["hecate", "hecate_a"]);
    syncs(&mut [&mut late, &mut ordinary]);
}
