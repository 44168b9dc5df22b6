//! Tests of registrations and deregistrations.

use super::*;

#[test]
fn a_plugin_cannot_register_the_node_of_the_daemon() {
    let mut world = World::new();
    let names = ["hecate@host", "hecate@localhost"].map(|name| name.parse().unwrap()).into();
    world.input(RegistryInput::Membership(Membership::OwnNode { names }));
    for node in ["hecate@host", "hecate@localhost"] {
        let refused = world.register(trader_on(node)).expect_err("refused");
        assert_eq!(refused.code(), "node_is_daemon");
        assert!(refused.to_string().contains(node), "{refused}");
    }
    assert!(world.state.view().plugins.is_empty());
    world.register(trader_on("hecate@elsewhere")).expect("accepted");
}

#[test]
fn the_names_that_the_daemon_may_get_are_refused_until_it_has_joined() {
    let mut world = World::new();
    let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    let wanted = names(&["hecate@host", "hecate_1000@host"]);
    // A node that was registered earlier, and may be the daemon of another user.
    world.register(trader_on("hecate_1000@host")).expect("accepted");
    world.input(RegistryInput::Membership(Membership::WantedNames { names: wanted }));
    for node in ["hecate@host", "hecate_1000@host"] {
        assert_eq!(world.register(trader_on(node)).expect_err("refused").code(), "node_is_daemon");
    }
    assert_eq!(
        world.plugin().node.as_deref(),
        Some("hecate_1000@host"),
        "a stored node is kept until the daemon has joined"
    );
    world.input(RegistryInput::Membership(Membership::OwnNode { names: names(&["hecate@host"]) }));
    world.register(trader_on("hecate_1000@host")).expect("accepted");
}

#[test]
fn a_stored_node_that_is_the_daemons_own_is_cleared() {
    let own = || Membership::OwnNode { names: BTreeSet::from(["hecate@host".parse().unwrap()]) };
    for given in [true, false] {
        let mut world = World::with(9, &[stored(Status::Running, Some("hecate@host"), given)]);
        world.input(RegistryInput::Membership(own()));
        let plugin = world.plugin();
        assert_eq!((plugin.node.as_deref(), plugin.node_given, plugin.status), (None, false, Status::Running));
        assert_eq!(world.events(), [(10, EventKind::StatusChanged, Status::Running)]);
        world.up(NODE);
        assert_eq!(world.plugin().node.as_deref(), Some(NODE), "another node is found instead");
    }
    let mut world = World::with(9, &[stored(Status::Running, Some(NODE), true)]);
    world.input(RegistryInput::Membership(own()));
    assert_eq!((world.plugin().node.as_deref(), world.events()), (Some(NODE), vec![]));
}

#[test]
fn a_registration_is_stored_and_answered() {
    let mut world = World::new();
    let plugin = world.register(Registration { version: Field::Set("1".into()), ..trader() }).expect("accepted");
    assert_eq!((plugin.status, plugin.since, plugin.incarnation), (Status::Running, world.now.time, 1));
    assert_eq!((plugin.version.as_deref(), plugin.registered_at), (Some("1"), world.now.time));
    assert_eq!(world.events[0].plugin, plugin);
    assert_eq!(world.events(), [(1, EventKind::Registered, Status::Running)]);
    let view = world.state.view();
    assert_eq!((view.revision, view.ready, &view.plugins[&plugin.name]), (1, true, &plugin));
}

#[test]
fn an_absent_field_is_kept_and_null_clears_it() {
    let mut world = World::new();
    let set = || Field::Set("a".to_owned());
    let node = Field::Set("a@h".parse().unwrap());
    let first = Registration { version: set(), description: set(), node, ..trader() };
    world.register(first).expect("accepted");
    let kept = world.register(trader()).expect("accepted");
    assert_eq!((kept.version.as_deref(), kept.description.as_deref()), (Some("a"), Some("a")));
    assert_eq!((kept.node.as_deref(), kept.node_given), (Some("a@h"), true));
    let clear = Registration { version: Field::Clear, description: Field::Clear, node: Field::Clear, ..trader() };
    let cleared = world.register(clear).expect("accepted");
    assert_eq!((&cleared.version, &cleared.description, &cleared.node), (&None, &None, &None));
    assert!(!cleared.node_given);
}

#[test]
fn registering_again_while_running_is_one_event_and_the_same_incarnation() {
    let mut world = World::new();
    let first = world.register(trader()).expect("accepted");
    world.pass(SECOND);
    let again = world.register(trader()).expect("accepted");
    assert_eq!(again, first);
    assert_eq!(world.state.view().revision, 2);
    assert_eq!(world.events().len(), 2);
}

#[test]
fn registering_again_restarts_a_stopped_plugin() {
    let mut world = World::new();
    world.register(trader()).expect("accepted");
    world.pass(limits::GRACE);
    assert_eq!(world.status(), Status::Stopped);
    world.effects();
    let again = world.register(trader()).expect("accepted");
    assert_eq!((again.status, again.incarnation, again.since), (Status::Running, 3, world.now.time));
    assert_ne!(again.registered_at, again.since);
    assert_eq!(world.effects(), ["cancel hecate-traderd", "probe hecate-traderd"]);
}

#[test]
fn deregistering_removes_the_plugin_and_cleans_up() {
    let mut world = World::new();
    assert_eq!(world.deregister("hecate-traderd").expect_err("not there").code(), "not_found");
    let plugin = world.register(trader()).expect("accepted");
    world.effects();
    assert_eq!(world.deregister("hecate-traderd").expect("there"), plugin);
    assert_eq!(world.effects(), ["forget hecate-traderd", "clean hecate-traderd"]);
    assert_eq!(world.events()[1], (2, EventKind::Deregistered, Status::Running));
    assert!(world.state.view().plugins.is_empty());
    // Late inputs have no effect.
    world.probed(DEAD).up(NODE).down(NODE).pass(limits::GRACE);
    assert_eq!((world.effects(), world.events()), (vec![], vec![]));
}

#[test]
fn another_node_is_refused_while_the_holder_is_connected() {
    let mut world = World::new();
    world.register(trader_on("a@h")).expect("accepted");
    world.register(trader_on("b@h")).expect("no node is connected");
    world.up("b@h");
    let since = world.plugin().since;
    match world.register(trader_on("a@h")) {
        Err(Refusal::NodeConflict { holder, since: held, .. }) => assert_eq!((holder.as_str(), held), ("b@h", since)),
        other => panic!("{other:?}"),
    }
    world.register(trader_on("b@h")).expect("it is the connected node");
    world.register(trader()).expect("it has no node");
    world.down("b@h");
    world.register(trader_on("a@h")).expect("the other node disconnected");
}

#[test]
fn a_node_found_by_name_also_keeps_the_plugin_name() {
    let mut world = World::new();
    world.register(trader()).expect("accepted");
    world.up(NODE);
    assert_eq!(world.register(trader_on("b@h")).expect_err("held").code(), "node_conflict");
}

#[test]
fn plugins_are_bounded() {
    let mut world = World::new();
    for number in 0..limits::PLUGINS {
        world.register(Registration { name: name(&format!("hecate-x{number}d")), ..trader() }).expect("accepted");
    }
    assert_eq!(world.register(trader()).expect_err("one too many").code(), "too_many_plugins");
    world.register(Registration { name: name("hecate-x0d"), ..trader() }).expect("it is registered already");
    world.deregister("hecate-x0d").expect("there");
    world.register(trader()).expect("below the limit again");
}
