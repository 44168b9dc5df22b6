//! The one file that knows every room: what is started in which order, what the whole is like, and how it ends.
//!
//! Start: home, lock, store, registry, socket, cluster. End: the socket takes no more, requests are drained, pg is left so
//! that monitors fire, the name goes back to EPMD, the registry ends, socket and run files are removed last. A task that
//! owns state and ends by itself has panicked: then the process ends too, and a supervisor starts a clean one.

mod own_files;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use beam::name::NodeName;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::api::{self, BindError, DaemonStatus, EpmdOwner, Phase, Problem, Severity};
use crate::cluster::own_name::WantedName;
use crate::cluster::peers::finder;
use crate::cluster::running::Running;
use crate::cluster::task::{self as cluster, StartError};
use crate::cluster::view::{self, ClusterView, EpmdState, NodeStates};
use crate::config::{Config, accounts};
use crate::layout::{Home, Layout, LayoutError, Modes, RunError, RunLock, RunState, SiblingError};
use crate::plugin::{PluginName, Status};
use crate::registry;
use crate::store::{OpenError, Salvaged, Store};
use crate::wire::FailureCode;
use crate::{limits, log, systemd};

/// Why the daemon did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Home's directories can't be made.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Another daemon has this home, or its run files can't be written.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The registry can't be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The socket can't be bound.
    #[error(transparent)]
    Socket(#[from] BindError),
    /// There can be no node.
    #[error(transparent)]
    Cluster(#[from] StartError),
    /// Signals can't be taken.
    #[error("signals can't be taken: {0}")]
    Signals(std::io::Error),
    /// Our own files are gone, or another has them.
    #[error("{0}")]
    Lost(String),
    /// A task that must not end has ended.
    #[error("the {0} has ended by itself, which is our fault: see the panic above")]
    Ended(&'static str),
    /// A blocking step has panicked.
    #[error("the start has failed, which is our fault: {0}")]
    Join(#[from] JoinError),
}

/// Serves until SIGTERM or SIGINT. A second one ends at once. The cluster's tasks run on the
/// runtime `node`, all others on this one.
///
/// # Errors
/// See [`Error`].
pub async fn run(config: Config, node: Handle) -> Result<(), Error> {
    let mut signals = Signals::new().map_err(Error::Signals)?;
    raise_open_files();
    let home = config.locations.home.clone();
    let modes = Modes { dir: config.dir_mode, group: config.group };
    let (layout, lock) = spawn_blocking(move || lock_home(home, modes)).await??;
    let summaries = tokio::spawn(async {
        let mut windows = interval(beam::limits::LOG_WINDOW);
        loop {
            windows.tick().await;
            log::limit::end_windows();
        }
    });
    let result = start(config, node, layout, &lock, &mut signals).await;
    summaries.abort();
    log::limit::end_windows();
    // Last, and after a failure too: finding them means a crash.
    lock.remove_files()?;
    info!("stopped");
    result
}

/// From the locked home to the end.
async fn start(
    config: Config,
    node: Handle,
    layout: Layout,
    lock: &Arc<RunLock>,
    signals: &mut Signals,
) -> Result<(), Error> {
    lock.write_pid()?;
    lock.write_state(RunState::Starting)?;
    let home = layout.home().clone();
    let layout = Arc::new(layout);
    let place = Arc::clone(&layout);
    let (opened, siblings) = spawn_blocking(move || {
        let opened = Store::open(&place.home().own().sqlite(), SystemTime::now())?;
        Ok::<_, OpenError>((opened, place.check_siblings()))
    })
    .await??;
    let found = found_at_start(opened.set_aside.as_deref().map(|path| (path, opened.salvaged)), siblings);

    let registry_config = registry::Config { grace: config.registration_grace, ..registry::Config::default() };
    let socket = own_files::Socket::default();
    let (registry, registry_task) = registry::start(registry_config, layout.clone(), opened, socket.check());
    let (listener, socket_file) = api::bind(&config.locations.socket, config.socket_mode, config.group)?;
    socket.set(Some(socket_file));
    let own_files = own_files::watch(layout.clone(), lock.clone(), socket.clone(), registry.clone());
    let (cluster, cluster_view) =
        node.spawn(cluster::start(cluster_settings(&config), layout, registry.clone())).await??;

    let (status, status_view) = watch::channel(DaemonStatus::default());
    let context = api::Context {
        registry: registry.clone(),
        home,
        status: status_view,
        cluster: cluster_view.clone(),
        diagnostician: cluster.diagnostician(),
        allowed_uids: config.allowed_uids.clone(),
        started: Instant::now(),
    };
    let stop_api = CancellationToken::new();
    let api = tokio::spawn(api::serve(listener, context, api::Limits::default(), stop_api.clone()));

    let (pulse, asked) = (cluster.pulse(), registry.clone());
    let manager = systemd::Manager::start(STARTING);
    let mut daemon =
        Daemon { config, lock, registry, registry_task, cluster, cluster_view, status, found, own_files, manager };
    let result = tokio::select! {
        result = daemon.serve(signals) => result,
        never = systemd::watch(async || {
            pulse.answers().await;
            let _ = asked.answers().await;
        }) => match never {},
    };
    daemon.manager.stopping();
    daemon.status.send_modify(|status| status.phase = Phase::Stopping);
    if let Err(e) = daemon.lock.write_state(RunState::Stopping) {
        warn!("{e}");
    }
    let Daemon { registry, registry_task, cluster, manager, .. } = daemon;
    let leave = async {
        stop_api.cancel();
        let _ = api.await;
        cluster.stop().await;
        registry.stop().await;
        if !registry_task.is_finished() {
            let _ = registry_task.await;
        }
    };
    tokio::select! {
        left = timeout(limits::SHUTDOWN_TIME, leave) => if left.is_err() {
            warn!("not everything ended in time");
        },
        () = signals.received() => warn!("a second signal: ending at once"),
    }
    manager.end().await;
    socket.set(None);
    result
}

/// Lets us have as many open files as the system lets us, within reason: each peer and each client is one.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = open_files(limit.maximum);
    if limit.current.is_some_and(|current| current < wanted)
        && let Err(e) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit })
    {
        warn!("the limit of open files stays as it is: {e}");
    }
}

