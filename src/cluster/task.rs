//! The task that runs the cluster's policy: joins the cluster, then passes changes between the
//! registry and the node.
//!
//! [`ClusterMachine`] and the modules of [`crate::cluster::peers`] decide; this task carries out
//! their effects. It compares their state with each view of the node and of the registry. In the
//! registry's view, it compares only the plugins that events name, or all plugins if it missed
//! events. So a change can be late but not lost.

mod error;
mod publish;
mod refusals;

pub use error::StartError;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use beam::connect::dial::Dialer;
use beam::cookie::Cookie;
use beam::dist::Identity;
use beam::dist::challenges::Challenges;
use beam::dist::flags;
use beam::epmd::client::Registration;
use beam::etf::{Atom, Term};
use beam::name::NodeName;
use beam::node::ProcessId;
use beam::node::Watched;
use beam::node::accept;
use beam::node::handle::{Handle, Stopped};
use beam::node::task as node_task;
use beam::node::view as node_view;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tracing::{debug, info, warn};

use crate::cluster::diagnosis::{self, Diagnostician};
use crate::cluster::hosts::listener;
use crate::cluster::machine::{ClusterEffect, ClusterMachine};
use crate::cluster::own_name::{Epmd, Joined, WantedName};
use crate::cluster::peers::answers::{Answered, Questioner};
use crate::cluster::peers::finder::{self, Finder};
use crate::cluster::peers::questions::PROGRAM;
use crate::cluster::plugins::membership::MembershipTracker;
use crate::cluster::plugins::orders::{self, Order};
use crate::cluster::plugins::proxy::{Proxy, Registered};
use crate::cluster::plugins::server::{self, PluginsServer};
use crate::cluster::plugins::shared_paths::SharedPaths;
use crate::cluster::running::Running;
use crate::cluster::view::{ClusterView, EpmdOwner, EpmdState, HostView};
use crate::layout::Layout;
use crate::limits;
use crate::plugin::PluginName;
use crate::registry::{self, Follower, Membership, Next, Refusal};

/// The groups whose members announce a plugin are `{hecate_plugin, Name}`.
const PLUGIN_TAG: &str = "hecate_plugin";

/// The settings of the cluster's task.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// The preferred name of our node.
    pub name: WantedName,
    /// The cookie of the cluster.
    pub cookie: Cookie,
    /// The challenges sent in all handshakes with this cookie.
    pub challenges: Challenges,
    /// Whether our node is hidden.
    pub hidden: bool,
    /// The address of the distribution port.
    pub listen: IpAddr,
    /// The distribution port; none means that the system chooses.
    pub dist_port: Option<u16>,
    /// The port of EPMD, the same on all hosts.
    pub epmd_port: u16,
    /// The addresses, besides loopback, on which the daemon serves EPMD if it must. If there are
    /// none, it uses the addresses on which the node listens.
    pub epmd_addresses: Vec<IpAddr>,
    /// The scopes of process groups to join.
    pub scopes: Vec<String>,
    /// The time without data after which a peer is disconnected.
    pub tick_time: Duration,
    /// The memory limit for all peers together, in bytes.
    pub peer_memory: usize,
    /// Which peers to find, and whether to introduce them.
    pub finding: finder::FinderSettings,
    /// The users of this host whose nodes we connect to.
    pub allowed_uids: BTreeSet<u32>,
    /// The host parts that mean this host.
    pub this_host: BTreeSet<String>,
}

/// Starts the task: opens the distribution port, joins the cluster when EPMD answers, and then
/// keeps the registry and the node consistent. Returns the handle of the task, and the cluster's
/// view.
///
/// # Errors
/// See [`StartError`].
pub async fn start(
    settings: ClusterSettings,
    layout: Arc<Layout>,
    registry: registry::Handle,
) -> Result<(Running, watch::Receiver<Arc<ClusterView>>), StartError> {
    let address = SocketAddr::new(settings.listen, settings.dist_port.unwrap_or(0));
    let listen_error = |e| StartError::Listen(address, e);
    let listener = accept::listen(address).map_err(listen_error)?;
    let epmd = Epmd::new(settings.epmd_port, &listener, settings.hidden, settings.epmd_addresses.clone());
    let epmd = epmd.map_err(listen_error)?;
    let scopes: Result<Vec<Atom>, _> = settings.scopes.iter().map(|scope| Atom::new(scope)).collect();
    let scopes = scopes.map_err(StartError::Scope)?;
    let host = settings.name.name.host().to_owned();
    let view = ClusterView { host, cookie_hash: settings.cookie.hash(), ..ClusterView::default() };
    let (publish, view) = watch::channel(Arc::new(view));
    // Reported before the first plugin can register.
    let names = settings.name.candidates().flat_map(|name| dialer(&settings).all_names(&name)).collect();
    registry.membership(Membership::WantedNames { names }).await;
    let (stop, stopped) = oneshot::channel();
    let (show_node, node) = watch::channel(None);
    let diagnostician = Diagnostician::new(diagnosis_settings(&settings), view.clone(), node.clone());
    let task =
        tokio::spawn(run(Start { settings, layout, registry, listener, epmd, scopes, publish }, show_node, stopped));
    Ok((Running { stop, task, node, diagnostician }, view))
}

