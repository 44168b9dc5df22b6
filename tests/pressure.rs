//! Large messages, and peers that send without end or do not read: memory is bounded, and no other
//! peer is affected.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::time::{Duration, Instant};

use beam::dist::control::{self, Control, NewProcess, Proc};
use beam::dist::flags;
use beam::dist::{link, setup};
use beam::etf::{Atom, Iovec, Pid, Raw, Reference, Term};
use beam::node::{CallError, Function};
use bytes::Bytes;
use hecate_daemon::limits;
use serde_json::json;
use support::daemon::Daemon;
use support::node::{Node, address, eval, identity, start_link};
use support::{Host, PATIENCE, wait_for};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// The memory that the daemon may use at once: a full queue, a frame that is being read, and the
/// same amount again for the daemon itself and the allocator.
const MEMORY: usize = 4 * beam::limits::LINK_QUEUE;

#[test]
fn messages_of_64_mib_go_both_ways() {
    let host = Host::new();
    let _epmd = host.epmd();
    let daemon = host.daemon(&[]);
    let us = daemon.ready();
    let mut erl = host.erl("visitor");
    erl.pings(&us);
    let call = format!(
        "put(big, binary:copy(<<7>>, 64 bsl 20)), element(1, gen_server:call({{hecate_plugins, '{us}'}}, {{info, get(big)}}, infinity))"
    );
    assert_eq!(erl.eval(&call), "error", "an invalid name gets an error");
    // The error of an undefined function contains its arguments.
    let echoed = format!(
        "try erpc:call('{us}', m, f, [get(big)]) catch error:{{exception, undef, [{{m, f, [Back], []}}]}} -> Back =:= get(big) end"
    );
    assert_eq!(erl.eval(&echoed), "true");
    assert_eq!(erl.eval("length(nodes())"), "1");
    assert!(daemon.peak_memory() < 3 * MEMORY, "{} MiB", daemon.peak_memory() >> 20);
}

