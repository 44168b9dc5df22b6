use super::*;
use crate::plugin::{Reason, ReasonCode, Status};

/// The machine, with a clock that only the test moves.
struct World {
    hosts: Hosts,
    now: Now,
}

const DAEMON: &str = "hecate@a";

/// Names of plugins with their versions.
type Pairs = Vec<(String, String)>;

fn plugin(name: &str, version: &str) -> PluginView {
    PluginView {
        name: name.to_owned(),
        version: Some(version.to_owned()),
        description: None,
        node: None,
        socket: "/s".to_owned(),
        status: Status::Running,
        since: SystemTime::UNIX_EPOCH,
        reason: Reason::new(ReasonCode::Registered, "it registered"),
    }
}

fn snapshot(revision: u64, plugins: &[(&str, &str)]) -> Snapshot {
    let plugins = plugins.iter().map(|(name, version)| plugin(name, version)).collect();
    Snapshot { revision, plugins, left_out: 0 }
}

fn is(name: &str, version: &str) -> Change {
    Change::Is(plugin(name, version))
}

impl World {
    fn new() -> Self {
        Self { hosts: Hosts::default(), now: Now { instant: Instant::now(), wall: SystemTime::UNIX_EPOCH } }
    }

    /// Who is asked because of this.
    fn take(&mut self, input: HostsInput) -> Vec<(String, u64)> {
        let mut out = Vec::new();
        self.hosts.handle(self.now, input, &mut out);
        let asked = |HostsEffect::Ask { node, connection }| (node.to_string(), connection);
        out.into_iter().map(asked).collect()
    }

    fn passes(&mut self, time: Duration) -> Vec<(String, u64)> {
        self.now.instant += time;
        self.now.wall += time;
        self.take(HostsInput::Tick)
    }

    fn members(&mut self, members: &[(&str, u64)]) -> Vec<(String, u64)> {
        let members = members.iter().map(|(node, connection)| (node.parse().unwrap(), *connection));
        self.take(HostsInput::Members(members.collect()))
    }

    fn answers(&mut self, connection: u64, said: Option<Snapshot>) -> Vec<(String, u64)> {
        self.take(HostsInput::Answered { node: DAEMON.parse().unwrap(), connection, said })
    }

    fn event(&mut self, connection: u64, revision: u64, change: Change) -> Vec<(String, u64)> {
        self.take(HostsInput::Event {
            node: DAEMON.parse().unwrap(),
            connection,
            event: HostEvent { revision, change },
        })
    }

    /// A daemon that is connected, with one plugin at revision 10.
    fn connected() -> Self {
        let mut world = Self::new();
        assert_eq!(world.members(&[(DAEMON, 1)]), asked(1));
        assert_eq!(world.answers(1, Some(snapshot(10, &[("a-bd", "1")]))), nobody());
        world
    }

    /// The state of the daemon, since how many seconds, and its plugins with their versions.
    fn seen(&self) -> Option<(HostState, u64, Pairs)> {
        let host = self.hosts.view().into_iter().find(|host| host.daemon == DAEMON)?;
        let since = host.since.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let plugins = host.plugins.values().map(|p| (p.name.clone(), p.version.clone().unwrap())).collect();
        Some((host.state, since, plugins))
    }

    /// The plugins with their versions, while it is connected.
    fn plugins(&self) -> Pairs {
        let (state, _, plugins) = self.seen().expect("it has answered");
        assert_eq!(state, HostState::Connected);
        plugins
    }
}

fn asked(connection: u64) -> Vec<(String, u64)> {
    vec![(DAEMON.to_owned(), connection)]
}

fn nobody() -> Vec<(String, u64)> {
    Vec::new()
}

fn pairs(plugins: &[(&str, &str)]) -> Pairs {
    plugins.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect()
}

