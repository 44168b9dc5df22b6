use super::*;
use crate::plugin::{Reason, ReasonCode, Status};

/// The hosts, with a fake clock.
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

fn put(name: &str, version: &str) -> Change {
    Change::Put(plugin(name, version))
}

impl World {
    fn new() -> Self {
        Self { hosts: Hosts::default(), now: Now { instant: Instant::now(), wall: SystemTime::UNIX_EPOCH } }
    }

    /// Handles an input, and returns the daemons to ask.
    fn handle(&mut self, input: HostsInput) -> Vec<(String, u64)> {
        let mut out = Vec::new();
        self.hosts.handle(self.now, input, &mut out);
        let asked = |HostsEffect::Ask { node, connection }| (node.to_string(), connection);
        out.into_iter().map(asked).collect()
    }

    fn passes(&mut self, time: Duration) -> Vec<(String, u64)> {
        self.now.instant += time;
        self.now.wall += time;
        self.handle(HostsInput::Tick)
    }

    fn members(&mut self, members: &[(&str, u64)]) -> Vec<(String, u64)> {
        let members = members.iter().map(|(node, connection)| (node.parse().unwrap(), *connection));
        self.handle(HostsInput::Members(members.collect()))
    }

    fn answers(&mut self, connection: u64, snapshot: Option<Snapshot>) -> Vec<(String, u64)> {
        self.handle(HostsInput::Answered { node: DAEMON.parse().unwrap(), connection, snapshot })
    }

    fn event(&mut self, connection: u64, revision: u64, change: Change) -> Vec<(String, u64)> {
        self.handle(HostsInput::Event {
            node: DAEMON.parse().unwrap(),
            connection,
            event: HostEvent { revision, change },
        })
    }

    /// Returns hosts with a connected daemon that has one plugin at revision 10.
    fn connected() -> Self {
        let mut world = Self::new();
        assert_eq!(world.members(&[(DAEMON, 1)]), asked(1));
        assert_eq!(world.answers(1, Some(snapshot(10, &[("a-bd", "1")]))), nothing());
        world
    }

    /// Returns the daemon's state, its `since` in seconds, and its plugins with their versions.
    fn seen(&self) -> Option<(HostState, u64, Pairs)> {
        let host = self.hosts.view().into_iter().find(|host| host.daemon == DAEMON)?;
        let since = host.since.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let plugins = host.plugins.values().map(|p| (p.name.clone(), p.version.clone().unwrap())).collect();
        Some((host.state, since, plugins))
    }

    /// Returns the plugins of the daemon, which must be connected, with their versions.
    fn plugins(&self) -> Pairs {
        let (state, _, plugins) = self.seen().expect("it has answered");
        assert_eq!(state, HostState::Connected);
        plugins
    }
}

fn asked(connection: u64) -> Vec<(String, u64)> {
    vec![(DAEMON.to_owned(), connection)]
}

fn nothing() -> Vec<(String, u64)> {
    Vec::new()
}

fn pairs(plugins: &[(&str, &str)]) -> Pairs {
    plugins.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect()
}

#[test]
fn events_in_order_are_applied_without_a_question() {
    let mut world = World::connected();
    assert!(world.hosts.take_changed());
    assert_eq!(world.event(1, 11, put("c-dd", "1")), nothing());
    assert_eq!(world.event(1, 12, put("a-bd", "2")), nothing());
    assert!(world.hosts.take_changed());
    assert_eq!(world.event(1, 13, Change::Nothing), nothing());
    assert!(!world.hosts.take_changed(), "a purge does not change the registered plugins");
    assert_eq!(world.plugins(), pairs(&[("a-bd", "2"), ("c-dd", "1")]));
    assert_eq!(world.event(1, 14, Change::Removed("a-bd".to_owned())), nothing());
    assert_eq!(world.plugins(), pairs(&[("c-dd", "1")]));
}

#[test]
fn an_old_event_changes_nothing_and_a_gap_leads_to_a_question() {
    let mut world = World::connected();
    assert_eq!(world.event(1, 10, Change::Removed("a-bd".to_owned())), nothing(), "the snapshot includes it");
    assert_eq!(world.passes(limits::HOST_PAUSE), nothing());
    assert_eq!(world.event(1, 12, put("c-dd", "1")), asked(1), "11 is missing");
    assert_eq!(world.plugins(), pairs(&[("a-bd", "1")]), "nothing is applied out of order");
    assert_eq!(world.event(1, 11, Change::Removed("a-bd".to_owned())), nothing(), "it is late, but the next");
    assert_eq!(world.answers(1, Some(snapshot(12, &[("c-dd", "1")]))), nothing());
    assert_eq!(world.plugins(), pairs(&[("c-dd", "1")]));
    assert_eq!(world.event(1, 12, Change::Removed("c-dd".to_owned())), nothing(), "it is a duplicate");
    assert_eq!(world.plugins(), pairs(&[("c-dd", "1")]));
    assert_eq!(world.hosts.next_deadline(), Some(world.now.instant + limits::HOST_REFRESH), "no event is missing");
}

