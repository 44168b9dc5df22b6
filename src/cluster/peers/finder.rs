//! Finds peers and introduces them to each other. Asks EPMD, DNS and the peers for
//! [`super::strategies`], and executes the decisions of [`Redialer`] and [`Introducer`].
//!
//! It makes no decisions, and keeps only state that it can ask for again.

mod dns_query;
mod failures;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use beam::connect::dial::{DialError, Dialer};
use beam::connect::resolve;
use beam::epmd::client as epmd;
use beam::etf::{Atom, Raw, Term};
use beam::limited;
use beam::name::{NamePattern, NodeName};
use beam::node::handle::{Handle, Stopped};
use beam::node::view::{Peer, View};
use beam::node::{CallError, Function};
use tokio::task::JoinSet;
use tracing::debug;

use crate::cluster::peers::finder::dns_query::DnsQuery;
use crate::cluster::peers::introduce::{self, Introducer};
use crate::cluster::peers::pg_protocol::PgProtocol;
use crate::cluster::peers::records::{PeerAnswer, PeerRecord, PeerRecords};
use crate::cluster::peers::redial::{self, Asked, Outcome, Redialer};
use crate::cluster::peers::strategies::epmd::Epmd;
use crate::cluster::peers::strategies::learned::{self, Learned};
use crate::cluster::peers::strategies::peers;
use crate::cluster::view::Introduction;
use crate::log::limit;

/// A finished request.
enum Done {
    Names(Result<Vec<(String, u16)>, epmd::Error>),
    Addresses(io::Result<Vec<IpAddr>>),
    Dialled(NodeName, Result<Result<(), Arc<DialError>>, Stopped>),
    /// The answer of a peer to the request with this number.
    Nodes(NodeName, u64, Result<Result<Raw, CallError>, Stopped>),
    /// A request without an answer.
    Sent,
}

/// Which peers to find, and whether to introduce them.
#[derive(Debug, Clone)]
pub struct FinderSettings {
    /// Full names of nodes to connect to.
    pub peers: Vec<NodeName>,
    /// A DNS name with the addresses of other daemons.
    pub dns: Option<String>,
    /// The names in this host's EPMD to connect to.
    pub epmd_names: Vec<NamePattern>,
    /// Whether to introduce peers to each other.
    pub introduce: bool,
}

/// Finds our peers.
pub struct Finder {
    node: Handle,
    dialer: Dialer,
    introduces: bool,
    epmd: Epmd,
    learned: Learned,
    dns: Option<DnsQuery>,
    redialer: Redialer,
    /// The results of the attempts that `redialer` decides on.
    records: PeerRecords,
    introducer: Introducer,
    work: JoinSet<Done>,
    asking_names: bool,
    /// EPMD's last answer: short names and ports.
    names: BTreeMap<String, u16>,
    /// Whether the nodes of plugins have changed since `names` was compared with them.
    is_stale: bool,
    /// The nodes of plugins that were missing from `names`.
    missing: BTreeSet<NodeName>,
    touched: Vec<NodeName>,
    /// Whether something has changed that the cluster's view shows.
    has_changed: bool,
    /// EPMD's last answer, until [`Self::take_epmd_answer`] takes it.
    epmd_answer: Option<Result<(), epmd::Error>>,
}

impl Finder {
    /// Returns the finder of the node `name`, which begins with the configured peers.
    #[must_use]
    pub fn new(name: NodeName, node: Handle, dialer: Dialer, settings: &FinderSettings) -> Self {
        let now = Instant::now();
        let dns = settings.dns.clone().map(|host| DnsQuery::new(host, name.clone(), now));
        let asked = [Asked::Epmd].into_iter().chain(dns.is_some().then_some(Asked::Dns));
        let mut finder = Self {
            node,
            dialer,
            introduces: settings.introduce,
            epmd: Epmd::new(name.clone(), settings.epmd_names.clone()),
            learned: Learned::new(name.clone()),
            dns,
            redialer: Redialer::new(asked, getrandom::u64().unwrap_or_default()),
            records: PeerRecords::default(),
            introducer: Introducer::new(name.clone()),
            work: JoinSet::new(),
            asking_names: false,
            names: BTreeMap::new(),
            is_stale: true,
            missing: BTreeSet::new(),
            touched: Vec::new(),
            has_changed: true,
            epmd_answer: None,
        };
        let peers = peers::found(&settings.peers, |other| finder.dialer.is_same_node(&name, other));
        finder.redial(redial::RedialInput::Configured(peers));
        finder
    }

