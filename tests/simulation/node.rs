//! One node of the simulation: its machine and, in a hecate-daemon, the logic that dials and
//! introduces nodes. They are connected as in `cluster::peers::finder` and `cluster::task`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use beam::etf::{Atom, Atoms, Raw, Term};
use beam::name::NodeName;
use beam::node::Function;
use beam::node::Watched;
use beam::node::machine::{Machine, NodeInput, Parts, Token};
use beam::node::view::{Peer, View};
use beam::node::{Answer, BadArg, Behaviour, Caller, Functions};
use hecate_daemon::cluster::peers::introduce::{self, Introducer};
use hecate_daemon::cluster::peers::pg_protocol::PgProtocol;
use hecate_daemon::cluster::peers::redial::{self, Asked, Outcome, Redialer};
use hecate_daemon::cluster::peers::strategies::learned::{self, Learned};
use hecate_daemon::cluster::plugins::membership::MembershipTracker;
use hecate_daemon::registry::Membership;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It finds other nodes by itself, and introduces them.
    Daemon,
    /// It dials only nodes that it is asked to dial, like an Erlang node.
    Plugin,
}

/// The nodes that peers have asked a plugin's node to connect to, until its machine receives the
/// requests.
pub type Introduced = Arc<Mutex<Vec<NodeName>>>;

/// The function of an Erlang node that a hecate-daemon calls and does not offer itself.
struct Erlang(Option<Introduced>);

impl Functions for Erlang {
    fn call(&mut self, module: &Atom, name: &Atom, args: &[Term], _: &Caller) -> Option<Result<Answer, BadArg>> {
        match (&self.0, module.as_str(), name.as_str(), args) {
            (Some(introduced), "net_kernel", "connect_node", [Term::Atom(to)]) => {
                introduced.lock().expect("one thread").push(to.as_str().parse().unwrap());
                Some(Ok(Answer::Now(Term::atom("true"))))
            }
            _ => None,
        }
    }
}

struct Member;

impl Behaviour for Member {
    fn call(&mut self, _: &Raw, _: &Caller, _: &mut Atoms) -> Answer {
        Answer::Now(Term::atom("ok"))
    }

    fn state(&self) -> Term {
        Term::atom("state")
    }
}

/// The decisions of a hecate-daemon, and the facts that it last decided by.
pub struct Finder {
    redialer: Redialer,
    introducer: Introducer,
    tracker: MembershipTracker,
    learned: Learned,
}

/// The actions that a [`Finder`] requests from its node.
#[derive(Default)]
pub struct Wanted {
    pub dial: Vec<NodeName>,
    pub introduce: Vec<introduce::IntroducerEffect>,
    pub forget: Vec<NodeName>,
}

impl Finder {
    /// Makes a finder with this random seed.
    pub fn new(name: NodeName, random: u64) -> Self {
        Self {
            redialer: Redialer::new([Asked::Epmd], random),
            introducer: Introducer::new(name.clone()),
            tracker: MembershipTracker::new(0, BTreeSet::from([0])),
            learned: Learned::new(name),
        }
    }

    pub fn redial(&mut self, now: Instant, input: redial::RedialInput, wanted: &mut Wanted) {
        self.redialer.handle(now, input, &mut wanted.dial);
        wanted.forget.extend(self.redialer.forgotten(now));
    }

    fn introduce(&mut self, now: Instant, input: introduce::IntroducerInput, wanted: &mut Wanted) {
        self.introducer.handle(now, input, &mut wanted.introduce);
    }

