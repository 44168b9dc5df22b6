//! Tests of plugins with a node that connects.

use super::*;

#[test]
fn a_connected_node_decides_the_status() {
    let mut world = World::new();
    world.register(trader_on("trader@pod")).expect("accepted");
    world.up_elsewhere("trader@pod").effects();
    world.probed(DEAD).probed(SocketState::Absent).pass(limits::GRACE);
    assert_eq!((world.status(), world.probes()), (Status::Running, 0), "its socket is not probed");
    world.events();
    world.down("trader@pod");
    assert_eq!(world.status(), Status::Stopped);
    assert_eq!(world.plugin().reason.detail, "its node trader@pod left the cluster: net_tick_timeout");
    assert_eq!(world.effects(), ["clean hecate-traderd", "probe hecate-traderd"]);
    world.up_elsewhere("trader@pod");
    assert_eq!((world.status(), world.plugin().incarnation), (Status::Running, 3));
    assert_eq!(world.effects(), ["cancel hecate-traderd", "layout hecate-traderd"]);
    let changed = EventKind::StatusChanged;
    assert_eq!(world.events(), [(2, changed, Status::Stopped), (3, changed, Status::Running)]);
}

#[test]
fn the_reason_says_whether_the_socket_still_answers() {
    let mut world = World::new();
    world.register(trader_on(NODE)).expect("accepted");
    world.up(NODE).down(NODE);
    let (since, incarnation) = (world.plugin().since, world.plugin().incarnation);
    let bare = world.plugin().reason.clone();
    assert_eq!(bare.code, ReasonCode::NodeDown);
    world.pass(SECOND).probed(SocketState::Alive);
    let still = Reason::new(ReasonCode::NodeDown, format!("{bare}; its socket still answers"));
    assert_eq!(world.plugin().reason, still);
    assert_eq!((world.status(), world.plugin().since), (Status::Stopped, since));
    assert_eq!(world.plugin().incarnation, incarnation);
    world.events();
    world.pass(limits::SOCKET_POLL).probed(SocketState::Alive);
    assert_eq!(world.events(), []);
    world.pass(limits::SOCKET_POLL).probed(SocketState::Absent);
    assert_eq!(world.plugin().reason, bare);
    assert_eq!(world.events().len(), 1);
}

#[test]
fn a_node_that_never_connected_decides_nothing() {
    let mut world = World::new();
    world.register(trader_on("trader@pod")).expect("accepted");
    world.down("trader@pod");
    assert_eq!(world.status(), Status::Running);
    world.probed(SocketState::Alive).pass(limits::SOCKET_POLL).probed(DEAD);
    assert_eq!(world.status(), Status::Stopped);
}

#[test]
fn a_node_connected_only_before_the_registration_decides_nothing() {
    let mut world = World::new();
    world.register(trader_on(NODE)).expect("accepted");
    world.up(NODE).down(NODE);
    world.register(trader()).expect("accepted");
    assert_eq!((world.status(), world.plugin().node.as_deref()), (Status::Running, Some(NODE)));
    world.probed(SocketState::Alive).pass(limits::GRACE).probed(SocketState::Alive);
    assert_eq!(world.status(), Status::Running);
    world.pass(limits::SOCKET_POLL).probed(SocketState::Absent);
    assert_eq!(world.status(), Status::Stopped);
}

#[test]
fn a_node_that_is_connected_governs_from_the_registration_on() {
    let mut world = World::new();
    world.up(NODE);
    world.register(trader()).expect("accepted");
    assert_eq!(world.plugin().node.as_deref(), Some(NODE));
    assert_eq!(world.probes(), 0);
    world.pass(limits::GRACE);
    assert_eq!(world.status(), Status::Running);
    world.down(NODE);
    assert_eq!(world.status(), Status::Stopped);
}

