use std::sync::Arc;
use std::time::{Duration, SystemTime};

use beam::connect::dial::DialCode;
use beam::dist::flags;
use beam::node::view::{PeerReason, PeerState};

use super::*;
use crate::cluster::peers::records::PeerAnswers;
use crate::cluster::view::{DialFailure, Introduction, NodeState};
use crate::plugin::{
    Plugin, Reason, ReasonCode,
    sample::{self, name},
};

const NODE: &str = "hecate_ad@h";

struct Bench {
    machine: ClusterMachine,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let dialer = Dialer {
            epmd_port: 4369,
            default_port: None,
            this_host: BTreeSet::from(["h".to_owned()]),
            allowed_uids: BTreeSet::from([1000]),
        };
        let membership = MembershipTracker::new(1000, BTreeSet::from([1000]));
        Self { machine: ClusterMachine::new(dialer, membership, EpmdState::Registered), now: Instant::now() }
    }

    fn plugins(&mut self, view: &registry::View) -> Vec<ClusterEffect> {
        let mut out = Vec::new();
        self.machine.plugins_changed(view, view.revision, &mut out);
        out
    }

    fn node(&mut self, view: &View) -> Vec<ClusterEffect> {
        let mut out = Vec::new();
        self.machine.node_changed(view, &mut out);
        out
    }

    fn after(&mut self, time: Duration) -> Vec<ClusterEffect> {
        self.now += time;
        let mut out = Vec::new();
        self.machine.time_passed(self.now, &mut out);
        out
    }
}

/// Returns a view of the registry with the plugin `hecate-ad`. It is running if there is an
/// incarnation.
fn registry(revision: u64, ready: bool, incarnation: Option<u64>, node: Option<&str>) -> registry::View {
    let plugin = Plugin {
        node: node.map(|node| node.parse().unwrap()),
        node_given: true,
        status: if incarnation.is_some() { Status::Running } else { Status::Stopped },
        reason: Reason::new(ReasonCode::Unknown, ""),
        incarnation: incarnation.unwrap_or_default(),
        ..sample::plugin("hecate-ad")
    };
    let plugins = [(plugin.name.clone(), Arc::new(plugin))].into_iter().collect();
    registry::View { revision, ready, plugins, ..registry::View::default() }
}

fn view(state: PeerState) -> View {
    let peer = Peer { state, since: SystemTime::UNIX_EPOCH, connection: 1, owner: Some(1000) };
    View {
        name: "us@h".parse().unwrap(),
        creation: 1,
        peers: BTreeMap::from([(NODE.parse().unwrap(), peer)]),
        announced: BTreeSet::new(),
        grouped: BTreeSet::new(),
        known: BTreeSet::new(),
        introducible: BTreeSet::new(),
    }
}

fn up() -> PeerState {
    PeerState::Up { creation: 1, published: true, flags: flags::ours(false), dialled: true }
}

fn failed(code: DialCode) -> PeerRecord {
    let last_failure = Some(DialFailure { code, detail: code.name().to_owned(), at: SystemTime::UNIX_EPOCH });
    PeerRecord {
        introduced_by: Introduction::Epmd,
        since: SystemTime::UNIX_EPOCH,
        attempts: 1,
        last_failure,
        under_way: None,
        answers: PeerAnswers::default(),
    }
}

#[test]
fn a_plugin_has_a_proxy_while_it_runs_and_another_one_when_it_runs_again() {
    let mut bench = Bench::new();
    let (start, end) = (ClusterEffect::StartProxy(name("hecate-ad")), ClusterEffect::EndProxy(name("hecate-ad")));
    assert_eq!(bench.plugins(&registry(1, false, Some(1), None)), [], "its status is not known yet");
    assert_eq!(bench.plugins(&registry(1, true, Some(1), None)), std::slice::from_ref(&start));
    assert_eq!(bench.plugins(&registry(1, true, Some(1), None)), []);
    bench.machine.event_sent(name("hecate-ad"));
    assert_eq!(bench.plugins(&registry(2, true, Some(2), None)), [end.clone(), start]);
    bench.machine.event_sent(name("hecate-ad"));
    assert_eq!(bench.plugins(&registry(3, true, None, None)), [end]);
    bench.machine.events_missed();
    assert_eq!(bench.plugins(&registry(9, true, None, None)), []);
}

#[test]
fn the_nodes_of_plugins_are_found_before_their_status_is_known() {
    let mut bench = Bench::new();
    let find = |nodes: &[&str]| ClusterEffect::FindNodes(nodes.iter().map(|node| node.parse().unwrap()).collect());
    assert_eq!(bench.plugins(&registry(1, false, None, Some(NODE))), [find(&[NODE])]);
    assert_eq!(bench.plugins(&registry(1, true, None, Some(NODE))), []);
    bench.machine.event_sent(name("hecate-ad"));
    assert_eq!(bench.plugins(&registry(2, true, None, None)), [find(&[])]);
}

#[test]
fn the_view_is_published_before_a_node_is_reported_to_the_registry() {
    let mut bench = Bench::new();
    let node: NodeName = NODE.parse().unwrap();
    assert_eq!(
        bench.node(&view(up())),
        [
            ClusterEffect::NodeUp(NODE.parse().unwrap()),
            ClusterEffect::Publish,
            ClusterEffect::Report(Membership::NodeUp { node: node.clone(), on_this_host: true }),
        ]
    );
    assert_eq!(bench.node(&view(up())), []);
    assert_eq!(
        bench.node(&view(PeerState::Down { reason: PeerReason::new("closed_by_peer", "gone"), left: None })),
        [
            ClusterEffect::NodeDown(NODE.parse().unwrap()),
            ClusterEffect::Publish,
            ClusterEffect::Report(Membership::NodeDown { node, reason: "gone".to_owned() }),
        ]
    );
}

