//! Tests of plugins without a node, whose sockets decide.

use super::*;

#[test]
fn the_socket_decides_without_a_node() {
    let mut world = World::new();
    world.register(trader()).expect("accepted");
    assert_eq!(world.probes(), 1, "at once");
    world.probed(SocketState::Alive);
    assert_eq!(world.state.next_deadline(), Some(world.now.instant + limits::SOCKET_POLL));
    for silent in [DEAD, SocketState::Absent, SocketState::NotASocket] {
        world.pass(limits::SOCKET_POLL);
        assert_eq!(world.probes(), 1);
        world.probed(silent.clone());
        assert_eq!(world.status(), Status::Stopped, "{silent:?}");
        assert_eq!(world.effects(), ["clean hecate-traderd"]);
        let stopped = world.state.view().revision;
        world.pass(limits::SOCKET_POLL).probed(SocketState::Alive);
        assert_eq!((world.status(), world.plugin().incarnation), (Status::Running, stopped + 1));
        assert_eq!(world.effects(), ["probe hecate-traderd", "cancel hecate-traderd"]);
    }
}

#[test]
fn an_unclear_probe_keeps_the_status() {
    let mut world = World::new();
    world.register(trader()).expect("accepted");
    world.probed(SocketState::Alive).pass(limits::SOCKET_POLL).probed(SocketState::Unclear("why".into()));
    assert_eq!(world.status(), Status::Running);
    world.pass(limits::SOCKET_POLL).probed(DEAD);
    world.events();
    world.pass(limits::SOCKET_POLL).probed(SocketState::Unclear("why".into()));
    assert_eq!((world.status(), world.events()), (Status::Stopped, vec![]));
}

#[test]
fn a_denied_connection_changes_only_the_reason() {
    let mut world = World::new();
    let denied = || SocketState::Denied("run `chmod 0660 api.sock`".into());
    world.register(trader()).expect("accepted");
    world.probed(denied());
    assert_eq!(world.plugin().reason.detail, "it registered", "its node may still connect");
    world.pass(limits::GRACE).probed(denied());
    let unknown = "status unknown: run `chmod 0660 api.sock`";
    assert_eq!((world.status(), world.plugin().reason.detail.as_str()), (Status::Running, unknown));
    world.events();
    for _ in 0..3 {
        world.pass(limits::SOCKET_POLL).probed(denied());
    }
    assert_eq!((world.status(), world.events()), (Status::Running, vec![]), "the reason changes once");
    world.pass(limits::SOCKET_POLL).probed(SocketState::Alive);
    assert_eq!(world.plugin().reason.detail, "its socket answers");
    world.pass(limits::SOCKET_POLL).probed(denied());
    assert_eq!((world.status(), world.plugin().reason.detail.as_str()), (Status::Running, unknown));
    world.effects();
    world.pass(limits::SOCKET_POLL).probed(DEAD);
    assert_eq!(world.plugin().reason.detail, "its socket refuses connections");
    world.pass(limits::SOCKET_POLL).probed(denied());
    assert_eq!((world.status(), world.plugin().reason.detail.as_str()), (Status::Stopped, unknown));
    world.pass(limits::SOCKET_POLL).probed(SocketState::Absent);
    assert_eq!((world.status(), world.plugin().reason.detail.as_str()), (Status::Stopped, "its socket is gone"));
    world.pass(limits::SOCKET_POLL).probed(denied()).up("hecate_traderd@host");
    assert_eq!(
        (world.status(), world.plugin().reason.detail.as_str()),
        (Status::Running, "its node hecate_traderd@host is connected")
    );
}

#[test]
fn a_plugin_without_a_sign_of_life_is_stopped() {
    let mut world = World::new();
    world.register(trader()).expect("accepted");
    world.probed(SocketState::Absent).pass(limits::GRACE - SECOND).probed(DEAD);
    assert_eq!(world.status(), Status::Running, "a refusal within the grace period decides nothing");
    world.probed(SocketState::Unclear("not permitted".into()));
    world.pass(SECOND);
    assert_eq!(world.status(), Status::Stopped);
    let silent = |found: &str| format!("no sign of life within 60 s of its registration ({found})");
    let why = "its socket could not be checked: not permitted";
    assert_eq!(world.plugin().reason.detail, silent(why));
    let since = world.plugin().since;
    // The reason follows the state of its socket.
    for (probe, found) in [
        (SocketState::Absent, "it has no `sockets/api.sock`"),
        (DEAD, "its socket refuses connections"),
        (SocketState::NotASocket, "its `sockets/api.sock` is not a socket"),
    ] {
        world.events();
        world.pass(limits::SOCKET_POLL).probed(probe.clone());
        let silent = Reason::new(ReasonCode::NoSignOfLife, silent(found));
        assert_eq!((world.plugin().reason.clone(), world.plugin().since), (silent, since));
        world.pass(limits::SOCKET_POLL).probed(probe);
        assert_eq!(world.events().len(), 1, "the reason changes once");
    }
    world.pass(limits::SOCKET_POLL).probed(SocketState::Alive).pass(limits::SOCKET_POLL).probed(SocketState::Absent);
    assert_eq!(world.plugin().reason.detail, "its socket is gone", "it has shown a sign of life");
}