fn dialer(settings: &ClusterSettings) -> Dialer {
    Dialer {
        epmd_port: settings.epmd_port,
        default_port: settings.dist_port,
        this_host: settings.this_host.clone(),
        allowed_uids: settings.allowed_uids.clone(),
    }
}

fn diagnosis_settings(settings: &ClusterSettings) -> diagnosis::DiagnosisSettings {
    diagnosis::DiagnosisSettings {
        dialer: dialer(settings),
        cookie: settings.cookie.clone(),
        challenges: settings.challenges.clone(),
        hidden: settings.hidden,
        scopes: settings.scopes.clone(),
        tick_time: settings.tick_time,
    }
}

struct Start {
    settings: ClusterSettings,
    layout: Arc<Layout>,
    registry: registry::Handle,
    listener: TcpListener,
    epmd: Epmd,
    scopes: Vec<Atom>,
    publish: watch::Sender<Arc<ClusterView>>,
}

async fn run(mut start: Start, show_node: watch::Sender<Option<Handle>>, mut stopped: oneshot::Receiver<()>) {
    let (publish, registry) = (start.publish.clone(), start.registry.clone());
    // After the first failure to join, the registry judges the stored plugins by their sockets
    // alone.
    let (fail, mut failed) = watch::channel(false);
    let report = move |epmd, owners: &Arc<[EpmdOwner]>| {
        fail.send_replace(true);
        publish.send_modify(|view| {
            let view = Arc::make_mut(view);
            view.epmd = epmd;
            view.epmd_owners = Arc::clone(owners);
        });
    };
    let joining = start.epmd.join(&start.settings.name, &start.layout, report);
    let settled = async {
        if failed.wait_for(|failed| *failed).await.is_ok() {
            registry.membership(Membership::Settled).await;
        }
        std::future::pending::<()>().await
    };
    let joined = tokio::select! {
        joined = joining => joined,
        () = settled => return,
        _ = &mut stopped => return,
    };
    let mut cluster = Cluster::new(start, joined);
    show_node.send_replace(Some(cluster.node.clone()));
    // Stops at once, even if the registry does not answer.
    tokio::select! {
        _ = &mut stopped => {}
        Err(Stopped) = cluster.serve() => warn!("the node's task has ended; this daemon has left the cluster"),
    }
    cluster.leave().await;
}

struct Cluster {
    settings: ClusterSettings,
    name: NodeName,
    node: Handle,
    dialer: Dialer,
    registry: registry::Handle,
    registered: Registered,
    /// The registry's events that are not yet sent to the peers.
    events: Follower,
    publish: watch::Sender<Arc<ClusterView>>,
    epmd: Epmd,
    registration: Option<Registration>,
    /// The preferred names that other nodes have.
    names_taken: Vec<String>,
    machine: ClusterMachine,
    /// The proxies of running plugins.
    proxies: BTreeMap<PluginName, ProcessId>,
    finder: Finder,
    /// The reports of the other hecate-daemons.
    hosts: watch::Receiver<Arc<Vec<HostView>>>,
    /// When our node joined the cluster.
    since: SystemTime,
    questioner: Questioner,
    orders: mpsc::Sender<Order>,
    /// The execution of orders, and an attempt to register with EPMD again.
    work: JoinSet<Option<(Result<Registration, EpmdState>, Epmd)>>,
}

