//! Compares the wire with other nodes and with its limits: see `docs/internals/benchmarks.md`.
//!
//! Each measurement is one function below. The built daemon is measured while it answers and
//! receives. Work that the daemon initiates, such as joining groups and publishing to them, is
//! measured in this process, which runs the same node and uses the same handle.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a bench fails at the first unexpected value")]

mod measure;
mod peers;
#[path = "../tests/support/mod.rs"]
mod support;

use std::cell::RefCell;
use std::fs;
use std::sync::Arc;

use beam::etf::{Atom, Term};
use tokio::runtime::Runtime;

use measure::{
    Goal, Samples, Unit, between, compare, compare_figures, heading, resident_memory, since_epoch, take_turns,
};
use peers::{Socket, c_node, done, meets, message, number, server};
use support::Host;
use support::daemon::Daemon;
use support::epmd::Epmd;
use support::erl::Erl;
use support::node::Node;

/// Small, medium and large messages. Each entry has a name, the bytes of the binary in a message,
/// the number of messages in a round, and the goals. A goal is a multiple of the rate between two
/// `erl`s. A round fits into the queue of one peer, because a publisher does not wait.
const KINDS: [(&str, usize, usize, [Goal; 2]); 3] = [
    ("small", 16, 200_000, [Goal::AtLeast(2.5), Goal::None]),
    ("4 KiB", 4 * 1024, 10_000, [Goal::None; 2]),
    ("1 MB", 1_000_000, 50, [Goal::AtLeast(0.9); 2]),
];

const ROUNDS: usize = 12;

fn main() {
    println!("load average before: {}", load());
    heading();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let cluster = Cluster::new(&runtime);
    let blast = cluster.socket("blast");
    for kind in KINDS {
        from_us(&cluster, &blast, kind);
    }
    cluster.socket("sink").into_inner().sink();
    for kind in KINDS {
        to_us(&cluster, kind);
    }
    round_trip(&cluster);
    beside_large(&cluster);
    joins(&cluster);
    println!("load average after: {}", load());
}

fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap().split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// All nodes, each connected to `erl`.
struct Cluster<'r> {
    host: Host,
    epmd: Epmd,
    runtime: &'r Runtime,
    erl: RefCell<Erl>,
    other: RefCell<Erl>,
    daemon: Daemon,
    /// The node name of the daemon.
    us: String,
    node: Arc<Node>,
    _c: support::Process,
}

impl<'r> Cluster<'r> {
    fn new(runtime: &'r Runtime) -> Self {
        let host = Host::new();
        let epmd = host.epmd();
        peers::compile(&host);
        let (mut erl, other) = (peers::erl(&host, "erl"), peers::erl(&host, "other"));
        let daemon = host.daemon(&[]);
        let us = daemon.ready();
        for peer in [&us, &host.node("other")] {
            erl.eval_until(&format!("net_adm:ping('{peer}')"), "pong", support::PATIENCE);
        }
        let c = c_node(&host, &mut erl, "erl");
        let node = runtime.block_on(async {
            let node = Node::with(&host, "node", false, &["wire"]).await;
            for peer in ["erl", "other"] {
                node.connect(&host.node(peer)).await;
            }
            node
        });
        meets(&node, 2);
        Self { host, epmd, runtime, erl: erl.into(), other: other.into(), daemon, us, node: node.into(), _c: c }
    }

    fn socket(&self, short: &str) -> RefCell<Socket> {
        RefCell::new(Socket::dial(&self.host, &self.epmd, short, &mut self.erl.borrow_mut(), "erl"))
    }

    /// Returns `{bench, Node}` in Erlang syntax.
    fn bench_of(&self, short: &str) -> String {
        format!("{{bench, '{}'}}", self.host.node(short))
    }

    /// Returns a process of the daemon that accepts and answers any message, in Erlang syntax.
    fn ours(&self) -> String {
        format!("{{hecate_plugins, '{}'}}", self.us)
    }
}

fn nanoseconds(erl: &mut Erl, expression: &str) -> u128 {
    erl.eval(expression).parse().expect("nanoseconds")
}

