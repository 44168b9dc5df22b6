use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::layout::Inode;
use crate::registry::effect::Effect as E;

const NODE: &str = "hecate_traderd@host";
const DEAD: Look = Look::Refuses(Inode { device: 1, number: 1 });
const SECOND: Duration = Duration::from_secs(1);

fn name(text: &str) -> PluginName {
    PluginName::parse(text).expect("valid")
}

/// A registry with a clock of its own, and what it has let out.
struct World {
    state: State,
    now: Now,
    events: Vec<Event>,
    effects: Vec<Effect>,
}

impl World {
    fn new() -> Self {
        Self::with(0, &[])
    }

    fn with(revision: u64, plugins: &[Plugin]) -> Self {
        let now = Now {
            instant: Instant::now(),
            time: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        };
        let plugins = plugins
            .iter()
            .map(|plugin| (plugin.name.clone(), Arc::new(plugin.clone())))
            .collect();
        let state = State::new(Config::default(), now, revision, plugins);
        Self {
            state,
            now,
            events: Vec::new(),
            effects: Vec::new(),
        }
    }

    fn say(&mut self, input: Input) -> &mut Self {
        let mut out = Vec::new();
        self.state.handle(self.now, input, &mut out);
        for effect in out {
            match effect {
                E::Store(event) => self.events.push(event),
                effect => self.effects.push(effect),
            }
        }
        self
    }

    fn register(&mut self, registration: Registration) -> Result<Arc<Plugin>, Refusal> {
        self.register_from(registration, None)
    }

    fn register_from(&mut self, registration: Registration, process: Option<Process>) -> Result<Arc<Plugin>, Refusal> {
        self.say(Input::Register {
            registration,
            process,
            ticket: 7,
        });
        self.answer()
    }

    fn deregister(&mut self, plugin: &str) -> Result<Arc<Plugin>, Refusal> {
        self.say(Input::Deregister {
            name: name(plugin),
            ticket: 7,
        });
        self.answer()
    }

    fn answer(&mut self) -> Result<Arc<Plugin>, Refusal> {
        let place = self
            .effects
            .iter()
            .position(|effect| matches!(effect, E::Answer { ticket: 7, .. }));
        match self.effects.remove(place.expect("an answer")) {
            E::Answer { result, .. } => result,
            other => unreachable!("{other:?}"),
        }
    }

    fn up(&mut self, node: &str) -> &mut Self {
        self.say(Input::Membership(Membership::NodeUp {
            node: node.into(),
            on_this_host: true,
        }))
    }

    fn up_elsewhere(&mut self, node: &str) -> &mut Self {
        self.say(Input::Membership(Membership::NodeUp {
            node: node.into(),
            on_this_host: false,
        }))
    }

    fn down(&mut self, node: &str) -> &mut Self {
        self.say(Input::Membership(Membership::NodeDown {
            node: node.into(),
            reason: "net_tick_timeout".into(),
        }))
    }

    fn announce(&mut self, plugin: &str, node: &str) -> &mut Self {
        self.say(Input::Membership(Membership::Announced {
            plugin: name(plugin),
            node: node.into(),
        }))
    }

    fn withdraw(&mut self, plugin: &str, node: &str) -> &mut Self {
        self.say(Input::Membership(Membership::Withdrawn {
            plugin: name(plugin),
            node: node.into(),
        }))
    }

    fn settled(&mut self) -> &mut Self {
        self.say(Input::Membership(Membership::Settled))
    }

    fn looked(&mut self, look: Look) -> &mut Self {
        self.say(Input::Looked {
            name: name("hecate-traderd"),
            look,
        })
    }

    fn pass(&mut self, time: Duration) -> &mut Self {
        self.now = Now {
            instant: self.now.instant + time,
            time: self.now.time + time,
        };
        self.say(Input::Tick)
    }

    fn plugin(&self) -> Arc<Plugin> {
        Arc::clone(&self.state.view().plugins[&name("hecate-traderd")])
    }

    fn status(&self) -> Status {
        self.plugin().status
    }