#[test]
fn a_node_is_a_sign_of_life_within_the_grace_period() {
    let mut world = World::new();
    world.register(trader_on("trader@pod")).expect("accepted");
    world.pass(limits::GRACE - SECOND).up_elsewhere("trader@pod").pass(limits::GRACE);
    assert_eq!(world.status(), Status::Running);
}

type Step<'a> = &'a dyn Fn(&mut World);

/// Checks which node is found for a plugin, in every order of inputs. `local` and `remote` connect,
/// and `announced` announce the plugin.
fn find(local: &[&str], remote: &[&str], announced: &[&str], found: Option<&str>) {
    let nodes = |world: &mut World| {
        for node in local {
            world.up(node);
        }
        for node in remote {
            world.up_elsewhere(node);
        }
    };
    let announcements = |world: &mut World| {
        for node in announced {
            world.announce("hecate-traderd", node);
        }
    };
    let registration = |world: &mut World| {
        world.register(trader()).expect("accepted");
    };
    let orders: [[Step; 3]; 4] = [
        [&nodes, &announcements, &registration],
        [&announcements, &nodes, &registration],
        [&registration, &nodes, &announcements],
        [&registration, &announcements, &nodes],
    ];
    for (number, order) in orders.into_iter().enumerate() {
        let mut world = World::new();
        order.into_iter().for_each(|step| step(&mut world));
        let plugin = world.plugin();
        let what = format!("local {local:?}, remote {remote:?}, announced {announced:?}, order {number}");
        assert_eq!(plugin.node.as_deref(), found, "{what}");
        assert_eq!(
            (plugin.node_given, plugin.status, plugin.incarnation > 0),
            (false, Status::Running, true),
            "{what}"
        );
    }
}

#[test]
fn the_node_of_a_plugin_is_found_by_rank() {
    find(&[NODE], &[], &[], Some(NODE));
    find(&["x@host"], &[], &[], None);
    find(&["hecate_traderd2@host"], &[], &[], None);
    find(&[], &["hecate_traderd@far"], &[], None);
    find(&["x@host"], &[], &["x@host"], Some("x@host"));
    find(&[NODE, "x@host"], &[], &["x@host"], Some("x@host"));
    find(&[NODE, "a@host"], &[], &["a@host"], Some("a@host"));
    find(&[NODE], &[], &["x@host"], Some(NODE));
    find(&[], &["x@far"], &["x@far"], None);
}

#[test]
fn a_given_node_is_not_replaced_by_one_that_is_found() {
    let mut world = World::new();
    world.register(trader_on("trader@pod")).expect("accepted");
    world.up(NODE).announce("hecate-traderd", NODE);
    assert_eq!(world.plugin().node.as_deref(), Some("trader@pod"));
    world.register(Registration { node: Field::Clear, ..trader() }).expect("accepted");
    assert_eq!(world.plugin().node.as_deref(), Some(NODE));
}

#[test]
fn a_found_node_is_stored_and_kept_after_it_disconnects() {
    let mut world = World::new();
    world.register(trader()).expect("accepted");
    world.events();
    world.up(NODE);
    assert_eq!(world.events[0].plugin.node.as_deref(), Some(NODE));
    assert_eq!(world.events(), [(2, EventKind::StatusChanged, Status::Running)]);
    world.down(NODE);
    assert_eq!(world.plugin().node.as_deref(), Some(NODE));
}

#[test]
fn another_node_replaces_one_that_disconnects() {
    let mut world = World::new();
    world.register(trader()).expect("accepted");
    world.up(NODE).up("x@host").announce("hecate-traderd", "x@host");
    assert_eq!(world.plugin().node.as_deref(), Some("x@host"));
    world.down("x@host");
    let plugin = world.plugin();
    assert_eq!((plugin.status, plugin.node.as_deref()), (Status::Running, Some(NODE)));
    assert_eq!(plugin.incarnation, world.state.view().revision, "a new process has a new incarnation");
}