#[test]
fn a_snapshot_that_is_older_than_an_event_is_asked_for_again() {
    let mut world = World::new();
    assert_eq!(world.members(&[(DAEMON, 1)]), asked(1));
    assert_eq!(world.event(1, 11, put("c-dd", "1")), nothing(), "a question is under way");
    assert_eq!(world.answers(1, Some(snapshot(10, &[("a-bd", "1")]))), nothing(), "only after a pause");
    assert_eq!(world.plugins(), pairs(&[("a-bd", "1")]));
    assert_eq!(world.hosts.next_deadline(), Some(world.now.instant + limits::HOST_PAUSE));
    assert_eq!(world.passes(limits::HOST_PAUSE), asked(1));
    assert_eq!(world.answers(1, Some(snapshot(11, &[("a-bd", "1"), ("c-dd", "1")]))), nothing());
    assert_eq!(world.plugins(), pairs(&[("a-bd", "1"), ("c-dd", "1")]));

    // A snapshot that is older than the applied events is ignored.
    assert_eq!(world.passes(limits::HOST_PAUSE), nothing());
    assert_eq!(world.handle(HostsInput::Missed), asked(1));
    assert_eq!(world.event(1, 12, Change::Removed("c-dd".to_owned())), nothing());
    assert_eq!(world.answers(1, Some(snapshot(11, &[("a-bd", "1"), ("c-dd", "1")]))), nothing());
    assert_eq!(world.plugins(), pairs(&[("a-bd", "1")]));
}

#[test]
fn an_impossible_revision_leads_to_one_question() {
    let mut world = World::connected();
    world.passes(limits::HOST_PAUSE);
    assert_eq!(world.event(1, u64::MAX, put("c-dd", "1")), asked(1));
    assert_eq!(world.answers(1, Some(snapshot(10, &[("a-bd", "1")]))), nothing());
    assert_eq!(world.passes(limits::HOST_PAUSE), nothing());
}

#[test]
fn the_last_report_of_a_lost_daemon_is_kept_until_it_answers_again() {
    let mut world = World::connected();
    world.passes(Duration::from_secs(5));
    assert_eq!(world.members(&[]), nothing());
    assert_eq!(world.seen(), Some((HostState::Lost, 5, pairs(&[("a-bd", "1")]))));
    assert_eq!(
        world.event(1, 11, Change::Removed("a-bd".to_owned())),
        nothing(),
        "it was sent over the lost connection"
    );
    world.passes(Duration::from_secs(5));
    assert_eq!(world.members(&[(DAEMON, 2)]), asked(2));
    assert_eq!(world.seen(), Some((HostState::Lost, 5, pairs(&[("a-bd", "1")]))), "it has not answered yet");
    assert_eq!(world.answers(1, Some(snapshot(99, &[]))), nothing(), "the answer over the lost connection");
    assert_eq!(world.seen(), Some((HostState::Lost, 5, pairs(&[("a-bd", "1")]))));
    assert_eq!(world.answers(2, Some(snapshot(12, &[("e-fd", "1")]))), nothing());
    assert_eq!(world.seen(), Some((HostState::Connected, 10, pairs(&[("e-fd", "1")]))));
    world.passes(Duration::from_secs(5));
    assert_eq!(world.event(2, 13, put("a-bd", "1")), nothing());
    assert_eq!(world.seen(), Some((HostState::Connected, 10, pairs(&[("a-bd", "1"), ("e-fd", "1")]))));
}

#[test]
fn a_daemon_with_a_new_connection_may_have_lower_revisions() {
    let mut world = World::connected();
    world.passes(Duration::from_secs(5));
    // Its home was emptied, so its revisions start from 0.
    assert_eq!(world.members(&[(DAEMON, 2)]), asked(2));
    assert_eq!(world.event(1, 11, put("c-dd", "1")), nothing(), "over the old connection");
    assert_eq!(world.answers(2, Some(snapshot(0, &[]))), nothing());
    assert_eq!(world.seen(), Some((HostState::Connected, 5, vec![])));
    assert_eq!(world.event(2, 1, put("g-hd", "1")), nothing());
    assert_eq!(world.plugins(), pairs(&[("g-hd", "1")]));
}

#[test]
fn missed_events_lead_to_a_question() {
    let mut world = World::connected();
    assert_eq!(world.handle(HostsInput::Missed), nothing(), "it was asked just now");
    assert_eq!(world.passes(limits::HOST_PAUSE), asked(1));
    assert_eq!(world.answers(1, None), nothing());
    assert_eq!(world.passes(limits::HOST_PAUSE), asked(1), "the events are still missing");
    assert_eq!(world.answers(1, Some(snapshot(11, &[]))), nothing());
    assert_eq!(world.plugins(), pairs(&[]));
}