    /// Returns whether every node that could be found at the start has been tried once.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.redialer.settled()
    }

    /// A node has connected; either side may have dialled.
    pub fn up(&mut self, name: &NodeName, view: &View) {
        let peer = view.peers.get(name);
        let published = peer.is_some_and(Peer::is_published);
        if peer.is_some_and(Peer::has_dialled) {
            self.introduced(std::slice::from_ref(name), &Introduction::Itself);
        }
        self.records.connected(name);
        self.redial(redial::RedialInput::Up { name: name.clone(), published });
    }

    /// A node is no longer connected.
    pub fn down(&mut self, name: &NodeName, view: &View) {
        let left = view.peers.get(name).is_some_and(Peer::has_left);
        self.redial(redial::RedialInput::Down { name: name.clone(), left });
    }

    /// Our node has another view.
    pub fn changed(&mut self, view: &View, pg: impl Fn(&NodeName) -> Option<PgProtocol>) {
        let learned = self.learned.known(&view.known);
        self.redial(redial::RedialInput::Learned(learned));
        let absent = view.peers.iter().filter(|(_, peer)| !peer.is_up());
        let absent = absent.map(|(name, peer)| (name.clone(), peer.has_left())).collect();
        self.redial(redial::RedialInput::Absent(absent));
        self.introducible(view, pg);
    }

    /// Passes the present peers to the introducer. `pg` returns the protocol of a peer's `pg`, if
    /// it is known.
    pub fn introducible(&mut self, view: &View, pg: impl Fn(&NodeName) -> Option<PgProtocol>) {
        let published = view.peers.iter().filter(|(_, peer)| peer.is_published());
        let connected = |(name, peer): (&NodeName, &Peer)| {
            let introducible = view.introducible.contains(name);
            (name.clone(), introduce::Connected { connection: peer.connection, introducible, pg: pg(name) })
        };
        let published: BTreeMap<_, _> = published.map(connected).collect();
        let daemons = view.grouped.iter().filter(|name| published.contains_key(*name)).cloned().collect();
        self.introduce(introduce::IntroducerInput::Peers { published, daemons });
    }

    /// Plugins have registered these nodes, which are found even if no pattern matches their names.
    pub fn plugins(&mut self, nodes: BTreeSet<NodeName>) {
        self.epmd.plugins(nodes);
        // The next answer of EPMD is compared with them, even if it is the same.
        self.is_stale = true;
    }

    /// Returns the record of a node, and whether its name is missing from EPMD.
    pub fn known(&self, name: &str) -> (Option<&PeerRecord>, bool) {
        (self.records.of(name), self.missing.contains(name))
    }

    /// Returns the nodes whose [`Self::known`] may have changed since the last call.
    pub fn take_touched(&mut self) -> Vec<NodeName> {
        std::mem::take(&mut self.touched)
    }

    /// Returns whether something that the cluster's view shows may have changed since the last
    /// call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// Returns whether EPMD answered, once for each request.
    pub fn take_epmd_answer(&mut self) -> Option<Result<(), epmd::Error>> {
        self.epmd_answer.take()
    }

    /// Compares EPMD's answer with the nodes of plugins.
    fn compare(&mut self, names: &[(String, u16)]) {
        let names = names.iter().cloned().collect();
        if std::mem::take(&mut self.is_stale) || self.names != names {
            let missing = self.epmd.missing(&names, |node| self.dialer.is_here(node));
            self.touched.extend(missing.symmetric_difference(&self.missing).cloned());
            self.missing = missing;
            self.names = names;
            self.has_changed = true;
        }
    }

    /// Returns the port of a node of this host according to EPMD's last answer.
    #[must_use]
    pub fn port_of(&self, node: &NodeName) -> Option<u16> {
        self.names.get(node.short_name()).copied().filter(|_| self.dialer.is_here(node))
    }

    /// Returns the nodes of this host that EPMD has and that failed to connect, each with its port
    /// and its record.
    pub fn failed_here(&self) -> impl Iterator<Item = (&NodeName, u16, &PeerRecord)> {
        let failed = self.records.iter().filter(|(_, record)| record.last_failure.is_some());
        failed.filter_map(|(name, record)| Some((name, self.port_of(name)?, record)))
    }

    /// Asks this host's EPMD for its names, unless a request is already under way.
    pub fn ask_names(&mut self, epmd: SocketAddr) {
        if !std::mem::replace(&mut self.asking_names, true) {
            self.work.spawn(async move { Done::Names(epmd::names(epmd).await) });
        }
    }

    /// Returns when [`Self::time_passed`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let dns = self.dns.as_ref().and_then(DnsQuery::next_deadline);
        [self.redialer.next_deadline(), self.introducer.next_deadline(), dns].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn time_passed(&mut self) {
        self.redial(redial::RedialInput::Tick);
        self.introduce(introduce::IntroducerInput::Tick);
        if let Some(host) = self.dns.as_mut().and_then(|dns| dns.begin(Instant::now())) {
            self.work.spawn(async move { Done::Addresses(resolve::addresses(&host).await) });
        }
    }

    /// Waits for the end of a request, and handles its answer. Waits forever while there is no
    /// request. The future may be dropped at any time.
    pub async fn step(&mut self) {
        match self.work.join_next().await {
            Some(Ok(done)) => self.done(done),
            // The error does not show which request panicked, so all of them may be sent again.
            Some(Err(_)) => {
                self.asking_names = false;
                if let Some(dns) = &mut self.dns {
                    dns.ask_again(Instant::now());
                }
            }
            None => std::future::pending().await,
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Names(result) => {
                self.asking_names = false;
                match result {
                    Ok(names) => {
                        self.epmd_answer = Some(Ok(()));
                        self.compare(&names);
                        self.redial(redial::RedialInput::Epmd(self.epmd.found(names)));
                    }
                    Err(e) => {
                        debug!("names of this host: {e}");
                        self.epmd_answer = Some(Err(e));
                        self.redial(redial::RedialInput::Unanswered(Asked::Epmd));
                    }
                }
            }
            Done::Addresses(result) => {
                if let Some(dns) = &mut self.dns {
                    let input = dns.answered(Instant::now(), result);
                    self.redial(input);
                }
            }
            Done::Dialled(name, result) => {
                self.records.dialled(&name, failures::failure(&result));
                self.touched.push(name.clone());
                let outcome = self.outcome(&name, result);
                if let Outcome::CallsItself(other) = &outcome {
                    self.records.calls_itself(SystemTime::now(), &name, other.clone());
                }
                self.redial(redial::RedialInput::Dialled { name, outcome });
            }
            Done::Sent => {}
            Done::Nodes(of, asked, result) => {
                if let Ok(Ok(answer)) = result
                    && let Ok(nodes) = learned::nodes(&answer)
                {
                    let others = self.learned.connected(&nodes);
                    self.introduced(&others, &Introduction::Peer(of.clone()));
                    self.redial(redial::RedialInput::Learned(others));
                    self.introduce(introduce::IntroducerInput::Nodes { of, asked, nodes });
                }
            }
        }
    }

    fn introduced(&mut self, names: &[NodeName], by: &Introduction) {
        self.records.introduced(SystemTime::now(), names.iter().cloned(), by);
    }

    /// Forgets the nodes that are neither wanted nor in `view`.
    pub fn forget(&mut self, view: &View) {
        let redialer = &self.redialer;
        let forgotten = self.records.keep(|name| redialer.wants(name) || view.peers.contains_key(name));
        self.touched.extend(forgotten);
    }

    /// A peer has answered a request about itself.
    pub fn answered(&mut self, name: &NodeName, answer: PeerAnswer) {
        self.records.answered(name, answer);
        self.has_changed = true;
    }

    /// Returns the records of all nodes.
    pub fn records(&self) -> &PeerRecords {
        &self.records
    }

    fn redial(&mut self, input: redial::RedialInput) {
        match &input {
            redial::RedialInput::Epmd(names) => {
                let names: Vec<NodeName> = names.iter().map(|(name, _)| name.clone()).collect();
                self.introduced(&names, &Introduction::Epmd);
            }
            redial::RedialInput::Configured(names) => self.introduced(names, &Introduction::Configuration),
            redial::RedialInput::Dns(names) => self.introduced(names, &Introduction::Dns),
            // If one peer named the nodes, `done` has recorded that peer before.
            redial::RedialInput::Learned(names) => self.introduced(names, &Introduction::Peers),
            _ => {}
        }
        // EPMD is polled, and `compare` detects whether its answer has changed.
        let is_routine = matches!(input, redial::RedialInput::Tick | redial::RedialInput::Epmd(_));
        let (now, mut dial) = (Instant::now(), Vec::new());
        self.redialer.handle(now, input, &mut dial);
        self.has_changed |= !is_routine || !dial.is_empty();
        let forgotten = self.redialer.forgotten(now);
        if !forgotten.is_empty() {
            let node = self.node.clone();
            self.work.spawn(async move {
                let _ = node.forget(forgotten).await;
                Done::Sent
            });
        }
        for name in dial {
            self.records.dialling(SystemTime::now(), &name);
            let node = self.node.clone();
            self.work.spawn(async move {
                let result = node.connect(name.clone()).await;
                Done::Dialled(name, result)
            });
        }
    }

    fn introduce(&mut self, input: introduce::IntroducerInput) {
        if !self.introduces {
            return;
        }
        let mut effects = Vec::new();
        self.introducer.handle(Instant::now(), input, &mut effects);
        for effect in effects {
            let node = self.node.clone();
            match effect {
                introduce::IntroducerEffect::AskNodes { of, asked } => {
                    let nodes = Function {
                        module: Atom::literal("erlang"),
                        function: Atom::literal("nodes"),
                        args: Vec::new(),
                    };
                    self.work.spawn(async move { Done::Nodes(of.clone(), asked, node.call(of, nodes).await) });
                }
                introduce::IntroducerEffect::KeepApart { old, new } => limited!(
                    limit::DIALS,
                    warn,
                    %old,
                    %new,
                    "nodes with OTP 26 or earlier are not introduced to nodes with OTP 29 or later, because the pg of \
                     the former would exit; start them with OTP 27 or later, and do not connect the two kinds of nodes"
                ),
                introduce::IntroducerEffect::Connect { on, to } => {
                    debug!(%on, %to, "introducing");
                    let connect = Function {
                        module: Atom::literal("net_kernel"),
                        function: Atom::literal("connect_node"),
                        args: vec![Term::Atom(to.atom())],
                    };
                    self.work.spawn(async move {
                        let _ = node.cast(on, connect).await;
                        Done::Sent
                    });
                }
            }
        }
    }

    /// Returns what the result of an attempt means for the next one, and logs a failure.
    fn outcome(&self, name: &NodeName, result: Result<Result<(), Arc<DialError>>, Stopped>) -> Outcome {
        let error = match result {
            // The node may have disconnected again already.
            Ok(Ok(())) if !self.node.watch().borrow().peers.get(name).is_some_and(Peer::is_up) => {
                return Outcome::Failed;
            }
            Ok(Ok(())) => return Outcome::Connected,
            Ok(Err(error)) => error,
            Err(Stopped) => return Outcome::Failed,
        };
        // A node of this host may have the name `x@localhost`. A node with two addresses in DNS has
        // one of them in its name.
        let is_alias = |other: &NodeName| {
            self.dialer.is_here(other) || (self.redialer.is_in_dns(name) && self.redialer.is_in_dns(other))
        };
        let outcome = Outcome::of(&error, name, is_alias);
        if !matches!(outcome, Outcome::CallsItself(_)) {
            failures::log(name, &error, self.redialer.has_failed(name));
        }
        outcome
    }
}
