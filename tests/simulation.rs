//! Many nodes as pure machines: no sockets, a clock that only the test moves, and chance that follows from a seed. They find
//! each other, connections break, hosts are cut from each other, nodes begin anew, and in the end all see the same.
//!
//! Some dozens of nodes here, which takes seconds; `make simulate` has 1,000, which takes a quarter of an hour.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test ends where it is surprised")]

#[path = "simulation/node.rs"]
mod node;
#[path = "simulation/world.rs"]
mod world;

use world::{Counts, Picture, SECOND, Time, World};

/// A cluster: its hosts, and how many nodes each has.
type Size = (usize, usize);

/// All have found each other within this time of their start.
const FORMED: Time = 30 * SECOND;
/// After a cut was healed all have found each other again within this time: a pause of half a minute between two attempts, a
/// third of that for chance, and attempts that fail.
const HEALED: Time = 90 * SECOND;

/// What came of a history: what all see, and all that has arrived, as one number.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    picture: Picture,
    counts: Counts,
    history: u64,
}

/// They meet, and are disturbed in all ways. Each time all see the same afterwards.
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

    // Long enough that peers are given up which nobody has configured; some nodes are others afterwards.
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

    // One host by itself, some apart, and the rest; long enough that all notice the silence.
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

/// One seed gives one history, and all seeds come to the same end.
fn all_converge(size: Size) {
    let first = run_history(1, size);
    assert_eq!(run_history(1, size), first, "the same happens again");
    for seed in [2, 3] {
        check_same_end(&run_history(seed, size), &first);
    }
}

fn check_same_end(one: &Outcome, other: &Outcome) {
    assert_ne!(one.history, other.history, "two histories");
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

/// What it costs to become one cluster grows as the connections do, each of which there must be; and so does what is
/// asked and introduced, however many daemons there are.
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
