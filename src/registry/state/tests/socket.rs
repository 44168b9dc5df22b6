//! Plugins without a node: their sockets decide.

use super::*;

#[test]
fn without_a_node_the_socket_decides() {
    let mut world = World::new();
    world.register(trader()).expect("taken");
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
        assert_eq!(world.effects(), ["look hecate-traderd", "cancel hecate-traderd"]);
    }
}

#[test]
fn a_look_that_shows_nothing_decides_nothing() {
    let mut world = World::new();
    world.register(trader()).expect("taken");
    world.probed(SocketState::Alive).pass(limits::SOCKET_POLL).probed(SocketState::Unclear("why".into()));
    assert_eq!(world.status(), Status::Running);
    world.pass(limits::SOCKET_POLL).probed(DEAD);
    world.events();
    world.pass(limits::SOCKET_POLL).probed(SocketState::Unclear("why".into()));
    assert_eq!((world.status(), world.events()), (Status::Stopped, vec![]));
}

#[test]
fn a_socket_that_we_may_not_connect_to_changes_the_reason_and_never_the_status() {
    let mut world = World::new();
    let denied = || SocketState::Denied("run `chmod 0660 api.sock`".into());
    world.register(trader()).expect("taken");
    world.probed(denied());
    assert_eq!(world.plugin().reason.detail, "it registered", "its node may be on its way");
    world.pass(limits::GRACE).probed(denied());
    let unknown = "status unknown: run `chmod 0660 api.sock`";
    assert_eq!((world.status(), world.plugin().reason.detail.as_str()), (Status::Running, unknown));
    world.events();
    for _ in 0..3 {
        world.pass(limits::SOCKET_POLL).probed(denied());
    }
    assert_eq!((world.status(), world.events()), (Status::Running, vec![]), "it says so once");
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
fn silence_after_the_registration_stops_it() {
    let mut world = World::new();
    world.register(trader()).expect("taken");
    world.probed(SocketState::Absent).pass(limits::GRACE - SECOND).probed(DEAD);
    assert_eq!(world.status(), Status::Running, "a refusal within the grace period decides nothing");
    world.probed(SocketState::Unclear("not permitted".into()));
    world.pass(SECOND);
    assert_eq!(world.status(), Status::Stopped);
    let silent = |found: &str| format!("no sign of life within 1m of its registration ({found})");
    let why = "its socket could not be looked at: not permitted";
    assert_eq!(world.plugin().reason.detail, silent(why));
    let since = world.plugin().since;
    // The reason follows what lies at the path of its socket.
    for (probe, found) in [
        (SocketState::Absent, "there is no socket at its path"),
        (DEAD, "its socket refuses connections"),
        (SocketState::NotASocket, "what lies at the path of its socket is no socket"),
    ] {
        world.events();
        world.pass(limits::SOCKET_POLL).probed(probe.clone());
        let silent = Reason::new(ReasonCode::NoSignOfLife, silent(found));
        assert_eq!((world.plugin().reason.clone(), world.plugin().since), (silent, since));
        world.pass(limits::SOCKET_POLL).probed(probe);
        assert_eq!(world.events().len(), 1, "it says so once");
    }
    world.pass(limits::SOCKET_POLL).probed(SocketState::Alive).pass(limits::SOCKET_POLL).probed(SocketState::Absent);
    assert_eq!(world.plugin().reason.detail, "its socket is gone", "it has shown a sign of life");
}

#[test]
fn the_end_of_the_grace_period_asks_for_a_look() {
    let mut world = World::new();
    world.register(trader()).expect("taken");
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
        (Status::Stopped, "there is no socket at its path")
    );
}

#[test]
fn each_registration_has_a_grace_period_of_its_own() {
    let mut world = World::new();
    world.register(trader()).expect("taken");
    world.probed(SocketState::Alive).pass(limits::GRACE);
    assert_eq!(world.status(), Status::Running, "a sign of life has come");
    world.register(trader()).expect("taken");
    world.probed(SocketState::Absent);
    assert_eq!(world.status(), Status::Running);
    world.pass(limits::GRACE);
    assert_eq!(world.status(), Status::Stopped);
}

#[test]
fn the_exit_of_the_registering_process_is_a_hint_to_look() {
    let mut world = World::new();
    world.register_from(trader(), Some(me())).expect("taken");
    assert_eq!(world.effects(), ["cancel hecate-traderd", "await hecate-traderd", "look hecate-traderd"]);
    world.probed(SocketState::Alive).pass(SECOND);
    assert_eq!(world.probes(), 0);
    let exited = || RegistryInput::Exited { name: name("hecate-traderd"), process: me() };
    world.say(exited());
    assert_eq!((world.probes(), world.status()), (1, Status::Running));
    world.probed(SocketState::Alive);
    assert_eq!(world.status(), Status::Running, "a script had registered it");
    world.say(exited()).probed(DEAD);
    assert_eq!(world.status(), Status::Stopped);
    assert!(matches!(world.effects.last(), Some(E::CleanUp { process: Some(process), .. }) if *process == me()));
}

#[test]
fn a_hint_while_we_look_asks_for_another_look() {
    let mut world = World::new();
    world.register_from(trader(), Some(me())).expect("taken");
    assert_eq!(world.probes(), 1);
    world.say(RegistryInput::Exited { name: name("hecate-traderd"), process: me() });
    assert_eq!(world.probes(), 0, "one at a time");
    world.probed(SocketState::Alive).say(RegistryInput::Tick);
    assert_eq!(world.probes(), 1, "what was seen may have been before the exit");
    world.probed(DEAD);
    assert_eq!(world.status(), Status::Stopped);
}

#[test]
fn a_process_that_outlives_the_plugins_node_is_cleaned_up_after_when_it_ends() {
    let mut world = World::new();
    world.up(NODE);
    world.register_from(trader_on(NODE), Some(me())).expect("taken");
    world.down(NODE).probed(SocketState::Absent).effects();
    world.say(RegistryInput::Exited { name: name("hecate-traderd"), process: me() });
    assert_eq!(world.effects(), ["clean hecate-traderd", "look hecate-traderd"]);
}

#[test]
fn a_process_of_an_earlier_registration_is_no_hint() {
    let mut world = World::new();
    world.register_from(trader(), Some(me())).expect("taken");
    world.register(trader()).expect("taken");
    world.probed(SocketState::Alive).effects();
    world.say(RegistryInput::Exited { name: name("hecate-traderd"), process: me() });
    assert_eq!(world.probes(), 0);
}

#[test]
fn a_socket_that_dies_after_the_stop_is_removed_then() {
    let mut world = World::new();
    world.register(trader_on(NODE)).expect("taken");
    world.up(NODE).down(NODE).probed(SocketState::Alive).effects();
    world.pass(limits::SOCKET_POLL).probed(DEAD);
    assert_eq!(world.effects(), ["look hecate-traderd", "clean hecate-traderd"]);
    world.pass(limits::SOCKET_POLL).probed(SocketState::Absent);
    assert_eq!(world.effects(), ["look hecate-traderd"]);
}

#[test]
fn what_is_stopped_and_silent_is_looked_at_and_no_more() {
    let mut world = World::new();
    world.register(trader()).expect("taken");
    world.probed(SocketState::Alive).pass(limits::SOCKET_POLL).probed(SocketState::Absent);
    world.effects();
    world.events();
    world.pass(limits::SOCKET_POLL).probed(SocketState::Absent);
    assert_eq!((world.effects(), world.events()), (vec!["look hecate-traderd".to_owned()], vec![]));
}