    /// The effects since the last call, as text without their details.
    fn effects(&mut self) -> Vec<String> {
        let short = |effect| match effect {
            E::Look(name) => format!("look {name}"),
            E::EnsureLayout(name) => format!("layout {name}"),
            E::CleanUp { name, .. } => format!("clean {name}"),
            E::CancelCleanUp(name) => format!("cancel {name}"),
            E::AwaitExit { name, .. } => format!("await {name}"),
            E::Forget(name) => format!("forget {name}"),
            other => panic!("unexpected {other:?}"),
        };
        self.effects.drain(..).map(short).collect()
    }

    fn looks(&mut self) -> usize {
        self.effects()
            .iter()
            .filter(|effect| effect.starts_with("look "))
            .count()
    }

    /// The events since the last call: revision, kind, status.
    fn events(&mut self) -> Vec<(u64, EventKind, Status)> {
        let short = |event: Event| (event.revision, event.kind, event.plugin.status);
        self.events.drain(..).map(short).collect()
    }
}

fn trader() -> Registration {
    Registration {
        name: name("hecate-traderd"),
        version: Field::Absent,
        description: Field::Absent,
        node: Field::Absent,
    }
}

fn trader_on(node: &str) -> Registration {
    Registration {
        node: Field::Set(node.into()),
        ..trader()
    }
}

fn stored(status: Status, node: Option<&str>, node_given: bool) -> Plugin {
    Plugin {
        name: name("hecate-traderd"),
        version: None,
        description: None,
        node: node.map(str::to_owned),
        node_given,
        status,
        since: UNIX_EPOCH,
        reason: "as it was".into(),
        registered_at: UNIX_EPOCH,
        incarnation: 3,
    }
}

fn me() -> Process {
    Process::living(i32::try_from(std::process::id()).expect("a pid")).expect("we live")
}

// ---- Registration ---------------------------------------------------------------------------

#[test]
fn a_registration_is_stored_and_answered() {
    let mut world = World::new();
    let plugin = world
        .register(Registration {
            version: Field::Set("1".into()),
            ..trader()
        })
        .expect("taken");
    assert_eq!(
        (plugin.status, plugin.since, plugin.incarnation),
        (Status::Running, world.now.time, 1)
    );
    assert_eq!(
        (plugin.version.as_deref(), plugin.registered_at),
        (Some("1"), world.now.time)
    );
    assert_eq!(world.events[0].plugin, plugin);
    assert_eq!(world.events(), [(1, EventKind::Registered, Status::Running)]);
    let view = world.state.view();
    assert_eq!(
        (view.revision, view.ready, &view.plugins[&plugin.name]),
        (1, true, &plugin)
    );
}

#[test]
fn absent_keeps_and_null_clears() {
    let mut world = World::new();
    let set = || Field::Set("a".into());
    let first = Registration {
        version: set(),
        description: set(),
        node: set(),
        ..trader()
    };
    world.register(first).expect("taken");
    let kept = world.register(trader()).expect("taken");
    assert_eq!(
        (kept.version.as_deref(), kept.description.as_deref()),
        (Some("a"), Some("a"))
    );
    assert_eq!((kept.node.as_deref(), kept.node_given), (Some("a"), true));
    let clear = Registration {
        version: Field::Clear,
        description: Field::Clear,
        node: Field::Clear,
        ..trader()
    };
    let cleared = world.register(clear).expect("taken");
    assert_eq!(
        (&cleared.version, &cleared.description, &cleared.node),
        (&None, &None, &None)
    );
    assert!(!cleared.node_given);
}

#[test]
fn registering_again_while_running_is_one_event_and_the_same_incarnation() {
    let mut world = World::new();
    let first = world.register(trader()).expect("taken");
    world.pass(SECOND);
    let again = world.register(trader()).expect("taken");
    assert_eq!(again, first);
    assert_eq!(world.state.view().revision, 2);
    assert_eq!(world.events().len(), 2);
}

