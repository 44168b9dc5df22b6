//! `global` and the mesh of our peers through partitions. No Erlang process hangs because of us,
//! and no node disconnects from another because of us. After a partition that also cut a link to
//! us, all nodes see each other again.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use support::daemon::Daemon;
use support::epmd::Epmd;
use support::erl::{Erl, Start};
use support::{Host, PATIENCE};

/// The time until the mesh is complete after a partition: the longest pause between two
/// introductions of a pair (10 s), plus the time that peers need on a machine with other work.
const HEALED: Duration = Duration::from_secs(20);

struct Mesh {
    host: Host,
    daemon: Daemon,
    erls: Vec<Erl>,
    names: Vec<String>,
    _epmd: Epmd,
}

impl Mesh {
    /// Starts `erls` real nodes and our node, all connected by our introductions alone.
    fn new(erls: usize, prevent_overlapping_partitions: &str) -> Self {
        let (host, epmd, daemon) = Host::running(&[]);
        let mut mesh = Self { host, daemon, erls: Vec::new(), names: Vec::new(), _epmd: epmd };
        for i in 0..erls {
            let name = format!("hecate_n{i}d");
            let args = ["-kernel", "prevent_overlapping_partitions", prevent_overlapping_partitions];
            let start = Start { name: Some(&name), args: &args, ..Start::default() };
            mesh.erls.push(Erl::start(&mesh.host, start));
            mesh.names.push(mesh.host.node(&name));
        }
        mesh.is_whole();
        for erl in &mut mesh.erls {
            erl.eval("net_kernel:monitor_nodes(true)");
        }
        mesh
    }

    /// Returns the full names of all other nodes and ours, as Erlang writes a sorted list.
    fn others(&self, at: usize) -> String {
        let us = self.host.node("hecate");
        let others = self.names.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, name)| format!("'{name}'"));
        let all: Vec<String> = others.chain([format!("'{us}'")]).collect();
        format!("lists:sort([{}])", all.join(","))
    }

    fn is_whole(&mut self) {
        let begun = Instant::now();
        for at in 0..self.erls.len() {
            let others = self.others(at);
            self.erls[at].eval_until(&format!("lists:sort(nodes()) =:= {others}"), "true", PATIENCE);
        }
        let took = begun.elapsed();
        assert!(took < HEALED, "the mesh was whole after {took:?}");
    }

    /// Calls functions of `global` that would hang if our node, or another node because of it, did
    /// not answer.
    fn global_works(&mut self) {
        for at in 0..self.erls.len() {
            let erl = &mut self.erls[at];
            assert_eq!(erl.eval("global:sync()"), "ok");
            // A new name and process each time. If a partition still has an earlier name when it
            // heals, `global` restores that name, and refuses a second name for the same process.
            let named = "Name = make_ref(), Named = spawn(fun() -> receive stop -> ok end end), \
                         [global:register_name(Name, Named), global:whereis_name(Name) =:= Named, \
                         element(1, {ok, global:unregister_name(Name), Named ! stop})]";
            assert_eq!(erl.eval(named), "[yes,true,ok]");
            assert_eq!(erl.eval("global:set_lock({a_lock, self()})"), "true");
            assert_eq!(erl.eval("global:del_lock({a_lock, self()})"), "true");
            assert_eq!(erl.eval("global:trans({a_lock, self()}, fun() -> done end)"), "done");
        }
    }

    /// Cuts two nodes from each other: neither accepts the other's cookie.
    fn cut(&mut self, a: usize, b: usize) {
        let (name_a, name_b) = (self.names[a].clone(), self.names[b].clone());
        self.erls[b].eval(&format!("erlang:set_cookie('{name_a}', cut)"));
        self.erls[a].eval(&format!("erlang:set_cookie('{name_b}', cut_too), erlang:disconnect_node('{name_b}')"));
        self.erls[a].eval_until(&format!("lists:member('{name_b}', nodes())"), "false", PATIENCE);
        self.erls[b].eval_until(&format!("lists:member('{name_a}', nodes())"), "false", PATIENCE);
    }

    /// Lets the pairs accept each other's cookies again. All of these nodes lose their links to us
    /// and reconnect, as after a partition that also cut them from us. If they stayed connected to
    /// us, we would not introduce them again.
    fn heal(&mut self, pairs: &[(usize, usize)]) {
        let (us, cookie) = (self.host.node("hecate"), self.host.cookie.clone());
        for (at, other) in pairs.iter().flat_map(|&(a, b)| [(a, b), (b, a)]) {
            let other = self.names[other].clone();
            self.erls[at].eval(&format!("erlang:set_cookie('{other}', '{cookie}')"));
        }
        let healed: BTreeSet<usize> = pairs.iter().flat_map(|&(a, b)| [a, b]).collect();
        for at in healed {
            self.erls[at].eval(&format!("erlang:disconnect_node('{us}')"));
            self.erls[at].eval_until(&format!("net_adm:ping('{us}')"), "pong", PATIENCE);
        }
    }

    /// Returns the nodes that a node has lost since the last call.
    fn lost(&mut self, at: usize) -> String {
        let drain = "(fun Drain(Seen) -> receive {nodedown, N} -> Drain([N | Seen]); {nodeup, _} -> Drain(Seen) \
                     after 0 -> lists:usort(Seen) end end)([])";
        self.erls[at].eval(drain)
    }

    /// Cuts a pair, and heals it.
    fn cut_and_healed(&mut self, a: usize, b: usize, guarded: bool) {
        for at in 0..self.erls.len() {
            self.lost(at);
        }
        self.cut(a, b);
        self.global_works();
        let (name_a, name_b) = (self.names[a].clone(), self.names[b].clone());
        let us = self.host.node("hecate");
        for at in 0..self.erls.len() {
            let lost = self.lost(at);
            assert!(!lost.contains(&us), "{lost}: a node has lost our node");
            // The guard against overlapping partitions disconnects the node that reported a lost
            // connection. That is the intent of Erlang.
            if !guarded {
                let expected = match at {
                    at if at == a => format!("[{name_b}]"),
                    at if at == b => format!("[{name_a}]"),
                    _ => "[]".to_owned(),
                };
                assert_eq!(lost, expected, "as {} saw it", self.names[at]);
            }
        }
        self.heal(&[(a, b)]);
        self.is_whole();
        self.global_works();
    }

    /// Kills one node, and starts it again.
    fn killed_and_back(&mut self, at: usize) {
        let name = self.names[at].split('@').next().unwrap().to_owned();
        let fresh = self.host.node(&name);
        self.erls.remove(at).kill();
        let gone = self.names.remove(at);
        assert_eq!(gone, fresh);
        self.is_whole();
        self.global_works();
        self.erls.push(self.host.erl(&name));
        self.names.push(gone);
        self.is_whole();
        self.global_works();
    }
}

