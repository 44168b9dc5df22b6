//! Introducing our peers to each other, so that they mesh as they would around an Erlang node.
//!
//! `global` meshes the nodes that it knows, but it can't know us (see [`crate::node::services::global`]), and pg is not
//! transitive. So whenever two published peers of ours are found apart, one of them is asked to connect to the other.
//! Hidden peers never are.
//!
//! The hecate-daemons of a cluster share this work, without a word: each node is looked after by the last daemon before it,
//! in the order of hosts and names, in which the first comes after the last. On a host with a daemon that is the host's own.
//! A daemon is only ever asked whom it knows: it connects to whomever it hears of by itself. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often each peer that we look after is asked for the nodes that it is connected to: a cut between two of them, which
/// nobody tells us of, is found within this time.
const ROUND: Duration = Duration::from_secs(5);
/// Where there are many peers, a round takes this long for each.
const EACH: Duration = Duration::from_millis(10);
/// After an introduction it is asked whether it has helped: first in this time, then in twice as much each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two introductions of a pair: perhaps there is no way between the two.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What it is told.
#[derive(Debug)]
pub enum Input {
    /// Who is connected now.
    Peers {
        /// The published peers.
        published: BTreeSet<Arc<str>>,
        /// Those of them that are hecate-daemons.
        daemons: BTreeSet<Arc<str>>,
    },
    /// The answer of a peer to `nodes()`.
    Nodes {
        /// Which peer.
        of: Arc<str>,
        /// Its answer.
        nodes: BTreeSet<Arc<str>>,
    },
    /// Nothing but the passing of time.
    Tick,
}

/// What it wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask this peer for its `nodes()`.
    AskNodes(Arc<str>),
    /// Ask `on` to connect to `to`.
    Connect {
        /// Who is asked.
        on: Arc<str>,
        /// To whom it should connect.
        to: Arc<str>,
    },
}

/// The peers, and who was introduced to whom.
#[derive(Debug)]
pub struct Introducer {
    us: Arc<str>,
    peers: BTreeSet<Arc<str>>,
    daemons: BTreeSet<Arc<str>>,
    /// Pairs in name order that were found apart: when they may be introduced again, and how often they were.
    apart: BTreeMap<(Arc<str>, Arc<str>), (Instant, u32)>,
    next_round: Option<Instant>,
    rounds: usize,
}

impl Introducer {
    /// One for the node of this full name.
    #[must_use]
    pub fn new(us: Arc<str>) -> Self {
        let (peers, daemons) = (BTreeSet::new(), BTreeSet::new());
        Self { us, peers, daemons, apart: BTreeMap::new(), next_round: None, rounds: 0 }
    }

