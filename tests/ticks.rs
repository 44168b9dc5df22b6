//! Ticks between our node and real nodes, whose `net_ticktime` may be equal, shorter or longer.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use support::erl::{Erl, Start};
use support::{Host, PATIENCE, wait_for};

/// The test waits several times as long as both ends may be silent.
const A_WHILE: u32 = 9_000;

/// Starts a node with this tick time in seconds.
fn node(host: &Host, name: &str, tick_time: &str) -> Erl {
    let args = ["-kernel", "net_ticktime", tick_time];
    Erl::start(host, Start { name: Some(name), args: &args, ..Start::default() })
}

/// Checks that a connection with only ticks stays open.
fn idles(ours: &str, theirs: &str) {
    let host = Host::new();
    let _epmd = host.epmd();
    let daemon = host.daemon(&[("HECATE_NET_TICKTIME", ours)]);
    let us = daemon.ready();
    // A name that the daemon does not dial, and no introductions, so there are no other messages.
    let mut erl = node(&host, "visitor", theirs);
    erl.pings(&us);
    assert_eq!(erl.eval("net_kernel:get_net_ticktime()"), theirs);
    // In milliseconds, as an Erlang node answers.
    let unit = "gen_server:call(net_kernel, ticktime) div net_kernel:get_net_ticktime()";
    assert_eq!(erl.eval(&format!("gen_server:call({{net_kernel, '{us}'}}, ticktime) div ({unit})")), ours);
    erl.eval(&format!("monitor_node('{us}', true)"));
    let idle = format!("receive {{nodedown, _}} -> lost after {A_WHILE} -> still_there end");
    assert_eq!(erl.eval(&idle), "still_there");
    assert_eq!(host.peer(&host.node("visitor")).as_deref(), Some("connected"));
    assert_eq!(daemon.log_lines(&["node down"]), Vec::<String>::new());
}

#[test]
fn equal_tick_times_keep_an_idle_connection() {
    idles("4", "4");
}

#[test]
fn a_shorter_tick_time_of_the_peer_keeps_an_idle_connection() {
    idles("60", "4");
}

#[test]
fn a_longer_tick_time_of_the_peer_keeps_an_idle_connection() {
    idles("4", "60");
}

#[test]
fn a_suspended_peer_is_dropped_in_time_and_reconnects() {
    let host = Host::new();
    let _epmd = host.epmd();
    let daemon = host.daemon(&[("HECATE_NET_TICKTIME", "4")]);
    let us = daemon.ready();
    let mut erl = node(&host, "hecate_traderd", "4");
    let peer = host.node("hecate_traderd");
    erl.eval_until("nodes()", &format!("[{us}]"), PATIENCE);
    erl.stop();
    wait_for("the peer is dropped", || host.peer(&peer).as_deref() == Some("disconnected"));
    daemon.logs(&["node down", "nothing received", "net_tick_timeout"]);
    erl.resume();
    wait_for("the peer reconnects", || host.peer(&peer).as_deref() == Some("connected"));
    erl.eval_until("nodes()", &format!("[{us}]"), PATIENCE);
    erl.pings(&us);
}

#[test]
fn a_suspended_daemon_is_dropped_and_reconnects() {
    let host = Host::new();
    let _epmd = host.epmd();
    let daemon = host.daemon(&[("HECATE_NET_TICKTIME", "4")]);
    let us = daemon.ready();
    let mut erl = node(&host, "hecate_traderd", "4");
    erl.eval_until("nodes()", &format!("[{us}]"), PATIENCE);
    daemon.stop();
    erl.eval_until("nodes()", "[]", PATIENCE);
    daemon.resume();
    erl.eval_until("nodes()", &format!("[{us}]"), PATIENCE);
    erl.pings(&us);
}