fn per_second(count: usize, nanoseconds: f64) -> f64 {
    float(count) * 1e9 / nanoseconds
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

// ---- One way --------------------------------------------------------------------------------

type Kind = (&'static str, usize, usize, [Goal; 2]);

/// Publishes to a group that has one member, on `erl`, as the daemon publishes its events.
fn from_us(cluster: &Cluster, socket: &RefCell<Socket>, (name, size, count, [goal, _]): Kind) {
    let erl = &cluster.erl;
    let to = server(&mut erl.borrow_mut());
    let ended = || per_second(count, number(&mut erl.borrow_mut(), "bench:ended()"));
    let mut us = || {
        let (handle, message) = (cluster.node.handle.clone(), message(size));
        let group = Term::Atom(Atom::new(&cluster.host.node("erl")).unwrap());
        let publish = async move {
            let begun = since_epoch();
            for _ in 0..count {
                handle.publish(&group, &message).await.unwrap();
            }
            handle.publish(&group, &done(begun)).await.unwrap();
        };
        cluster.runtime.block_on(cluster.runtime.spawn(publish)).unwrap();
        ended()
    };
    let mut blast = || {
        socket.borrow_mut().blast(&to, size, count);
        ended()
    };
    let mut other = || {
        let send = format!("bench:send({}, {size}, {count})", cluster.bench_of("erl"));
        cluster.other.borrow_mut().eval(&send);
        ended()
    };
    let mut c = || {
        let c = cluster.bench_of("c");
        erl.borrow_mut().eval(&format!("{c} ! {{send, whereis(bench), {size}, {count}}}"));
        ended()
    };
    let memory = warm(&mut us, std::process::id());
    let [us, blast, other, c] = take_turns(ROUNDS, [&mut us, &mut blast, &mut other, &mut c]);
    let unit = Unit::Messages(size);
    compare(&format!("{name}, us to erl / frames encoded beforehand"), unit, &us, &blast, Goal::AtLeast(0.95));
    compare(&format!("{name}, us to erl / erl to erl"), unit, &us, &other, goal);
    compare(&format!("{name}, us to erl / C node to erl"), unit, &us, &c, Goal::None);
    flat(&format!("{name}, us to erl: memory after / before"), std::process::id(), memory);
}

/// Measures sending to the daemon, and to other nodes for comparison. Each receiving process reads
/// the messages.
fn to_us(cluster: &Cluster, (name, size, count, [_, goal]): Kind) {
    let erl = &cluster.erl;
    let drain =
        |to: String| per_second(count, number(&mut erl.borrow_mut(), &format!("bench:drain({to}, {size}, {count})")));
    let mut us = || drain(cluster.ours());
    let mut sink = || drain(cluster.bench_of("sink"));
    let mut other = || drain(cluster.bench_of("other"));
    let mut c = || drain(cluster.bench_of("c"));
    let memory = warm(&mut us, cluster.daemon.id());
    let [us, sink, other, c] = take_turns(ROUNDS, [&mut us, &mut sink, &mut other, &mut c]);
    let unit = Unit::Messages(size);
    compare(&format!("{name}, erl to us / erl to a sink"), unit, &us, &sink, Goal::AtLeast(0.95));
    compare(&format!("{name}, erl to us / erl to erl"), unit, &us, &other, goal);
    compare(&format!("{name}, erl to us / erl to a C node"), unit, &us, &c, Goal::None);
    flat(&format!("{name}, erl to us: memory after / before"), cluster.daemon.id(), memory);
}

/// Returns the resident memory after enough rounds for the allocator to reach its steady size.
fn warm(us: &mut dyn FnMut() -> f64, pid: u32) -> f64 {
    for _ in 0..ROUNDS {
        us();
    }
    resident_memory(pid)
}

fn flat(what: &str, pid: u32, before: f64) {
    compare_figures(what, Unit::Memory, resident_memory(pid), before, Goal::AtMost(1.1));
}

// ---- There and back -------------------------------------------------------------------------

fn round_trip(cluster: &Cluster) {
    let trips = |to: String| {
        let call = format!("bench:round_trips({to}, {{is_auth, node()}}, 2000)");
        number(&mut cluster.erl.borrow_mut(), &call) / 1e9
    };
    let calls = |to: String| number(&mut cluster.erl.borrow_mut(), &format!("bench:calls({to}, 2000)")) / 1e9;
    let mut us = || trips(format!("{{net_kernel, '{}'}}", cluster.us));
    let mut other = || trips(cluster.bench_of("other"));
    let mut c = || trips(cluster.bench_of("c"));
    let mut us_called = || calls(format!("{{net_kernel, '{}'}}", cluster.us));
    let mut other_called = || calls(cluster.bench_of("other"));
    let memory = warm(&mut us, cluster.daemon.id());
    let [us, other, c, us_called, other_called] =
        take_turns(2 * ROUNDS, [&mut us, &mut other, &mut c, &mut us_called, &mut other_called]);
    compare("round trip to us / to a C node", Unit::Time, &us, &c, Goal::AtMost(1.0));
    compare("round trip to us / to another erl", Unit::Time, &us, &other, Goal::None);
    compare("round trip to a C node / to another erl", Unit::Time, &c, &other, Goal::None);
    compare("gen_server:call to us / to another erl", Unit::Time, &us_called, &other_called, Goal::None);
    flat("round trips: memory after / before", cluster.daemon.id(), memory);
}

/// Measures the round trip of a small message while large messages are sent to the same node in
/// fragments.
fn beside_large(cluster: &Cluster) {
    for (name, size, count) in [("5 MB", 5_000_000, 40), ("50 MB", 50_000_000, 10)] {
        let trips = |to: String| {
            let call = format!("bench:trips_beside({to}, {{is_auth, node()}}, {size}, {count})");
            let times = cluster.erl.borrow_mut().eval(&call);
            let times = times.trim_matches(['[', ']']).split(',');
            let times: Vec<f64> = times.map(|time| time.trim().parse::<f64>().unwrap() / 1e9).collect();
            Samples::from(times).median()
        };
        let mut us = || trips(format!("{{net_kernel, '{}'}}", cluster.us));
        let mut other = || trips(cluster.bench_of("other"));
        let [us, other] = take_turns(4, [&mut us, &mut other]);
        let what = format!("round trip to us beside {name} / to another erl likewise");
        compare(&what, Unit::Time, &us, &other, Goal::None);
    }
}

// ---- pg -------------------------------------------------------------------------------------

/// Measures the time until `erl` sees a join, by a process of this node or of another `erl`.
fn joins(cluster: &Cluster) {
    let joined = |begun| between(begun, nanoseconds(&mut cluster.erl.borrow_mut(), "bench:joined()"));
    // The next round starts after all members of this one have left.
    let forgotten = || cluster.erl.borrow_mut().eval_until("length(pg:which_groups(wire))", "2", support::PATIENCE);
    cluster.erl.borrow_mut().eval("bench:watch(wire)");
    for (what, count, rounds) in [("a join", 1, 200), ("10000 joins", 10_000, 6)] {
        let mut us = || {
            let node = cluster.node.clone();
            let join = async move {
                let begun = since_epoch();
                let mut members = Vec::new();
                for number in (1..=count).rev() {
                    let kind = if number == 1 { "last" } else { "more" };
                    members.push(node.join(vec![Term::tuple([Term::atom(kind), Term::Int(number)])]).await);
                }
                (begun, members)
            };
            let (begun, members) = cluster.runtime.block_on(cluster.runtime.spawn(join)).unwrap();
            let seconds = joined(begun);
            cluster.runtime.block_on(async {
                for member in members {
                    cluster.node.exit(member).await;
                }
            });
            forgotten();
            seconds
        };
        let mut other = || {
            let begun = nanoseconds(&mut cluster.other.borrow_mut(), &format!("bench:join_many(x, {count})"));
            let seconds = joined(begun);
            cluster.other.borrow_mut().eval("bench:leave_all()");
            forgotten();
            seconds
        };
        other();
        let memory = warm(&mut us, std::process::id());
        let [us, other] = take_turns(rounds, [&mut us, &mut other]);
        compare(&format!("{what} here seen by erl / of another erl"), Unit::Time, &us, &other, Goal::AtMost(0.8));
        flat(&format!("{what}: memory after / before"), std::process::id(), memory);
    }
}