    /// Takes an input; what is to be done is added to `out`.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Peers { published, daemons } => {
                self.daemons = daemons;
                let new = published.difference(&self.peers).filter(|peer| self.looks_after(peer));
                out.extend(new.cloned().map(Effect::AskNodes));
                self.apart.retain(|(a, b), _| published.contains(a) && published.contains(b));
                self.peers = published;
                // A single peer is asked as well: it may know nodes that we don't.
                if self.peers.is_empty() {
                    self.next_round = None;
                } else {
                    let round = self.round();
                    self.next_round.get_or_insert(now + round);
                }
            }
            Input::Nodes { of, nodes } => self.nodes(now, &of, &nodes, out),
            Input::Tick => {
                if self.next_round.is_some_and(|at| at <= now) {
                    self.next_round = Some(now + self.round());
                    self.rounds = self.rounds.wrapping_add(1);
                    // Now and then all: whoever should look after one may be cut off from it.
                    let all = self.rounds.is_multiple_of(self.daemons.len() + 1);
                    let asked = self.peers.iter().filter(|peer| all || self.looks_after(peer));
                    out.extend(asked.cloned().map(Effect::AskNodes));
                }
            }
        }
    }

    /// When [`Input::Tick`] is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.next_round
    }

    fn nodes(&mut self, now: Instant, of: &Arc<str>, nodes: &BTreeSet<Arc<str>>, out: &mut Vec<Effect>) {
        if !self.peers.contains(of) {
            return;
        }
        for other in self.peers.iter().filter(|other| *other != of) {
            let pair = if of < other { (of.clone(), other.clone()) } else { (other.clone(), of.clone()) };
            if nodes.contains(other) {
                self.apart.remove(&pair);
                continue;
            }
            let times = match self.apart.get(&pair) {
                Some((next, _)) if now < *next => continue,
                Some((_, times)) => *times,
                None => 0,
            };
            // Who is asked changes each time: perhaps only one of the two can reach the other, or can be asked at all.
            let (on, to) = match (self.daemons.contains(of), self.daemons.contains(other)) {
                (true, true) => continue,
                (true, false) => (other, of),
                (false, true) => (of, other),
                (false, false) if times % 2 == 0 => (of, other),
                (false, false) => (other, of),
            };
            let pause = FIRST_PAUSE.saturating_mul(1 << times.min(10)).min(LONGEST_PAUSE);
            self.apart.insert(pair, (now + pause, times.saturating_add(1)));
            self.next_round = self.next_round.map(|at| at.min(now + pause));
            out.push(Effect::Connect { on: on.clone(), to: to.clone() });
        }
    }

    /// Whether no other daemon comes between us and this node.
    fn looks_after(&self, node: &str) -> bool {
        let (us, node) = (place(&self.us), place(node));
        let between = |daemon| if us < node { us < daemon && daemon < node } else { us < daemon || daemon < node };
        !self.daemons.iter().any(|daemon| between(place(daemon)))
    }

    fn round(&self) -> Duration {
        ROUND.max(EACH.saturating_mul(u32::try_from(self.peers.len()).unwrap_or(u32::MAX)))
    }
}