#[test]
fn a_withdrawal_replaces_a_connected_node_only_by_a_better_one() {
    let mut world = World::new();
    world.register(trader()).expect("accepted");
    world.up("x@host").announce("hecate-traderd", "x@host").withdraw("hecate-traderd", "x@host");
    assert_eq!((world.status(), world.plugin().node.as_deref()), (Status::Running, Some("x@host")));
    world.up(NODE);
    assert_eq!(world.plugin().node.as_deref(), Some(NODE));
    world.up("a@host").announce("hecate-traderd", NODE).announce("hecate-traderd", "a@host");
    assert_eq!(world.plugin().node.as_deref(), Some(NODE), "the current node wins among equals");
    world.withdraw("hecate-traderd", NODE);
    assert_eq!(world.plugin().node.as_deref(), Some("a@host"));
}

#[test]
fn an_announcement_creates_directories_for_unregistered_plugins() {
    let mut world = World::new();
    world.up("x@host").announce("hecate-traderd", "x@host");
    assert_eq!(world.effects(), ["layout hecate-traderd"]);
    assert!(world.state.view().plugins.is_empty());
    world.register(trader()).expect("accepted");
    assert_eq!(world.plugin().node.as_deref(), Some("x@host"));
}

#[test]
fn directories_of_unregistered_plugins_are_bounded() {
    let mut world = World::new();
    world.up("x@host");
    // New names, each withdrawn before the next.
    for number in 0..limits::UNREGISTERED {
        let plugin = format!("hecate-x{number}d");
        world.announce(&plugin, "x@host").withdraw(&plugin, "x@host");
        assert_eq!(world.effects(), [format!("layout {plugin}")]);
    }
    world.announce("hecate-traderd", "x@host");
    assert_eq!(world.effects(), ["warn TooManyUnregistered"], "no directories");
    world.announce("hecate-x0d", "x@host");
    assert_eq!(world.effects(), ["layout hecate-x0d"], "its directories exist already");
    // It can still be registered, and its announcement is used.
    world.register(trader()).expect("accepted");
    assert_eq!(world.plugin().node.as_deref(), Some("x@host"));
    world.effects();
    world.announce("hecate-traderd", "x@host");
    assert_eq!(world.effects(), ["layout hecate-traderd"]);
    // A registered plugin no longer counts.
    world.announce("hecate-otherd", "x@host");
    assert_eq!(world.effects(), ["warn TooManyUnregistered"]);
    let registered = Registration { name: name("hecate-x0d"), ..trader() };
    world.register(registered).expect("accepted");
    world.effects();
    world.announce("hecate-otherd", "x@host");
    assert_eq!(world.effects(), ["layout hecate-otherd"]);
}

#[test]
fn announcements_end_when_their_node_disconnects() {
    let mut world = World::new();
    world.up("x@host").announce("hecate-traderd", "x@host").down("x@host").up("x@host");
    world.register(trader()).expect("accepted");
    assert_eq!(world.plugin().node, None);
}

#[test]
fn nodes_and_announcements_are_bounded() {
    let mut world = World::new();
    for number in 0..limits::REGISTRY_NODES {
        world.up(&format!("n{number}@host"));
    }
    world.up(NODE);
    assert_eq!(world.effects(), ["warn TooManyNodes"]);
    world.register(trader()).expect("accepted");
    assert_eq!(world.plugin().node, None);
    world.down("n0@host").up(NODE);
    assert_eq!(world.plugin().node.as_deref(), Some(NODE));

    for number in 0..limits::ANNOUNCEMENTS {
        world.announce(&format!("hecate-x{number}d"), "n1@host");
    }
    world.effects();
    world.announce("hecate-traderd", "n1@host");
    assert_eq!(world.effects(), ["warn TooManyAnnouncements"]);
    assert_eq!(world.plugin().node.as_deref(), Some(NODE));
    world.withdraw("hecate-x0d", "n1@host").announce("hecate-traderd", "n1@host");
    assert_eq!(world.plugin().node.as_deref(), Some("n1@host"));
}