#[test]
fn registering_again_revives() {
    let mut world = World::new();
    world.register(trader()).expect("taken");
    world.pass(limits::GRACE);
    assert_eq!(world.status(), Status::Stopped);
    world.effects();
    let again = world.register(trader()).expect("taken");
    assert_eq!(
        (again.status, again.incarnation, again.since),
        (Status::Running, 3, world.now.time)
    );
    assert_ne!(again.registered_at, again.since);
    assert_eq!(world.effects(), ["cancel hecate-traderd", "look hecate-traderd"]);
}

#[test]
fn deregistering_removes_and_cleans_nothing_up() {
    let mut world = World::new();
    assert_eq!(
        world.deregister("hecate-traderd").expect_err("not there").code(),
        "not_found"
    );
    let plugin = world.register(trader()).expect("taken");
    world.effects();
    assert_eq!(world.deregister("hecate-traderd").expect("there"), plugin);
    assert_eq!(world.effects(), ["forget hecate-traderd"]);
    assert_eq!(world.events()[1], (2, EventKind::Deregistered, Status::Running));
    assert!(world.state.view().plugins.is_empty());
    // What was under way comes too late.
    world.looked(DEAD).up(NODE).down(NODE).pass(limits::GRACE);
    assert_eq!((world.effects(), world.events()), (vec![], vec![]));
}

#[test]
fn another_node_is_refused_while_the_holder_is_connected() {
    let mut world = World::new();
    world.register(trader_on("a@h")).expect("taken");
    world.register(trader_on("b@h")).expect("nobody is connected");
    world.up("b@h");
    let since = world.plugin().since;
    match world.register(trader_on("a@h")) {
        Err(Refusal::NodeConflict {
            holder, since: held, ..
        }) => assert_eq!((holder.as_str(), held), ("b@h", since)),
        other => panic!("{other:?}"),
    }
    world.register(trader_on("b@h")).expect("the holder itself");
    world.register(trader()).expect("names no node");
    world.down("b@h");
    world.register(trader_on("a@h")).expect("the holder has left");
}

#[test]
fn a_node_that_was_found_holds_the_name_as_well() {
    let mut world = World::new();
    world.register(trader()).expect("taken");
    world.up(NODE);
    assert_eq!(
        world.register(trader_on("b@h")).expect_err("held").code(),
        "node_conflict"
    );
}

#[test]
fn plugins_are_bounded() {
    let mut world = World::new();
    for number in 0..limits::PLUGINS {
        world
            .register(Registration {
                name: name(&format!("hecate-x{number}d")),
                ..trader()
            })
            .expect("taken");
    }
    assert_eq!(
        world.register(trader()).expect_err("one too many").code(),
        "too_many_plugins"
    );
    world
        .register(Registration {
            name: name("hecate-x0d"),
            ..trader()
        })
        .expect("it is there already");
    world.deregister("hecate-x0d").expect("there");
    world.register(trader()).expect("there is room again");
}

// ---- Without a node -------------------------------------------------------------------------

#[test]
fn without_a_node_the_socket_decides() {
    let mut world = World::new();
    world.register(trader()).expect("taken");
    assert_eq!(world.looks(), 1, "at once");
    world.looked(Look::Alive);
    assert_eq!(
        world.state.next_deadline(),
        Some(world.now.instant + limits::SOCKET_POLL)
    );
    for silent in [DEAD, Look::Absent, Look::NotASocket] {
        world.pass(limits::SOCKET_POLL);
        assert_eq!(world.looks(), 1);
        world.looked(silent.clone());
        assert_eq!(world.status(), Status::Stopped, "{silent:?}");
        assert_eq!(world.effects(), ["clean hecate-traderd"]);
        let stopped = world.state.view().revision;
        world.pass(limits::SOCKET_POLL).looked(Look::Alive);
        assert_eq!(
            (world.status(), world.plugin().incarnation),
            (Status::Running, stopped + 1)
        );
        assert_eq!(world.effects(), ["look hecate-traderd", "cancel hecate-traderd"]);
    }
}