/// How many open files we want to be allowed, where so many may be.
fn open_files(most: Option<u64>) -> u64 {
    most.unwrap_or(u64::MAX).min(limits::OPEN_FILES)
}

/// Our own directories, and the right to be the only one who serves them.
fn lock_home(home: Home, modes: Modes) -> Result<(Layout, Arc<RunLock>), Error> {
    let layout = Layout::open(home, modes)?;
    layout.ensure_own()?;
    let lock = RunLock::take(&layout)?;
    Ok((layout, lock))
}

/// What is no reason not to serve, and for somebody to do something about.
fn found_at_start(set_aside: Option<(&Path, Option<Salvaged>)>, siblings: Result<(), SiblingError>) -> Vec<Problem> {
    let mut found = Vec::new();
    if let Some((path, salvaged)) = set_aside {
        let recovered = match salvaged {
            Some(Salvaged { plugins, events }) => format!(
                "{} and {} were recovered from it into the new database, and others may be missing",
                counted(plugins, "plugin"),
                counted(events, "event")
            ),
            None => "how much was recovered from it is unknown".to_owned(),
        };
        let detail = format!(
            "the registry's database was damaged and was set aside as {}: {recovered}; have each plugin that is missing \
             register again, then move the damaged file away and restart",
            path.display()
        );
        found.push(Problem { code: "registry_set_aside", detail, severity: Severity::Unhealthy });
    }
    if let Err(error) = siblings {
        let (code, severity) = match error {
            SiblingError::Home(_) => ("home_not_writable", Severity::Unhealthy),
            SiblingError::Apart { .. } => ("home_not_mounted", Severity::Notice),
        };
        found.push(Problem { code, detail: error.to_string(), severity });
    }
    for problem in &found {
        warn!(code = problem.code, "{}", problem.detail);
    }
    found
}

