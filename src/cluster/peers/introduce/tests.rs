use super::*;

/// An introducer with the present connection of each peer, and the number of the last request.
struct Bench {
    introducer: Introducer,
    now: Instant,
    published: BTreeMap<NodeName, Connected>,
    connections: u64,
    asked: u64,
}

impl Bench {
    fn new() -> Self {
        let introducer = Introducer::new("us@h".parse().unwrap());
        Self { introducer, now: Instant::now(), published: BTreeMap::new(), connections: 0, asked: 0 }
    }

    /// Returns a bench with these peers, all asked and all introduced.
    fn meshed(peers: &[&str]) -> Self {
        let mut bench = Self::new();
        bench.connect(peers);
        for of in peers {
            assert_eq!(bench.answer(of, peers), []);
        }
        bench
    }

    fn run(&mut self, input: IntroducerInput) -> Vec<IntroducerEffect> {
        let mut out = Vec::new();
        self.introducer.handle(self.now, input, &mut out);
        let asked = |effect: &IntroducerEffect| match effect {
            IntroducerEffect::AskNodes { asked, .. } => Some(*asked),
            IntroducerEffect::Connect { .. } | IntroducerEffect::KeepApart { .. } => None,
        };
        self.asked = out.iter().filter_map(asked).next_back().unwrap_or(self.asked);
        out
    }

    fn look(&mut self) -> Vec<String> {
        let (published, daemons) = (self.published.clone(), BTreeSet::new());
        let asks = self.run(IntroducerInput::Peers { published, daemons });
        asks.into_iter().map(asked_peer).collect()
    }

    /// Connects these peers, or reconnects them; their `global` has greeted ours. Returns the
    /// peers that are asked.
    fn connect(&mut self, peers: &[&str]) -> Vec<String> {
        self.connect_as(peers, true)
    }

    fn connect_as(&mut self, peers: &[&str], introducible: bool) -> Vec<String> {
        for peer in peers {
            self.connections += 1;
            self.published.insert(
                peer.parse().unwrap(),
                Connected { connection: self.connections, introducible, pg: Some(PgProtocol::Either) },
            );
        }
        self.look()
    }

    /// Connects these peers, each with the protocol of its `pg`, if that is known. Returns those
    /// that must be kept apart.
    fn connect_with_pg(&mut self, peers: &[(&str, Option<PgProtocol>)]) -> Vec<IntroducerEffect> {
        for (peer, pg) in peers {
            let connection = match self.published.get(&name(peer)) {
                Some(connected) => connected.connection,
                None => {
                    self.connections += 1;
                    self.connections
                }
            };
            self.published.insert(name(peer), Connected { connection, introducible: true, pg: *pg });
        }
        let (published, daemons) = (self.published.clone(), BTreeSet::new());
        let effects = self.run(IntroducerInput::Peers { published, daemons });
        effects.into_iter().filter(|effect| matches!(effect, IntroducerEffect::KeepApart { .. })).collect()
    }

    /// Answers the last request for a peer.
    fn answer(&mut self, of: &str, nodes: &[&str]) -> Vec<IntroducerEffect> {
        self.answer_to(self.asked, of, nodes)
    }

    fn answer_to(&mut self, asked: u64, of: &str, nodes: &[&str]) -> Vec<IntroducerEffect> {
        self.run(IntroducerInput::Nodes { of: of.parse().unwrap(), asked, nodes: names(nodes) })
    }

    fn pass(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        self.run(IntroducerInput::Tick).into_iter().map(asked_peer).collect()
    }
}

