//! Introduces our peers to each other, so that they mesh as they would around an Erlang node.
//!
//! `global` meshes the nodes that it knows, but it cannot know us (see
//! `beam::node::services::global`), and pg is not transitive. So when two published peers arrive
//! and are not connected to each other, we ask one of them to connect to the other. We ask again
//! until the two are connected. Hidden peers are never introduced.
//!
//! The administrator's decisions have precedence:
//! - We introduce only nodes whose `global` has greeted ours. A node with `connect_all false`, or
//!   in a global group without us, sends no greeting. A connection from it to an ordinary node
//!   would make `global:sync/0` hang on both.
//! - We do not introduce a node that closed its connection to us cleanly, as `global:disconnect/0`
//!   does, if we have dialled it since. We introduce it again when it dials us, or after its
//!   restart.
//! - We introduce a pair once for each connection of the two to us. If the two disconnect later, we
//!   assume that the administrator wanted that.
//!
//! The hecate-daemons of a cluster share this work without messages. In the order of hosts and
//! names, the last daemon before a node looks after the node. The order is circular: the first name
//! follows the last. On a host with a daemon, the host's own daemon looks after the nodes. We never
//! ask a daemon to connect, because it connects to every node that it learns of. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use beam::name::NodeName;

use crate::cluster::peers::pg_protocol::{Contacts, PgProtocol};

/// The interval at which each peer that we look after is asked for its connected nodes.
const ROUND: Duration = Duration::from_secs(5);
/// The minimum length of a round, for each peer.
const EACH: Duration = Duration::from_millis(10);
/// The pause after the first introduction of a pair. Then we ask whether the two are connected.
/// Each further introduction doubles the pause.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two introductions of a pair, which may be unable to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A peer may be connected to nodes that we do not know yet. For this time after its arrival, it is
/// not introduced to peers whose `pg` is old or new.
const UNKNOWN_TIME: Duration = Duration::from_secs(10);

/// An input of [`Introducer::handle`].
#[derive(Debug)]
pub enum IntroducerInput {
    /// The peers that are connected now.
    Peers {
        /// The published peers.
        published: BTreeMap<NodeName, Connected>,
        /// The published peers that are hecate-daemons.
        daemons: BTreeSet<NodeName>,
    },
    /// The answer of a peer to [`IntroducerEffect::AskNodes`].
    Nodes {
        /// The peer.
        of: NodeName,
        /// The number of the request.
        asked: u64,
        /// The nodes that it is connected to.
        nodes: BTreeSet<NodeName>,
    },
    /// Time has passed.
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
    /// The protocol of its `pg`. Without it, the peer is not introduced yet.
    pub pg: Option<PgProtocol>,
}

/// An effect of the introducer.
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
    /// Log that these two, and others with the same protocols, are not introduced, because the `pg`
    /// of the first one would exit.
    KeepApart {
        /// A peer whose `pg` is old.
        old: NodeName,
        /// A peer whose `pg` is new.
        new: NodeName,
    },
}

