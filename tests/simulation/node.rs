//! One node: the machine, and in a hecate-daemon what decides whom it dials and whom it introduces, joined as
//! `cluster::finder` and `cluster::task` join them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hecate_daemon::cluster::discovery::{self, Discovery, Outcome};
use hecate_daemon::cluster::introduce::{self, Introducer};
use hecate_daemon::cluster::membership::Told;
use hecate_daemon::etf::{Atom, Atoms, Raw, Reader, Term};
use hecate_daemon::node::machine::{Input, Machine, Parts, Token};
use hecate_daemon::node::process::{Answer, BadArg, Behaviour, Caller, Functions};
use hecate_daemon::node::services::pg::Watched;
use hecate_daemon::node::services::rpc::Function;
use hecate_daemon::node::view::{Peer, View};
use hecate_daemon::registry::Membership;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It finds others by itself, and introduces them.
    Daemon,
    /// It dials whom it is told to, as an Erlang node does.
    Plugin,
}

/// Whom peers have asked a plugin's node to connect to, until its machine has taken the message.
pub type Asked = Arc<Mutex<Vec<Arc<str>>>>;

/// The function of an Erlang node that a hecate-daemon calls and has not itself.
struct Erlang(Option<Asked>);

impl Functions for Erlang {
    fn call(&mut self, module: &Atom, name: &Atom, args: &[Term], _: &Caller) -> Option<Result<Answer, BadArg>> {
        match (&self.0, module.as_str(), name.as_str(), args) {
            (Some(asked), "net_kernel", "connect_node", [Term::Atom(to)]) => {
                asked.lock().expect("one thread").push(to.as_str().into());
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

/// What a hecate-daemon decides, and by which facts it last did.
pub struct Finder {
    discovery: Discovery,
    introducer: Introducer,
    told: Told,
    published: BTreeMap<Arc<str>, u64>,
    known: BTreeSet<Arc<str>>,
}

/// What a [`Finder`] wants of its node.
#[derive(Default)]
pub struct Wanted {
    pub dial: Vec<Arc<str>>,
    pub introduce: Vec<introduce::Effect>,
}

impl Finder {
    fn new(name: Arc<str>) -> Self {
        Self {
            discovery: Discovery::default(),
            introducer: Introducer::new(name),
            told: Told::default(),
            published: BTreeMap::new(),
            known: BTreeSet::new(),
        }
    }

    pub fn discover(&mut self, now: Instant, input: discovery::Input, wanted: &mut Wanted) {
        self.discovery.handle(now, input, &mut wanted.dial);
    }

    fn introduce(&mut self, now: Instant, input: introduce::Input, wanted: &mut Wanted) {
        self.introducer.handle(now, input, &mut wanted.introduce);
    }

    pub fn changed(&mut self, now: Instant, view: &View, wanted: &mut Wanted) {
        for news in self.told.news(view, |_| false) {
            match news {
                Membership::NodeUp { node, .. } => {
                    let published = view.peers.get(node.as_str()).is_some_and(Peer::is_published);
                    self.discover(now, discovery::Input::Up { name: node.into(), published }, wanted);
                }
                Membership::NodeDown { node, .. } => {
                    self.discover(now, discovery::Input::Down(node.into()), wanted);
                }
                Membership::Announced { .. } | Membership::Withdrawn { .. } | Membership::Settled => {}
            }
        }
        let learned = view.known.difference(&self.known).cloned().collect();
        self.discover(now, discovery::Input::Learned(learned), wanted);
        self.known.clone_from(&view.known);
        let published = view.peers.iter().filter(|(_, peer)| peer.is_published());
        let published: BTreeMap<Arc<str>, u64> =
            published.map(|(name, peer)| (name.clone(), peer.connection)).collect();
        let stayed = published.iter().filter(|(name, connection)| self.published.get(*name) == Some(connection));
        let stayed: BTreeSet<Arc<str>> = stayed.map(|(name, _)| name.clone()).collect();
        for published in [stayed, published.keys().cloned().collect()] {
            let daemons = published.intersection(&view.grouped).cloned().collect();
            self.introduce(now, introduce::Input::Peers { published, daemons }, wanted);
        }
        self.published = published;
    }

    pub fn nodes(&mut self, now: Instant, us: &Arc<str>, of: &Arc<str>, nodes: &Raw, wanted: &mut Wanted) {
        let mut table = Atoms::new();
        let mut r = Reader::new(nodes.bytes(), &mut table);
        let mut list = r.list().expect("a list of nodes");
        let mut nodes = BTreeSet::new();
        while r.more(&mut list).expect("a list of nodes") {
            nodes.insert(Arc::from(r.atom().expect("a node").as_str()));
        }
        let others = nodes.iter().filter(|name| *name != us).cloned().collect();
        self.discover(now, discovery::Input::Learned(others), wanted);
        self.introduce(now, introduce::Input::Nodes { of: of.clone(), nodes }, wanted);
    }

    pub fn time_passed(&mut self, now: Instant, wanted: &mut Wanted) {
        if self.discovery.next_deadline().is_some_and(|at| at <= now) {
            self.discover(now, discovery::Input::Tick, wanted);
        }
        if self.introducer.next_deadline().is_some_and(|at| at <= now) {
            self.introduce(now, introduce::Input::Tick, wanted);
        }
    }

    pub fn dialled(&mut self, now: Instant, name: Arc<str>, connected: bool, jitter: u8, wanted: &mut Wanted) {
        let outcome = if connected { Outcome::Connected } else { Outcome::Failed };
        self.discover(now, discovery::Input::Dialled { name, outcome, jitter }, wanted);
    }
}

/// A node.
pub struct Node {
    pub name: Arc<str>,
    pub kind: Kind,
    pub creation: u32,
    pub machine: Machine,
    pub finder: Finder,
    pub asked: Asked,
    /// Whose `nodes()` were asked for.
    pub calling: BTreeMap<Token, Arc<str>>,
    /// Whom the finder waits for.
    pub connecting: BTreeSet<Arc<str>>,
    /// A look at the machine's view is due.
    pub looking: bool,
}

impl Node {
    pub fn new(name: Arc<str>, kind: Kind, creation: u32) -> Self {
        let asked = Asked::default();
        let functions = (kind == Kind::Plugin).then(|| asked.clone());
        let machine = Machine::new(Parts {
            name: Atom::new(&name).expect("a name"),
            creation,
            scopes: vec![Atom::literal("pg")],
            watched: Watched { tag: Atom::literal("hecate_plugin"), group: Atom::literal("hecate_daemons") },
            functions: Box::new(Erlang(functions)),
            tick_time: Duration::from_secs(60),
            hidden: false,
        });
        Self {
            kind,
            creation,
            machine,
            finder: Finder::new(name.clone()),
            name,
            asked,
            calling: BTreeMap::new(),
            connecting: BTreeSet::new(),
            looking: false,
        }
    }
}

/// A process in these groups.
pub fn member(groups: Vec<Term>) -> Input {
    Input::Spawn { name: None, behaviour: Box::new(Member), groups, token: 0 }
}

/// `erlang:nodes()`
pub fn ask_nodes() -> Function {
    Function { module: "erlang", function: "nodes", args: Vec::new() }
}

/// `net_kernel:connect_node(To)`
pub fn connect_node(to: &str) -> Function {
    let to = Term::Atom(Atom::new(to).expect("a name"));
    Function { module: "net_kernel", function: "connect_node", args: vec![to] }
}