/// Returns one problem per failure code for the nodes of plugins that are not connected. A stopped
/// plugin counts only if its node refuses us.
fn not_connected(nodes: &NodeStates, registry: &registry::View) -> Vec<Problem> {
    let is_running = |plugin| registry.plugins.get(plugin).is_some_and(|plugin| plugin.status == Status::Running);
    let mut failures: BTreeMap<&str, Vec<(&PluginName, &NodeName)>> = BTreeMap::new();
    for (node, code, plugins) in nodes.not_connected().filter(|_| registry.ready) {
        let code = code.map_or("connection_lost", |code| code.name());
        let apart = plugins.iter().filter(|plugin| FailureCode::from(code).is_refusal() || is_running(plugin));
        failures.entry(code).or_default().extend(apart.map(|plugin| (plugin, node)));
    }
    let problem = |(code, plugins): (&str, Vec<(&PluginName, &NodeName)>)| {
        let (_, first) = *plugins.first()?;
        let named = plugins.iter().take(limits::NAMED_AT_ONCE).map(|(plugin, node)| format!("{plugin} ({node})"));
        let named = named.collect::<Vec<_>>().join(", ");
        let more = match plugins.len().saturating_sub(limits::NAMED_AT_ONCE) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let detail = format!(
            "plugins whose nodes are not connected ({code}): {named}{more}; run `hecate-daemon diagnose {first}`"
        );
        Some(Problem { code: "plugin_node_not_connected", detail, severity: Severity::Notice })
    };
    failures.into_iter().filter_map(problem).collect()
}

fn with_user_name(view::EpmdOwner { uid, pid, program }: view::EpmdOwner) -> EpmdOwner {
    EpmdOwner { uid, user: accounts::user_name(uid), pid, program }
}

fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

fn cluster_settings(config: &Config) -> cluster::ClusterSettings {
    let us = rustix::process::getuid().as_raw();
    let allowed_uids = config.allowed_uids.iter().copied().chain([us, 0]).collect();
    let host = config.node.host().to_owned();
    // An address has no short form.
    let is_address = host.parse::<IpAddr>().is_ok();
    let short = host.split('.').next().filter(|_| !is_address).unwrap_or(&host).to_owned();
    let system = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let system_short = system.split('.').next().unwrap_or_default().to_owned();
    let this_host = BTreeSet::from([host, short, system, system_short, "localhost".to_owned()]);
    cluster::ClusterSettings {
        name: WantedName { name: config.node.clone(), explicit: config.node_explicit },
        cookie: config.cookie.clone(),
        challenges: Default::default(),
        hidden: config.hidden,
        listen: config.listen,
        dist_port: config.dist_port,
        epmd_port: config.epmd_port,
        epmd_addresses: config.epmd_addresses.clone(),
        scopes: config.pg_scopes.clone(),
        tick_time: config.net_ticktime,
        peer_memory: config.peer_memory,
        finding: finder::FinderSettings {
            peers: config.peers.clone(),
            dns: config.cluster_dns.clone(),
            epmd_names: config.epmd_names.clone(),
            introduce: config.introduce_peers,
        },
        allowed_uids,
        this_host,
    }
}

struct Daemon<'a> {
    config: Config,
    lock: &'a RunLock,
    registry: registry::Handle,
    registry_task: JoinHandle<()>,
    cluster: Running,
    cluster_view: watch::Receiver<Arc<ClusterView>>,
    status: watch::Sender<DaemonStatus>,
    /// What is wrong since the start, and until the next.
    found: Vec<Problem>,
    own_files: watch::Receiver<own_files::Report>,
    manager: systemd::Manager,
}