#[test]
fn the_end_of_the_grace_period_starts_a_probe() {
    let mut world = World::new();
    world.register(trader()).expect("accepted");
    world.probed(SocketState::Absent).pass(limits::GRACE - SECOND);
    assert_eq!(world.probes(), 2);
    world.probed(SocketState::Absent).pass(SECOND);
    assert_eq!((world.status(), world.probes()), (Status::Stopped, 1), "before the next poll is due");
}

#[test]
fn a_socket_that_has_never_answered_is_not_reported_as_gone() {
    let mut world = World::with(9, &[stored(Status::Running, None, false)]);
    world.settled().probed(SocketState::Absent);
    assert_eq!(
        (world.status(), world.plugin().reason.detail.as_str()),
        (Status::Stopped, "it has no `sockets/api.sock`")
    );
}

#[test]
fn each_registration_starts_a_new_grace_period() {
    let mut world = World::new();
    world.register(trader()).expect("accepted");
    world.probed(SocketState::Alive).pass(limits::GRACE);
    assert_eq!(world.status(), Status::Running, "its socket answered");
    world.register(trader()).expect("accepted");
    world.probed(SocketState::Absent);
    assert_eq!(world.status(), Status::Running);
    world.pass(limits::GRACE);
    assert_eq!(world.status(), Status::Stopped);
}

#[test]
fn the_exit_of_the_registering_process_starts_a_probe() {
    let mut world = World::new();
    world.register_from(trader(), Some(me())).expect("accepted");
    assert_eq!(world.effects(), ["cancel hecate-traderd", "await hecate-traderd", "probe hecate-traderd"]);
    world.probed(SocketState::Alive).pass(SECOND);
    assert_eq!(world.probes(), 0);
    let exited = || RegistryInput::Exited { name: name("hecate-traderd"), process: me() };
    world.input(exited());
    assert_eq!((world.probes(), world.status()), (1, Status::Running));
    world.probed(SocketState::Alive);
    assert_eq!(world.status(), Status::Running, "a script registered it");
    world.input(exited()).probed(DEAD);
    assert_eq!(world.status(), Status::Stopped);
    assert!(matches!(world.effects.last(), Some(E::CleanUp { process: Some(process), .. }) if *process == me()));
}

#[test]
fn a_hint_during_a_probe_starts_another_one() {
    let mut world = World::new();
    world.register_from(trader(), Some(me())).expect("accepted");
    assert_eq!(world.probes(), 1);
    world.input(RegistryInput::Exited { name: name("hecate-traderd"), process: me() });
    assert_eq!(world.probes(), 0, "one at a time");
    world.probed(SocketState::Alive).input(RegistryInput::Tick);
    assert_eq!(world.probes(), 1, "the first probe may have been before the exit");
    world.probed(DEAD);
    assert_eq!(world.status(), Status::Stopped);
}

#[test]
fn run_files_are_removed_when_a_process_outlives_the_node() {
    let mut world = World::new();
    world.up(NODE);
    world.register_from(trader_on(NODE), Some(me())).expect("accepted");
    world.down(NODE).probed(SocketState::Absent).effects();
    world.input(RegistryInput::Exited { name: name("hecate-traderd"), process: me() });
    assert_eq!(world.effects(), ["clean hecate-traderd", "probe hecate-traderd"]);
}

#[test]
fn the_exit_of_an_earlier_registrant_starts_no_probe() {
    let mut world = World::new();
    world.register_from(trader(), Some(me())).expect("accepted");
    world.register(trader()).expect("accepted");
    world.probed(SocketState::Alive).effects();
    world.input(RegistryInput::Exited { name: name("hecate-traderd"), process: me() });
    assert_eq!(world.probes(), 0);
}

#[test]
fn a_socket_that_dies_after_the_stop_is_removed() {
    let mut world = World::new();
    world.register(trader_on(NODE)).expect("accepted");
    world.up(NODE).down(NODE).probed(SocketState::Alive).effects();
    world.pass(limits::SOCKET_POLL).probed(DEAD);
    assert_eq!(world.effects(), ["probe hecate-traderd", "clean hecate-traderd"]);
    world.pass(limits::SOCKET_POLL).probed(SocketState::Absent);
    assert_eq!(world.effects(), ["probe hecate-traderd"]);
}

#[test]
fn a_stopped_plugin_is_only_probed() {
    let mut world = World::new();
    world.register(trader()).expect("accepted");
    world.probed(SocketState::Alive).pass(limits::SOCKET_POLL).probed(SocketState::Absent);
    world.effects();
    world.events();
    world.pass(limits::SOCKET_POLL).probed(SocketState::Absent);
    assert_eq!((world.effects(), world.events()), (vec!["probe hecate-traderd".to_owned()], vec![]));
}