fn name(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn names(names: &[&str]) -> BTreeSet<NodeName> {
    names.iter().map(|text| name(text)).collect()
}

fn asked_peer(effect: IntroducerEffect) -> String {
    match effect {
        IntroducerEffect::AskNodes { of, .. } => of.to_string(),
        other @ (IntroducerEffect::Connect { .. } | IntroducerEffect::KeepApart { .. }) => panic!("{other:?}"),
    }
}

fn with_daemons(published: &[&str], daemons: &[&str]) -> IntroducerInput {
    let connected = Connected { connection: 1, introducible: true, pg: Some(PgProtocol::Either) };
    let published = published.iter().map(|name| (name.parse().unwrap(), connected)).collect();
    IntroducerInput::Peers { published, daemons: names(daemons) }
}

fn connect(on: &str, to: &str) -> IntroducerEffect {
    IntroducerEffect::Connect { on: on.parse().unwrap(), to: to.parse().unwrap() }
}

#[test]
fn a_newcomer_is_asked_and_introduced_to_those_it_does_not_know() {
    let mut bench = Bench::new();
    assert_eq!(bench.connect(&["a@h"]), ["a@h"]);
    assert_eq!(bench.answer("a@h", &["us@h"]), []);
    assert_eq!(bench.connect(&["b@h", "c@h"]), ["b@h", "c@h"]);
    assert_eq!(bench.answer("b@h", &["us@h", "c@h"]), [connect("b@h", "a@h")]);
    assert_eq!(bench.answer("c@h", &["us@h", "a@h", "b@h"]), []);
}

#[test]
fn the_two_peers_of_a_pair_are_asked_in_turn_with_growing_pauses() {
    let mut bench = Bench::new();
    bench.connect(&["a@h", "b@h"]);
    assert_eq!(bench.answer("a@h", &[]), [connect("a@h", "b@h")]);
    assert_eq!(bench.answer("b@h", &[]), [], "the pair was introduced just now");
    for (seconds, connected) in [(1, connect("b@h", "a@h")), (2, connect("a@h", "b@h")), (4, connect("b@h", "a@h"))] {
        assert_eq!(bench.introducer.next_deadline(), Some(bench.now + Duration::from_secs(seconds)));
        assert_eq!(bench.pass(Duration::from_secs(seconds)).len(), 2, "both are asked again");
        assert_eq!(bench.answer("a@h", &[]), [connected]);
    }
    for _ in 0..20 {
        bench.pass(LONGEST_PAUSE);
        assert_eq!(bench.answer("a@h", &[]).len(), 1, "the pause grows no further");
    }
    assert_eq!(bench.answer("a@h", &["b@h"]), []);
    assert!(bench.introducer.apart.is_empty());
}

#[test]
fn a_pair_that_disconnects_is_introduced_again_only_after_one_of_them_reconnects() {
    let mut bench = Bench::meshed(&["a@h", "b@h", "c@h"]);
    for _ in 0..20 {
        bench.pass(ROUND);
        assert_eq!(bench.answer("a@h", &[]), []);
        assert_eq!(bench.answer("b@h", &["c@h"]), []);
    }
    // A peer that reconnects between two inputs is new.
    assert_eq!(bench.connect(&["b@h"]), ["b@h"]);
    assert_eq!(bench.answer("b@h", &["c@h"]), [connect("b@h", "a@h")]);
    assert_eq!(bench.answer("a@h", &[]), [], "neither the pair of a and c, nor a and b so soon");
    assert_eq!(bench.answer("c@h", &["b@h"]), []);
    // The same holds for a pair that we introduced.
    bench.pass(LONGEST_PAUSE);
    assert_eq!(bench.answer("b@h", &["a@h", "c@h"]), []);
    bench.pass(LONGEST_PAUSE);
    assert_eq!(bench.answer("b@h", &["c@h"]), []);
    assert_eq!(bench.answer("a@h", &[]), []);
}

#[test]
fn a_pair_that_never_connected_is_introduced_from_the_beginning_when_one_arrives_again() {
    let mut bench = Bench::new();
    bench.connect(&["a@h", "b@h"]);
    assert_eq!(bench.answer("a@h", &[]), [connect("a@h", "b@h")]);
    bench.connect(&["b@h"]);
    assert_eq!(bench.answer("b@h", &[]), [connect("b@h", "a@h")]);
    assert_eq!(bench.introducer.next_deadline(), Some(bench.now + FIRST_PAUSE));
}

#[test]
fn a_node_whose_global_has_not_greeted_ours_is_introduced_when_it_does() {
    let mut bench = Bench::meshed(&["a@h", "b@h"]);
    assert_eq!(bench.connect_as(&["lone@h"], false), ["lone@h"], "it may know nodes that we do not know");
    for _ in 0..3 {
        assert_eq!(bench.answer("lone@h", &[]), []);
        assert_eq!(bench.answer("a@h", &["b@h"]), []);
        assert_eq!(bench.pass(ROUND).len(), 3);
    }
    bench.published.get_mut("lone@h").unwrap().introducible = true;
    assert_eq!(bench.look(), ["lone@h"]);
    assert_eq!(bench.look(), [""; 0], "once");
    assert_eq!(bench.answer("lone@h", &["a@h"]), [connect("lone@h", "b@h")]);
    // On its next connection, the former greeting does not count.
    bench.connect_as(&["lone@h"], false);
    assert_eq!(bench.answer("lone@h", &[]), []);
}

#[test]
fn an_answer_to_a_question_from_before_an_arrival_is_ignored() {
    let mut bench = Bench::meshed(&["a@h", "b@h"]);
    let (_, early) = (bench.pass(ROUND), bench.asked);
    bench.connect(&["b@h"]);
    assert_eq!(bench.answer_to(early, "a@h", &["b@h"]), [], "this was the former connection");
    assert_eq!(bench.answer_to(early, "b@h", &["a@h"]), []);
    assert_eq!(bench.answer("b@h", &[]), [connect("b@h", "a@h")]);
    assert_eq!(bench.answer_to(early, "a@h", &["b@h"]), []);
    assert_eq!(bench.introducer.apart.len(), 1, "not together yet");
}

#[test]
fn a_round_takes_longer_with_many_peers() {
    let mut bench = Bench::new();
    let many: Vec<String> = (0..1000).map(|i| format!("n{i}@h")).collect();
    bench.connect(&many.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(bench.introducer.next_deadline(), Some(bench.now + 1000 * EACH));
}

#[test]
fn a_disconnected_peer_is_not_introduced() {
    let mut bench = Bench::new();
    bench.connect(&["a@h", "b@h"]);
    bench.published.remove("b@h");
    bench.look();
    assert_eq!(bench.answer("a@h", &[]), []);
    assert_eq!(bench.answer("b@h", &[]), []);
    bench.published.clear();
    bench.look();
    assert_eq!(bench.introducer.next_deadline(), None);
}

#[test]
fn each_node_is_looked_after_by_the_last_daemon_before_it() {
    let daemons = ["hecate@a", "hecate@b", "hecate@d"];
    let all =
        ["hecate@a", "hecate@b", "hecate@d", "hecate_1@a", "hecate_1@b", "hecate_1@c", "hecate_0@d", "a@a", "z@d"];
    let mut asked = Vec::new();
    for us in daemons {
        let others = |from: &[&'static str]| from.iter().copied().filter(|name| *name != us).collect::<Vec<_>>();
        let mut bench = Bench { introducer: Introducer::new(us.parse().unwrap()), ..Bench::new() };
        let out = bench.run(with_daemons(&others(&all), &others(&daemons)));
        let asks = |out: Vec<IntroducerEffect>| -> Vec<String> { out.into_iter().map(asked_peer).collect() };
        let first = asks(out);
        // In `daemons.len()` rounds, one round asks all peers. The others ask the same peers as the
        // first round.
        let rounds: Vec<_> = (0..daemons.len()).map(|_| bench.pass(ROUND)).collect();
        assert_eq!(rounds.iter().filter(|round| **round == first).count(), daemons.len() - 1);
        assert_eq!(rounds.iter().map(Vec::len).max(), Some(all.len() - 1));
        asked.push(first);
    }
    let expected = [
        vec!["hecate@b", "hecate_1@a"],
        vec!["hecate@d", "hecate_1@b", "hecate_1@c"],
        vec!["a@a", "hecate@a", "hecate_0@d", "z@d"],
    ];
    assert_eq!(asked, expected, "each by one daemon; \"a@a\" is before the first daemon");
}

#[test]
fn a_daemon_is_introduced_but_not_asked_to_connect() {
    let mut bench = Bench::new();
    let mut peers = with_daemons(&["a@i", "hecate@i", "hecate@j"], &["hecate@i", "hecate@j"]);
    // The `global` of a daemon never greets ours.
    let IntroducerInput::Peers { published, .. } = &mut peers else { unreachable!() };
    for (_, peer) in published.iter_mut().filter(|(name, _)| name.starts_with("hecate")) {
        peer.introducible = false;
    }
    let out: Vec<String> = bench.run(peers).into_iter().map(asked_peer).collect();
    assert_eq!(out, ["a@i", "hecate@i"]);
    for _ in 0..2 {
        assert_eq!(bench.answer("hecate@i", &["us@h"]), [connect("a@i", "hecate@i")]);
        bench.pass(LONGEST_PAUSE);
        assert_eq!(bench.answer("a@i", &["us@h", "hecate@j"]), [connect("a@i", "hecate@i")]);
        bench.pass(LONGEST_PAUSE);
    }
}

#[test]
fn a_peer_is_introduced_once_its_release_is_known() {
    let mut bench = Bench::new();
    bench.connect_with_pg(&[("a@h", Some(PgProtocol::Old)), ("b@h", None)]);
    assert_eq!(bench.answer("a@h", &[]), []);
    bench.connect_with_pg(&[("b@h", Some(PgProtocol::Old))]);
    assert_eq!(bench.answer("a@h", &[]), [connect("a@h", "b@h")]);
}

#[test]
fn old_and_new_nodes_are_kept_apart_and_this_is_logged_once() {
    let mut bench = Bench::new();
    let peers = [
        ("old1@h", PgProtocol::Old),
        ("old2@h", PgProtocol::Old),
        ("new1@h", PgProtocol::New),
        ("new2@h", PgProtocol::New),
        ("either@h", PgProtocol::Either),
    ];
    let peers = peers.map(|(name, pg)| (name, Some(pg)));
    assert_eq!(
        bench.connect_with_pg(&peers),
        [IntroducerEffect::KeepApart { old: name("old1@h"), new: name("new1@h") }]
    );
    assert_eq!(bench.connect_with_pg(&peers), []);
    let mut introduced = Vec::new();
    // Twice, since a node is introduced only when it has answered.
    for _ in 0..2 {
        for (peer, _) in peers {
            introduced.extend(bench.answer(peer, &[]));
        }
    }
    introduced.sort_by_key(|effect| format!("{effect:?}"));
    let expected = [("either@h", "new1@h"), ("either@h", "new2@h"), ("new2@h", "new1@h"), ("old2@h", "old1@h")];
    assert_eq!(introduced, expected.map(|(on, to)| connect(on, to)));
}

#[test]
fn an_old_node_does_not_meet_a_new_one_through_a_third() {
    let mut bench = Bench::new();
    let old = [("old@h", Some(PgProtocol::Old)), ("either@h", Some(PgProtocol::Either))];
    bench.connect_with_pg(&old);
    assert_eq!(bench.answer("old@h", &["either@h"]), []);
    assert_eq!(bench.answer("either@h", &["old@h"]), []);
    bench.connect_with_pg(&[("new@h", Some(PgProtocol::New))]);
    assert_eq!(bench.answer("new@h", &[]), []);
    assert_eq!(bench.answer("either@h", &["old@h"]), []);
}

#[test]
fn a_node_with_unknown_contacts_is_introduced_later_to_old_and_new_nodes() {
    let mut bench = Bench::new();
    let peers = [("either@h", Some(PgProtocol::Either)), ("new@h", Some(PgProtocol::New))];
    bench.connect_with_pg(&peers);
    assert_eq!(bench.answer("either@h", &["not_yet_connected@h"]), []);
    assert_eq!(bench.answer("new@h", &[]), []);
    bench.pass(UNKNOWN_TIME - Duration::from_millis(1));
    assert_eq!(bench.answer("new@h", &[]), []);
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.answer("new@h", &[]), [connect("new@h", "either@h")]);
}

#[test]
fn unknown_contacts_delay_a_node_that_could_join_either_side_only_for_a_while() {
    let mut bench = Bench::new();
    bench.connect_with_pg(&[
        ("old@h", Some(PgProtocol::Old)),
        ("new@h", Some(PgProtocol::New)),
        ("either@h", Some(PgProtocol::Either)),
    ]);
    for (peer, nodes) in [("old@h", &[][..]), ("either@h", &["never_a_peer@h"]), ("new@h", &[])] {
        assert_eq!(bench.answer(peer, nodes), []);
    }
    bench.pass(UNKNOWN_TIME);
    assert_eq!(bench.answer("new@h", &[]), [connect("new@h", "either@h")]);
}

#[test]
fn an_answer_over_an_earlier_connection_does_not_set_contacts() {
    let mut bench = Bench::new();
    bench.connect_with_pg(&[("old@h", Some(PgProtocol::Old)), ("new@h", Some(PgProtocol::New))]);
    let asked = bench.asked;
    bench.published.remove(&name("new@h"));
    bench.connect_with_pg(&[("new@h", Some(PgProtocol::New))]);
    bench.answer_to(asked, "new@h", &["old@h"]);
    assert_eq!(bench.introducer.peers["new@h"].contacts, None);
}
