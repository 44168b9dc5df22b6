//! The task that runs the cluster's policy: joins, then carries news between the registry and the node.
//!
//! It owns no truth. What it keeps (which proxy stands for which plugin, what the registry was told, whom to dial) is
//! compared with the views of registry and node at each change, so a change can be late but not lost.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tracing::{debug, info, warn};

use crate::cluster::discovery::{self, Discovery, Outcome};
use crate::cluster::introduce::{self, Introducer};
use crate::cluster::join::{Epmd, WantedName};
use crate::cluster::membership::Told;
use crate::cluster::orders::{self, Order};
use crate::cluster::plugins_server::{self, PluginsServer};
use crate::cluster::proxy::{Proxy, Registered};
use crate::cluster::shared_paths::SharedPaths;
use crate::cluster::view::{ClusterView, EpmdState, PeerState, PeerView, ScopeView};
use crate::cookie::Cookie;
use crate::dist::flags;
use crate::dist::handshake::Identity;
use crate::epmd::client::{self as epmd, Registration};
use crate::etf::{Atom, AtomTooLong, Atoms, Raw, Reader, Term};
use crate::layout::Layout;
use crate::limits;
use crate::log::limit::{self, limited};
use crate::name::PluginName;
use crate::node::dial::{DialError, Dialling};
use crate::node::handle::{Handle, Stopped};
use crate::node::process::ProcessId;
use crate::node::services::pg::Watched;
use crate::node::services::rpc::{CallError, Function};
use crate::node::task as node_task;
use crate::node::view as node_view;
use crate::registry::{self, Follower, Membership, Next, Refusal, Status};

/// The groups whose members announce a plugin are `{hecate_plugin, Name}`.
const PLUGIN_TAG: &str = "hecate_plugin";

/// What the cluster's side of the daemon is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our name.
    pub name: WantedName,
    /// The cluster's secret.
    pub cookie: Cookie,
    /// Whether our node is hidden.
    pub hidden: bool,
    /// Address of the distribution port.
    pub listen: IpAddr,
    /// The distribution port; none means that the system chooses.
    pub dist_port: Option<u16>,
    /// The port of every host's EPMD.
    pub epmd_port: u16,
    /// Where an EPMD of our own serves, besides loopback; wherever the node listens if there are none.
    pub epmd_addresses: Vec<IpAddr>,
    /// Scopes of process groups.
    pub scopes: Vec<String>,
    /// Silence after which a peer counts as gone.
    pub tick_time: Duration,
    /// Whether peers that are apart are asked to connect to each other.
    pub introduce: bool,
    /// Full names of nodes to connect to.
    pub peers: Vec<String>,
    /// Whose sockets may listen behind the names of this host.
    pub allowed_uids: BTreeSet<u32>,
    /// The host parts that mean this host.
    pub this_host: BTreeSet<String>,
}

/// Why there can be no node.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The distribution port can't be had.
    #[error("the distribution port {0} can't be bound: {1}; set HECATE_LISTEN or ERL_DIST_PORT to one that is free")]
    Listen(SocketAddr, std::io::Error),
    /// A scope of process groups can't be an atom.
    #[error("HECATE_PG_SCOPES: {0}")]
    Scope(AtomTooLong),
}

/// The running task.
#[derive(Debug)]
pub struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    /// Once there is one.
    node: watch::Receiver<Option<Handle>>,
}

impl Running {
    /// Leaves the cluster: pg is left, monitors fire, the name is given back.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        if !self.task.is_finished() {
            let _ = self.task.await;
        }
    }

    /// What tells whether the node's task is stuck.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        Pulse(self.node.clone())
    }

    /// Waits for the task to end by itself, which it does only by a panic.
    pub async fn ended(&mut self) {
        let _ = (&mut self.task).await;
    }
}

/// A way to the node's task, once there is one, to see whether it is stuck.
#[derive(Debug, Clone)]
pub struct Pulse(watch::Receiver<Option<Handle>>);

impl Pulse {
    /// Returns once the node's task has answered; at once while there is none.
    pub async fn answers(&self) {
        let node = self.0.borrow().clone();
        if let Some(node) = node {
            // One that has ended ends the whole, and is not this one's business.
            let _ = node.answers().await;
        }
    }
}