#[test]
fn a_look_that_shows_nothing_decides_nothing() {
    let mut world = World::new();
    world.register(trader()).expect("taken");
    world
        .looked(Look::Alive)
        .pass(limits::SOCKET_POLL)
        .looked(Look::Unclear("why".into()));
    assert_eq!(world.status(), Status::Running);
    world.pass(limits::SOCKET_POLL).looked(DEAD);
    world.events();
    world.pass(limits::SOCKET_POLL).looked(Look::Unclear("why".into()));
    assert_eq!((world.status(), world.events()), (Status::Stopped, vec![]));
}

#[test]
fn silence_after_the_registration_stops_it() {
    let mut world = World::new();
    world.register(trader()).expect("taken");
    world.looked(Look::Absent).pass(limits::GRACE - SECOND).looked(DEAD);
    assert_eq!(
        world.status(),
        Status::Running,
        "a refusal within the grace period decides nothing"
    );
    world.looked(Look::Unclear("not permitted".into()));
    world.pass(SECOND);
    assert_eq!(world.status(), Status::Stopped);
    assert_eq!(
        world.plugin().reason,
        "no sign of life within 1m of its registration (not permitted)"
    );
}

#[test]
fn each_registration_has_a_grace_period_of_its_own() {
    let mut world = World::new();
    world.register(trader()).expect("taken");
    world.looked(Look::Alive).pass(limits::GRACE);
    assert_eq!(world.status(), Status::Running, "a sign of life has come");
    world.register(trader()).expect("taken");
    world.looked(Look::Absent);
    assert_eq!(world.status(), Status::Running);
    world.pass(limits::GRACE);
    assert_eq!(world.status(), Status::Stopped);
}

#[test]
fn the_exit_of_the_registering_process_is_a_hint_to_look() {
    let mut world = World::new();
    world.register_from(trader(), Some(me())).expect("taken");
    assert_eq!(
        world.effects(),
        ["cancel hecate-traderd", "await hecate-traderd", "look hecate-traderd"]
    );
    world.looked(Look::Alive).pass(SECOND);
    assert_eq!(world.looks(), 0);
    let exited = || Input::Exited {
        name: name("hecate-traderd"),
        process: me(),
    };
    world.say(exited());
    assert_eq!((world.looks(), world.status()), (1, Status::Running));
    world.looked(Look::Alive);
    assert_eq!(world.status(), Status::Running, "a script had registered it");
    world.say(exited()).looked(DEAD);
    assert_eq!(world.status(), Status::Stopped);
    assert!(matches!(world.effects.last(), Some(E::CleanUp { process: Some(process), .. }) if *process == me()));
}

#[test]
fn a_process_of_an_earlier_registration_is_no_hint() {
    let mut world = World::new();
    world.register_from(trader(), Some(me())).expect("taken");
    world.register(trader()).expect("taken");
    world.looked(Look::Alive).effects();
    world.say(Input::Exited {
        name: name("hecate-traderd"),
        process: me(),
    });
    assert_eq!(world.looks(), 0);
}

#[test]
fn a_socket_that_dies_after_the_stop_is_removed_then() {
    let mut world = World::new();
    world.register(trader_on(NODE)).expect("taken");
    world.up(NODE).down(NODE).looked(Look::Alive).effects();
    world.pass(limits::SOCKET_POLL).looked(DEAD);
    assert_eq!(world.effects(), ["look hecate-traderd", "clean hecate-traderd"]);
    world.pass(limits::SOCKET_POLL).looked(Look::Absent);
    assert_eq!(world.effects(), ["look hecate-traderd"]);
}

// ---- With a node ----------------------------------------------------------------------------