#[test]
fn the_state_of_a_plugins_node_follows_its_connection() {
    let mut bench = Bench::new();
    bench.plugins(&registry(1, true, None, Some(NODE)));
    let state = |bench: &mut Bench, view: &View| {
        let evidence = |name: &NodeName| Evidence { peer: view.peers.get(name), ..Evidence::default() };
        bench.machine.plugin_nodes(evidence).of(NODE)
    };
    assert_eq!(state(&mut bench, &view(up())), NodeState::Connected);
    let down = view(PeerState::Down { reason: PeerReason::new("closed_by_peer", "gone"), left: None });
    assert_eq!(state(&mut bench, &down), NodeState::Connected, "the node is not marked as changed");
    bench.node(&view(up()));
    bench.node(&down);
    assert_eq!(state(&mut bench, &down), NodeState::NotConnected(None));
}

#[test]
fn the_stored_plugins_are_judged_once() {
    let mut bench = Bench::new();
    assert_eq!([false, true, true].map(|has_tried_all| bench.machine.settles(has_tried_all)), [false, true, false]);
}

#[test]
fn the_name_is_registered_again_after_each_failure() {
    let mut bench = Bench::new();
    let retry = beam::limits::EPMD_RETRY;
    assert_eq!((bench.machine.next_deadline(), bench.after(retry)), (None, vec![]));
    bench.machine.epmd_lost(bench.now);
    assert_eq!(bench.machine.next_deadline(), Some(bench.now + retry));
    assert_eq!(bench.after(retry - Duration::from_millis(1)), []);
    assert_eq!(bench.after(Duration::from_millis(1)), [ClusterEffect::Register]);
    assert_eq!(bench.after(retry), [], "one attempt at a time");
    let taken = EpmdState::NameTaken { name: "us".to_owned() };
    bench.machine.published();
    bench.machine.epmd_asked(bench.now, taken.clone(), false);
    assert_eq!((bench.machine.epmd(), bench.machine.is_stale()), (taken, true));
    assert_eq!(bench.after(retry), [ClusterEffect::Register]);
    bench.machine.epmd_asked(bench.now, EpmdState::Served, true);
    assert_eq!((bench.after(retry), bench.machine.epmd()), (vec![], EpmdState::Served));
}

#[test]
fn only_nodes_of_plugins_that_refuse_are_reported() {
    let mut bench = Bench::new();
    let registry = registry(1, true, None, Some("other@h"));
    bench.plugins(&registry);
    let (closed, mismatch) = (failed(DialCode::TcpRefused), failed(DialCode::CookieMismatch));
    let names: [NodeName; 3] = [NODE, "other@h", "hecate_bd@h"].map(|name| name.parse().unwrap());
    let view = View { peers: BTreeMap::new(), ..view(up()) };
    let refusing = |record| {
        let failed = names.iter().map(|name| Failed { name, port: 1, record });
        bench.machine.refusing(&view, &registry.plugins, failed).into_keys().collect::<Vec<_>>()
    };
    assert_eq!(refusing(&closed), [""; 0]);
    assert_eq!(refusing(&mismatch), [NODE, "other@h"], "one has a plugin's name, the other is registered");
}

#[test]
fn only_what_the_view_shows_makes_it_stale() {
    let mut bench = Bench::new();
    let registry = registry(1, true, Some(1), None);
    let is_stale = |bench: &mut Bench| {
        let was_stale = bench.machine.is_stale();
        bench.machine.published();
        was_stale
    };
    assert!(is_stale(&mut bench), "nothing was published yet");
    bench.plugins(&registry);
    bench.machine.event_sent(name("hecate-ad"));
    bench.plugins(&registry);
    bench.after(Duration::from_secs(60));
    assert!(!is_stale(&mut bench), "plugins without a node are not in the view");
    bench.node(&view(up()));
    assert!(is_stale(&mut bench));
    bench.machine.mark_stale();
    assert!(is_stale(&mut bench));
}

#[test]
fn an_epmd_that_is_silent_for_a_while_is_reported_once_until_it_answers() {
    let mut bench = Bench::new();
    let failed = || Err("no answer".to_owned());
    bench.machine.published();
    assert!(!bench.machine.epmd_answered(bench.now, failed()));
    bench.now += Duration::from_millis(4999);
    assert!(!bench.machine.epmd_answered(bench.now, failed()), "it may be restarting");
    assert_eq!((bench.machine.epmd(), bench.machine.is_stale()), (EpmdState::Registered, false));
    bench.now += Duration::from_millis(1);
    assert!(bench.machine.epmd_answered(bench.now, failed()));
    assert!(!bench.machine.epmd_answered(bench.now, failed()), "once");
    assert!(matches!(bench.machine.epmd(), EpmdState::Unavailable { .. }));
    assert!(bench.machine.is_stale());
    assert!(!bench.machine.epmd_answered(bench.now, Ok(())));
    assert_eq!(bench.machine.epmd(), EpmdState::Registered);
    assert!(!bench.machine.epmd_answered(bench.now + Duration::from_secs(5), failed()), "the time begins again");
}