impl Cluster {
    fn new(start: Start, joined: Joined) -> Self {
        let Joined { name, registration, taken } = joined;
        let Start { settings, layout, registry, listener, epmd, scopes, publish } = start;
        let dialer = dialer(&settings);
        let membership = MembershipTracker::new(rustix::process::getuid().as_raw(), settings.allowed_uids.clone());
        let machine = ClusterMachine::new(dialer.clone(), membership, epmd.state());
        let identity = Identity {
            name: name.clone(),
            creation: registration.creation,
            flags: flags::ours(settings.hidden),
            cookie: settings.cookie.clone(),
            challenges: settings.challenges.clone(),
        };
        let (orders, ordered) = orders::queue();
        let node_settings = node_task::NodeSettings {
            identity,
            dialer: dialer.clone(),
            scopes,
            watched: Watched { tag: Atom::literal(PLUGIN_TAG), group: Atom::literal(server::GROUP) },
            functions: Box::new(SharedPaths::new(layout.home().own(), orders.clone())),
            program: PROGRAM,
            tick_time: settings.tick_time,
            peer_memory: settings.peer_memory,
        };
        let (node, _task) = node_task::start(listener, node_settings);
        debug!(node = %name, creation = registration.creation, "joined the cluster");
        let host = settings.name.name.host().into();
        let cluster = publish.subscribe();
        let registered = Registered { view: registry.watch(), cluster, home: layout.home().clone(), host };
        let mut work = JoinSet::new();
        let carry_out = orders::run(ordered, registry.clone(), layout, registered.clone(), node.clone());
        work.spawn(async move {
            let _ = carry_out.await;
            None
        });
        let (listening, hosts) = watch::channel(Arc::default());
        let listen = listener::run(node.clone(), listening);
        work.spawn(async move {
            let _ = listen.await;
            None
        });
        // Events from before the node joined are not sent.
        let events = Follower::new(registry.clone(), registry.view().revision);
        let finder = Finder::new(name.clone(), node.clone(), dialer.clone(), &settings.finding);
        Self {
            settings,
            name,
            node: node.clone(),
            dialer,
            registry,
            registered,
            events,
            publish,
            epmd,
            registration: Some(registration),
            names_taken: taken,
            machine,
            proxies: BTreeMap::new(),
            finder,
            hosts,
            since: SystemTime::now(),
            questioner: Questioner::new(node.clone()),
            orders,
            work,
        }
    }