#[test]
fn the_node_decides() {
    let mut world = World::new();
    world.register(trader_on("trader@pod")).expect("taken");
    world.up_elsewhere("trader@pod").effects();
    world.looked(DEAD).looked(Look::Absent).pass(limits::GRACE);
    assert_eq!(
        (world.status(), world.looks()),
        (Status::Running, 0),
        "its socket has no say, and isn't looked at"
    );
    world.events();
    world.down("trader@pod");
    assert_eq!(world.status(), Status::Stopped);
    assert_eq!(
        world.plugin().reason,
        "its node trader@pod left the cluster: net_tick_timeout"
    );
    assert_eq!(world.effects(), ["clean hecate-traderd", "look hecate-traderd"]);
    world.up_elsewhere("trader@pod");
    assert_eq!((world.status(), world.plugin().incarnation), (Status::Running, 3));
    assert_eq!(world.effects(), ["cancel hecate-traderd", "layout hecate-traderd"]);
    let changed = EventKind::StatusChanged;
    assert_eq!(
        world.events(),
        [(2, changed, Status::Stopped), (3, changed, Status::Running)]
    );
}

#[test]
fn the_reason_says_whether_the_socket_still_answers() {
    let mut world = World::new();
    world.register(trader_on(NODE)).expect("taken");
    world.up(NODE).down(NODE);
    let (since, incarnation) = (world.plugin().since, world.plugin().incarnation);
    let bare = world.plugin().reason.clone();
    world.pass(SECOND).looked(Look::Alive);
    assert_eq!(world.plugin().reason, format!("{bare}; its socket still answers"));
    assert_eq!((world.status(), world.plugin().since), (Status::Stopped, since));
    assert_eq!(world.plugin().incarnation, incarnation);
    world.events();
    world.pass(limits::SOCKET_POLL).looked(Look::Alive);
    assert_eq!(world.events(), []);
    world.pass(limits::SOCKET_POLL).looked(Look::Absent);
    assert_eq!(world.plugin().reason, bare);
    assert_eq!(world.events().len(), 1);
}

#[test]
fn a_node_that_was_never_seen_decides_nothing() {
    let mut world = World::new();
    world.register(trader_on("trader@pod")).expect("taken");
    world.down("trader@pod");
    assert_eq!(world.status(), Status::Running);
    world.looked(Look::Alive).pass(limits::SOCKET_POLL).looked(DEAD);
    assert_eq!(world.status(), Status::Stopped);
}

#[test]
fn a_node_seen_only_before_the_registration_decides_nothing() {
    let mut world = World::new();
    world.register(trader_on(NODE)).expect("taken");
    world.up(NODE).down(NODE);
    world.register(trader()).expect("taken");
    assert_eq!(
        (world.status(), world.plugin().node.as_deref()),
        (Status::Running, Some(NODE))
    );
    world.looked(Look::Alive).pass(limits::GRACE).looked(Look::Alive);
    assert_eq!(world.status(), Status::Running);
    world.pass(limits::SOCKET_POLL).looked(Look::Absent);
    assert_eq!(world.status(), Status::Stopped);
}

#[test]
fn a_node_that_is_connected_governs_from_the_registration_on() {
    let mut world = World::new();
    world.up(NODE);
    world.register(trader()).expect("taken");
    assert_eq!(world.plugin().node.as_deref(), Some(NODE));
    assert_eq!(world.looks(), 0);
    world.pass(limits::GRACE);
    assert_eq!(world.status(), Status::Running);
    world.down(NODE);
    assert_eq!(world.status(), Status::Stopped);
}

#[test]
fn a_node_is_a_sign_of_life_within_the_grace_period() {
    let mut world = World::new();
    world.register(trader_on("trader@pod")).expect("taken");
    world
        .pass(limits::GRACE - SECOND)
        .up_elsewhere("trader@pod")
        .pass(limits::GRACE);
    assert_eq!(world.status(), Status::Running);
}

