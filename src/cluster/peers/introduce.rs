//! Introduces our peers to each other, so that they mesh as they would around an Erlang node.
//!
//! `global` meshes the nodes that it knows, but it can't know us (see
//! [`beam::node::services::global`]), and pg is not transitive. So when two published peers arrive
//! that are not connected to each other, we ask one of them to connect to the other, until it does.
//! Hidden peers are never introduced.
//!
//! The administrator's decisions have precedence:
//! - We introduce only nodes whose `global` has greeted ours. A node with `connect_all false`, or
//!   in a global group without us, sends no greeting. A connection from it to an ordinary node
//!   would make `global:sync/0` hang on both.
//! - We do not introduce a node that has closed its connection to us in order, as
//!   `global:disconnect/0` does, and that we have dialled since. We introduce it again when it
//!   dials us, or after its restart.
//! - We introduce a pair once for each connection of the two to us. If the two disconnect later, we
//!   assume that the administrator wanted that.
//!
//! The hecate-daemons of a cluster share this work without messages. In the order of hosts and
//! names, the last daemon before a node looks after it; the first name follows the last. On a host
//! with a daemon, that is the host's own daemon. We never ask a daemon to connect, because it
//! connects to every node that it learns of. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use beam::name::NodeName;

/// How often each peer that we look after is asked for the nodes that it is connected to.
const ROUND: Duration = Duration::from_secs(5);
/// Where there are many peers, a round takes this long for each.
const EACH: Duration = Duration::from_millis(10);
/// After an introduction it is asked whether it has helped: first in this time, then in twice as much each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two introductions of a pair: perhaps there is no way between the two.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// An input of [`Introducer::handle`].
#[derive(Debug)]
pub enum IntroducerInput {
    /// The peers that are connected now.
    Peers {
        /// The published peers.
        published: BTreeMap<NodeName, Connected>,
        /// Those of them that are hecate-daemons.
        daemons: BTreeSet<NodeName>,
    },
    /// The answer of a peer to [`IntroducerEffect::AskNodes`].
    Nodes {
        /// The peer.
        of: NodeName,
        /// The number of the question.
        asked: u64,
        /// The nodes that it is connected to.
        nodes: BTreeSet<NodeName>,
    },
    /// Nothing but the passing of time.
    Tick,
}

/// A published peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connected {
    /// A number that differs for each connection of the peer.
    pub connection: u64,
    /// Whether to introduce it to others, see [`beam::node::view::View::introducible`]; always true
    /// for a daemon.
    pub introducible: bool,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum IntroducerEffect {
    /// Ask this peer for its `nodes()`.
    AskNodes {
        /// The peer.
        of: NodeName,
        /// A number, which [`IntroducerInput::Nodes`] repeats.
        asked: u64,
    },
    /// Ask `on` to connect to `to`.
    Connect {
        /// The peer that is asked.
        on: NodeName,
        /// The peer that it should connect to.
        to: NodeName,
    },
}

/// A published peer.
#[derive(Debug)]
struct Candidate {
    connection: u64,
    introducible: bool,
    /// The number of its last arrival. A peer arrives when it connects, and when it becomes
    /// introducible.
    arrived: u64,
    /// The number of arrivals at the time of the last question that the peer answered; 0 before its
    /// first answer.
    answered: u64,
}

/// The peers, and the pairs that are being introduced.
#[derive(Debug)]
pub struct Introducer {
    us: NodeName,
    peers: BTreeMap<NodeName, Candidate>,
    daemons: BTreeSet<NodeName>,
    /// The number of arrivals so far.
    arrivals: u64,
    /// Pairs in name order that have not been seen connected since their first introduction, with
    /// the time of the next introduction and the number of introductions so far.
    apart: BTreeMap<(NodeName, NodeName), (Instant, u32)>,
    next_round: Option<Instant>,
    rounds: usize,
}

impl Introducer {
    /// Returns an introducer without peers, for the node with this full name.
    #[must_use]
    pub fn new(us: NodeName) -> Self {
        Self {
            us,
            peers: BTreeMap::new(),
            daemons: BTreeSet::new(),
            arrivals: 0,
            apart: BTreeMap::new(),
            next_round: None,
            rounds: 0,
        }
    }

