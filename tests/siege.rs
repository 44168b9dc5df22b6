//! Attacks on the built daemon, while a well-behaved client registers, lists and pings.
//!
//! `make test` runs each attack alone, until the client has had a number of calls answered.
//! `make siege` runs all of them at once for `HECATE_SIEGE` seconds (600 by default). It prints how
//! many of the client's calls were lost and how long the calls took. A call is lost if its response
//! differs from the response of an undisturbed daemon. It is also lost if the data that it stored
//! is missing after a `kill -9` at the end.
//!
//! The test does not check whether an attack itself succeeds. It checks the client, the log, and
//! the memory. `siege/coverage.rs` lists the tests of every attack, including those in other files.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

#[path = "siege/attacks.rs"]
mod attacks;
#[path = "siege/client.rs"]
mod client;
#[path = "hostile/connection.rs"]
mod connection;
#[path = "siege/coverage.rs"]
mod coverage;
mod support;
#[path = "hostile/wire.rs"]
mod wire;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use attacks::Attack;
use client::Client;
use support::daemon::Daemon;
use support::{Host, epmd, wait_within};

/// The rounds of client calls during which one attack alone lasts.
const ROUNDS: usize = 60;

/// The answered client calls during which an attack keeps its connections open.
const HELD: u64 = 45;

/// The memory that the daemon may use at once: the budget for peers, and as much for everything
/// else.
const MEMORY: usize = 512 * 1024 * 1024;

/// The goal of `make siege` for the 99th percentile of the client's calls.
const GOAL: Duration = Duration::from_millis(250);

/// The daemon, as the attacks know it.
struct World {
    host: Host,
    /// The node name of the daemon.
    node: String,
    /// The distribution port of the daemon.
    port: u16,
    /// The answered calls of the client.
    answered: AtomicU64,
    over: AtomicBool,
}

impl World {
    /// Starts the daemon, which serves EPMD too.
    fn start() -> (Self, Daemon) {
        let host = Host::new();
        let daemon = host.daemon(&[("HECATE_LOG", "info,hecate_daemon::cluster=debug,beam::node=debug")]);
        let node = daemon.ready();
        let port = *epmd::names(host.epmd_port).get("hecate").expect("the daemon is registered");
        (Self { host, node, port, answered: AtomicU64::new(0), over: AtomicBool::new(false) }, daemon)
    }

    /// Returns whether the attacks continue.
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Waits until `HELD` more calls of the client are answered.
    fn hold(&self) {
        let until = self.answered.load(Ordering::Relaxed) + HELD;
        wait_within(10 * support::PATIENCE, "the client has its calls answered", || {
            (!self.goes_on() || self.answered.load(Ordering::Relaxed) >= until).then_some(())
        });
    }

    /// Runs these attacks and the client at the same time, for as long as the client is `wanted`.
    fn attack(&self, attacks: &[Attack], client: &mut Client, mut wanted: impl FnMut(&Client) -> bool) {
        thread::scope(|scope| {
            let over = Over(&self.over);
            for (_, attack) in attacks {
                scope.spawn(|| attack(self));
            }
            while wanted(client) {
                self.answered.fetch_add(client.round(&self.host), Ordering::Relaxed);
            }
            drop(over);
        });
    }
}

/// Ends the attacks, also when the client panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs the attacks, then checks everything that they may have harmed.
fn withstand(attacks: &[Attack], wanted: impl FnMut(&Client) -> bool) -> Client {
    let (world, mut daemon) = World::start();
    let mut client = Client::new(&world);
    world.attack(attacks, &mut client, wanted);
    assert!(daemon.runs(), "the daemon has ended");
    let names: Vec<&str> = attacks.iter().map(|(name, _)| *name).collect();
    println!("{}: {}; peak memory {} MiB", names.join(", "), client.report(), daemon.peak_memory() >> 20);
    assert!(daemon.peak_memory() < MEMORY, "{} MiB of memory at once", daemon.peak_memory() >> 20);
    let mut errors = daemon.log_lines(&["ERROR"]);
    errors.retain(|line| !line.contains(attacks::REPAIRED));
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(
        daemon.log_lines(&["node up", attacks::THIEF]),
        Vec::<String>::new(),
        "the thief was accepted without the cookie"
    );
    let log = daemon.log();
    let writing: Vec<&str> = log.lines().filter(|line| line.contains(attacks::writes_on_a_terminal)).collect();
    assert_eq!(writing, Vec::<&str>::new(), "control characters in the log");
    daemon.kill();
    let again = world.host.daemon(&[]);
    again.ready();
    client.check_what_is_stored(&world.host);
    assert_eq!(client.lost, Vec::<String>::new(), "lost calls");
    client
}

/// Runs one attack during a number of calls.
fn alone(name: &str) {
    together(&[name]);
}

/// Runs some attacks at once, during a number of calls.
fn together(names: &[&str]) {
    let mut attacks = attacks::all();
    attacks.retain(|(name, _)| names.contains(name));
    assert_eq!(attacks.len(), names.len(), "attacks of these names");
    let mut rounds = 0..ROUNDS;
    withstand(&attacks, |_| rounds.next().is_some());
}

#[test]
fn idle_and_unread_connections_delay_no_client() {
    alone("idle connections");
}

#[test]
fn unread_streams_delay_no_client() {
    alone("unread streams");
}

#[test]
fn refused_requests_and_a_removed_socket_delay_no_client() {
    together(&["refused requests", "followers that leave", "removed socket"]);
}

#[test]
fn silent_and_reflecting_handshakes_delay_no_client() {
    together(&["silent handshakes", "reflected challenges"]);
}

#[test]
fn leaves_of_many_processes_from_many_groups_delay_no_client() {
    alone("products");
}

#[test]
fn unfinished_frames_of_many_peers_share_one_budget() {
    alone("unfinished frames");
}

#[test]
fn unfinished_fragments_of_many_peers_share_one_budget() {
    alone("unfinished fragments");
}

#[test]
fn groups_of_unregistered_names_create_few_directories() {
    alone("announced names");
}

#[test]
fn large_arguments_of_calls_delay_no_client() {
    alone("large calls");
}

#[test]
fn hostile_names_in_epmd_reach_no_terminal() {
    alone("hostile names");
}

#[test]
fn unfinished_requests_to_epmd_delay_no_node() {
    alone("unfinished epmd requests");
}

/// Ends after `HECATE_SIEGE` seconds, 600 by default.
#[test]
#[ignore = "takes ten minutes: make siege"]
fn all_attacks_at_once_lose_no_call() {
    let seconds = std::env::var("HECATE_SIEGE").map_or(600, |seconds| seconds.parse().expect("seconds"));
    let end = Instant::now() + Duration::from_secs(seconds);
    let client = withstand(&attacks::all(), |_| Instant::now() < end);
    let p99 = client.p99();
    assert!(p99 < GOAL, "goal missed: the 99th percentile is {p99:.1?}, and must be less than {GOAL:?}");
    println!("goal reached: no call lost, and the 99th percentile {p99:.1?} is less than {GOAL:?}");
}