#[test]
fn which_node_is_found() {
    struct Case {
        what: &'static str,
        here: &'static [&'static str],
        elsewhere: &'static [&'static str],
        announced: &'static [&'static str],
        found: Option<&'static str>,
    }
    let cases = [
        Case {
            what: "short name",
            here: &[NODE],
            elsewhere: &[],
            announced: &[],
            found: Some(NODE),
        },
        Case {
            what: "other name",
            here: &["x@host"],
            elsewhere: &[],
            announced: &[],
            found: None,
        },
        Case {
            what: "other host",
            here: &[],
            elsewhere: &["hecate_traderd@far"],
            announced: &[],
            found: None,
        },
        Case {
            what: "announced",
            here: &["x@host"],
            elsewhere: &[],
            announced: &["x@host"],
            found: Some("x@host"),
        },
        Case {
            what: "announced before the short name",
            here: &[NODE, "x@host"],
            elsewhere: &[],
            announced: &["x@host"],
            found: Some("x@host"),
        },
        Case {
            what: "announced, not connected",
            here: &[NODE],
            elsewhere: &[],
            announced: &["x@host"],
            found: Some(NODE),
        },
        Case {
            what: "announced far away",
            here: &[],
            elsewhere: &["x@far"],
            announced: &["x@far"],
            found: None,
        },
        Case {
            what: "a longer name",
            here: &["hecate_traderd2@host"],
            elsewhere: &[],
            announced: &[],
            found: None,
        },
    ];
    for case in cases {
        // Before the registration, after it, and with the announcement before the node.
        for order in 0..3 {
            let mut world = World::new();
            let cluster = |world: &mut World| {
                let announce = |world: &mut World| {
                    for node in case.announced {
                        world.announce("hecate-traderd", node);
                    }
                };
                if order == 2 {
                    announce(world);
                }
                for node in case.here {
                    world.up(node);
                }
                for node in case.elsewhere {
                    world.up_elsewhere(node);
                }
                if order != 2 {
                    announce(world);
                }
            };
            if order == 0 {
                cluster(&mut world);
            }
            world.register(trader()).expect("taken");
            if order > 0 {
                cluster(&mut world);
            }
            assert_eq!(
                world.plugin().node.as_deref(),
                case.found,
                "{} in order {order}",
                case.what
            );
            assert!(!world.plugin().node_given);
            assert_eq!((world.status(), world.plugin().incarnation), (Status::Running, 1));
        }
    }
}

#[test]
fn a_given_node_is_not_replaced_by_one_that_is_found() {
    let mut world = World::new();
    world.register(trader_on("trader@pod")).expect("taken");
    world.up(NODE).announce("hecate-traderd", NODE);
    assert_eq!(world.plugin().node.as_deref(), Some("trader@pod"));
    world
        .register(Registration {
            node: Field::Clear,
            ..trader()
        })
        .expect("taken");
    assert_eq!(world.plugin().node.as_deref(), Some(NODE));
}

#[test]
fn the_node_that_was_found_is_stored_and_stays_the_last() {
    let mut world = World::new();
    world.register(trader()).expect("taken");
    world.events();
    world.up(NODE);
    assert_eq!(world.events[0].plugin.node.as_deref(), Some(NODE));
    assert_eq!(world.events(), [(2, EventKind::StatusChanged, Status::Running)]);
    world.down(NODE);
    assert_eq!(world.plugin().node.as_deref(), Some(NODE));
}

#[test]
fn when_its_node_leaves_another_of_its_nodes_takes_over() {
    let mut world = World::new();
    world.register(trader()).expect("taken");
    world.up(NODE).up("x@host").announce("hecate-traderd", "x@host");
    assert_eq!(world.plugin().node.as_deref(), Some("x@host"));
    world.down("x@host");
    let plugin = world.plugin();
    assert_eq!((plugin.status, plugin.node.as_deref()), (Status::Running, Some(NODE)));
    assert_eq!(plugin.incarnation, world.state.view().revision, "it is another process");
}

#[test]
fn a_withdrawal_leaves_a_connected_node_in_place_unless_there_is_a_better_one() {
    let mut world = World::new();
    world.register(trader()).expect("taken");
    world
        .up("x@host")
        .announce("hecate-traderd", "x@host")
        .withdraw("hecate-traderd", "x@host");
    assert_eq!(
        (world.status(), world.plugin().node.as_deref()),
        (Status::Running, Some("x@host"))
    );
    world.up(NODE);
    assert_eq!(world.plugin().node.as_deref(), Some(NODE));
    world
        .up("a@host")
        .announce("hecate-traderd", NODE)
        .announce("hecate-traderd", "a@host");
    assert_eq!(
        world.plugin().node.as_deref(),
        Some(NODE),
        "of two as good the present one stays"
    );
    world.withdraw("hecate-traderd", NODE);
    assert_eq!(world.plugin().node.as_deref(), Some("a@host"));
}

