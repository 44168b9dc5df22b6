//! Finds peers and introduces them to each other: asks EPMD and the peers, and carries out what [`Discovery`] and
//! [`Introducer`] decide.
//!
//! It decides nothing itself, and owns nothing that can't be asked again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;
use tracing::debug;

use crate::cluster::discovery::{self, Discovery, Outcome};
use crate::cluster::introduce::{self, Introducer};
use crate::epmd::client as epmd;
use crate::etf::{Atom, Atoms, Raw, Reader, Term};
use crate::limits;
use crate::log::limit::{self, limited};
use crate::node::dial::{DialError, Dialling};
use crate::node::handle::{Handle, Stopped};
use crate::node::services::rpc::{CallError, Function};
use crate::node::view::{Peer, View};

/// Something that was asked has been answered.
enum Done {
    Names(Result<Vec<(String, u16)>, epmd::Error>),
    Dialled(Arc<str>, Result<Result<(), Arc<DialError>>, Stopped>),
    Nodes(Arc<str>, Result<Result<Raw, CallError>, Stopped>),
    Introduced,
}

/// What finds our peers.
pub struct Finder {
    /// Our full name.
    name: Arc<str>,
    node: Handle,
    dialling: Dialling,
    /// Whether peers that are apart are asked to connect to each other.
    introduces: bool,
    /// The published peers, each with the number of its connection.
    published: BTreeMap<Arc<str>, u64>,
    /// What the node's view had as known when it was looked at last.
    known: BTreeSet<Arc<str>>,
    discovery: Discovery,
    introducer: Introducer,
    work: JoinSet<Done>,
    asking_names: bool,
}

impl Finder {
    /// One for the node of this name, which begins with the peers that were configured.
    #[must_use]
    pub fn new(name: Arc<str>, node: Handle, dialling: Dialling, introduces: bool, configured: &[String]) -> Self {
        let mut finder = Self {
            name,
            node,
            dialling,
            introduces,
            published: BTreeMap::new(),
            known: BTreeSet::new(),
            discovery: Discovery::default(),
            introducer: Introducer::default(),
            work: JoinSet::new(),
            asking_names: false,
        };
        let configured = configured.iter().map(|peer| Arc::from(peer.as_str())).collect();
        finder.discover(discovery::Input::Configured(configured));
        finder
    }