#[test]
fn events_in_order_keep_it_fresh_without_a_question() {
    let mut world = World::connected();
    assert!(world.hosts.take_changed());
    assert_eq!(world.event(1, 11, is("c-dd", "1")), nobody());
    assert_eq!(world.event(1, 12, is("a-bd", "2")), nobody());
    assert!(world.hosts.take_changed());
    assert_eq!(world.event(1, 13, Change::Nothing), nobody());
    assert!(!world.hosts.take_changed(), "a purge is no news of what is registered");
    assert_eq!(world.plugins(), pairs(&[("a-bd", "2"), ("c-dd", "1")]));
    assert_eq!(world.event(1, 14, Change::Gone("a-bd".to_owned())), nobody());
    assert_eq!(world.plugins(), pairs(&[("c-dd", "1")]));
}

#[test]
fn an_event_that_is_known_changes_nothing_and_a_gap_asks() {
    let mut world = World::connected();
    assert_eq!(world.event(1, 10, Change::Gone("a-bd".to_owned())), nobody(), "the snapshot has it");
    assert_eq!(world.passes(limits::HOST_PAUSE), nobody());
    assert_eq!(world.event(1, 12, is("c-dd", "1")), asked(1), "11 is missing");
    assert_eq!(world.plugins(), pairs(&[("a-bd", "1")]), "nothing is applied out of order");
    assert_eq!(world.event(1, 11, Change::Gone("a-bd".to_owned())), nobody(), "it comes late, and is the next");
    assert_eq!(world.answers(1, Some(snapshot(12, &[("c-dd", "1")]))), nobody());
    assert_eq!(world.plugins(), pairs(&[("c-dd", "1")]));
    assert_eq!(world.event(1, 12, Change::Gone("c-dd".to_owned())), nobody(), "it comes twice");
    assert_eq!(world.plugins(), pairs(&[("c-dd", "1")]));
    assert_eq!(world.hosts.next_deadline(), Some(world.now.instant + limits::HOST_REFRESH), "nothing is lacking");
}

#[test]
fn an_answer_that_an_event_has_overtaken_is_asked_for_again() {
    let mut world = World::new();
    assert_eq!(world.members(&[(DAEMON, 1)]), asked(1));
    assert_eq!(world.event(1, 11, is("c-dd", "1")), nobody(), "it is being asked");
    assert_eq!(world.answers(1, Some(snapshot(10, &[("a-bd", "1")]))), nobody(), "not at once again");
    assert_eq!(world.plugins(), pairs(&[("a-bd", "1")]));
    assert_eq!(world.hosts.next_deadline(), Some(world.now.instant + limits::HOST_PAUSE));
    assert_eq!(world.passes(limits::HOST_PAUSE), asked(1));
    assert_eq!(world.answers(1, Some(snapshot(11, &[("a-bd", "1"), ("c-dd", "1")]))), nobody());
    assert_eq!(world.plugins(), pairs(&[("a-bd", "1"), ("c-dd", "1")]));

    // One whose events are all applied is older than what is known.
    assert_eq!(world.passes(limits::HOST_PAUSE), nobody());
    assert_eq!(world.take(HostsInput::Missed), asked(1));
    assert_eq!(world.event(1, 12, Change::Gone("c-dd".to_owned())), nobody());
    assert_eq!(world.answers(1, Some(snapshot(11, &[("a-bd", "1"), ("c-dd", "1")]))), nobody());
    assert_eq!(world.plugins(), pairs(&[("a-bd", "1")]));
}

#[test]
fn a_revision_that_cannot_be_costs_one_question() {
    let mut world = World::connected();
    world.passes(limits::HOST_PAUSE);
    assert_eq!(world.event(1, u64::MAX, is("c-dd", "1")), asked(1));
    assert_eq!(world.answers(1, Some(snapshot(10, &[("a-bd", "1")]))), nobody());
    assert_eq!(world.passes(limits::HOST_PAUSE), nobody());
}