/// Starts the cluster's side: binds the distribution port, joins as soon as there is an EPMD to join by, and then keeps
/// registry and node in step. What it sees is published in the receiver that is returned.
///
/// # Errors
/// See [`StartError`].
pub async fn start(
    settings: Settings,
    layout: Arc<Layout>,
    registry: registry::Handle,
) -> Result<(Running, watch::Receiver<Arc<ClusterView>>), StartError> {
    let address = SocketAddr::new(settings.listen, settings.dist_port.unwrap_or(0));
    let listen_error = |e| StartError::Listen(address, e);
    let listener = TcpListener::bind(address).await.map_err(listen_error)?;
    let epmd = Epmd::new(settings.epmd_port, &listener, settings.hidden, settings.epmd_addresses.clone());
    let epmd = epmd.map_err(listen_error)?;
    let scopes: Result<Vec<Atom>, _> = settings.scopes.iter().map(|scope| Atom::new(scope)).collect();
    let scopes = scopes.map_err(StartError::Scope)?;
    let view = ClusterView { cookie_hash: settings.cookie.hash(), ..ClusterView::default() };
    let (publish, view) = watch::channel(Arc::new(view));
    let (stop, stopped) = oneshot::channel();
    let (show_node, node) = watch::channel(None);
    let task =
        tokio::spawn(run(Start { settings, layout, registry, listener, epmd, scopes, publish }, show_node, stopped));
    Ok((Running { stop, task, node }, view))
}

struct Start {
    settings: Settings,
    layout: Arc<Layout>,
    registry: registry::Handle,
    listener: TcpListener,
    epmd: Epmd,
    scopes: Vec<Atom>,
    publish: watch::Sender<Arc<ClusterView>>,
}

async fn run(mut start: Start, show_node: watch::Sender<Option<Handle>>, mut stopped: oneshot::Receiver<()>) {
    let (publish, registry) = (start.publish.clone(), start.registry.clone());
    // Without a cluster the stored plugins are judged by their sockets alone, and need not wait.
    let (tell, mut told) = watch::channel(false);
    let report = move |epmd| {
        tell.send_replace(true);
        publish.send_modify(|view| Arc::make_mut(view).epmd = epmd);
    };
    let joining = start.epmd.join(&start.settings.name, report);
    let settled = async {
        if told.wait_for(|told| *told).await.is_ok() {
            registry.membership(Membership::Settled).await;
        }
        std::future::pending::<()>().await
    };
    let (name, registration) = tokio::select! {
        joined = joining => joined,
        () = settled => return,
        _ = &mut stopped => return,
    };
    match Cluster::new(start, &name, registration) {
        Ok(mut cluster) => {
            show_node.send_replace(Some(cluster.node.clone()));
            // Stopping waits for nothing, also not for a registry that has stalled.
            tokio::select! {
                _ = &mut stopped => {}
                Err(Stopped) = cluster.serve() => warn!("the node's task has ended: not in the cluster any more"),
            }
            cluster.leave().await;
        }
        Err(e) => warn!(name, "not in the cluster: {e}"),
    }
}

/// Something that was asked has been answered.
enum Done {
    Names(Result<Vec<(String, u16)>, epmd::Error>),
    Dialled(Arc<str>, Result<Result<(), Arc<DialError>>, Stopped>),
    Nodes(Arc<str>, Result<Result<Raw, CallError>, Stopped>),
    Nothing,
    Registered(Result<Registration, EpmdState>, Epmd),
}

struct Cluster {
    settings: Settings,
    name: Arc<str>,
    node: Handle,
    dialling: Dialling,
    registry: registry::Handle,
    registered: Registered,
    /// What happened to the registry, as far as peers were told.
    events: Follower,
    publish: watch::Sender<Arc<ClusterView>>,
    epmd: Epmd,
    registration: Option<Registration>,
    epmd_state: EpmdState,
    /// When to register again, after EPMD was lost.
    register_at: Option<Instant>,
    /// The proxy of each running plugin, with the life of the plugin that it is for.
    proxies: BTreeMap<PluginName, (u64, ProcessId)>,
    told: Told,
    /// The published peers, each with the number of its connection.
    published: BTreeMap<Arc<str>, u64>,
    /// What the node's view had as known when it was looked at last.
    known: BTreeSet<Arc<str>>,
    settled: bool,
    discovery: Discovery,
    introducer: Introducer,
    orders: mpsc::Sender<Order>,
    work: JoinSet<Done>,
    asking_names: bool,
}