/// What is done until we are ready, in one line.
const STARTING: &str = "starting: looking for nodes and plugins";

impl Daemon<'_> {
    /// Keeps the status true until a signal comes, or a task ends that must not.
    async fn serve(&mut self, signals: &mut Signals) -> Result<(), Error> {
        let mut registry = self.registry.watch();
        let mut cluster = self.cluster_view.clone();
        let mut own_files = self.own_files.clone();
        let mut announced = false;
        self.status.send_modify(|status| status.phase = Phase::Running);
        loop {
            let plugins = registry.borrow_and_update().clone();
            let lost = own_files.borrow_and_update().ended.clone();
            if let Some(why) = lost {
                return Err(Error::Lost(why));
            }
            self.refresh(&cluster.borrow_and_update().clone(), &plugins);
            // The line names the node: so it waits until there is one, or it is clear why there is none.
            let ready = {
                let status = self.status.borrow();
                let joined = status.node_name.is_some() || !status.problems.is_empty();
                joined && plugins.ready && status.blocker().is_none()
            };
            if ready && !std::mem::replace(&mut announced, true) {
                self.announce();
            }
            let told = self.told(ready, &plugins);
            self.manager.status(told);
            tokio::select! {
                () = signals.received() => return Ok(()),
                _ = registry.changed() => {}
                _ = cluster.changed() => {}
                changed = own_files.changed() => if changed.is_err() {
                    return Err(Error::Ended("watch of our own files"));
                },
                _ = &mut self.registry_task => return Err(Error::Ended("registry")),
                () = self.cluster.ended() => return Err(Error::Ended("cluster")),
            }
        }
    }

    fn refresh(&self, cluster: &ClusterView, registry: &registry::View) {
        let mut problems = self.found.clone();
        problems.extend(self.own_files.borrow().problem.clone());
        if let Some(why) = &registry.unsaved {
            let detail = format!("what happens to plugins is not shown until it can be saved: {why}");
            let severity = if registry.is_lost { Severity::NotReady } else { Severity::Unhealthy };
            problems.push(Problem { code: "store_failed", detail, severity });
        }
        match &cluster.epmd {
            EpmdState::Unknown | EpmdState::Registered | EpmdState::Served => {}
            EpmdState::Unavailable { reason } => {
                let detail = reason.clone();
                problems.push(Problem { code: "epmd_unavailable", detail, severity: Severity::Notice });
            }
            EpmdState::NameTaken { name } => {
                let detail = format!(
                    "the node name {name} is taken by another node of this host: stop that node, or set HECATE_NODE_NAME"
                );
                let severity = if self.config.node_explicit { Severity::NotReady } else { Severity::Notice };
                problems.push(Problem { code: "node_name_taken", detail, severity });
            }
        }
        // Only six digits are a problem; the uid alone is normal for a second user of a host.
        if let [_, _, ..] = *cluster.names_taken {
            let detail = format!(
                "other processes of this host use the node names {}, so this node is {}: peers that look for `hecate` do not \
                 find it; run `hecate-daemon doctor` to see which, or set HECATE_NODE_NAME",
                cluster.names_taken.join(", "),
                cluster.node.as_deref().unwrap_or_default()
            );
            problems.push(Problem { code: "node_name_fallback", detail, severity: Severity::Notice });
        }
        problems.extend(not_connected(&cluster.plugin_nodes, registry));
        self.status.send_modify(|status| {
            status.node_name.clone_from(&cluster.node);
            let is_shown = |(shown, owner): (&EpmdOwner, &view::EpmdOwner)| {
                (shown.uid, shown.pid, &shown.program) == (owner.uid, owner.pid, &owner.program)
            };
            let owners = &cluster.epmd_owners;
            if status.epmd_owners.len() != owners.len() || !status.epmd_owners.iter().zip(&**owners).all(is_shown) {
                status.epmd_owners = owners.iter().cloned().map(with_user_name).collect();
            }
            status.problems = problems;
        });
    }

    /// Ready: one line for whoever started us, and the state for whoever looks later.
    fn announce(&self) {
        // If `run/` vanished, the file is written again with the directory.
        if let Err(e) = self.lock.write_state(RunState::Running) {
            warn!("{e}");
        }
        let node = self.status.borrow().node_name.clone();
        let node = node.as_deref().unwrap_or("none yet (see /health)");
        let socket = self.config.locations.socket.display();
        // Whoever closed our standard output does not want the line.
        let _ = writeln!(std::io::stdout(), "hecate-daemon is ready: socket {socket}, node {node}");
        info!(%socket, node, "ready");
        self.manager.ready();
    }

    /// The whole in one line, for whoever asks the service manager.
    fn told(&self, ready: bool, registry: &registry::View) -> String {
        let status = self.status.borrow();
        if let Some(problem) = status.blocker() {
            return format!("not ready: {}", problem.detail);
        }
        if !ready {
            return STARTING.to_owned();
        }
        let plugins = format!("{} of {} plugins running", registry.running, registry.plugins.size());
        match (&status.node_name, status.problems.first()) {
            (Some(node), _) => format!("{node}: {plugins}"),
            (None, Some(problem)) => format!("{plugins}; no node: {}", problem.detail),
            (None, None) => plugins,
        }
    }
}