#[test]
fn an_announcement_makes_the_directories_of_anybody() {
    let mut world = World::new();
    world.up("x@host").announce("hecate-traderd", "x@host");
    assert_eq!(world.effects(), ["layout hecate-traderd"]);
    assert!(world.state.view().plugins.is_empty());
    world.register(trader()).expect("taken");
    assert_eq!(world.plugin().node.as_deref(), Some("x@host"));
}

#[test]
fn a_node_that_leaves_takes_its_announcements_along() {
    let mut world = World::new();
    world
        .up("x@host")
        .announce("hecate-traderd", "x@host")
        .down("x@host")
        .up("x@host");
    world.register(trader()).expect("taken");
    assert_eq!(world.plugin().node, None);
}

#[test]
fn nodes_and_announcements_are_bounded() {
    let mut world = World::new();
    for number in 0..limits::REGISTRY_NODES {
        world.up(&format!("n{number}@host"));
    }
    world.up(NODE);
    world.register(trader()).expect("taken");
    assert_eq!(world.plugin().node, None);
    world.down("n0@host").up(NODE);
    assert_eq!(world.plugin().node.as_deref(), Some(NODE));

    for number in 0..limits::ANNOUNCEMENTS {
        world.announce(&format!("hecate-x{number}d"), "n1@host");
    }
    world.effects();
    world.announce("hecate-traderd", "n1@host");
    assert_eq!((world.effects(), world.plugin().node.as_deref()), (vec![], Some(NODE)));
    world
        .withdraw("hecate-x0d", "n1@host")
        .announce("hecate-traderd", "n1@host");
    assert_eq!(world.plugin().node.as_deref(), Some("n1@host"));
}

// ---- After a start --------------------------------------------------------------------------

#[test]
fn nothing_stored_is_ready_at_once() {
    assert!(World::new().state.view().ready);
}

#[test]
fn none_is_believed_by_memory_alone() {
    // What was stored, its node, what the cluster shows, what the socket shows; what comes of it, and at which revision it
    // began to run. Revision 9 was the last.
    let running = Status::Running;
    let stopped = Status::Stopped;
    let unclear = || Look::Unclear("why".into());
    let cases = [
        (running, None, None, Look::Alive, running, 3),
        (running, None, None, DEAD, stopped, 3),
        (running, None, None, Look::Absent, stopped, 3),
        (running, None, None, unclear(), stopped, 3),
        (stopped, None, None, Look::Alive, running, 10),
        (stopped, None, None, DEAD, stopped, 3),
        (running, Some(NODE), Some(NODE), Look::Absent, running, 3),
        (stopped, Some(NODE), Some(NODE), Look::Absent, running, 10),
        (running, Some(NODE), None, Look::Alive, running, 3),
        (running, Some(NODE), None, DEAD, stopped, 3),
        (stopped, Some("gone@host"), Some(NODE), Look::Absent, running, 10),
    ];
    for (number, (before, node, connected, look, after, incarnation)) in cases.into_iter().enumerate() {
        let mut world = World::with(9, &[stored(before, node, false)]);
        assert!(!world.state.view().ready, "case {number}");
        world.pass(SECOND);
        assert_eq!(world.looks(), 0, "case {number}: its node may still come");
        if let Some(node) = connected {
            world.up(node);
        }
        world.effects();
        world.settled();
        assert_eq!(world.looks(), usize::from(connected.is_none()), "case {number}");
        if connected.is_none() {
            assert!(!world.state.view().ready, "case {number}");
            world.looked(look);
        }
        assert!(world.state.view().ready, "case {number}");
        assert_eq!(
            (world.status(), world.plugin().incarnation),
            (after, incarnation),
            "case {number}"
        );
        let changes = usize::from(before != after || (node != connected && connected.is_some()));
        assert_eq!(
            world.events().len(),
            changes,
            "case {number}: no event where nothing changed"
        );
        let cleans = world
            .effects()
            .iter()
            .filter(|effect| effect.starts_with("clean"))
            .count();
        assert_eq!(
            cleans,
            usize::from(after == stopped),
            "case {number}: what died while we were away"
        );
    }
}