impl Cluster {
    fn new(start: Start, name: &str, registration: Registration) -> Result<Self, AtomTooLong> {
        let Start { settings, layout, registry, listener, epmd, scopes, publish } = start;
        let name: Arc<str> = name.into();
        let epmd_state = epmd.state();
        let dialling = Dialling {
            epmd_port: settings.epmd_port,
            default_port: settings.dist_port,
            this_host: settings.this_host.clone(),
            allowed_uids: settings.allowed_uids.clone(),
        };
        let identity = Identity {
            name: name.clone(),
            creation: registration.creation,
            flags: flags::ours(settings.hidden),
            cookie: settings.cookie.clone(),
        };
        let (orders, ordered) = mpsc::channel(limits::ORDERS);
        let node_settings = node_task::Settings {
            identity,
            dialling: dialling.clone(),
            scopes,
            watched: Watched { tag: Atom::literal(PLUGIN_TAG), group: Atom::literal(plugins_server::GROUP) },
            functions: Box::new(SharedPaths::new(layout.home().own(), orders.clone())),
            tick_time: settings.tick_time,
        };
        let (node, _task) = node_task::start(listener, node_settings)?;
        info!(node = %name, creation = registration.creation, "in the cluster");
        let host = settings.name.host.as_str().into();
        let registered = Registered { view: registry.watch(), home: layout.home().clone(), host };
        let mut work = JoinSet::new();
        let carry_out = orders::run(ordered, registry.clone(), layout, registered.clone(), node.clone());
        work.spawn(async move {
            let _ = carry_out.await;
            Done::Nothing
        });
        // What happened while we were in no cluster is nobody's news.
        let events = registry.follow(registry.view().revision);
        Ok(Self {
            settings,
            name,
            node,
            dialling,
            registry,
            registered,
            events,
            publish,
            epmd,
            registration: Some(registration),
            epmd_state,
            register_at: None,
            proxies: BTreeMap::new(),
            told: Told::default(),
            published: BTreeMap::new(),
            known: BTreeSet::new(),
            settled: false,
            discovery: Discovery::default(),
            introducer: Introducer::default(),
            orders,
            work,
            asking_names: false,
        })
    }

