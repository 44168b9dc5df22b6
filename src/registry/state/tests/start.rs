//! Tests of how stored plugins are judged after a start, and of properties of the whole state.

use super::*;

#[test]
fn an_empty_registry_is_ready_at_once() {
    assert!(World::new().state.view().ready);
}

#[test]
fn a_stored_status_is_checked_after_a_start() {
    // Stored status and node, connected node, result of the probe; expected status and incarnation.
    // The last stored revision is 9.
    let running = Status::Running;
    let stopped = Status::Stopped;
    let unclear = || SocketState::Unclear("why".into());
    let denied = || SocketState::Denied("why".into());
    let cases = [
        (running, None, None, SocketState::Alive, running, 3),
        (running, None, None, DEAD, stopped, 3),
        (running, None, None, SocketState::Absent, stopped, 3),
        (running, None, None, unclear(), stopped, 3),
        (running, None, None, denied(), running, 3),
        (running, Some(NODE), None, denied(), running, 3),
        (stopped, None, None, denied(), stopped, 3),
        (stopped, None, None, SocketState::Alive, running, 10),
        (stopped, None, None, DEAD, stopped, 3),
        (running, Some(NODE), Some(NODE), SocketState::Absent, running, 3),
        (stopped, Some(NODE), Some(NODE), SocketState::Absent, running, 10),
        (running, Some(NODE), None, SocketState::Alive, running, 3),
        (running, Some(NODE), None, DEAD, stopped, 3),
        (stopped, Some("gone@host"), Some(NODE), SocketState::Absent, running, 10),
    ];
    for (number, (before, node, connected, probe, after, incarnation)) in cases.into_iter().enumerate() {
        let mut world = World::with(9, &[stored(before, node, false)]);
        assert!(!world.state.view().ready, "case {number}");
        world.pass(SECOND);
        assert_eq!(world.probes(), 0, "case {number}: its node may still connect");
        if let Some(node) = connected {
            world.up(node);
        }
        world.effects();
        world.settled();
        assert_eq!(world.probes(), usize::from(connected.is_none()), "case {number}");
        if connected.is_none() {
            assert!(!world.state.view().ready, "case {number}");
            world.probed(probe.clone());
        }
        assert!(world.state.view().ready, "case {number}");
        assert_eq!((world.status(), world.plugin().incarnation), (after, incarnation), "case {number}");
        let changes = usize::from(before != after || (node != connected && connected.is_some()));
        assert_eq!(world.events().len(), changes, "case {number}: no event where nothing changed");
        let dead = after == stopped && probe != denied();
        let cleans = world.effects().iter().filter(|effect| effect.starts_with("clean")).count();
        assert_eq!(cleans, usize::from(dead), "case {number}: files of a plugin that died meanwhile");
    }
}

#[test]
fn the_socket_decides_if_the_node_does_not_connect_in_time() {
    let mut world = World::with(9, &[stored(Status::Running, Some(NODE), true)]);
    assert_eq!(world.state.next_deadline(), Some(world.now.instant + limits::JUDGE));
    world.pass(limits::JUDGE - SECOND);
    assert_eq!(world.probes(), 0);
    world.pass(SECOND);
    assert_eq!((world.probes(), world.state.view().ready), (1, false));
    world.probed(SocketState::Absent);
    assert_eq!((world.status(), world.state.view().ready), (Status::Stopped, true));
    world.settled().up(NODE);
    assert_eq!((world.status(), world.probes()), (Status::Running, 0));
}

#[test]
fn a_restart_that_may_not_connect_to_a_socket_stores_nothing_until_the_node_decides() {
    let mut world = World::with(9, &[stored(Status::Running, Some(NODE), false)]);
    world.settled().probed(SocketState::Denied("why".into())).pass(SECOND);
    assert_eq!((world.events(), world.plugin().reason.detail.as_str()), (vec![], "as it was"));
    world.up(NODE);
    assert_eq!((world.events(), world.status()), (vec![], Status::Running));
    world.down(NODE);
    assert_eq!(world.status(), Status::Stopped, "its node disconnected");
}

#[test]
fn an_unknown_status_from_before_a_restart_ends_once_the_node_is_connected() {
    let mut plugin = stored(Status::Running, Some(NODE), false);
    plugin.reason = Reason::new(ReasonCode::StatusUnknown, "status unknown: why");
    let mut world = World::with(9, &[plugin]);
    world.settled().up(NODE);
    let reason = Reason::new(ReasonCode::NodeConnected, format!("its node {NODE} is connected"));
    assert_eq!(world.plugin().reason, reason);
    assert_eq!(world.events(), [(10, EventKind::StatusChanged, Status::Running)]);
}

#[test]
fn a_probe_that_hangs_does_not_delay_readiness() {
    let mut world = World::with(9, &[stored(Status::Running, None, false)]);
    world.settled();
    assert_eq!(world.state.next_deadline(), Some(world.now.instant + limits::JUDGE_LOOK));
    world.pass(limits::JUDGE_LOOK);
    assert_eq!((world.status(), world.state.view().ready), (Status::Stopped, true));
    assert_eq!(world.plugin().reason.detail, "its socket could not be checked in time");
    world.probed(SocketState::Alive);
    assert_eq!(world.status(), Status::Running);
}

#[test]
fn a_registration_or_deregistration_ends_the_judging() {
    let mut world = World::with(9, &[stored(Status::Stopped, None, false)]);
    assert_eq!(world.register(trader()).expect("accepted").incarnation, 10);
    assert!(world.state.view().ready);
    let mut world = World::with(9, &[stored(Status::Stopped, None, false)]);
    world.deregister("hecate-traderd").expect("there");
    assert!(world.state.view().ready);
}

#[test]
fn a_node_that_disconnects_during_the_judging_ends_it() {
    let mut world = World::with(9, &[stored(Status::Running, Some(NODE), false)]);
    world.up(NODE).down(NODE);
    assert_eq!((world.status(), world.state.view().ready), (Status::Stopped, true));
}

#[test]
fn a_tick_when_it_is_due_always_moves_the_deadline() {
    let mut world = World::with(9, &[stored(Status::Running, None, false)]);
    world.register(Registration { name: name("hecate-twod"), ..trader() }).expect("accepted");
    world.register(Registration { name: name("hecate-threed"), ..trader_on("three@h") }).expect("accepted");
    for _ in 0..1000 {
        let Some(due) = world.state.next_deadline() else { break };
        world.now.instant = world.now.instant.max(due);
        world.input(RegistryInput::Tick);
        assert!(world.state.next_deadline() > Some(world.now.instant) || world.state.next_deadline().is_none());
        // Every probe finds no socket.
        let probes: Vec<_> = world.effects.drain(..).collect();
        for effect in probes {
            if let E::ProbeSocket(name) = effect {
                world.input(RegistryInput::SocketProbed { name, state: SocketState::Absent });
            }
        }
    }
    assert!(world.state.view().plugins.values().all(|plugin| plugin.status == Status::Stopped));
}

#[test]
fn revisions_have_no_gaps() {
    let mut world = World::new();
    world.register(trader()).expect("accepted");
    world.up(NODE).down(NODE).probed(SocketState::Alive).up(NODE).withdraw("hecate-traderd", NODE);
    world.deregister("hecate-traderd").expect("there");
    let revisions: Vec<_> = world.events().into_iter().map(|(revision, ..)| revision).collect();
    assert_eq!(revisions, (1..=world.state.view().revision).collect::<Vec<_>>());
}