fn partitions(erls: usize, guard: &str) {
    let mut mesh = Mesh::new(erls, guard);
    mesh.global_works();
    for a in 0..erls {
        for b in 0..erls {
            if a != b {
                mesh.cut_and_healed(a, b, guard == "true");
            }
        }
    }
    mesh.killed_and_back(0);
    assert_eq!(mesh.daemon.log_lines(&["ERROR"]), Vec::<String>::new());
}

#[test]
fn three_nodes_without_the_guard_recover_from_partitions() {
    partitions(2, "false");
}

#[test]
fn three_nodes_with_the_guard_recover_from_partitions() {
    partitions(2, "true");
}

#[test]
fn four_nodes_without_the_guard_recover_from_partitions() {
    partitions(3, "false");
}

#[test]
fn four_nodes_with_the_guard_recover_from_partitions() {
    partitions(3, "true");
}

/// One node after another loses our node, for so long that all nodes learn of it. No other
/// connection may end.
fn cut_from_us(guard: &str) {
    let mut mesh = Mesh::new(3, guard);
    let (us, cookie) = (mesh.host.node("hecate"), mesh.host.cookie.clone());
    for at in 0..3 {
        for erl in 0..3 {
            mesh.lost(erl);
        }
        mesh.erls[at].eval(&format!("erlang:set_cookie('{us}', cut), erlang:disconnect_node('{us}')"));
        // The node's message about its loss arrives at the others before its next question.
        mesh.global_works();
        for erl in 0..3 {
            let expected = if erl == at { format!("[{us}]") } else { "[]".to_owned() };
            assert_eq!(mesh.lost(erl), expected, "{} was cut from us, as {} saw it", mesh.names[at], mesh.names[erl]);
        }
        // Our node does not dial a node that had the wrong cookie, so that node dials ours.
        mesh.erls[at].eval(&format!("erlang:set_cookie('{us}', '{cookie}')"));
        mesh.erls[at].pings(&us);
        mesh.is_whole();
        mesh.global_works();
    }
}

#[test]
fn a_node_that_loses_the_daemon_keeps_the_others_without_the_guard() {
    cut_from_us("false");
}

#[test]
fn a_node_that_loses_the_daemon_keeps_the_others_with_the_guard() {
    cut_from_us("true");
}

/// Each node in turn is cut off, as when its host is, and then all nodes are.
#[test]
fn an_isolated_node_rejoins_all_others() {
    let mut mesh = Mesh::new(3, "true");
    for alone in 0..3 {
        for other in (0..3).filter(|other| *other != alone) {
            mesh.cut(alone, other);
        }
        mesh.global_works();
        let others = (0..3).filter(|other| *other != alone);
        mesh.heal(&others.map(|other| (alone, other)).collect::<Vec<_>>());
        mesh.is_whole();
    }
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        mesh.cut(a, b);
    }
    mesh.global_works();
    mesh.heal(&[(0, 1), (0, 2), (1, 2)]);
    mesh.is_whole();
    mesh.global_works();
}