#[test]
fn what_a_lost_host_said_last_stays_and_is_lost_until_it_answers_again() {
    let mut world = World::connected();
    world.passes(Duration::from_secs(5));
    assert_eq!(world.members(&[]), nobody());
    assert_eq!(world.seen(), Some((HostState::Lost, 5, pairs(&[("a-bd", "1")]))));
    assert_eq!(world.event(1, 11, Change::Gone("a-bd".to_owned())), nobody(), "late, by the lost connection");
    world.passes(Duration::from_secs(5));
    assert_eq!(world.members(&[(DAEMON, 2)]), asked(2));
    assert_eq!(world.seen(), Some((HostState::Lost, 5, pairs(&[("a-bd", "1")]))), "nothing is known yet");
    assert_eq!(world.answers(1, Some(snapshot(99, &[]))), nobody(), "what the lost connection gave");
    assert_eq!(world.seen(), Some((HostState::Lost, 5, pairs(&[("a-bd", "1")]))));
    assert_eq!(world.answers(2, Some(snapshot(12, &[("e-fd", "1")]))), nobody());
    assert_eq!(world.seen(), Some((HostState::Connected, 10, pairs(&[("e-fd", "1")]))));
    world.passes(Duration::from_secs(5));
    assert_eq!(world.event(2, 13, is("a-bd", "1")), nobody());
    assert_eq!(world.seen(), Some((HostState::Connected, 10, pairs(&[("a-bd", "1"), ("e-fd", "1")]))));
}

#[test]
fn a_restart_that_nobody_saw_begins_anew_with_lower_revisions() {
    let mut world = World::connected();
    world.passes(Duration::from_secs(5));
    // Its home was emptied: it counts from the beginning.
    assert_eq!(world.members(&[(DAEMON, 2)]), asked(2));
    assert_eq!(world.event(1, 11, is("c-dd", "1")), nobody(), "of the former life");
    assert_eq!(world.answers(2, Some(snapshot(0, &[]))), nobody());
    assert_eq!(world.seen(), Some((HostState::Connected, 5, vec![])));
    assert_eq!(world.event(2, 1, is("g-hd", "1")), nobody());
    assert_eq!(world.plugins(), pairs(&[("g-hd", "1")]));
}

#[test]
fn events_that_were_lost_on_the_way_are_asked_for() {
    let mut world = World::connected();
    assert_eq!(world.take(HostsInput::Missed), nobody(), "it was asked just now");
    assert_eq!(world.passes(limits::HOST_PAUSE), asked(1));
    assert_eq!(world.answers(1, None), nobody());
    assert_eq!(world.passes(limits::HOST_PAUSE), asked(1), "it still lacks");
    assert_eq!(world.answers(1, Some(snapshot(11, &[]))), nobody());
    assert_eq!(world.plugins(), pairs(&[]));
}

#[test]
fn who_does_not_answer_is_asked_less_and_less() {
    let mut world = World::new();
    assert_eq!(world.members(&[(DAEMON, 1)]), asked(1));
    let mut pause = limits::HOST_PAUSE;
    for _ in 0..10 {
        assert_eq!(world.answers(1, None), nobody());
        assert_eq!(world.passes(pause - Duration::from_millis(1)), nobody());
        assert_eq!(world.passes(Duration::from_millis(1)), asked(1));
        pause = (pause * 2).min(limits::HOST_PAUSE_LONGEST);
    }
    assert_eq!(pause, limits::HOST_PAUSE_LONGEST);
    assert_eq!(world.hosts.view(), [], "who never was a daemon is none");
    assert_eq!(world.members(&[]), nobody());
    assert!(world.hosts.hosts.is_empty());
    // Who has answered is asked as anybody: at the second question without an answer after the shortest pause.
    assert_eq!(world.members(&[(DAEMON, 2)]), asked(2));
    assert_eq!(world.answers(2, Some(snapshot(1, &[]))), nobody());
    world.passes(limits::HOST_PAUSE);
    assert_eq!(world.event(2, 3, Change::Nothing), asked(2));
    assert_eq!(world.answers(2, None), nobody());
    assert_eq!(world.passes(limits::HOST_PAUSE), asked(2));
}

#[test]
fn a_silent_host_is_asked_now_and_then() {
    let mut world = World::connected();
    assert_eq!(world.passes(limits::HOST_REFRESH - Duration::from_millis(1)), nobody());
    assert_eq!(world.passes(Duration::from_millis(1)), asked(1));
    assert_eq!(world.answers(1, Some(snapshot(10, &[("a-bd", "1")]))), nobody());
    assert_eq!(world.seen(), Some((HostState::Connected, 0, pairs(&[("a-bd", "1")]))), "since as before");
}