#[test]
fn a_daemon_that_does_not_answer_is_asked_with_growing_pauses() {
    let mut world = World::new();
    assert_eq!(world.members(&[(DAEMON, 1)]), asked(1));
    let mut pause = limits::HOST_PAUSE;
    for _ in 0..10 {
        assert_eq!(world.answers(1, None), nothing());
        assert_eq!(world.passes(pause - Duration::from_millis(1)), nothing());
        assert_eq!(world.passes(Duration::from_millis(1)), asked(1));
        pause = (pause * 2).min(limits::HOST_PAUSE_LONGEST);
    }
    assert_eq!(pause, limits::HOST_PAUSE_LONGEST);
    assert_eq!(world.hosts.view(), [], "a node that never answered is not shown");
    assert_eq!(world.members(&[]), nothing());
    assert!(world.hosts.hosts.is_empty());
    // An answer resets the pause.
    assert_eq!(world.members(&[(DAEMON, 2)]), asked(2));
    assert_eq!(world.answers(2, Some(snapshot(1, &[]))), nothing());
    world.passes(limits::HOST_PAUSE);
    assert_eq!(world.event(2, 3, Change::Nothing), asked(2));
    assert_eq!(world.answers(2, None), nothing());
    assert_eq!(world.passes(limits::HOST_PAUSE), asked(2));
}

#[test]
fn a_daemon_without_events_is_asked_at_intervals() {
    let mut world = World::connected();
    assert_eq!(world.passes(limits::HOST_REFRESH - Duration::from_millis(1)), nothing());
    assert_eq!(world.passes(Duration::from_millis(1)), asked(1));
    assert_eq!(world.answers(1, Some(snapshot(10, &[("a-bd", "1")]))), nothing());
    assert_eq!(world.seen(), Some((HostState::Connected, 0, pairs(&[("a-bd", "1")]))), "`since` is unchanged");
}

#[test]
fn a_lost_daemon_is_forgotten_after_a_while() {
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
fn the_number_of_daemons_is_bounded_and_the_one_lost_first_is_forgotten() {
    let mut world = World::new();
    let names: Vec<String> = (0..=limits::HOSTS).map(|i| format!("hecate@{i:04}")).collect();
    let members = |from: usize, to: usize| -> Vec<(&str, u64)> {
        names[from..to].iter().map(|name| (name.as_str(), 1)).collect()
    };
    let all = members(0, limits::HOSTS + 1);
    assert_eq!(world.members(&all).len(), limits::HOSTS, "a connected daemon is not forgotten");
    for (node, connection) in &all {
        let snapshot = Some(snapshot(1, &[]));
        world.handle(HostsInput::Answered { node: (*node).parse().unwrap(), connection: *connection, snapshot });
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
fn all_reports_together_are_bounded() {
    let mut world = World::connected();
    let other = "hecate@b";
    assert_eq!(world.members(&[(DAEMON, 1), (other, 2)]), [(other.to_owned(), 2)]);
    let large = |name: &str| PluginView { description: Some("x".repeat(4096)), ..plugin(name, "1") };
    let plugins: Vec<PluginView> =
        (0..=limits::HOST_REPORTS / weight(&large("a-0000d"))).map(|i| large(&format!("a-{i:04}d"))).collect();
    let all = plugins.len();
    let much = Snapshot { revision: 1, plugins, left_out: 1 };
    let answer =
        |connection| HostsInput::Answered { node: other.parse().unwrap(), connection, snapshot: Some(much.clone()) };
    world.handle(answer(2));
    let counts = |world: &World| {
        let host = world.hosts.view().into_iter().find(|host| host.daemon == other).unwrap();
        (host.plugins.size(), host.left_out)
    };
    assert_eq!(counts(&world), (all - 1, 2), "the last exceeds the limit, and one was left out before");
    assert!(world.hosts.weight <= limits::HOST_REPORTS);
    let event = HostEvent { revision: 2, change: Change::Put(large("z-zzzzd")) };
    world.handle(HostsInput::Event { node: other.parse().unwrap(), connection: 2, event });
    assert_eq!(counts(&world), (all - 1, 3));
    assert_eq!(world.plugins(), pairs(&[("a-bd", "1")]), "a connected daemon is not forgotten");
    // A lost daemon is forgotten.
    world.members(&[(other, 2)]);
    let event = HostEvent { revision: 3, change: put("z-zd", "1") };
    world.handle(HostsInput::Event { node: other.parse().unwrap(), connection: 2, event });
    assert_eq!((counts(&world), world.seen().is_some()), ((all, 3), true), "there is still memory for it");
    world.members(&[(other, 3)]);
    world.handle(answer(3));
    assert_eq!((counts(&world), world.seen()), ((all - 1, 2), None));
    let weigh = |host: &Host| host.report.as_ref().map_or(0, |report| report.plugins.values().map(|p| weight(p)).sum());
    assert_eq!(world.hosts.weight, world.hosts.hosts.values().map(weigh).sum::<usize>());
}
