//! The cost of each kind of message is at most `n log n` in its bytes, whatever the node holds.

use super::*;
use crate::etf::{Map, work};

const PEER: &str = "p@h";

fn up() -> Bench {
    let mut bench = Bench::new();
    bench.up(1, PEER);
    bench
}

fn named(name: &'static str) -> Proc {
    Proc::Name(Atom::literal(name))
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap()
}

fn ints(n: usize) -> Vec<Term> {
    (0..n).map(|i| Term::Int(i64::try_from(i).unwrap())).collect()
}

fn map(n: usize) -> Term {
    // The keys are not sorted.
    let pairs = (0..n).map(|i| (Term::Int(i64::try_from(i * 7919 % n.next_power_of_two()).unwrap()), Term::Int(1)));
    Term::Map(Map::new(pairs.collect()).unwrap())
}

fn call(request: Term) -> Term {
    let from = Term::tuple([Term::Pid(foreign(PEER, 7)), Term::Reference(reference(PEER, 9))]);
    Term::tuple([Term::atom("$gen_call"), from, request])
}

fn send(to: Proc, message: &Term) -> (Control, Option<Bytes>) {
    let control = match to {
        Proc::Pid(to) => Control::Send { from: None, to },
        Proc::Name(to) => Control::SendName { from: foreign(PEER, 7), to },
    };
    (control, Some(Raw::encode(message).bytes().clone()))
}

/// Returns the number of operations until all of these messages are handled.
fn cost(bench: &mut Bench, batch: Vec<(Control, Option<Bytes>)>) -> u64 {
    work::of(|| {
        let (mut out, now) = (Vec::new(), bench.now);
        bench.machine.handle(now, NodeInput::Messages(LinkId(1), batch), &mut out);
        while bench.machine.step(now, &mut out).is_some() {}
    })
}

#[test]
fn the_cost_of_one_message_is_n_log_n() {
    let spawn = |args: Term| {
        let new = NewProcess {
            group_leader: foreign(PEER, 7),
            module: Atom::literal("erpc"),
            function: Atom::literal("execute_call"),
            arity: 4,
            options: Raw::encode(&Term::List(vec![Term::atom("monitor")])),
        };
        let control = Control::SpawnRequest { request: reference(PEER, 3), from: foreign(PEER, 7), new: new.into() };
        (control, Some(Raw::encode(&args).bytes().clone()))
    };
    let erpc = |args| Term::List(vec![Term::atom("r"), Term::atom("m"), Term::atom("f"), Term::List(args)]);
    let rex = |args| {
        let gl = Term::Pid(foreign(PEER, 7));
        call(Term::tuple([Term::atom("call"), Term::atom("m"), Term::atom("f"), Term::List(args), gl]))
    };
    let init = |known| {
        let locker = [Term::atom("locker"), Term::atom("no_longer_a_pid"), known, Term::Pid(foreign(PEER, 8))];
        let init = [Term::atom("init_connect"), Term::Int(1), Term::atom(PEER), Term::tuple(locker)];
        Term::tuple([Term::atom("$gen_cast"), Term::tuple(init)])
    };
    let nodes = |n: usize| (0..n).map(|i| Term::Atom(Atom::new(&format!("n{i}@h")).unwrap())).collect();
    // Each `send` contains the next as its message to `rex`.
    let nested = |n: usize| {
        let inner = Term::List(ints(n));
        (0..n / 16).fold(inner, |inner, _| Term::tuple([Term::atom("send"), Term::atom("rex"), inner]))
    };
    type Kind<'a> = (&'a str, &'a dyn Fn(&mut Bench, usize) -> (Control, Option<Bytes>));
    let kinds: [Kind<'_>; 12] = [
        ("a message to an unknown name", &|_, n| send(named("nobody"), &map(n))),
        ("a call of a server, with a map", &|bench, n| {
            let pid = bench.spawn(vec![]);
            send(Proc::Pid(pid), &call(Term::tuple([Term::atom("register"), map(n)])))
        }),
        ("a call of a server, with a name", &|bench, n| {
            let pid = bench.spawn(vec![]);
            send(Proc::Pid(pid), &call(Term::tuple([Term::atom("info"), Term::List(ints(n))])))
        }),
        ("an event", &|bench, n| {
            let pid = bench.spawn(vec![]);
            send(Proc::Pid(pid), &Term::tuple([Term::atom("registered_v1"), map(n)]))
        }),
        ("a system message", &|_, n| send(named("rex"), &Term::tuple([Term::atom("system"), Term::List(ints(n))]))),
        ("a call of rex", &|_, n| send(named("rex"), &rex(ints(n)))),
        ("a call of rex, with a map", &|_, n| send(named("rex"), &rex(vec![map(n)]))),
        ("nested messages to rex", &|_, n| send(named("rex"), &Term::tuple([Term::Pid(foreign(PEER, 7)), nested(n)]))),
        ("arguments of a spawn", &|_, n| spawn(erpc(ints(n)))),
        ("a map as argument of a spawn", &|_, n| spawn(erpc(vec![map(n)]))),
        ("nodes that a peer knows", &|_, n| send(named("global_name_server"), &init(Term::List(nodes(n))))),
        ("a map for global_group", &|_, n| {
            let find = Term::tuple([Term::atom("find_name"), Term::Pid(foreign(PEER, 7)), map(n)]);
            send(named("global_group"), &Term::tuple([Term::atom("$gen_cast"), find]))
        }),
    ];
    for (kind, message) in kinds {
        work::assert_n_log_n(kind, 1000, |n| {
            let mut bench = up();
            let message = message(&mut bench, n);
            cost(&mut bench, vec![message])
        });
    }
}

