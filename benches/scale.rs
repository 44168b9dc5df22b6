//! One cluster of many daemons on one machine, with real Erlang nodes: see
//! `docs/internals/benchmarks.md`.
//!
//! Each argument is a number of daemons, and the clusters run one after the other. Without
//! arguments, two small clusters run. Each cluster also contains a tenth as many Erlang nodes, and
//! at least two.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a bench fails at the first unexpected value")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod measure;
#[path = "../tests/support/mod.rs"]
mod support;

use std::thread;
use std::time::{Duration, Instant};

use measure::own_memory;
use support::daemon::Daemon;
use support::erl::Erl;
use support::{Host, wait_within};

/// The longest wait, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);
/// The time for which idle daemons are watched. It includes several rounds of all periodic work.
const IDLE: Duration = Duration::from_secs(20);

fn main() {
    let given: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if given.is_empty() { vec![5, 10] } else { given };
    println!(
        "{:>8} {:>6} {:>9} {:>10} {:>9} {:>8} {:>10} {:>9} {:>8} {:>8} {:>8}",
        "daemons",
        "erl",
        "started",
        "all agree",
        "messages",
        "a pair",
        "KiB a pair",
        "MiB each",
        "KiB/peer",
        "idle CPU",
        "a join"
    );
    for daemons in sizes {
        grow(daemons, (daemons / 10).max(2));
    }
}

/// One daemon of the cluster, with its own home.
struct One {
    host: Host,
    daemon: Daemon,
}

impl One {
    fn start(all: &Host, number: usize) -> Self {
        let mut host = Host::new();
        (host.cookie, host.epmd_port) = (all.cookie.clone(), all.epmd_port);
        let name = format!("hecate_x{number}");
        let daemon = host.daemon(&[("HECATE_NODE_NAME", &name), ("HECATE_LOG", "warn")]);
        Self { host, daemon }
    }

    /// Returns the number of connected nodes, and the number of group members that the daemon sees.
    fn sees(&self) -> (usize, usize) {
        let cluster = self.host.ask("GET", "/api/cluster").body;
        let peers =
            cluster["peers"].as_array().map_or(0, |peers| peers.iter().filter(|p| p["state"] == "connected").count());
        let count = |what: &str| cluster["scopes"][0][what].as_u64().unwrap_or_default();
        (peers, usize::try_from(count("own_members") + count("peer_members")).unwrap())
    }

    /// Returns the messages and bytes sent to peers.
    fn sent(&self) -> [f64; 2] {
        let metrics = self.host.ask("GET", "/metrics").text;
        ["messages", "bytes"].map(|what| {
            let name = format!("hecate_link_sent_{what}_total ");
            let line = metrics.lines().find_map(|line| line.strip_prefix(&name)).expect("the metric exists");
            line.parse().expect("a number")
        })
    }

    /// Returns the CPU time, in seconds.
    fn worked(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.daemon.id())).unwrap();
        // The fields after the name start with number 3. utime and stime are fields 14 and 15, in
        // hundredths of a second.
        let after = stat.rsplit_once(')').unwrap().1;
        after.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
    }
}

/// Waits until each node sees this many peers and members, one node after the other.
fn all_see(ones: &[One], erls: &mut [Erl], peers: usize, members: usize) {
    for one in ones {
        wait_within(PATIENCE, format!("{peers} peers, {members} members"), || {
            let seen = one.sees() == (peers, members);
            if !seen {
                thread::sleep(Duration::from_millis(40));
            }
            seen.then_some(())
        });
    }
    let seen = "{length(nodes()), lists:sum([length(pg:get_members(G)) || G <- pg:which_groups()])}";
    for erl in erls {
        erl.eval_until(seen, &format!("{{{peers},{members}}}"), PATIENCE);
    }
}

fn total(ones: &[One], figure: impl Fn(&One) -> f64) -> f64 {
    ones.iter().map(figure).sum()
}

fn grow(daemons: usize, erls: usize) {
    let all = Host::new();
    let _epmd = all.epmd();
    // The memory of a daemon without peers, and the memberships that each daemon has.
    let (alone, own) = {
        let one = One::start(&all, 0);
        one.daemon.ready();
        (own_memory(one.daemon.id()), one.sees().1)
    };
    let members = daemons * own + erls;
    let mut nodes: Vec<Erl> = (1..=erls).map(|number| all.erl(&all.node(&format!("hecate_e{number}d")))).collect();
    for erl in &mut nodes {
        erl.eval("{ok, _} = pg:start_link(), pg:join(workers, self())");
    }
    let begun = Instant::now();
    let ones: Vec<One> = (1..=daemons).map(|number| One::start(&all, number)).collect();
    for one in &ones {
        wait_within(PATIENCE, "a daemon is ready", || one.daemon.ready_line());
    }
    let started = begun.elapsed();
    let peers = daemons + erls - 1;
    all_see(&ones, &mut nodes, peers, members);
    let agreed = begun.elapsed();
    let [messages, bytes] = [0, 1].map(|at| total(&ones, |one| one.sent()[at]));
    // Pairs of Erlang nodes are left out, because their traffic is not counted.
    let pairs = (daemons * (daemons - 1) / 2 + daemons * erls) as f64;

    let joining = Instant::now();
    ones[0].host.register_named("hecate-onemored");
    all_see(&ones, &mut nodes, peers, members + 2);
    let joined = joining.elapsed();

    let before = total(&ones, One::worked);
    thread::sleep(IDLE);
    let idle = (total(&ones, One::worked) - before) / IDLE.as_secs_f64() / daemons as f64;
    let memory = total(&ones, |one| own_memory(one.daemon.id())) / daemons as f64;
    println!(
        "{daemons:>8} {erls:>6} {:>7.1} s {:>8.1} s {messages:>9.0} {:>8.1} {:>10.2} {:>9.2} {:>8.1} {:>7.2}% {:>5.0} ms",
        started.as_secs_f64(),
        agreed.as_secs_f64(),
        messages / pairs,
        bytes / pairs / 1024.0,
        memory / 1024.0 / 1024.0,
        (memory - alone) / peers as f64 / 1024.0,
        idle * 100.0,
        joined.as_secs_f64() * 1e3,
    );
}
