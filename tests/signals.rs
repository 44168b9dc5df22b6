//! Links, monitors, exits and messages between real Erlang processes and ours, in every order.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use beam::dist::Identity;
use beam::dist::control::{Control, Proc};
use beam::dist::flags::{self, Flags};
use beam::dist::frames::Frames;
use beam::dist::link::LinkEvent;
use beam::dist::setup;
use beam::etf::{Atom, Pid, Raw, Reference, ReferenceIds, Term};
use support::daemon::Daemon;
use support::epmd::Epmd;
use support::erl::Erl;
use support::node::{address, identity, start_link};
use support::{Host, PATIENCE};
use tokio::net::TcpStream;
use tokio::time::timeout;

struct World {
    host: Host,
    erl: Erl,
    daemon: Option<Daemon>,
    _epmd: Epmd,
}

/// A process of the node that runs the funs that `Do` sends it, and reports the messages that it
/// gets.
const HELPERS: &str = "
    Next = fun(Ref) -> receive {'DOWN', Ref, process, _, Reason} -> Reason after 20000 -> nothing end end,
    Exit = fun(Pid) -> receive {'EXIT', Pid, Reason} -> Reason after 20000 -> nothing end end,
    Nothing = fun() -> receive {'EXIT', _, _} = M -> M; {'DOWN', _, _, _, _} = M -> M after 0 -> nothing end end,
    Barrier = fun() -> gen_server:call({hecate_plugins, Us}, list, infinity) end,
    Proxy = fun() -> hd(pg:get_members({hecate_plugin, <<\"hecate-traderd\">>})) end,";

impl World {
    fn new() -> Self {
        let (host, epmd, daemon) = Host::running(&[]);
        let mut erl = host.erl("caller");
        erl.pings(&host.node("hecate"));
        assert_eq!(erl.eval("{ok, _} = pg:start_link(), process_flag(trap_exit, true)"), "false");
        let mut world = Self { host, erl, daemon: Some(daemon), _epmd: epmd };
        world.register();
        world
    }

    fn register(&mut self) {
        self.host.register_named("hecate-traderd");
        self.erl.eval_until("length(pg:get_members({hecate_plugin, <<\"hecate-traderd\">>}))", "1", PATIENCE);
    }

    fn deregister(&mut self) {
        assert_eq!(self.host.ask("DELETE", "/api/plugins/hecate-traderd").status, 200);
    }

    fn eval(&mut self, expression: &str) -> String {
        self.erl.eval(&format!("Us = '{}', {HELPERS} {expression}", self.host.node("hecate")))
    }
}

#[test]
fn the_end_of_a_process_reaches_links_and_monitors() {
    let mut world = World::new();
    world.eval(
        "P = Proxy(), put(p, P), put(one, monitor(process, P)), put(two, monitor(process, P)), link(P), Barrier()",
    );
    world.deregister();
    assert_eq!(world.eval("[Next(get(one)), Next(get(two)), Exit(get(p))]"), "[shutdown,shutdown,shutdown]");
    assert_eq!(world.eval("Nothing()"), "nothing", "a signal came twice");
    assert_eq!(world.eval("Next(monitor(process, get(p)))"), "noproc", "a monitor of an ended process");
    assert_eq!(world.eval("link(get(p)), Exit(get(p))"), "noproc");
}

#[test]
fn unlink_and_demonitor_stop_all_signals() {
    let mut world = World::new();
    let before = "P = Proxy(), put(p, P), link(P), unlink(P), true = demonitor(monitor(process, P)), \
                  link(P), unlink(P), link(P), put(one, monitor(process, P)), Barrier()";
    world.eval(before);
    world.deregister();
    assert_eq!(world.eval("[Exit(get(p)), Next(get(one)), Nothing()]"), "[shutdown,shutdown,nothing]");
    world.register();
    world.eval("P = Proxy(), put(p, P), link(P), unlink(P), demonitor(monitor(process, P)), Barrier()");
    // The unlink is acknowledged. Until then, the peer remembers the link and ignores its signals.
    let remembered = "erts_debug:set_internal_state(available_internal_state, true), \
                      [State || {erl_link, dist_process, _, State, _} <- erts_debug:get_internal_state({link_list, self()})]";
    assert_eq!(world.eval(remembered), "[]");
    world.eval("put(one, monitor(process, get(p))), Barrier()");
    world.deregister();
    assert_eq!(world.eval("[Next(get(one)), Nothing()]"), "[shutdown,nothing]", "the remaining monitor");
}

#[test]
fn a_linked_process_that_crashes_ends_none_of_our_processes() {
    let mut world = World::new();
    let ended = "P = Proxy(), {Q, Ref} = spawn_monitor(fun() -> link(P), monitor(process, P), Barrier(), exit(crash) end), \
                 {Next(Ref), Barrier(), P =:= Proxy(), gen_server:call(P, info) =/= []}";
    let ended = world.eval(&ended.replace("{Q, Ref}", "{_, Ref}"));
    assert!(ended.starts_with("{crash,{ok,") && ended.ends_with("true,true}"), "{ended}");
}

#[test]
fn only_kill_ends_a_process_from_outside_and_it_is_replaced() {
    let mut world = World::new();
    world.eval("P = Proxy(), put(p, P), put(one, monitor(process, P)), [exit(P, R) || R <- [normal, shutdown, crash]], Barrier()");
    assert_eq!(world.eval("{Nothing(), get(p) =:= Proxy()}"), "{nothing,true}");
    world.eval("exit(get(p), kill)");
    assert_eq!(world.eval("Next(get(one))"), "killed");
    world.erl.eval_until("hd(pg:get_members({hecate_plugin, <<\"hecate-traderd\">>})) =/= get(p)", "true", PATIENCE);
    assert_eq!(world.eval("#{name := Name} = gen_server:call(Proxy(), info), Name"), "<<\"hecate-traderd\">>");
    // `gen_server:stop/1` returns after the process has ended.
    assert_eq!(world.eval("P = Proxy(), put(p, P), put(one, monitor(process, P)), gen_server:stop(P)"), "ok");
    assert_eq!(world.eval("Next(get(one))"), "normal");
    world.erl.eval_until("hd(pg:get_members({hecate_plugin, <<\"hecate-traderd\">>})) =/= get(p)", "true", PATIENCE);
    world.deregister();
    world.erl.eval_until("pg:get_members({hecate_plugin, <<\"hecate-traderd\">>})", "[]", PATIENCE);
}

#[test]
fn killed_services_are_restarted() {
    let mut world = World::new();
    for name in ["net_kernel", "rex", "pg", "hecate_plugins"] {
        let killed = format!(
            "{{status, P, _, _}} = sys:get_status({{{name}, Us}}), Ref = monitor(process, P), exit(P, kill), \
             {{Next(Ref), element(2, sys:get_status({{{name}, Us}})) =/= P}}"
        );
        assert_eq!(world.eval(&killed), "{killed,true}", "{name}");
    }
    assert_eq!(world.eval("net_adm:ping(Us)"), "pong");
    world.erl.eval_until("length(pg:get_members({hecate_plugin, <<\"hecate-traderd\">>}))", "1", PATIENCE);
    world.erl.eval_until("length(pg:get_members(hecate_daemons))", "1", PATIENCE);
    world.deregister();
    world.erl.eval_until("pg:get_members({hecate_plugin, <<\"hecate-traderd\">>})", "[]", PATIENCE);
}

#[test]
fn a_lost_node_ends_links_and_monitors_and_its_pids_stay_dead() {
    let mut world = World::new();
    world.eval(
        "P = Proxy(), put(p, P), put(one, monitor(process, P)), put(two, monitor(process, {hecate_plugins, Us})), \
                monitor_node(Us, true), link(P), Barrier()",
    );
    world.daemon.take().unwrap().kill();
    assert_eq!(
        world.eval(
            "[Next(get(one)), Next(get(two)), Exit(get(p)), receive {nodedown, Us} -> down after 20000 -> up end]"
        ),
        "[noconnection,noconnection,noconnection,down]"
    );
    let again = world.host.daemon(&[]);
    again.ready();
    world.erl.eval_until(&format!("net_adm:ping('{}')", world.host.node("hecate")), "pong", PATIENCE);
    world.register();
    // The same number, but another creation of our name.
    assert_eq!(world.eval("Next(monitor(process, get(p)))"), "noproc");
    assert_eq!(world.eval("link(get(p)), Exit(get(p))"), "noproc");
    assert_eq!(world.eval("get(p) ! lost, exit(get(p), kill), Barrier(), element(1, {Proxy() =/= get(p)})"), "true");
}

#[test]
fn calls_work_through_aliases_with_trace_tokens_and_with_priority() {
    let mut world = World::new();
    // `gen_server:call` monitors with an alias. A token of seq_trace is sent with every signal,
    // until a message without one is received.
    let traced = "Traced = fun(Do) -> \
                      seq_trace:set_token(label, {any, term}), seq_trace:set_token(send, true), \
                      try Do() after seq_trace:set_token([]) end end, \
                  P = Proxy(), monitor_node(Us, true), \
                  R = Traced(fun() -> gen_server:call(P, info, infinity) end), \
                  {ok, [_]} = Traced(fun() -> gen_server:call({hecate_plugins, Us}, list, infinity) end), \
                  L = Traced(fun() -> link(P), unlink(P), ok end), \
                  D = Traced(fun() -> demonitor(monitor(process, P)) end), \
                  E = Traced(fun() -> exit(P, shutdown), ok end), \
                  {_, Ref} = spawn_monitor(fun() -> link(P), seq_trace:set_token(label, {any, term}), exit(crash) end), \
                  crash = Next(Ref), \
                  X = Traced(fun() -> erpc:call(Us, shared_paths, base_dir, []) end), \
                  {is_map(R), L, D, E, is_list(X)}";
    assert_eq!(world.eval(traced), "{true,ok,true,ok,true}");
    let connection = "Barrier(), receive {nodedown, Us} -> lost after 0 -> kept end";
    assert_eq!(world.eval(connection), "kept", "a signal could not be decoded");
    // An alias that the caller made, which accepts one answer.
    let alias = "A = alias([reply]), {hecate_plugins, Us} ! {'$gen_call', {self(), [alias|A]}, list}, \
                 receive {[alias|A], {ok, [_]}} -> answered after 20000 -> nothing end";
    assert_eq!(world.eval(alias), "answered");
    if world.eval("list_to_integer(erlang:system_info(otp_release)) >= 28") == "true" {
        let priority = "A = erlang:alias([priority, reply]), \
                        erlang:send({hecate_plugins, Us}, {'$gen_call', {self(), [alias|A]}, list}, [priority]), \
                        receive {[alias|A], {ok, [_]}} -> answered after 20000 -> nothing end";
        assert_eq!(world.eval(priority), "answered");
        assert_eq!(world.eval("erlang:exit(Proxy(), shutdown, [priority]), Barrier(), net_adm:ping(Us)"), "pong");
    }
}

/// The peer sends monitors although it lacks the flag for them.
#[tokio::test]
async fn a_monitor_of_a_peer_without_the_flag_for_it_is_answered() {
    let host = Host::new();
    let epmd = host.epmd();
    let daemon = host.daemon(&[]);
    let us = daemon.ready();
    let without = flags::ours(false).bits() & !(Flags::DIST_MONITOR | Flags::DIST_MONITOR_NAME).bits();
    let local = Identity { flags: Flags::from_bits_truncate(without), ..identity(&host, "peer", 7) };
    let stream = TcpStream::connect(address(epmd.port_of("hecate"))).await.unwrap();
    let connection = setup::dial(stream, &local, us.as_str().parse().unwrap(), async || true).await.unwrap();
    let agreed = connection.peer.flags;
    let (link, mut events) = start_link(connection, 64);
    let from = Pid { node: Atom::new(&local.name).unwrap(), id: 1, serial: 0, creation: 7 };
    for (number, name) in [(1, "nobody"), (2, "hecate_plugins")] {
        let reference = reference(&from, number);
        let mut frames = Frames::default();
        frames.push(
            &Control::Monitor { from: from.clone(), to: Proc::Name(Atom::literal(name)), reference },
            None,
            agreed,
        );
        link.send(&mut frames).unwrap();
    }
    let mut end = async || loop {
        match timeout(PATIENCE, events.recv()).await.expect("an answer") {
            Some(LinkEvent::Messages(messages, _)) => {
                for (control, _) in messages {
                    if let Control::MonitorExit { reference, reason, .. } = control {
                        return (reference, reason);
                    }
                }
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(end().await, (reference(&from, 1), Raw::encode(&Term::atom("noproc"))));
    let _ = daemon.terminate();
    assert_eq!(end().await, (reference(&from, 2), Raw::encode(&Term::atom("shutdown"))));
}

fn reference(from: &Pid, number: u32) -> Reference {
    let ids = ReferenceIds::new(&[number, 0, 0]).unwrap();
    Reference { node: from.node.clone(), creation: from.creation, ids }
}