/// Sends `n` small messages to a node with `n` processes, each with monitors and links.
#[test]
fn the_cost_of_small_messages_does_not_grow_with_the_node() {
    let crowded = |n: usize| {
        let mut bench = up();
        let pids: Vec<Pid> = (0..n).map(|_| bench.spawn(vec![Term::atom("g")])).collect();
        for (i, pid) in pids.iter().enumerate() {
            bench.receive(1, monitor(Proc::Pid(pid.clone()), number(i)), None);
            bench.receive(1, Control::Link { from: foreign(PEER, number(i)), to: pid.clone() }, None);
        }
        (bench, pids)
    };
    let to = |pid: &Pid| Proc::Pid(pid.clone());
    let peer = |i: usize| foreign(PEER, number(i));
    type Each<'a> = &'a dyn Fn(&Pid, usize) -> Control;
    let kinds: [(&str, Each<'_>); 8] = [
        ("monitor", &|pid, i| monitor(to(pid), number(i + 1_000_000))),
        ("monitor, with one reference for all", &|pid, _| monitor(to(pid), 1_000_000)),
        ("demonitor", &|pid, i| Control::Demonitor {
            from: peer(7),
            to: to(pid),
            reference: reference(PEER, number(i)),
        }),
        ("demonitor, by name", &|_, i| Control::Demonitor {
            from: peer(7),
            to: named("rex"),
            reference: reference(PEER, number(i)),
        }),
        ("demonitor, unknown reference", &|_, i| {
            let reference = reference(PEER, number(i + 1_000_000));
            Control::Demonitor { from: peer(7), to: named("rex"), reference }
        }),
        ("link", &|pid, i| Control::Link { from: peer(i + 1_000_000), to: pid.clone() }),
        ("unlink", &|pid, i| Control::Unlink { id: Some(Raw::encode(&Term::Int(1))), from: peer(i), to: pid.clone() }),
        ("exit, of a linked process", &|pid, i| Control::Exit {
            from: peer(i),
            to: pid.clone(),
            reason: atom("normal"),
        }),
    ];
    for (kind, each) in kinds {
        work::assert_n_log_n(kind, 200, |n| {
            let (mut bench, pids) = crowded(n);
            let batch = pids.iter().enumerate().map(|(i, pid)| (each(pid, i), None)).collect();
            cost(&mut bench, batch)
        });
    }
    work::assert_n_log_n("kill", 200, |n| {
        let (mut bench, pids) = crowded(n);
        let kill = |pid: &Pid| (Control::Exit2 { from: peer(7), to: pid.clone(), reason: atom("kill") }, None);
        cost(&mut bench, pids.iter().map(kill).collect())
    });
    work::assert_n_log_n("the end of a connection", 200, |n| {
        let (mut bench, _) = crowded(n);
        work::of(|| drop(bench.run(NodeInput::LinkDown { link: LinkId(1), reason: "gone".into(), by_peer: false })))
    });
}

#[test]
fn the_cost_of_init_connect_does_not_grow_with_the_number_of_peers() {
    work::assert_n_log_n("init_connect, of many peers", 200, |n| {
        let mut bench = up();
        let peer = |i: usize| foreign(PEER, number(i));
        let locker = |node| {
            let known = Term::List(vec![Term::Atom(node)]);
            Term::tuple([Term::atom("locker"), Term::atom("no_longer_a_pid"), known, Term::Pid(peer(8))])
        };
        let message = |i: usize| {
            let node = Atom::new(&format!("n{i}@h")).unwrap();
            let init = [Term::atom("init_connect"), Term::Int(1), Term::atom(PEER), locker(node)];
            let cast = Term::tuple([Term::atom("$gen_cast"), Term::tuple(init)]);
            bench.up(u64::try_from(i).unwrap() + 2, &format!("q{i}@h"));
            (LinkId(u64::try_from(i).unwrap() + 2), send(named("global_name_server"), &cast))
        };
        let messages: Vec<_> = (0..n).map(message).collect();
        work::of(|| {
            for (link, message) in messages {
                drop(bench.run(NodeInput::Messages(link, vec![message])));
            }
        })
    });
}

#[test]
fn a_reference_identifies_one_monitor() {
    let mut bench = up();
    let (first, second) = (bench.spawn(vec![]), bench.spawn(vec![]));
    for pid in [&first, &second, &second] {
        bench.receive(1, monitor(Proc::Pid(pid.clone()), 5), None);
    }
    assert_eq!(bench.machine.pending().ties, 1);
    let fires = |out: &[NodeEffect]| signals(out).iter().any(|control| matches!(control, Control::MonitorExit { .. }));
    assert!(!fires(&bench.exit(&first)));
    assert!(fires(&bench.exit(&second)));
    assert_eq!(bench.machine.pending(), Pending::default());
}