    /// Takes an input; what is to be done is added to `out`.
    pub fn handle(&mut self, now: Instant, input: IntroducerInput, out: &mut Vec<IntroducerEffect>) {
        match input {
            IntroducerInput::Peers { published, daemons } => self.changed(now, published, daemons, out),
            IntroducerInput::Nodes { of, asked, nodes } => self.nodes(now, &of, asked, &nodes, out),
            IntroducerInput::Tick => {
                if self.next_round.is_some_and(|at| at <= now) {
                    self.next_round = Some(now + self.round());
                    self.rounds = self.rounds.wrapping_add(1);
                    // Now and then all: whoever should look after one may be cut off from it.
                    let all = self.rounds.is_multiple_of(self.daemons.len() + 1);
                    let asked = self.peers.keys().filter(|peer| all || self.looks_after(peer));
                    out.extend(asked.map(|of| IntroducerEffect::AskNodes { of: of.clone(), asked: self.arrivals }));
                }
            }
        }
    }

    /// When [`IntroducerInput::Tick`] is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.next_round
    }

    fn changed(
        &mut self,
        now: Instant,
        published: BTreeMap<NodeName, Connected>,
        daemons: BTreeSet<NodeName>,
        out: &mut Vec<IntroducerEffect>,
    ) {
        self.daemons = daemons;
        let (mut before, arrivals) = (std::mem::take(&mut self.peers), self.arrivals);
        for (name, Connected { connection, introducible }) in published {
            let introducible = introducible || self.daemons.contains(&name);
            let peer = match before.remove(&name).filter(|peer| peer.connection == connection) {
                Some(peer) if peer.introducible || !introducible => peer,
                _ => {
                    self.arrivals += 1;
                    Candidate { connection, introducible, arrived: self.arrivals, answered: 0 }
                }
            };
            self.peers.insert(name, peer);
        }
        let stays = |name: &NodeName| self.peers.get(name).is_some_and(|peer| peer.arrived <= arrivals);
        self.apart.retain(|(a, b), _| stays(a) && stays(b));
        let asked = self.peers.iter().filter(|(name, peer)| peer.arrived > arrivals && self.looks_after(name));
        out.extend(asked.map(|(of, _)| IntroducerEffect::AskNodes { of: of.clone(), asked: self.arrivals }));
        // A single peer is asked as well: it may know nodes that we don't.
        if self.peers.is_empty() {
            self.next_round = None;
        } else {
            let round = self.round();
            self.next_round.get_or_insert(now + round);
        }
    }

    fn nodes(
        &mut self,
        now: Instant,
        of: &NodeName,
        asked: u64,
        nodes: &BTreeSet<NodeName>,
        out: &mut Vec<IntroducerEffect>,
    ) {
        // An answer says nothing about connections that are younger than its question.
        let Some(peer) = self.peers.get(of).filter(|peer| peer.introducible && peer.arrived <= asked) else { return };
        let others =
            self.peers.iter().filter(|(name, other)| *name != of && other.introducible && other.arrived <= asked);
        for (name, other) in others {
            let pair = if of < name { (of.clone(), name.clone()) } else { (name.clone(), of.clone()) };
            if nodes.contains(name) {
                self.apart.remove(&pair);
                continue;
            }
            let times = match self.apart.get(&pair) {
                Some((next, _)) if now < *next => continue,
                Some((_, times)) => *times,
                // One of them has answered since both arrived, so the two have been seen connected.
                None if peer.answered >= other.arrived || other.answered >= peer.arrived => continue,
                None => 0,
            };
            // Who is asked changes each time: perhaps only one of the two can reach the other, or can be asked at all.
            let (on, to) = match (self.daemons.contains(of), self.daemons.contains(name)) {
                (true, true) => continue,
                (true, false) => (name, of),
                (false, true) => (of, name),
                (false, false) if times % 2 == 0 => (of, name),
                (false, false) => (name, of),
            };
            let pause = FIRST_PAUSE.saturating_mul(1 << times.min(10)).min(LONGEST_PAUSE);
            self.apart.insert(pair, (now + pause, times.saturating_add(1)));
            self.next_round = self.next_round.map(|at| at.min(now + pause));
            out.push(IntroducerEffect::Connect { on: on.clone(), to: to.clone() });
        }
        if let Some(peer) = self.peers.get_mut(of) {
            peer.answered = peer.answered.max(asked);
        }
    }

    /// Whether no other daemon comes between us and this node.
    fn looks_after(&self, node: &NodeName) -> bool {
        let (us, node) = (place(&self.us), place(node));
        let between = |daemon| if us < node { us < daemon && daemon < node } else { us < daemon || daemon < node };
        !self.daemons.iter().any(|daemon| between(place(daemon)))
    }

    fn round(&self) -> Duration {
        ROUND.max(EACH.saturating_mul(u32::try_from(self.peers.len()).unwrap_or(u32::MAX)))
    }
}

