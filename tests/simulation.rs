//! Many nodes as pure machines: no sockets, a clock that only the test moves, and random choices
//! that follow from a seed. They find each other, connections break, hosts are cut from each other,
//! nodes restart, and finally all see the same.
//!
//! A few dozen nodes here, which take seconds. `make simulate` has 1,000 nodes and takes a quarter
//! of an hour.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

#[path = "simulation/node.rs"]
mod node;
#[path = "simulation/world.rs"]
mod world;

use world::{Counts, Picture, SECOND, Time, World};

/// The size of a cluster: its hosts, and the nodes of each.
type Size = (usize, usize);

/// The time for all to find each other after their start.
const FORMED: Time = 30 * SECOND;
/// The time for all to find each other after a cut: half a minute between two attempts, a third
/// more for jitter, and failed attempts.
const HEALED: Time = 90 * SECOND;

/// The outcome of a run: the common view of all nodes, and a hash of all that was delivered.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    picture: Picture,
    counts: Counts,
    history: u64,
}

/// Runs a cluster through all kinds of faults. After each, all nodes must see the same.
fn run_history(seed: u64, (hosts, per_host): Size) -> Outcome {
    let mut world = World::new(seed, hosts, per_host, 1);
    world.failing = 30;
    let formed = world.settle(FORMED);
    print_time(&world, "all have met", formed);
    world.picture();

    world.break_some(50, 1);
    world.run(90 * SECOND);
    let again = world.settle(HEALED);
    print_time(&world, "some connections were lost", again);

    // Long enough that unconfigured peers are forgotten. Some nodes restart as new incarnations.
    world.cut(|host| u8::from(host % 2 == 1));
    world.run(100 * SECOND);
    world.restart(0);
    world.restart(per_host * (hosts - 1));
    world.restart(per_host * (hosts / 2) + per_host - 1);
    world.run(100 * SECOND);
    world.sees_its_side_only();
    world.heal();
    let healed = world.settle(HEALED);
    print_time(&world, "one half was cut from the other", healed);
    world.picture();

    // One host alone, a few together, and the rest; long enough that all notice the silence.
    world.cut(|host| match host {
        1 => 1,
        host if host % 5 == 0 => 2,
        _ => 0,
    });
    world.run(90 * SECOND);
    world.heal();
    let healed = world.settle(HEALED);
    print_time(&world, "three parts were cut from each other", healed);
    Outcome { picture: world.picture(), counts: world.counts, history: world.history }
}

fn print_time(world: &World, what: &str, took: Time) {
    let (nodes, after) = (world.nodes.len(), took / 1000);
    println!("{nodes} nodes, after {} s, {what}: whole after {after} ms, {:?}", world.seconds(), world.counts);
}

/// Checks that a seed always gives the same run, and that all seeds reach the same end.
fn all_converge(size: Size) {
    let first = run_history(1, size);
    assert_eq!(run_history(1, size), first, "two runs of one seed differ");
    for seed in [2, 3] {
        check_same_end(&run_history(seed, size), &first);
    }
}

fn check_same_end(one: &Outcome, other: &Outcome) {
    assert_ne!(one.history, other.history, "two seeds gave the same run");
    assert!(one.picture == other.picture, "they see {:?} and {:?}", one.picture, other.picture);
}

#[test]
fn daemons_with_plugins_converge_in_every_run() {
    all_converge((8, 5));
}

#[test]
fn daemons_without_plugins_converge_in_every_run() {
    all_converge((25, 1));
}

#[test]
fn one_daemon_introduces_all_nodes() {
    all_converge((1, 30));
}

/// The cost of forming a cluster grows with the number of connections, which are necessary. So does
/// the number of questions and introductions, however many daemons there are.
#[test]
fn traffic_grows_with_the_number_of_connections() {
    for hosts in [4, 16] {
        let mut world = World::new(1, hosts, 4, 1);
        world.settle(FORMED);
        let nodes = 4 * hosts as u64;
        let (pairs, counts) = (nodes * (nodes - 1) / 2, world.counts);
        assert!(counts.messages < 18 * pairs, "{counts:?}, {pairs} pairs");
        assert!(counts.attempts < pairs * 3 / 2, "{counts:?}, {pairs} pairs");
        assert!(counts.introductions < pairs * 3 / 2, "{counts:?}, {pairs} pairs");
        assert!(counts.asked < 6 * nodes, "{counts:?}, {nodes} nodes");
    }
}

#[test]
#[ignore = "takes a quarter of an hour: make simulate"]
fn a_thousand_nodes_converge_in_every_run() {
    let size = (100, 10);
    check_same_end(&run_history(1, size), &run_history(2, size));
}