#[test]
fn a_message_beyond_the_limit_closes_only_its_own_connection() {
    let host = Host::new();
    let _epmd = host.epmd();
    let daemon = host.daemon(&[]);
    let us = daemon.ready();
    let (mut large, mut other) = (host.erl("large"), host.erl("other"));
    for erl in [&mut large, &mut other] {
        erl.pings(&us);
    }
    other.eval(&format!("monitor_node('{us}', true)"));
    let call = format!(
        "try gen_server:call({{hecate_plugins, '{us}'}}, binary:copy(<<7>>, {}), infinity) catch exit:{{Why, _}} -> Why end",
        beam::limits::FRAME
    );
    assert_eq!(large.eval(&call), format!("{{nodedown,{us}}}"));
    daemon.logs(&["node down", "exceeds the limit of", &host.node("large")]);
    assert_eq!(large.eval(&format!("net_adm:ping('{us}')")), "pong", "the node may reconnect");
    assert_eq!(other.eval("receive {nodedown, _} -> lost after 0 -> still_there end"), "still_there");
    assert!(
        daemon.peak_memory() < MEMORY,
        "{} MiB: a large message is refused before it is complete",
        daemon.peak_memory() >> 20
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_calls_without_reading_uses_bounded_memory_and_loses_its_link() {
    let host = Host::new();
    let epmd = host.epmd();
    let daemon = host.daemon(&[]);
    let us = daemon.ready();
    let description = "x".repeat(limits::PLUGIN_DESCRIPTION);
    let plugins = 300;
    for i in 0..plugins {
        let body = json!({"name": format!("hecate-p{i}d"), "description": description});
        assert_eq!(host.register(&body).status, 201);
    }
    let mut other = host.erl("other");
    assert_eq!(eval(&mut other, &format!("net_adm:ping('{us}')")), "pong");

    // A peer that requests the list a thousand times at once, and reads no answer.
    let stream = TcpStream::connect(address(epmd.port_of("hecate"))).await.unwrap();
    let local = identity(&host, "greedy", 7);
    let connection = setup::dial(stream, &local, us.as_str().parse().unwrap(), async || true).await.unwrap();
    let (sender, _never_read) = start_link(connection, 1);
    let pid = Pid { node: Atom::new(&local.name).unwrap(), id: 1, serial: 0, creation: 7 };
    let from = Term::tuple([Term::Pid(pid.clone()), Term::atom("tag")]);
    let ask = Iovec::encode(&Term::tuple([Term::atom("$gen_call"), from, Term::atom("list")]));
    let to = Control::SendName { from: pid, to: Atom::literal("hecate_plugins") };
    let mut frames = Vec::new();
    for _ in 0..1_000 {
        control::encode(&to, Some(&ask), flags::ours(false), &mut frames);
    }
    let all = 1_000 * plugins * limits::PLUGIN_DESCRIPTION;
    assert!(all > 4 * MEMORY, "the answers must exceed the memory limit");
    sender.send(&mut Bytes::from(frames).into()).unwrap();
    tokio::task::block_in_place(|| daemon.logs(&["node down", "reads too slowly", &host.node("greedy")]));
    assert!(daemon.peak_memory() < MEMORY, "{} MiB", daemon.peak_memory() >> 20);
    assert_eq!(eval(&mut other, &format!("net_adm:ping('{us}')")), "pong");
    assert_eq!(eval(&mut other, "length(nodes())"), "1");
}

#[test]
fn a_flood_suspends_no_other_peer_and_uses_bounded_memory() {
    let host = Host::new();
    let _epmd = host.epmd();
    let daemon = host.daemon(&[]);
    let us = daemon.ready();
    let (mut flooding, mut other) = (host.erl("flooding"), host.erl("other"));
    for erl in [&mut flooding, &mut other] {
        erl.pings(&us);
    }
    // Ten processes send until the test ends: to no process, and to a server that must decode the
    // messages.
    let flood = format!(
        "[spawn(fun() -> (fun Loop() -> {{Name, '{us}'}} ! {{'$gen_cast', binary:copy(<<7>>, 10000)}}, Loop() end)() end) \
          || Name <- [nobody, hecate_plugins, rex, pg, net_kernel], _ <- [1, 2]], started"
    );
    assert_eq!(flooding.eval(&flood), "started");
    for _ in 0..100 {
        assert_eq!(other.eval(&format!("erlang:send({{hecate_plugins, '{us}'}}, hello, [nosuspend])")), "ok");
        other.pings(&us);
    }
    assert_eq!(host.ask("GET", "/readyz").status, 200);
    assert_eq!(host.peer(&host.node("flooding")).as_deref(), Some("connected"), "the flooding node was disconnected");
    assert!(daemon.peak_memory() < MEMORY, "{} MiB", daemon.peak_memory() >> 20);
}

/// Returns the CPU time of the daemon's threads whose name begins with `name`, in clock ticks.
fn cpu_time(daemon: &Daemon, name: &str) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{}/task", daemon.id())).unwrap();
    let time = |stat: &str| {
        let (head, rest) = stat.rsplit_once(") ")?;
        let is_one = head.split_once('(')?.1.starts_with(name);
        // Fields 14 and 15: time in user and in kernel mode (proc(5)).
        let times = rest.split(' ').skip(11).take(2).map(|time| time.parse::<u64>().unwrap_or_default());
        Some(if is_one { times.sum() } else { 0 })
    };
    // A thread may end meanwhile.
    let stats = threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    stats.filter_map(|stat| time(&stat)).sum()
}

#[test]
fn a_busy_node_occupies_no_thread_of_the_api() {
    const ROUNDS: u64 = 20;
    /// The CPU time of the node in each round.
    const BUSY: u64 = 10;
    let host = Host::new();
    let _epmd = host.epmd();
    let daemon = host.daemon(&[]);
    let us = daemon.ready();
    let mut flooding = host.erl("flooding");
    flooding.pings(&us);
    // Valid requests that must be read completely, until the test ends.
    let flood = format!(
        "List = lists:seq(1, 20000), [spawn(fun() -> (fun Loop() -> {{hecate_plugins, '{us}'}} ! {{'$gen_cast', List}}, Loop() \
          end)() end) || _ <- [1, 2, 3, 4]], started"
    );
    let before = cpu_time(&daemon, "hecate-api");
    assert_eq!(flooding.eval(&flood), "started");
    for _ in 0..ROUNDS {
        let busy = cpu_time(&daemon, "hecate-node");
        wait_for("the node is busy", || cpu_time(&daemon, "hecate-node") >= busy + BUSY);
        assert_eq!(host.ask("GET", "/livez").status, 200);
        host.register_named("hecate-traderd");
    }
    let used = cpu_time(&daemon, "hecate-api") - before;
    assert!(used < ROUNDS * BUSY / 2, "the API's threads have used {used} ticks");
}

/// A scope of a peer that has exchanged members with the daemon's scope.
struct ScopeOf {
    sender: link::LinkSender,
    pid: Pid,
    received: mpsc::Receiver<link::LinkEvent>,
}

impl ScopeOf {
    async fn start(host: &Host, port: u16, us: &str, short: &str) -> Self {
        let stream = TcpStream::connect(address(port)).await.unwrap();
        let local = identity(host, short, 7);
        let connection = setup::dial(stream, &local, us.parse().unwrap(), async || true).await.unwrap();
        let (sender, received) = start_link(connection, 64);
        let pid = Pid { node: Atom::new(&local.name).unwrap(), id: 1, serial: 0, creation: 7 };
        let scope = Self { sender, pid, received };
        scope.send(&Term::tuple([Term::atom("discover"), Term::Pid(scope.pid.clone())]));
        scope
    }

    /// Returns the first `n` processes of its node.
    fn pids(&self, n: u32) -> Term {
        Term::List((0..n).map(|id| Term::Pid(Pid { id, ..self.pid.clone() })).collect())
    }

    fn send(&self, message: &Term) {
        let to = Control::SendName { from: self.pid.clone(), to: Atom::literal("pg") };
        let mut frames = Vec::new();
        control::encode(&to, Some(&Iovec::encode(message)), flags::ours(false), &mut frames);
        self.sender.send(&mut Bytes::from(frames).into()).unwrap();
    }

    fn join(&self, group: Term, pids: Term) {
        self.send(&Term::tuple([Term::atom("join"), Term::Pid(self.pid.clone()), group, pids]));
    }

    fn leave(&self, pids: Term, groups: Vec<Term>) {
        self.send(&Term::tuple([Term::atom("leave"), Term::Pid(self.pid.clone()), pids, Term::List(groups)]));
    }
}

/// Returns the number of peers' members that the daemon counts.
fn peer_members(host: &Host) -> f64 {
    let metrics = host.ask("GET", "/metrics").text;
    let lines =
        metrics.lines().filter(|line| line.starts_with("hecate_pg_members{") && line.contains("side=\"peers\""));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Many processes leave many groups, and many leave one large group whose name is repeated.
#[tokio::test(flavor = "multi_thread")]
async fn the_cost_of_a_leave_is_linear_in_its_bytes() {
    let host = Host::new();
    let epmd = host.epmd();
    let daemon = host.daemon(&[]);
    let us = daemon.ready();
    let mut other = host.erl("other");
    assert_eq!(eval(&mut other, &format!("net_adm:ping('{us}')")), "pong");
    let scope = ScopeOf::start(&host, epmd.port_of("hecate"), &us, "leaving").await;
    let groups = || (0..30_000).map(Term::Int).collect::<Vec<_>>();

    // 660 kB, which stand for 900 million pairs of a process and a group.
    scope.join(Term::Int(0), scope.pids(2));
    scope.leave(scope.pids(30_000), groups());
    // 6 MB each. A linear search finds each member last.
    let members = 200_000;
    let Term::List(mut reversed) = scope.pids(members) else { unreachable!() };
    reversed.reverse();
    scope.join(Term::Int(1), scope.pids(members));
    scope.leave(Term::List(reversed), vec![Term::Int(1); 1000]);
    scope.join(Term::atom("the_end"), scope.pids(7));
    for _ in 0..20 {
        assert_eq!(eval(&mut other, &format!("net_adm:ping('{us}')")), "pong");
        assert_eq!(host.ask("GET", "/livez").status, 200);
    }
    tokio::task::block_in_place(|| support::wait_for("all to be applied", || peer_members(&host) > 6.5));
    assert_eq!(eval(&mut other, "length(nodes())"), "1");
    assert_eq!(host.peer(&host.node("leaving")).as_deref(), Some("connected"));
    assert!(daemon.peak_memory() < MEMORY, "{} MiB", daemon.peak_memory() >> 20);
}

/// The peer runs in one thread and calls again as soon as it has its answer.
#[tokio::test]
async fn a_peer_that_calls_without_pause_does_not_delay_others() {
    let host = Host::new();
    let _epmd = host.epmd();
    let (busy, other) = (Node::start(&host, "busy").await, Node::start(&host, "other").await);
    busy.connect(&other.name).await;
    let asking = async {
        loop {
            let member = busy.join(vec![]).await;
            busy.exit(member).await;
        }
    };
    let calling = async {
        for _ in 0..10 {
            let function = Function { module: Atom::literal("no"), function: Atom::literal("function"), args: vec![] };
            let answer = busy.handle.call(other.name.as_str().parse().unwrap(), function).await.unwrap();
            assert_eq!(answer, Err(CallError::Failed));
        }
    };
    let called = timeout(PATIENCE, async {
        tokio::select! { () = asking => {}, () = calling => {} }
    })
    .await;
    assert!(called.is_ok(), "the message of the other peer was not handled");
}

// ---- Measured on request --------------------------------------------------------------------------

/// A peer that only pings.
struct Pinger {
    sender: link::LinkSender,
    received: mpsc::Receiver<link::LinkEvent>,
    pid: Pid,
}

impl Pinger {
    /// Returns the time until the daemon has answered.
    async fn ping(&mut self) -> Duration {
        let from = Term::tuple([Term::Pid(self.pid.clone()), Term::atom("tag")]);
        let is_auth = Term::tuple([Term::atom("is_auth"), Term::atom("p@h")]);
        let ping = Iovec::encode(&Term::tuple([Term::atom("$gen_call"), from, is_auth]));
        let to = Control::SendName { from: self.pid.clone(), to: Atom::literal("net_kernel") };
        let mut frame = Vec::new();
        control::encode(&to, Some(&ping), flags::ours(false), &mut frame);
        let begun = Instant::now();
        self.sender.send(&mut Bytes::from(frame).into()).unwrap();
        loop {
            match self.received.recv().await.unwrap() {
                link::LinkEvent::Messages(batch, _) if batch.iter().any(is_pong) => return begun.elapsed(),
                link::LinkEvent::Messages(..) => {}
                link::LinkEvent::Closed(reason) => panic!("{reason}"),
            }
        }
    }
}

fn is_pong((_, payload): &(Control, Option<Bytes>)) -> bool {
    payload.as_ref().is_some_and(|payload| payload.ends_with(b"yes"))
}

/// Returns kinds of large messages, each with the frames that the node sends.
fn large_messages(node: &str) -> Vec<(&'static str, Vec<Bytes>)> {
    /// The number of processes in a message of about 10 MB.
    const PIDS: u32 = 330_000;
    let me = Term::Pid(Pid { node: Atom::new(node).unwrap(), id: 1, serial: 0, creation: 7 });
    let Term::Pid(pid) = &me else { unreachable!() };
    let frame = |control: &Control, payload: Option<&Term>| {
        let mut frame = Vec::new();
        control::encode(control, payload.map(Iovec::encode).as_ref(), flags::ours(false), &mut frame);
        Bytes::from(frame)
    };
    let send = |name: &'static str, message: &Term| {
        frame(&Control::SendName { from: pid.clone(), to: Atom::literal(name) }, Some(message))
    };
    let pids = || Term::List((0..PIDS).map(|id| Term::Pid(Pid { id, ..pid.clone() })).collect());
    let ints = || Term::List((0..1_000_000).map(|i| Term::Int(i + 1_000_000)).collect());
    let cast = |request: Term| Term::tuple([Term::atom("$gen_cast"), request]);
    let call =
        |request: Term| Term::tuple([Term::atom("$gen_call"), Term::tuple([me.clone(), Term::atom("tag")]), request]);
    let group = |members| Term::List(vec![Term::tuple([Term::atom("g"), members])]);
    let sync = |groups| cast(Term::tuple([Term::atom("sync"), me.clone(), groups]));
    let reference = |id| Reference { node: pid.node.clone(), creation: 7, ids: [id, 0, 0].into() };
    let spawn = Control::SpawnRequest {
        request: reference(1),
        from: pid.clone(),
        new: Box::new(NewProcess {
            group_leader: pid.clone(),
            module: Atom::literal("erpc"),
            function: Atom::literal("execute_call"),
            arity: 4,
            options: Raw::encode(&Term::List(vec![Term::atom("monitor")])),
        }),
    };
    let arguments = Term::List(vec![Term::atom("r"), Term::atom("m"), Term::atom("f"), Term::List(vec![ints()])]);
    let monitors: Vec<u8> = (0..u32::try_from(beam::limits::TIES).unwrap())
        .flat_map(|id| {
            let to = Proc::Name(Atom::literal("rex"));
            frame(&Control::Monitor { from: pid.clone(), to, reference: reference(id) }, None)
        })
        .collect();
    let terminate = Term::tuple([
        Term::atom("system"),
        Term::tuple([me.clone(), Term::atom("tag")]),
        Term::tuple([Term::atom("terminate"), Term::atom("shutdown")]),
    ]);
    let known = Term::List((0..1_000_000).map(Term::Int).collect());
    let locker = Term::tuple([Term::atom("locker"), Term::atom("no_longer_a_pid"), known, me.clone()]);
    let init = [Term::atom("init_connect"), Term::Int(1), Term::atom("n"), locker];
    let leave = |pids, groups| send("pg", &Term::tuple([Term::atom("leave"), me.clone(), pids, groups]));
    let join = send("pg", &Term::tuple([Term::atom("join"), me.clone(), Term::atom("g"), pids()]));
    let groups = Term::List((0..1_000_000).map(|i| Term::Int(i + 1_000_000)).collect());
    vec![
        ("nothing", vec![]),
        ("a sync", vec![send("pg", &sync(group(pids())))]),
        (
            "a sync of nothing after a large one",
            vec![send("pg", &sync(group(pids()))), send("pg", &sync(Term::List(vec![])))],
        ),
        ("a join and a leave", vec![join.clone(), leave(pids(), Term::List(vec![Term::atom("g")]))]),
        ("a leave of one from many groups", vec![leave(me.clone(), groups)]),
        ("a spawn request", vec![frame(&spawn, Some(&arguments))]),
        ("a call of hecate_plugins", vec![send("hecate_plugins", &call(Term::tuple([Term::atom("info"), ints()])))]),
        ("a call of rex", vec![send("rex", &call(ints()))]),
        ("a message to nobody", vec![send("nobody", &ints())]),
        ("an init_connect", vec![send("global_name_server", &cast(Term::tuple(init)))]),
        ("monitors, and the end of what they watch", vec![monitors.clone().into(), send("rex", &terminate)]),
        ("the end of a peer with members and monitors", vec![join, monitors.into()]),
    ]
}

/// Prints how long pings of one peer take while another sends large messages of each kind.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures: cargo test --profile simulation --test pressure -- --ignored --nocapture"]
async fn pings_beside_large_messages() {
    const ROUNDS: usize = 5;
    let host = Host::new();
    let epmd = host.epmd();
    let daemon = host.daemon(&[]);
    let us = daemon.ready();
    let port = epmd.port_of("hecate");
    let ScopeOf { sender, pid, received } = ScopeOf::start(&host, port, &us, "pinger").await;
    let mut pinger = Pinger { sender, pid, received };

    let kinds = large_messages(&host.node("large"));
    println!("{:50} {:>9} {:>9} {:>9} {:>9}", "beside", "pings", "p50", "p99", "longest");
    for (kind, frames) in kinds {
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            let large = ScopeOf::start(&host, port, &us, "large").await;
            let mut large = Pinger { sender: large.sender, received: large.received, pid: large.pid };
            let frames = frames.clone();
            let sending = tokio::spawn(async move {
                for frame in frames {
                    large.sender.send(&mut frame.into()).unwrap();
                }
                large.ping().await;
                drop(large);
                tokio::time::sleep(Duration::from_millis(500)).await;
            });
            while !sending.is_finished() {
                times.push(pinger.ping().await);
            }
            sending.await.unwrap();
        }
        times.sort_unstable();
        let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
        println!("{kind:50} {:9} {:6.1} ms {:6.1} ms {:6.1} ms", times.len(), at(50), at(99), at(100));
    }
    assert_eq!(host.peer(&host.node("pinger")).as_deref(), Some("connected"));
}