/// By what nodes are ordered: their hosts, then their names.
fn place(node: &NodeName) -> (&str, &str) {
    (node.host(), node.short_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bench with the introducer, the present connection of each peer, and what was asked last.
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
                IntroducerEffect::Connect { .. } => None,
            };
            self.asked = out.iter().filter_map(asked).next_back().unwrap_or(self.asked);
            out
        }

        fn look(&mut self) -> Vec<String> {
            let (published, daemons) = (self.published.clone(), BTreeSet::new());
            let asks = self.run(IntroducerInput::Peers { published, daemons });
            asks.into_iter().map(asks_whom).collect()
        }

        /// Connects these peers, or reconnects them; their `global` has greeted ours. Returns the
        /// peers that are asked.
        fn connect(&mut self, peers: &[&str]) -> Vec<String> {
            self.connect_as(peers, true)
        }

        fn connect_as(&mut self, peers: &[&str], introducible: bool) -> Vec<String> {
            for peer in peers {
                self.connections += 1;
                self.published.insert(peer.parse().unwrap(), Connected { connection: self.connections, introducible });
            }
            self.look()
        }

        /// Answers the last question for a peer.
        fn answer(&mut self, of: &str, nodes: &[&str]) -> Vec<IntroducerEffect> {
            self.answer_to(self.asked, of, nodes)
        }

        fn answer_to(&mut self, asked: u64, of: &str, nodes: &[&str]) -> Vec<IntroducerEffect> {
            self.run(IntroducerInput::Nodes { of: of.parse().unwrap(), asked, nodes: names(nodes) })
        }

        fn pass(&mut self, time: Duration) -> Vec<String> {
            self.now += time;
            self.run(IntroducerInput::Tick).into_iter().map(asks_whom).collect()
        }
    }

    fn names(names: &[&str]) -> BTreeSet<NodeName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn asks_whom(effect: IntroducerEffect) -> String {
        match effect {
            IntroducerEffect::AskNodes { of, .. } => of.to_string(),
            other @ IntroducerEffect::Connect { .. } => panic!("{other:?}"),
        }
    }

    fn with_daemons(published: &[&str], daemons: &[&str]) -> IntroducerInput {
        let connected = Connected { connection: 1, introducible: true };
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
    fn one_of_two_is_asked_and_the_other_next_time_soon_and_then_less_often() {
        let mut bench = Bench::new();
        bench.connect(&["a@h", "b@h"]);
        assert_eq!(bench.answer("a@h", &[]), [connect("a@h", "b@h")]);
        assert_eq!(bench.answer("b@h", &[]), [], "the pair was introduced just now");
        for (seconds, connected) in [(1, connect("b@h", "a@h")), (2, connect("a@h", "b@h")), (4, connect("b@h", "a@h"))]
        {
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
        // A peer that reconnects between two looks is new.
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
        assert_eq!(bench.connect_as(&["lone@h"], false), ["lone@h"], "it may know nodes that we don't");
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
            let asks = |out: Vec<IntroducerEffect>| -> Vec<String> { out.into_iter().map(asks_whom).collect() };
            let first = asks(out);
            // In one round of as many as there are daemons all are asked, in the others the same as at first.
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
        assert_eq!(asked, expected, "everyone by one, and \"a@a\" comes before the first daemon");
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
        let out: Vec<String> = bench.run(peers).into_iter().map(asks_whom).collect();
        assert_eq!(out, ["a@i", "hecate@i"]);
        for _ in 0..2 {
            assert_eq!(bench.answer("hecate@i", &["us@h"]), [connect("a@i", "hecate@i")]);
            bench.pass(LONGEST_PAUSE);
            assert_eq!(bench.answer("a@i", &["us@h", "hecate@j"]), [connect("a@i", "hecate@i")]);
            bench.pass(LONGEST_PAUSE);
        }
    }
}