/// The signals that end the daemon in good order.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// The terminal was closed.
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use beam::connect::dial::DialCode;

    use super::*;
    use crate::cluster::view::{NodeState, PluginNode};
    use crate::plugin::{Plugin, sample};

    #[test]
    fn more_open_files_than_we_need_are_not_asked_for() {
        assert_eq!(open_files(Some(2_048)), 2_048);
        assert_eq!(open_files(Some(limits::OPEN_FILES + 1)), limits::OPEN_FILES);
        assert_eq!(open_files(None), limits::OPEN_FILES);
    }

    #[test]
    fn plugins_whose_nodes_fail_alike_are_one_problem() {
        let plugin = |index: usize, status| {
            let plugin = sample::plugin(&format!("a-{index}d"));
            (plugin.name.clone(), Arc::new(Plugin { node_given: true, status, ..plugin }))
        };
        let running = (1..=limits::NAMED_AT_ONCE + 3).map(|index| plugin(index, Status::Running));
        let plugins = running.chain([plugin(0, Status::Stopped)]).collect();
        let registry = registry::View { ready: true, plugins, ..registry::View::default() };
        let mut nodes = NodeStates::default();
        for (name, index) in registry.plugins.keys().zip(0..) {
            let code = if index < 2 { DialCode::TcpRefused } else { DialCode::CookieMismatch };
            let (state, plugins) = (NodeState::NotConnected(Some(code)), Arc::from([name.clone()]));
            nodes.set(format!("n{index}@h").parse().unwrap(), Some(PluginNode { state, plugins }));
        }
        let problems = not_connected(&nodes, &registry);
        let details: Vec<&str> = problems.iter().map(|problem| problem.detail.as_str()).collect();
        let named = "a-2d (n2@h), a-3d (n3@h), a-4d (n4@h), a-5d (n5@h), a-6d (n6@h) and 2 more";
        assert_eq!(
            details,
            [
                format!(
                    "plugins whose nodes are not connected (cookie_mismatch): {named}; run `hecate-daemon \
                     diagnose n2@h`"
                )
                .as_str(),
                "plugins whose nodes are not connected (tcp_refused): a-1d (n1@h); run `hecate-daemon diagnose \
                 n1@h`",
            ]
        );
        let judging = registry::View { ready: false, ..registry };
        assert_eq!(not_connected(&nodes, &judging), [], "no status is believed before the plugins are judged");
    }
}