    async fn serve(&mut self) -> Result<(), Stopped> {
        let server = Box::new(PluginsServer::new(self.registered.clone(), self.orders.clone(), self.dialling.clone()));
        let name = Some(Atom::literal(plugins_server::NAME));
        self.node.spawn(name, server, vec![Term::atom(plugins_server::GROUP)]).await?;
        let configured = self.settings.peers.iter().map(|peer| Arc::from(peer.as_str())).collect();
        self.discover(discovery::Input::Configured(configured));
        let mut registry = self.registry.watch();
        let mut node = self.node.watch();
        registry.mark_changed();
        node.mark_changed();
        let mut poll = interval(limits::EPMD_POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = [self.discovery.next_deadline(), self.introducer.next_deadline(), self.register_at];
            let deadline = deadline.into_iter().flatten().min();
            tokio::select! {
                changed = registry.changed() => {
                    changed.map_err(|_| Stopped)?;
                    let view = registry.borrow_and_update().clone();
                    self.tell_events(view.revision).await?;
                    self.keep_proxies(&view).await?;
                }
                changed = node.changed() => {
                    changed.map_err(|_| Stopped)?;
                    let view = node.borrow_and_update().clone();
                    self.node_changed(&view).await;
                }
                _ = poll.tick() => self.ask_names(),
                Some(done) = self.work.join_next() => match done {
                    Ok(done) => self.done(done),
                    // Which one has panicked isn't told: none may be waited for for ever.
                    Err(_) => self.asking_names = false,
                },
                () = lost(&mut self.registration) => {
                    info!("EPMD has ended: registering again");
                    self.registration = None;
                    self.register_at = Some(Instant::now() + limits::EPMD_RETRY);
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => {
                    self.time_passed();
                }
            }
            if !self.settled && self.discovery.settled() {
                self.settled = true;
                // The registry judges by what it knows then: so it hears of those nodes first.
                let view = node.borrow_and_update().clone();
                self.node_changed(&view).await;
                self.registry.membership(Membership::Settled).await;
            }
            self.publish();
        }
    }

    async fn leave(mut self) {
        self.work.abort_all();
        self.node.stop().await;
        if let Some(registration) = self.registration.take() {
            registration.give_back().await;
        }
    }

    // ---- Registry -> node -------------------------------------------------------------------------

    /// Sends the stored events up to a revision to the groups that are named like them, before proxies show what they
    /// have led to.
    async fn tell_events(&mut self, revision: u64) -> Result<(), Stopped> {
        while self.events.told() < revision {
            match self.events.next().await {
                Ok(Next::Event(event)) => {
                    let group = Term::atom(event.kind.name());
                    let message = Term::tuple([group.clone(), self.registered.event(&event)]);
                    self.node.publish(group, message).await?;
                }
                Ok(Next::Missed(view)) => {
                    warn!(revision = view.revision, "events were not told to the cluster: the log is shorter");
                }
                // It stops, and so do we.
                Err(Refusal::Stopping) => break,
                Err(e) => {
                    warn!("events are not told to the cluster: {e}");
                    self.events = self.registry.follow(revision);
                    break;
                }
            }
        }
        Ok(())
    }

    /// A proxy for each running plugin, another one for each time that it has begun to run.
    async fn keep_proxies(&mut self, view: &registry::View) -> Result<(), Stopped> {
        // No status is to be believed before the registry has judged.
        if !view.ready {
            return Ok(());
        }
        let running = |name: &PluginName, incarnation: u64| {
            view.plugins.get(name).is_some_and(|p| p.status == Status::Running && p.incarnation == incarnation)
        };
        for (_, (_, proxy)) in self.proxies.extract_if(.., |name, (incarnation, _)| !running(name, *incarnation)) {
            self.node.exit(proxy, "shutdown").await?;
        }
        for plugin in view.plugins.values().filter(|plugin| plugin.status == Status::Running) {
            if !self.proxies.contains_key(&plugin.name) {
                // The name fits an atom: the node runs under it.
                let node = Atom::new(&self.name).unwrap_or_else(|_| Atom::literal("hecate"));
                let proxy = Proxy::new(plugin.name.clone(), self.registered.clone(), node);
                let proxy = self.node.spawn(None, Box::new(proxy), Proxy::groups(&plugin.name)).await?;
                self.proxies.insert(plugin.name.clone(), (plugin.incarnation, proxy));
            }
        }
        Ok(())
    }

    // ---- Node -> registry -------------------------------------------------------------------------

    async fn node_changed(&mut self, view: &node_view::View) {
        for news in self.told.news(view, |name| self.dialling.is_here(name)) {
            let discovered = match &news {
                Membership::NodeUp { node, .. } => {
                    let published = view.peers.get(node.as_str()).is_some_and(node_view::Peer::is_published);
                    Some(discovery::Input::Up { name: node.as_str().into(), published })
                }
                Membership::NodeDown { node, .. } => Some(discovery::Input::Down(node.as_str().into())),
                Membership::Announced { .. } | Membership::Withdrawn { .. } | Membership::Settled => None,
            };
            self.registry.membership(news).await;
            if let Some(input) = discovered {
                self.discover(input);
            }
        }
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

    // ---- Finding and introducing peers --------------------------------------------------------------

    fn ask_names(&mut self) {
        if !std::mem::replace(&mut self.asking_names, true) {
            let address = self.epmd.address();
            self.work.spawn(async move { Done::Names(epmd::names(address).await) });
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
            Done::Nothing => {}
            Done::Registered(result, epmd) => {
                self.epmd = epmd;
                self.registered_again(result);
            }
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
        let host = &self.settings.name.host;
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
        if !self.settings.introduce {
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
                        Done::Nothing
                    });
                }
            }
        }
    }

    fn time_passed(&mut self) {
        self.discover(discovery::Input::Tick);
        self.introduce(introduce::Input::Tick);
        if self.register_at.is_some_and(|at| at <= Instant::now()) {
            self.register_at = None;
            let (mut epmd, name) = (self.epmd.clone(), self.name.clone());
            self.work.spawn(async move {
                let short = name.split('@').next().unwrap_or_default();
                Done::Registered(epmd.register(short).await, epmd)
            });
        }
    }

    /// EPMD was lost and asked again. Our creation stays: we are still the same node (as `erl_epmd` does).
    fn registered_again(&mut self, result: Result<Registration, EpmdState>) {
        match result {
            Ok(registration) => {
                info!("registered with EPMD again");
                self.registration = Some(registration);
                self.epmd_state = self.epmd.state();
            }
            Err(state) => {
                self.epmd_state = state;
                self.register_at = Some(Instant::now() + limits::EPMD_RETRY);
            }
        }
    }

    // ---- What others see --------------------------------------------------------------------------

    fn publish(&self) {
        let node = self.node.watch().borrow().clone();
        let mut peers: BTreeMap<Arc<str>, PeerView> = BTreeMap::new();
        for (name, peer) in &node.peers {
            let (state, reason) = match &peer.state {
                node_view::PeerState::Up { .. } => (PeerState::Connected, "the handshake is done".to_owned()),
                node_view::PeerState::Down { reason } => (PeerState::Disconnected, reason.clone()),
            };
            let on_this_host = self.dialling.is_here(name);
            let view = PeerView { name: name.to_string(), on_this_host, state, since: peer.since, reason };
            peers.insert(name.clone(), view);
        }
        let scope = |(name, census): (&Arc<str>, &node_view::Census)| ScopeView {
            name: name.to_string(),
            own_groups: census.own_groups,
            own_members: census.own_members,
            peer_groups: census.peer_groups,
            peer_members: census.peer_members,
        };
        let view = ClusterView {
            scopes: self.node.groups().iter().map(scope).collect(),
            node: Some(self.name.to_string()),
            epmd: self.epmd_state.clone(),
            peers: peers.into_values().collect(),
            cookie_hash: self.settings.cookie.hash(),
        };
        self.publish.send_if_modified(|published| {
            let changed = **published != view;
            if changed {
                *published = Arc::new(view);
            }
            changed
        });
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

async fn lost(registration: &mut Option<Registration>) {
    match registration {
        Some(registration) => registration.lost().await,
        None => std::future::pending().await,
    }
}