    async fn serve(&mut self) -> Result<(), Stopped> {
        let server = Box::new(PluginsServer::new(self.registered.clone(), self.orders.clone(), self.dialer.clone()));
        let name = Some(Atom::literal(server::NAME));
        self.node.spawn(name, server, vec![Term::atom(server::GROUP)]).await?;
        self.registry.membership(Membership::OwnNode { names: self.dialer.all_names(&self.name) }).await;
        let mut registry = self.registry.watch();
        let mut node = self.node.watch();
        let mut groups = self.node.watch_groups();
        registry.mark_changed();
        node.mark_changed();
        let mut poll = interval(limits::EPMD_POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadlines =
                [self.finder.next_deadline(), self.questioner.next_deadline(), self.machine.next_deadline()];
            let deadline = deadlines.into_iter().flatten().min();
            let mut is_poll = false;
            tokio::select! {
                changed = registry.changed() => {
                    changed.map_err(|_| Stopped)?;
                    let view = registry.borrow_and_update().clone();
                    self.registry_changed(&view).await?;
                }
                changed = node.changed() => {
                    changed.map_err(|_| Stopped)?;
                    let view = node.borrow_and_update().clone();
                    self.node_changed(&view).await?;
                }
                _ = poll.tick() => {
                    is_poll = true;
                    self.finder.ask_names(self.epmd.address());
                    // Groups may change with each message, so the view shows them once per poll.
                    if groups.has_changed().map_err(|_| Stopped)? {
                        groups.mark_unchanged();
                        self.machine.mark_stale();
                    }
                }
                () = self.finder.step() => self.epmd_answered(),
                Ok(()) = self.hosts.changed() => self.machine.mark_stale(),
                answered = self.questioner.step() => self.peer_answered(answered, &node.borrow().clone()),
                Some(done) = self.work.join_next() => if let Ok(Some((result, epmd))) = done {
                    self.epmd = epmd;
                    self.registered_again(result);
                },
                () = lost(&mut self.registration) => {
                    info!("EPMD has ended; registering again when it answers");
                    self.registration = None;
                    self.machine.epmd_lost(Instant::now());
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => {
                    self.time_passed().await?;
                }
            }
            if self.finder.take_changed() {
                self.machine.mark_stale();
            }
            if is_poll || self.machine.is_stale() {
                self.report_refusing().await?;
            }
            self.settle(&mut node).await?;
            self.publish();
        }
    }

    async fn registry_changed(&mut self, view: &registry::View) -> Result<(), Stopped> {
        self.send_events(view.revision).await?;
        let mut effects = Vec::new();
        self.machine.plugins_changed(view, self.events.delivered(), &mut effects);
        self.carry_out(effects).await
    }

    async fn time_passed(&mut self) -> Result<(), Stopped> {
        let (now, mut effects) = (Instant::now(), Vec::new());
        self.finder.time_passed();
        self.questioner.time_passed(now);
        self.machine.time_passed(now, &mut effects);
        self.carry_out(effects).await
    }

    /// Reports to the registry, once, that every node that could be found at the start has been
    /// tried. The registry then checks the stored plugins, so the connected nodes are reported
    /// first.
    async fn settle(&mut self, node: &mut watch::Receiver<Arc<node_view::View>>) -> Result<(), Stopped> {
        if self.machine.settles(self.finder.settled()) {
            let view = node.borrow_and_update().clone();
            self.node_changed(&view).await?;
            self.registry.membership(Membership::Settled).await;
        }
        Ok(())
    }

    async fn carry_out(&mut self, effects: Vec<ClusterEffect>) -> Result<(), Stopped> {
        for effect in effects {
            match effect {
                ClusterEffect::StartProxy(plugin) => {
                    let proxy = Box::new(Proxy::new(plugin.clone(), self.registered.clone(), self.name.atom()));
                    let proxy = self.node.spawn(None, proxy, Proxy::groups(&plugin)).await?;
                    self.proxies.insert(plugin, proxy);
                }
                ClusterEffect::EndProxy(plugin) => {
                    if let Some(proxy) = self.proxies.remove(&plugin) {
                        self.node.exit(proxy, "shutdown").await?;
                    }
                }
                ClusterEffect::FindNodes(nodes) => self.finder.plugins(nodes),
                ClusterEffect::NodeUp(node) => {
                    let view = self.node.watch().borrow().clone();
                    self.finder.up(&node, &view);
                }
                ClusterEffect::NodeDown(node) => {
                    let view = self.node.watch().borrow().clone();
                    self.finder.down(&node, &view);
                }
                ClusterEffect::Publish => self.publish(),
                ClusterEffect::Report(membership) => self.registry.membership(membership).await,
                ClusterEffect::Register => {
                    let (mut epmd, name) = (self.epmd.clone(), self.name.clone());
                    self.work.spawn(async move { Some((epmd.register(name.short_name()).await, epmd)) });
                }
            }
        }
        Ok(())
    }

    async fn leave(mut self) {
        self.work.abort_all();
        self.node.stop().await;
        if let Some(registration) = self.registration.take() {
            registration.unregister().await;
        }
    }

    // ---- Registry -> node -------------------------------------------------------------------------

    /// Sends each stored event up to a revision to the group of its name. Must come before proxies
    /// show the results of the events.
    async fn send_events(&mut self, revision: u64) -> Result<(), Stopped> {
        while self.events.delivered() < revision {
            match self.events.next().await {
                Ok(Next::Event(event)) => {
                    let group = Term::atom(event.kind.name());
                    let message = Term::tuple([group.clone(), self.registered.event(&event)]);
                    self.node.publish(&group, &message).await?;
                    self.machine.event_sent(event.plugin.name.clone());
                }
                Ok(Next::Missed(view)) => {
                    warn!(
                        revision = view.revision,
                        "events were not sent to the cluster: the store no longer has them"
                    );
                    self.machine.events_missed();
                }
                // The daemon is stopping.
                Err(Refusal::Stopping) => break,
                Err(e) => {
                    warn!("events were not sent to the cluster: {e}");
                    self.events = Follower::new(self.registry.clone(), revision);
                    self.machine.events_missed();
                    break;
                }
            }
        }
        Ok(())
    }

    // ---- Node -> registry -------------------------------------------------------------------------

    async fn node_changed(&mut self, view: &node_view::View) -> Result<(), Stopped> {
        for uid in self.machine.strangers(view) {
            if self.has_daemon(uid).await {
                self.machine.has_daemon(uid);
            }
        }
        let mut effects = Vec::new();
        self.machine.node_changed(view, &mut effects);
        self.carry_out(effects).await?;
        self.questioner.changed(view);
        self.finder.changed(view, |name| self.questioner.pg(name));
        Ok(())
    }

    // ---- EPMD -------------------------------------------------------------------------------------

    fn peer_answered(&mut self, answered: Option<Answered>, view: &node_view::View) {
        let Some(Answered { peer, answer, shows_pg }) = answered else { return };
        self.finder.answered(&peer, answer);
        if shows_pg {
            self.finder.introducible(view, |name| self.questioner.pg(name));
        }
    }

    /// Handles EPMD's answer to the request for names, if there is one.
    fn epmd_answered(&mut self) {
        let Some(answer) = self.finder.take_epmd_answer() else { return };
        if self.machine.epmd_answered(Instant::now(), answer.map_err(|e| e.to_string()))
            && let EpmdState::Unavailable { reason } = self.machine.epmd()
        {
            warn!("{reason}");
        }
    }

    /// Handles the result of registering again after EPMD was lost. Our creation does not change,
    /// because the node is still the same (as in `erl_epmd`).
    fn registered_again(&mut self, result: Result<Registration, EpmdState>) {
        let now = Instant::now();
        match result {
            Ok(registration) => {
                info!("registered with EPMD again");
                self.registration = Some(registration);
                self.machine.epmd_asked(now, self.epmd.state(), true);
            }
            Err(state) => self.machine.epmd_asked(now, state, false),
        }
    }
}

async fn lost(registration: &mut Option<Registration>) {
    match registration {
        Some(registration) => registration.lost().await,
        None => std::future::pending().await,
    }
}