#[test]
fn after_the_time_the_socket_judges() {
    let mut world = World::with(9, &[stored(Status::Running, Some(NODE), true)]);
    assert_eq!(world.state.next_deadline(), Some(world.now.instant + limits::JUDGE));
    world.pass(limits::JUDGE - SECOND);
    assert_eq!(world.looks(), 0);
    world.pass(SECOND);
    assert_eq!((world.looks(), world.state.view().ready), (1, false));
    world.looked(Look::Absent);
    assert_eq!((world.status(), world.state.view().ready), (Status::Stopped, true));
    world.settled().up(NODE);
    assert_eq!((world.status(), world.looks()), (Status::Running, 0));
}

#[test]
fn a_look_that_hangs_does_not_keep_us_from_being_ready() {
    let mut world = World::with(9, &[stored(Status::Running, None, false)]);
    world.settled();
    assert_eq!(
        world.state.next_deadline(),
        Some(world.now.instant + limits::JUDGE_LOOK)
    );
    world.pass(limits::JUDGE_LOOK);
    assert_eq!((world.status(), world.state.view().ready), (Status::Stopped, true));
    assert_eq!(world.plugin().reason, "its socket could not be looked at in time");
    world.looked(Look::Alive);
    assert_eq!(world.status(), Status::Running);
}

#[test]
fn a_registration_and_a_deregistration_judge_as_well() {
    let mut world = World::with(9, &[stored(Status::Stopped, None, false)]);
    assert_eq!(world.register(trader()).expect("taken").incarnation, 10);
    assert!(world.state.view().ready);
    let mut world = World::with(9, &[stored(Status::Stopped, None, false)]);
    world.deregister("hecate-traderd").expect("there");
    assert!(world.state.view().ready);
}

#[test]
fn a_node_that_leaves_while_we_judge_has_judged() {
    let mut world = World::with(9, &[stored(Status::Running, Some(NODE), false)]);
    world.up(NODE).down(NODE);
    assert_eq!((world.status(), world.state.view().ready), (Status::Stopped, true));
}

// ---- The machine itself ---------------------------------------------------------------------

#[test]
fn a_tick_when_it_is_due_always_moves_the_deadline() {
    let mut world = World::with(9, &[stored(Status::Running, None, false)]);
    world
        .register(Registration {
            name: name("hecate-twod"),
            ..trader()
        })
        .expect("taken");
    world
        .register(Registration {
            name: name("hecate-threed"),
            ..trader_on("three@h")
        })
        .expect("taken");
    for _ in 0..1000 {
        let Some(due) = world.state.next_deadline() else { break };
        world.now.instant = world.now.instant.max(due);
        world.say(Input::Tick);
        assert!(world.state.next_deadline() > Some(world.now.instant) || world.state.next_deadline().is_none());
        // Every look comes back empty.
        let looks: Vec<_> = world.effects.drain(..).collect();
        for effect in looks {
            if let E::Look(name) = effect {
                world.say(Input::Looked {
                    name,
                    look: Look::Absent,
                });
            }
        }
    }
    assert!(
        world
            .state
            .view()
            .plugins
            .values()
            .all(|plugin| plugin.status == Status::Stopped)
    );
}

#[test]
fn revisions_have_no_gaps() {
    let mut world = World::new();
    world.register(trader()).expect("taken");
    world
        .up(NODE)
        .down(NODE)
        .looked(Look::Alive)
        .up(NODE)
        .withdraw("hecate-traderd", NODE);
    world.deregister("hecate-traderd").expect("there");
    let revisions: Vec<_> = world.events().into_iter().map(|(revision, ..)| revision).collect();
    assert_eq!(revisions, (1..=world.state.view().revision).collect::<Vec<_>>());
}