    /// Whether everything that could be found at the start has been tried once.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.discovery.settled()
    }

    /// A node has connected, whoever dialled.
    pub fn up(&mut self, name: &str, view: &View) {
        let published = view.peers.get(name).is_some_and(Peer::is_published);
        self.discover(discovery::Input::Up { name: name.into(), published });
    }

    /// A node is no longer connected.
    pub fn down(&mut self, name: &str) {
        self.discover(discovery::Input::Down(name.into()));
    }

    /// What the node sees has changed.
    pub fn changed(&mut self, view: &View) {
        let learned = view.known.difference(&self.known).cloned().collect();
        self.discover(discovery::Input::Learned(learned));
        self.known.clone_from(&view.known);
        let published = view.peers.iter().filter(|(_, peer)| peer.is_published());
        let published: BTreeMap<Arc<str>, u64> =
            published.map(|(name, peer)| (name.clone(), peer.connection)).collect();
        // A peer that was away in between is a new one.
        let stayed = published.iter().filter(|(name, connection)| self.published.get(*name) == Some(connection));
        let stayed = stayed.map(|(name, _)| name.clone()).collect();
        self.introduce(introduce::Input::Peers(stayed));
        self.introduce(introduce::Input::Peers(published.keys().cloned().collect()));
        self.published = published;
    }

    /// Asks this host's EPMD for its names, unless it still owes an answer.
    pub fn ask_names(&mut self, epmd: SocketAddr) {
        if !std::mem::replace(&mut self.asking_names, true) {
            self.work.spawn(async move { Done::Names(epmd::names(epmd).await) });
        }
    }

    /// When [`Self::time_passed`] is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        [self.discovery.next_deadline(), self.introducer.next_deadline()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn time_passed(&mut self) {
        self.discover(discovery::Input::Tick);
        self.introduce(introduce::Input::Tick);
    }

    /// Waits for an answer to something that was asked, and goes on from it; for ever while nothing is being asked. May
    /// be dropped at any time.
    pub async fn step(&mut self) {
        match self.work.join_next().await {
            Some(Ok(done)) => self.done(done),
            // Which one has panicked isn't told: none may be waited for for ever.
            Some(Err(_)) => self.asking_names = false,
            None => std::future::pending().await,
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Names(result) => {
                self.asking_names = false;
                match result {
                    Ok(names) => self.found(names),
                    Err(e) => {
                        debug!("names of this host: {e}");
                        self.discovery.epmd_unavailable();
                    }
                }
            }
            Done::Dialled(name, result) => {
                let again = self.discovery.has_failed(&name);
                let outcome = outcome(&self.dialling, &name, result, again);
                let jitter = getrandom::u32().map_or(0, |random| random.to_le_bytes()[0]);
                self.discover(discovery::Input::Dialled { name, outcome, jitter });
            }
            Done::Introduced => {}
            Done::Nodes(of, result) => {
                if let Ok(Ok(nodes)) = result
                    && let Ok(nodes) = atoms(&nodes)
                {
                    let others = nodes.iter().filter(|name| **name != self.name).cloned().collect();
                    self.discover(discovery::Input::Learned(others));
                    self.introduce(introduce::Input::Nodes { of, nodes });
                }
            }
        }
    }

    /// Names in this host's EPMD: those that look like ours are dialled, others are other people's.
    fn found(&mut self, names: Vec<(String, u16)>) {
        let host = self.name.rsplit('@').next().unwrap_or_default();
        let full = |(short, port): (String, u16)| (Arc::from(format!("{short}@{host}")), port);
        let ours = names.into_iter().filter(|(short, _)| short.starts_with("hecate")).map(full);
        let names = ours.filter(|(name, _): &(Arc<str>, u16)| *name != self.name).collect();
        self.discover(discovery::Input::Epmd(names));
    }

    fn discover(&mut self, input: discovery::Input) {
        let mut dial = Vec::new();
        self.discovery.handle(Instant::now(), input, &mut dial);
        for name in dial {
            let node = self.node.clone();
            self.work.spawn(async move {
                let result = node.connect(name.clone()).await;
                Done::Dialled(name, result)
            });
        }
    }

    fn introduce(&mut self, input: introduce::Input) {
        if !self.introduces {
            return;
        }
        let mut effects = Vec::new();
        self.introducer.handle(Instant::now(), input, &mut effects);
        for effect in effects {
            let node = self.node.clone();
            match effect {
                introduce::Effect::AskNodes(of) => {
                    let nodes = Function { module: "erlang", function: "nodes", args: Vec::new() };
                    self.work.spawn(async move { Done::Nodes(of.clone(), node.call(of, nodes).await) });
                }
                introduce::Effect::Connect { on, to } => {
                    let Ok(to) = Atom::new(&to) else { continue };
                    debug!(%on, %to, "introducing");
                    let connect =
                        Function { module: "net_kernel", function: "connect_node", args: vec![Term::Atom(to)] };
                    self.work.spawn(async move {
                        let _ = node.cast(on, connect).await;
                        Done::Introduced
                    });
                }
            }
        }
    }
}

/// What a failure means for the next attempt. One of several in a row is worth a line of the log: the first.
fn outcome(
    dialling: &Dialling,
    name: &Arc<str>,
    result: Result<Result<(), Arc<DialError>>, Stopped>,
    again: bool,
) -> Outcome {
    let error = match result {
        Ok(Ok(())) => return Outcome::Connected,
        Ok(Err(error)) => error,
        Err(Stopped) => return Outcome::Failed,
    };
    match error.calls_itself() {
        // "A node that answers under `x@localhost` is redialled under that name."
        Some(other) if dialling.is_here(other) && other.split('@').next() == name.split('@').next() => {
            return Outcome::CallsItself(other.clone());
        }
        _ => {}
    }
    match error.code() {
        // Another user's node: nothing is wrong, and nothing is to be done.
        code @ "foreign_owner" => {
            debug!(peer = %name, code, "not connected: {error}");
            Outcome::Refused
        }
        code @ ("cookie_mismatch" | "flags_missing" | "name_mismatch" | "not_allowed") => {
            limited!(limit::DIALS, warn, peer = %name, code, "not connected: {error}; tried again when it is started anew, or in 5 minutes");
            Outcome::Refused
        }
        // Of two attempts that meet, the peer's goes on: in a moment there is a connection.
        code if again || code == "simultaneous" => {
            debug!(peer = %name, code, "not connected: {error}");
            Outcome::Failed
        }
        code => {
            limited!(limit::DIALS, info, peer = %name, code, "not connected: {error}; tried again from time to time");
            Outcome::Failed
        }
    }
}

/// A list of atoms, at most [`limits::KNOWN_NODES`] of them.
fn atoms(list: &Raw) -> Result<BTreeSet<Arc<str>>, crate::etf::DecodeError> {
    let mut table = Atoms::new();
    let mut r = Reader::new(list.bytes(), &mut table);
    let mut elements = r.list()?;
    let mut atoms = BTreeSet::new();
    while r.more(&mut elements)? {
        let atom = r.atom()?;
        if atoms.len() < limits::KNOWN_NODES {
            atoms.insert(Arc::from(atom.as_str()));
        }
    }
    Ok(atoms)
}