/// By what nodes are ordered: their hosts, then their names.
fn place(node: &str) -> (&str, &str) {
    let (name, host) = node.split_once('@').unwrap_or((node, ""));
    (host, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    fn peers(published: &[&str]) -> Input {
        with_daemons(published, &[])
    }

    fn with_daemons(published: &[&str], daemons: &[&str]) -> Input {
        Input::Peers { published: names(published), daemons: names(daemons) }
    }

    fn ask(peer: &str) -> Effect {
        Effect::AskNodes(peer.into())
    }

    fn nodes(of: &str, nodes: &[&str]) -> Input {
        Input::Nodes { of: of.into(), nodes: names(nodes) }
    }

    fn connect(on: &str, to: &str) -> Effect {
        Effect::Connect { on: on.into(), to: to.into() }
    }

    fn run(introducer: &mut Introducer, now: Instant, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        introducer.handle(now, input, &mut out);
        out
    }

    #[test]
    fn a_newcomer_is_asked_and_introduced_to_those_it_does_not_know() {
        let (mut introducer, now) = (Introducer::new("us@h".into()), Instant::now());
        assert_eq!(run(&mut introducer, now, peers(&["a"])), [Effect::AskNodes("a".into())]);
        assert_eq!(run(&mut introducer, now, nodes("a", &["us"])), []);
        let grown = peers(&["a", "b", "c"]);
        assert_eq!(run(&mut introducer, now, grown), [Effect::AskNodes("b".into()), Effect::AskNodes("c".into())]);
        assert_eq!(run(&mut introducer, now, nodes("b", &["us", "c"])), [connect("b", "a")]);
        assert_eq!(run(&mut introducer, now, nodes("c", &["us", "a", "b"])), []);
    }

    #[test]
    fn one_of_two_is_asked_and_the_other_next_time_soon_and_then_less_often() {
        let (mut introducer, mut now) = (Introducer::new("us@h".into()), Instant::now());
        run(&mut introducer, now, peers(&["a", "b"]));
        assert_eq!(run(&mut introducer, now, nodes("a", &[])), [connect("a", "b")]);
        assert_eq!(run(&mut introducer, now, nodes("b", &[])), [], "the pair was introduced just now");
        for (seconds, connected) in [(1, connect("b", "a")), (2, connect("a", "b")), (4, connect("b", "a"))] {
            assert_eq!(introducer.next_deadline(), Some(now + Duration::from_secs(seconds)));
            now += Duration::from_secs(seconds);
            assert_eq!(run(&mut introducer, now, Input::Tick).len(), 2, "both are asked again");
            assert_eq!(run(&mut introducer, now, nodes("a", &[])), [connected]);
        }
        for _ in 0..20 {
            now += LONGEST_PAUSE;
            assert_eq!(run(&mut introducer, now, nodes("a", &[])).len(), 1, "never more seldom than that");
        }
        // Together at last; when they are cut again, it is as if they never were.
        assert_eq!(run(&mut introducer, now, nodes("a", &["b"])), []);
        assert_eq!(run(&mut introducer, now, nodes("b", &[])), [connect("b", "a")]);
    }

    #[test]
    fn a_round_takes_longer_with_many_peers() {
        let (mut introducer, now) = (Introducer::new("us@h".into()), Instant::now());
        let many: BTreeSet<Arc<str>> = (0..1000).map(|i| Arc::from(format!("n{i}"))).collect();
        run(&mut introducer, now, Input::Peers { published: many, daemons: BTreeSet::new() });
        assert_eq!(introducer.next_deadline(), Some(now + 1000 * EACH));
    }

    #[test]
    fn whoever_has_gone_is_not_introduced() {
        let (mut introducer, now) = (Introducer::new("us@h".into()), Instant::now());
        run(&mut introducer, now, peers(&["a", "b"]));
        run(&mut introducer, now, peers(&["a"]));
        assert_eq!(run(&mut introducer, now, nodes("a", &[])), []);
        assert_eq!(run(&mut introducer, now, nodes("b", &[])), []);
        run(&mut introducer, now, peers(&[]));
        assert_eq!(introducer.next_deadline(), None);
    }

    #[test]
    fn each_node_is_looked_after_by_the_last_daemon_before_it() {
        let now = Instant::now();
        let daemons = ["hecate@a", "hecate@b", "hecate@d"];
        let all =
            ["hecate@a", "hecate@b", "hecate@d", "hecate_1@a", "hecate_1@b", "hecate_1@c", "hecate_0@d", "a@a", "z@d"];
        let mut asked = Vec::new();
        for us in daemons {
            let others = |from: &[&'static str]| from.iter().copied().filter(|name| *name != us).collect::<Vec<_>>();
            let mut introducer = Introducer::new(us.into());
            let out = run(&mut introducer, now, with_daemons(&others(&all), &others(&daemons)));
            let asks = |out: Vec<Effect>| -> Vec<String> {
                let name = |effect| match effect {
                    Effect::AskNodes(name) => name.to_string(),
                    other @ Effect::Connect { .. } => panic!("{other:?}"),
                };
                out.into_iter().map(name).collect()
            };
            let first = asks(out);
            // In one round of as many as there are daemons all are asked, in the others the same as at first.
            let rounds = (1..=daemons.len())
                .map(|n| asks(run(&mut introducer, now + ROUND * u32::try_from(n).unwrap(), Input::Tick)));
            let rounds: Vec<_> = rounds.collect();
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
    fn a_daemon_is_not_asked_to_connect_to_anybody() {
        let (mut introducer, mut now) = (Introducer::new("us@h".into()), Instant::now());
        let out = run(&mut introducer, now, with_daemons(&["a@i", "hecate@i", "hecate@j"], &["hecate@i", "hecate@j"]));
        assert_eq!(out, [ask("a@i"), ask("hecate@i")]);
        for _ in 0..2 {
            assert_eq!(run(&mut introducer, now, nodes("hecate@i", &["us@h"])), [connect("a@i", "hecate@i")]);
            now += LONGEST_PAUSE;
            assert_eq!(run(&mut introducer, now, nodes("a@i", &["us@h", "hecate@j"])), [connect("a@i", "hecate@i")]);
            now += LONGEST_PAUSE;
        }
    }
}