/// A published peer.
#[derive(Debug)]
struct Candidate {
    connection: u64,
    introducible: bool,
    pg: PgProtocol,
    /// The nodes that it was connected to when it answered last, if it has.
    contacts: Option<Contacts>,
    /// The time of its last arrival.
    arrived_at: Instant,
    /// The number of its last arrival. A peer arrives when it connects, and when it becomes
    /// introducible.
    arrived: u64,
    /// The number of arrivals at the time of the last request that the peer answered; 0 before its
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
    /// Pairs in name order that must be introduced, or that were introduced but not yet seen
    /// connected. Each has the time of its next introduction and the number of its introductions so
    /// far.
    apart: BTreeMap<(NodeName, NodeName), (Instant, u32)>,
    next_round: Option<Instant>,
    rounds: usize,
    /// Whether there are peers that must not connect to each other.
    keeps_apart: bool,
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
            keeps_apart: false,
        }
    }

    /// Handles an input, and appends the effects to `out`.
    pub fn handle(&mut self, now: Instant, input: IntroducerInput, out: &mut Vec<IntroducerEffect>) {
        match input {
            IntroducerInput::Peers { published, daemons } => self.changed(now, published, daemons, out),
            IntroducerInput::Nodes { of, asked, nodes } => self.nodes(now, &of, asked, &nodes, out),
            IntroducerInput::Tick => {
                if self.next_round.is_some_and(|at| at <= now) {
                    self.next_round = Some(now + self.round());
                    self.rounds = self.rounds.wrapping_add(1);
                    // Some rounds ask all peers: the daemon that looks after a peer may not be
                    // connected to it.
                    let all = self.rounds.is_multiple_of(self.daemons.len() + 1);
                    let asked = self.peers.keys().filter(|peer| all || self.looks_after(peer));
                    out.extend(asked.map(|of| IntroducerEffect::AskNodes { of: of.clone(), asked: self.arrivals }));
                }
            }
        }
    }

    /// Returns when [`IntroducerInput::Tick`] is due.
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
        for (name, Connected { connection, introducible, pg }) in published {
            let is_daemon = self.daemons.contains(&name);
            let introducible = is_daemon || (introducible && pg.is_some());
            let pg = if is_daemon { PgProtocol::Either } else { pg.unwrap_or(PgProtocol::Either) };
            let peer = match before.remove(&name).filter(|peer| peer.connection == connection) {
                Some(peer) if peer.introducible || !introducible => Candidate { pg, ..peer },
                _ => {
                    self.arrivals += 1;
                    let (arrived, contacts, answered) = (self.arrivals, None, 0);
                    Candidate { connection, introducible, pg, contacts, arrived_at: now, arrived, answered }
                }
            };
            self.peers.insert(name, peer);
        }
        self.look_for_mixed_releases(out);
        let stays = |name: &NodeName| self.peers.get(name).is_some_and(|peer| peer.arrived <= arrivals);
        self.apart.retain(|(a, b), _| stays(a) && stays(b));
        let asked = self.peers.iter().filter(|(name, peer)| peer.arrived > arrivals && self.looks_after(name));
        out.extend(asked.map(|(of, _)| IntroducerEffect::AskNodes { of: of.clone(), asked: self.arrivals }));
        // A single peer is asked as well: it may know nodes that we do not know.
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
        let contacts = self.contacts(of, nodes);
        // An answer does not cover connections that are newer than its request.
        let Some(peer) = self.peers.get_mut(of).filter(|peer| peer.introducible && peer.arrived <= asked) else {
            return;
        };
        peer.contacts = Some(contacts);
        let Some(peer) = self.peers.get(of) else { return };
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
            if !self.may_meet(now, (of, peer), (name, other)) {
                self.apart.insert(pair, (now, times));
                continue;
            }
            // Asks the two in turn, because perhaps only one can reach the other or accepts our
            // call.
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

    /// Returns the protocols of the nodes to which `of` is connected.
    fn contacts(&self, of: &NodeName, nodes: &BTreeSet<NodeName>) -> Contacts {
        let others = nodes.iter().filter(|name| **name != self.us && *name != of);
        Contacts::of(others.map(|name| self.peers.get(name).map(|peer| peer.pg)))
    }

    /// Adds an effect when the first two peers arrive that must not connect.
    fn look_for_mixed_releases(&mut self, out: &mut Vec<IntroducerEffect>) {
        let first = |pg| self.peers.iter().find(|(_, peer)| peer.introducible && peer.pg == pg).map(|(name, _)| name);
        let mixed = first(PgProtocol::Old).zip(first(PgProtocol::New));
        if let Some((old, new)) = mixed.filter(|_| !self.keeps_apart) {
            out.push(IntroducerEffect::KeepApart { old: old.clone(), new: new.clone() });
        }
        self.keeps_apart = mixed.is_some();
    }

    /// Returns whether two peers may connect without danger to the `pg` of either, or of a node
    /// that either is connected to.
    fn may_meet(&self, now: Instant, one: (&NodeName, &Candidate), other: (&NodeName, &Candidate)) -> bool {
        let side = |(name, peer): (&NodeName, &Candidate)| match peer.contacts.map(|contacts| contacts.with(peer.pg)) {
            // A daemon is connected to all nodes, but does not connect them to each other.
            _ if self.daemons.contains(name) => Contacts::default(),
            None if self.keeps_apart => Contacts { old: true, new: true, unknown: true },
            None => Contacts::default().with(peer.pg),
            Some(contacts) => {
                // A node that could join either side joins the new one.
                let joins_new = self.keeps_apart && !contacts.old;
                let unknown = contacts.unknown && now < peer.arrived_at + UNKNOWN_TIME;
                Contacts { new: contacts.new || joins_new, unknown, ..contacts }
            }
        };
        !side(one).endangers(side(other))
    }

    /// Returns whether no other daemon is between us and this node in the order of hosts and names.
    fn looks_after(&self, node: &NodeName) -> bool {
        let (us, node) = (place(&self.us), place(node));
        let between = |daemon| if us < node { us < daemon && daemon < node } else { us < daemon || daemon < node };
        !self.daemons.iter().any(|daemon| between(place(daemon)))
    }

    fn round(&self) -> Duration {
        ROUND.max(EACH.saturating_mul(u32::try_from(self.peers.len()).unwrap_or(u32::MAX)))
    }
}

/// Returns the sort key of a node: its host, then its name.
fn place(node: &NodeName) -> (&str, &str) {
    (node.host(), node.short_name())
}

#[cfg(test)]
mod tests;