#[test]
fn who_stays_lost_is_forgotten() {
    let mut world = World::connected();
    world.members(&[]);
    assert_eq!(world.hosts.next_deadline(), Some(world.now.instant + limits::HOST_LOST));
    world.passes(limits::HOST_LOST - Duration::from_millis(1));
    assert!(world.seen().is_some());
    world.hosts.take_changed();
    world.passes(Duration::from_millis(1));
    assert_eq!(world.seen(), None);
    assert!(world.hosts.take_changed());
    assert_eq!((world.hosts.weight, world.hosts.next_deadline()), (0, None));
}

#[test]
fn hosts_are_bounded_and_who_was_lost_first_gives_way() {
    let mut world = World::new();
    let names: Vec<String> = (0..=limits::HOSTS).map(|i| format!("hecate@{i:04}")).collect();
    let members = |from: usize, to: usize| -> Vec<(&str, u64)> {
        names[from..to].iter().map(|name| (name.as_str(), 1)).collect()
    };
    let all = members(0, limits::HOSTS + 1);
    assert_eq!(world.members(&all).len(), limits::HOSTS, "nobody gives way who is there");
    for (node, connection) in &all {
        let said = Some(snapshot(1, &[]));
        world.take(HostsInput::Answered { node: (*node).parse().unwrap(), connection: *connection, said });
    }
    world.members(&all[..limits::HOSTS - 1]);
    world.passes(Duration::from_secs(1));
    world.members(&all[..limits::HOSTS - 2]);
    assert_eq!(world.hosts.view().len(), limits::HOSTS);
    let mut back = all[..limits::HOSTS - 2].to_vec();
    back.push(all[limits::HOSTS]);
    assert_eq!(world.members(&back), [(names[limits::HOSTS].clone(), 1)]);
    let kept: Vec<String> = world.hosts.view().into_iter().map(|host| host.daemon.to_string()).collect();
    assert!(!kept.contains(&names[limits::HOSTS - 1]), "it was lost first");
    assert!(kept.contains(&names[limits::HOSTS - 2]));
}

#[test]
fn what_hosts_say_is_bounded_in_all() {
    let mut world = World::connected();
    let other = "hecate@b";
    assert_eq!(world.members(&[(DAEMON, 1), (other, 2)]), [(other.to_owned(), 2)]);
    let large = |name: &str| PluginView { description: Some("x".repeat(4096)), ..plugin(name, "1") };
    let plugins: Vec<PluginView> =
        (0..=limits::HOSTS_SAID / weight(&large("a-0000d"))).map(|i| large(&format!("a-{i:04}d"))).collect();
    let all = plugins.len();
    let much = Snapshot { revision: 1, plugins, left_out: 1 };
    let answer =
        |connection| HostsInput::Answered { node: other.parse().unwrap(), connection, said: Some(much.clone()) };
    world.take(answer(2));
    let counts = |world: &World| {
        let host = world.hosts.view().into_iter().find(|host| host.daemon == other).unwrap();
        (host.plugins.size(), host.left_out)
    };
    assert_eq!(counts(&world), (all - 1, 2), "the last found no room, and one was left out before");
    assert!(world.hosts.weight <= limits::HOSTS_SAID);
    let event = HostEvent { revision: 2, change: Change::Is(large("z-zzzzd")) };
    world.take(HostsInput::Event { node: other.parse().unwrap(), connection: 2, event });
    assert_eq!(counts(&world), (all - 1, 3));
    assert_eq!(world.plugins(), pairs(&[("a-bd", "1")]), "nobody gives way who is there");
    // Who is lost does.
    world.members(&[(other, 2)]);
    let event = HostEvent { revision: 3, change: is("z-zd", "1") };
    world.take(HostsInput::Event { node: other.parse().unwrap(), connection: 2, event });
    assert_eq!((counts(&world), world.seen().is_some()), ((all, 3), true), "it has room as it is");
    world.members(&[(other, 3)]);
    world.take(answer(3));
    assert_eq!((counts(&world), world.seen()), ((all - 1, 2), None));
    let weigh = |host: &Host| host.said.as_ref().map_or(0, |said| said.plugins.values().map(|p| weight(p)).sum());
    assert_eq!(world.hosts.weight, world.hosts.hosts.values().map(weigh).sum::<usize>());
}
