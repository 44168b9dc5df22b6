//! Tests of plugins whose node is running on this host and refuses to connect.

use super::*;

const REFUSED: &str = "its node hecate_traderd@host is running, but refuses to connect (cookie_mismatch)";

fn refusing() -> World {
    let mut world = World::new();
    world.register(trader()).expect("accepted");
    world.probed(SocketState::Absent).refused(NODE, "cookie_mismatch");
    world
}

#[test]
fn a_refusing_node_is_found_by_name_and_is_a_sign_of_life() {
    let mut world = refusing();
    let plugin = world.plugin();
    assert_eq!((plugin.node.as_deref(), plugin.node_given), (Some(NODE), false));
    assert_eq!(
        (plugin.status, plugin.reason.clone()),
        (Status::Running, Reason::new(ReasonCode::NodeRefused, REFUSED))
    );
    world.events();
    for probe in [SocketState::Absent, DEAD, SocketState::Denied("why".into()), SocketState::Unclear("why".into())] {
        world.pass(limits::GRACE).probed(probe);
    }
    assert_eq!((world.status(), world.events()), (Status::Running, vec![]), "its socket does not matter");
    world.refused(NODE, "not_allowed");
    assert!(world.plugin().reason.detail.ends_with("(not_allowed)"));
    assert_eq!(world.events().len(), 1);
    world.refused(NODE, "not_allowed");
    assert_eq!(world.events(), []);
    world.up(NODE).down(NODE);
    assert_eq!(world.status(), Status::Stopped, "it was connected, and disconnected");
}

#[test]
fn after_a_refusing_node_ends_the_socket_decides() {
    let mut world = refusing();
    world.pass(limits::SOCKET_POLL).probed(SocketState::Absent).effects();
    world.ended("x@host");
    assert_eq!(world.probes(), 0);
    world.ended(NODE);
    assert_eq!(world.probes(), 1, "at once");
    world.probed(SocketState::Absent);
    let plugin = world.plugin();
    assert_eq!((plugin.status, plugin.node.as_deref()), (Status::Stopped, Some(NODE)));
    let ended = format!("its node {NODE} has ended, and it has no `sockets/api.sock`");
    assert_eq!(plugin.reason, Reason::new(ReasonCode::NodeEnded, ended));

    let mut world = refusing();
    world.ended(NODE).probed(SocketState::Alive);
    assert_eq!(world.status(), Status::Running, "its socket still answers");
    world.pass(limits::SOCKET_POLL).probed(DEAD);
    assert_eq!(
        (world.status(), world.plugin().reason.detail.as_str()),
        (Status::Stopped, "its socket refuses connections")
    );
    world.refused(NODE, "cookie_mismatch");
    assert_eq!((world.status(), world.plugin().reason.detail.as_str()), (Status::Running, REFUSED), "it is back");
}

#[test]
fn a_node_that_refused_before_the_registration_counts_as_running() {
    let mut world = World::new();
    world.refused(NODE, "cookie_mismatch");
    world.register(trader()).expect("accepted");
    assert_eq!(world.plugin().node.as_deref(), Some(NODE));
    world.probed(SocketState::Absent).pass(limits::GRACE);
    assert_eq!(world.status(), Status::Running);
    // The same applies to a node from a registration.
    let mut world = World::new();
    world.register(trader_on("x@host")).expect("accepted");
    world.refused(NODE, "cookie_mismatch").refused("x@host", "cookie_mismatch");
    assert_eq!(world.plugin().node.as_deref(), Some("x@host"));
    world.probed(SocketState::Absent).pass(limits::GRACE);
    assert_eq!(world.status(), Status::Running);
}

#[test]
fn a_connected_node_overrides_one_that_refuses() {
    let mut world = World::new();
    world.register(trader()).expect("accepted");
    world.up("x@host").announce("hecate-traderd", "x@host").refused(NODE, "cookie_mismatch");
    assert_eq!(world.plugin().node.as_deref(), Some("x@host"));
    world.down("x@host");
    assert_eq!((world.status(), world.plugin().node.as_deref()), (Status::Stopped, Some("x@host")));
    // A node that was connected before decides only once it connects again.
    let mut world = World::new();
    world.register(trader()).expect("accepted");
    world.up(NODE).down(NODE).refused(NODE, "cookie_mismatch");
    assert_eq!(world.status(), Status::Stopped);
    world.up(NODE).refused(NODE, "cookie_mismatch");
    assert_eq!(world.status(), Status::Running, "an outdated report about a connected node");
    assert_eq!(world.plugin().reason.detail, format!("its node {NODE} is connected"));
}

#[test]
fn the_data_of_a_plugin_is_not_purged_while_its_node_runs() {
    for (node, last) in [(NODE, None), ("x@host", Some("x@host".parse().unwrap()))] {
        let mut world = World::new();
        world.register(trader_on(node)).expect("accepted");
        world.refused(node, "cookie_mismatch").deregister("hecate-traderd").expect("there");
        let purge = |world: &World| world.state.admit_purge(&name("hecate-traderd"), last.clone());
        let refused = purge(&world).expect_err("it runs");
        assert_eq!(refused.code(), "still_running");
        assert!(refused.to_string().contains(&format!("its node {node} is running")), "{refused}");
        world.ended(node);
        assert!(purge(&world).is_ok(), "{node}");
    }
}

#[test]
fn a_refusing_node_is_found_only_by_its_whole_name() {
    for other in ["hecate_trader@host", "hecate_traderd2@host", "xhecate_traderd@host"] {
        let mut world = World::new();
        world.register(trader()).expect("accepted");
        world.refused(other, "cookie_mismatch").probed(SocketState::Absent).pass(limits::GRACE);
        assert_eq!((world.status(), world.plugin().node.as_deref()), (Status::Stopped, None), "{other}");
    }
}

#[test]
fn a_refusing_node_decides_after_a_start() {
    for (before, events) in [(Status::Running, 1), (Status::Stopped, 1)] {
        let mut world = World::with(9, &[stored(before, Some(NODE), false)]);
        world.refused(NODE, "cookie_mismatch");
        assert!(world.state.view().ready);
        assert_eq!((world.status(), world.plugin().reason.detail.as_str()), (Status::Running, REFUSED));
        assert_eq!(world.events().len(), events);
        world.settled();
        assert_eq!(world.probes(), 0, "{before:?}");
    }
}

#[test]
fn nodes_that_refuse_are_bounded() {
    let mut world = World::new();
    for number in 0..limits::REGISTRY_NODES {
        world.refused(&format!("n{number}@host"), "cookie_mismatch");
    }
    world.register(trader()).expect("accepted");
    world.refused(NODE, "cookie_mismatch");
    assert_eq!(world.plugin().node, None);
    world.ended("n0@host").refused(NODE, "cookie_mismatch");
    assert_eq!(world.plugin().node.as_deref(), Some(NODE));
}