    pub fn changed(&mut self, now: Instant, view: &View, wanted: &mut Wanted) {
        for news in self.tracker.news(view, |_| false) {
            match news {
                Membership::NodeUp { node, .. } => {
                    let published = view.peers.get(&node).is_some_and(Peer::is_published);
                    self.redial(now, redial::RedialInput::Up { name: node, published }, wanted);
                }
                Membership::NodeDown { node, .. } => {
                    let left = view.peers.get(&node).is_some_and(Peer::has_left);
                    self.redial(now, redial::RedialInput::Down { name: node, left }, wanted);
                }
                Membership::WantedNames { .. }
                | Membership::OwnNode { .. }
                | Membership::NodeRefused { .. }
                | Membership::NodeEnded { .. }
                | Membership::Announced { .. }
                | Membership::Withdrawn { .. }
                | Membership::Settled => {}
            }
        }
        let learned = self.learned.known(&view.known);
        self.redial(now, redial::RedialInput::Learned(learned), wanted);
        let absent = view.peers.iter().filter(|(_, peer)| !peer.is_up());
        let absent = absent.map(|(name, peer)| (name.clone(), peer.has_left())).collect();
        self.redial(now, redial::RedialInput::Absent(absent), wanted);
        let published = view.peers.iter().filter(|(_, peer)| peer.is_published());
        // All nodes of the simulation are ordinary nodes whose `global` responds.
        let connected = |peer: &Peer| introduce::Connected {
            connection: peer.connection,
            introducible: true,
            pg: Some(PgProtocol::Either),
        };
        let published: BTreeMap<_, _> = published.map(|(name, peer)| (name.clone(), connected(peer))).collect();
        let daemons = view.grouped.iter().filter(|name| published.contains_key(*name)).cloned().collect();
        self.introduce(now, introduce::IntroducerInput::Peers { published, daemons }, wanted);
    }

    pub fn nodes(&mut self, now: Instant, (of, asked): &(NodeName, u64), answer: &Raw, wanted: &mut Wanted) {
        let nodes = learned::nodes(answer).expect("a list of nodes");
        self.redial(now, redial::RedialInput::Learned(self.learned.connected(&nodes)), wanted);
        self.introduce(now, introduce::IntroducerInput::Nodes { of: of.clone(), asked: *asked, nodes }, wanted);
    }

    pub fn time_passed(&mut self, now: Instant, wanted: &mut Wanted) {
        if self.redialer.next_deadline().is_some_and(|at| at <= now) {
            self.redial(now, redial::RedialInput::Tick, wanted);
        }
        if self.introducer.next_deadline().is_some_and(|at| at <= now) {
            self.introduce(now, introduce::IntroducerInput::Tick, wanted);
        }
    }

    pub fn dialled(&mut self, now: Instant, name: NodeName, connected: bool, wanted: &mut Wanted) {
        let outcome = if connected { Outcome::Connected } else { Outcome::Failed };
        self.redial(now, redial::RedialInput::Dialled { name, outcome }, wanted);
    }
}

pub struct Node {
    pub name: NodeName,
    pub kind: Kind,
    pub creation: u32,
    pub machine: Machine,
    pub finder: Finder,
    pub introduced: Introduced,
    /// The pending calls of `nodes()`, each with its node and its number.
    pub calling: BTreeMap<Token, (NodeName, u64)>,
    /// The nodes that the finder is connecting to.
    pub connecting: BTreeSet<NodeName>,
    /// Whether the finder is due to look at the machine's view.
    pub looking: bool,
}

impl Node {
    pub fn new(name: NodeName, kind: Kind, creation: u32, random: u64) -> Self {
        let introduced = Introduced::default();
        let functions = (kind == Kind::Plugin).then(|| introduced.clone());
        let machine = Machine::new(Parts {
            name: name.clone(),
            creation,
            scopes: vec![Atom::literal("pg")],
            watched: Watched { tag: Atom::literal("hecate_plugin"), group: Atom::literal("hecate_daemons") },
            functions: Box::new(Erlang(functions)),
            tick_time: Duration::from_secs(60),
            memory: || None,
            program: hecate_daemon::cluster::peers::questions::PROGRAM,
            hidden: false,
        });
        Self {
            kind,
            creation,
            machine,
            finder: Finder::new(name.clone(), random),
            name,
            introduced,
            calling: BTreeMap::new(),
            connecting: BTreeSet::new(),
            looking: false,
        }
    }
}

/// Spawns a process in these groups.
pub fn member(groups: Vec<Term>) -> NodeInput {
    NodeInput::Spawn { name: None, behaviour: Box::new(Member), groups, token: 0 }
}

/// Returns `erlang:nodes()`.
pub fn ask_nodes() -> Function {
    Function { module: Atom::literal("erlang"), function: Atom::literal("nodes"), args: Vec::new() }
}

/// Returns `net_kernel:connect_node(To)`.
pub fn connect_node(to: &str) -> Function {
    let to = Term::Atom(Atom::new(to).expect("a name"));
    Function { module: Atom::literal("net_kernel"), function: Atom::literal("connect_node"), args: vec![to] }
}
