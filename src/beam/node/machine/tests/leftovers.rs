//! Connections and processes with many monitors, links or members are cleared in steps when they
//! end. Other connections are handled between the steps.

use super::backlog::{STEP, is_pong, ping, sync, to_pg, up};
use super::*;

/// More than one step can handle.
const MANY: u32 = 10_000;

/// Does the remaining steps, with a ping of another peer before each. Returns their number.
fn steps_beside_pings(bench: &mut Bench) -> usize {
    let mut steps = 0;
    while bench.machine.has_backlog() {
        assert!(is_pong(&ping(bench)));
        let cost = bench.step().map_or(0, |(_, cost)| cost);
        assert!(cost <= STEP, "{cost}");
        steps += 1;
    }
    steps
}

fn scope(bench: &Bench) -> &Scope {
    &bench.machine.scopes[&Atom::literal("pg")]
}

/// Returns a machine whose peer `p@h` has a scope with many members.
fn with_members() -> Bench {
    let mut bench = up();
    bench.receive(1, to_pg(), Some(&sync("g", 5 * MANY)));
    bench.steps();
    assert_eq!(scope(&bench).census().peer_members, usize::try_from(5 * MANY).unwrap());
    bench
}

/// Returns a machine, and a local process that has many monitors and links of `p@h`.
fn with_ties() -> (Bench, Pid) {
    let mut bench = up();
    let pid = bench.spawn(vec![]);
    for i in 0..MANY {
        bench.receive(1, monitor(Proc::Pid(pid.clone()), i), None);
        bench.receive(1, Control::Link { from: foreign("p@h", i), to: pid.clone() }, None);
    }
    (bench, pid)
}

fn exits(effects: &[NodeEffect]) -> usize {
    let is_exit = |control: &&Control| matches!(control, Control::MonitorExit { .. } | Control::Exit { .. });
    signals(effects).into_iter().filter(is_exit).count()
}

#[test]
fn members_of_a_scope_that_has_ended_are_freed_in_steps() {
    let down = |bench: &mut Bench| {
        bench.run(NodeInput::LinkDown { link: LinkId(1), reason: "gone".into(), by_peer: false });
    };
    let scope_down = |bench: &mut Bench| {
        // The reference of the monitor is one of the first of this node.
        let (monitored, reason) = (Proc::Pid(foreign("p@h", 1)), atom("shutdown"));
        for id in 0..10 {
            let reference = Reference { ids: [id, 0, 0].into(), ..reference("m@h", 0) };
            let to = bench.machine.processes.whereis("pg").unwrap().clone();
            let control = Control::MonitorExit { from: monitored.clone(), to, reference, reason: reason.clone() };
            bench.receive(1, control, None);
        }
    };
    let replaced = |bench: &mut Bench| {
        let discover = Term::tuple([Term::atom("discover"), Term::Pid(foreign("p@h", 2))]);
        bench.receive(1, to_pg(), Some(&discover));
    };
    let killed = |bench: &mut Bench| {
        let to = bench.machine.processes.whereis("pg").unwrap().clone();
        bench.receive(2, Control::Exit2 { from: foreign("q@h", 7), to, reason: atom("kill") }, None);
    };
    type End<'a> = (&'a str, &'a dyn Fn(&mut Bench));
    let ends: [End<'_>; 4] = [
        ("the connection has ended", &down),
        ("the scope has ended", &scope_down),
        ("another scope has replaced it", &replaced),
        ("our scope has ended", &killed),
    ];
    for (why, end) in ends {
        let mut bench = with_members();
        end(&mut bench);
        assert_eq!(scope(&bench).census().peer_members, 0, "{why}");
        assert!(scope(&bench).has_discarded(), "{why}");
        assert!(steps_beside_pings(&mut bench) > 2, "{why}");
        assert!(!scope(&bench).has_discarded(), "{why}");
    }
}

#[test]
fn the_memory_of_an_applied_message_is_freed_in_steps() {
    let pids: Vec<Term> = (0..5 * MANY).map(|id| Term::Pid(foreign("p@h", id))).collect();
    let leave = |pids, groups| Term::tuple([Term::atom("leave"), Term::Pid(foreign("p@h", 1)), pids, groups]);
    let nowhere = leave(Term::List(pids.clone()), Term::List(vec![Term::atom("x")]));
    let malformed = leave(Term::improper(pids, Term::atom("x")), Term::List(vec![]));
    // The processes of a leave are read in 10 steps, the first of them at once.
    let messages = [("a leave", nowhere, 9), ("a malformed leave", malformed, 9), ("a sync", sync("g", 1), 0)];
    for (kind, message, reading) in messages {
        let mut bench = with_members();
        bench.receive(1, to_pg(), Some(&message));
        let steps = bench.steps();
        assert!(steps > reading + 1, "{kind}: {steps} steps");
    }
}

#[test]
fn many_monitors_and_links_of_an_ended_process_get_signals_in_steps() {
    let (mut bench, pid) = with_ties();
    let mut out = bench.exit(&pid);
    let (first, all) = (exits(&out), usize::try_from(2 * MANY).unwrap());
    assert!(first > 0 && first < all / 2, "{first} of {all}");
    // A monitor is removed before its signal is sent.
    let fired = |out: &[NodeEffect], id| {
        let is_it = |control: &&Control| matches!(control, Control::MonitorExit { reference: fired, .. } if *fired == reference("p@h", id));
        signals(out).into_iter().any(|control| is_it(&control))
    };
    let waiting = (0..MANY).find(|id| !fired(&out, *id)).unwrap();
    let demonitor =
        Control::Demonitor { from: foreign("p@h", 7), to: Proc::Pid(pid), reference: reference("p@h", waiting) };
    out.extend(bench.receive(1, demonitor, None));
    while bench.machine.has_backlog() {
        out.extend(ping(&mut bench));
        bench.machine.step(bench.now, &mut out);
    }
    assert_eq!(exits(&out), all - 1);
    assert!(!fired(&out, waiting));
    assert_eq!(bench.machine.pending(), Pending::default());
}

#[test]
fn many_monitors_and_links_of_a_connection_are_removed_in_steps() {
    let (mut bench, pid) = with_ties();
    let watched = |bench: &mut Bench| {
        let process = bench.machine.processes.get(&Proc::Pid(pid.clone())).unwrap();
        process.watchers.len() + process.links.len()
    };
    bench.run(NodeInput::LinkDown { link: LinkId(1), reason: "gone".into(), by_peer: false });
    assert_eq!(bench.machine.pending().ties, 0);
    assert!(watched(&mut bench) > usize::try_from(MANY).unwrap());
    assert!(steps_beside_pings(&mut bench) > 1);
    assert_eq!(watched(&mut bench), 0);
}

#[test]
fn a_node_that_stops_signals_all_monitors_and_links() {
    let (mut bench, _) = with_ties();
    assert_eq!(exits(&bench.run(NodeInput::Stop)), usize::try_from(2 * MANY).unwrap());
}

#[test]
fn a_published_message_goes_to_a_bounded_number_of_processes_of_a_peer() {
    let mut bench = up();
    let members = u32::try_from(limits::PG_RECEIVERS).unwrap();
    let publish =
        || NodeInput::Publish { group: Term::atom("g").canonical(), message: Raw::encode(&Term::atom("event")).into() };
    for (joined, received) in [(members, members), (members + 1, members)] {
        bench.receive(1, to_pg(), Some(&sync("g", joined)));
        bench.steps();
        assert_eq!(bench.run(publish()).len(), usize::try_from(received).unwrap());
    }
}
