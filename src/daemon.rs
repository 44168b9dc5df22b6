//! Composes the other modules: starts them in order, reports the status of the daemon, and shuts
//! them down.
//!
//! The order of the start is: home, lock, store, registry, socket, cluster. The shutdown stops
//! accepting requests, and finishes the current ones. It leaves the process groups so that monitors
//! fire, and unregisters from EPMD. Then it stops the registry, and removes the socket and the run
//! files. If a task that owns state ends by itself, it has panicked. The process then ends too, so
//! that a supervisor can restart it.

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
    /// The directories of home cannot be created.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Another daemon uses this home, or the run files cannot be written.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The socket cannot be bound.
    #[error(transparent)]
    Socket(#[from] BindError),
    /// The node cannot be started.
    #[error(transparent)]
    Cluster(#[from] StartError),
    /// Signal handlers cannot be installed.
    #[error("cannot handle signals: {0}")]
    Signals(std::io::Error),
    /// Home or the lock was lost while the daemon ran.
    #[error("{0}")]
    Lost(String),
    /// A task that must not end has ended.
    #[error("internal error: the {0} ended unexpectedly; see the panic above")]
    Ended(&'static str),
    /// A blocking step of the start has panicked.
    #[error("internal error during the start: {0}")]
    Join(#[from] JoinError),
}

/// Serves until SIGTERM, SIGINT or SIGHUP. A second signal skips the orderly shutdown. The tasks of
/// the cluster run on the runtime `node`, all others on the current one.
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
    // Last, and also after an error: run files that are left behind mean a crash.
    result.and(lock.remove_files().map_err(Error::from))?;
    info!("stopped");
    Ok(())
}

/// Starts everything else in the locked home, serves, and shuts down.
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
    let blocking_layout = Arc::clone(&layout);
    let (opened, siblings) = spawn_blocking(move || {
        let opened = Store::open(&blocking_layout.home().own().sqlite(), SystemTime::now())?;
        Ok::<_, OpenError>((opened, blocking_layout.check_siblings()))
    })
    .await??;
    let found = start_problems(opened.set_aside.as_deref().map(|path| (path, opened.salvaged)), siblings);

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

    let (pulse, probed_registry) = (cluster.pulse(), registry.clone());
    let manager = systemd::Manager::start(STARTING);
    let mut daemon =
        Daemon { config, lock, registry, registry_task, cluster, cluster_view, status, found, own_files, manager };
    let result = tokio::select! {
        result = daemon.serve(signals) => result,
        never = systemd::feed_watchdog(async || {
            pulse.answers().await;
            let _ = probed_registry.ping().await;
        }) => match never {},
    };
    daemon.manager.stopping();
    daemon.status.send_modify(|status| status.phase = Phase::Stopping);
    if let Err(e) = daemon.lock.write_state(RunState::Stopping) {
        warn!("{e}");
    }
    let Daemon { registry, registry_task, cluster, manager, .. } = daemon;
    let shut_down = async {
        stop_api.cancel();
        let _ = api.await;
        cluster.stop().await;
        registry.stop().await;
        if !registry_task.is_finished() {
            let _ = registry_task.await;
        }
    };
    tokio::select! {
        done = timeout(limits::SHUTDOWN_TIME, shut_down) => if done.is_err() {
            warn!("the shutdown took longer than {} ms and was cut short", limits::SHUTDOWN_TIME.as_millis());
        },
        () = signals.received() => warn!("received a second signal; exiting without an orderly shutdown"),
    }
    manager.end().await;
    socket.set(None);
    result
}

/// Raises the limit of open files to [`limits::OPEN_FILES`], or to the system's maximum if that is
/// lower. Each peer and each client needs an open file.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = open_files(limit.maximum);
    if limit.current.is_some_and(|current| current < wanted)
        && let Err(e) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit })
    {
        warn!("cannot raise the limit of open files to {wanted}: {e}");
    }
}

/// Returns the limit of open files to set, for the system's maximum.
fn open_files(maximum: Option<u64>) -> u64 {
    maximum.unwrap_or(u64::MAX).min(limits::OPEN_FILES)
}

/// Creates the daemon's own directories, and locks them against a second daemon.
fn lock_home(home: Home, modes: Modes) -> Result<(Layout, Arc<RunLock>), Error> {
    let layout = Layout::open(home, modes)?;
    layout.ensure_own()?;
    let lock = RunLock::acquire(&layout)?;
    Ok((layout, lock))
}

/// Returns the problems that were found during the start and last until the next one. The daemon
/// serves in spite of them.
fn start_problems(set_aside: Option<(&Path, Option<Salvaged>)>, siblings: Result<(), SiblingError>) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some((path, salvaged)) = set_aside {
        let recovered = match salvaged {
            Some(Salvaged { plugins, events }) => format!(
                "{} and {} were recovered, and others may be missing",
                counted(plugins, "plugin"),
                counted(events, "event")
            ),
            None => "it is unknown how much was recovered".to_owned(),
        };
        let detail = format!(
            "the registry's database was damaged and was moved to {}; {recovered}; register missing plugins again, then \
             move the damaged file away and restart the daemon",
            path.display()
        );
        problems.push(Problem { code: "registry_set_aside", detail, severity: Severity::Unhealthy });
    }
    if let Err(error) = siblings {
        let (code, severity) = match error {
            SiblingError::Home(_) => ("home_not_writable", Severity::Unhealthy),
            SiblingError::Apart { .. } => ("home_not_mounted", Severity::Notice),
        };
        problems.push(Problem { code, detail: error.to_string(), severity });
    }
    for problem in &problems {
        warn!(code = problem.code, "{}", problem.detail);
    }
    problems
}

/// Returns one problem per failure code for the nodes of plugins that are not connected. A stopped
/// plugin counts only if its node refuses to connect.
fn not_connected(nodes: &NodeStates, registry: &registry::View) -> Vec<Problem> {
    let is_running = |plugin| registry.plugins.get(plugin).is_some_and(|plugin| plugin.status == Status::Running);
    let mut failures: BTreeMap<&str, Vec<(&PluginName, &NodeName)>> = BTreeMap::new();
    for (node, code, plugins) in nodes.not_connected().filter(|_| registry.ready) {
        let code = code.map_or("connection_lost", |code| code.name());
        let affected = plugins.iter().filter(|plugin| FailureCode::from(code).is_refusal() || is_running(plugin));
        failures.entry(code).or_default().extend(affected.map(|plugin| (plugin, node)));
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
            "the nodes of these plugins are not connected ({code}): {named}{more}; run `hecate-daemon diagnose {first}`"
        );
        Some(Problem { code: "plugin_node_not_connected", detail, severity: Severity::Notice })
    };
    failures.into_iter().filter_map(problem).collect()
}

fn with_user_name(view::EpmdOwner { uid, pid, program }: view::EpmdOwner) -> EpmdOwner {
    EpmdOwner { uid, user: accounts::user_name(uid), pid, program }
}

fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

fn cluster_settings(config: &Config) -> cluster::ClusterSettings {
    let own_uid = rustix::process::getuid().as_raw();
    let allowed_uids = config.allowed_uids.iter().copied().chain([own_uid, 0]).collect();
    let host = config.node.host().to_owned();
    // An IP address has no short form.
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
    /// The problems that were found during the start.
    found: Vec<Problem>,
    own_files: watch::Receiver<own_files::Report>,
    manager: systemd::Manager,
}

/// The status line for the service manager until the daemon is ready.
const STARTING: &str = "starting: looking for nodes and plugins";

impl Daemon<'_> {
    /// Updates the status until a signal arrives, or until a task ends that must not.
    async fn serve(&mut self, signals: &mut Signals) -> Result<(), Error> {
        let mut registry = self.registry.watch();
        let mut cluster = self.cluster_view.clone();
        let mut own_files = self.own_files.clone();
        let mut announced = false;
        let mut announced_node = None;
        self.status.send_modify(|status| status.phase = Phase::Running);
        loop {
            let plugins = registry.borrow_and_update().clone();
            let lost = own_files.borrow_and_update().ended.clone();
            if let Some(why) = lost {
                return Err(Error::Lost(why));
            }
            self.refresh(&cluster.borrow_and_update().clone(), &plugins);
            // The ready line names the node. So it waits until there is a node or a problem.
            let ready = {
                let status = self.status.borrow();
                let joined = status.node_name.is_some() || !status.problems.is_empty();
                joined && plugins.ready && status.blocker().is_none()
            };
            let node = self.status.borrow().node_name.clone();
            if ready && !announced {
                self.announce(node.as_deref());
                (announced, announced_node) = (true, node);
            } else if announced && node.is_some() && node != announced_node {
                info!(node = node.as_deref(), "joined the cluster");
                announced_node = node;
            }
            self.manager.status(self.status_line(ready, &plugins));
            tokio::select! {
                () = signals.received() => return Ok(()),
                _ = registry.changed() => {}
                _ = cluster.changed() => {}
                changed = own_files.changed() => if changed.is_err() {
                    return Err(Error::Ended("watch of the daemon's own files"));
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
            let detail =
                format!("changes of plugins cannot be saved, so the registry shows the last saved state: {why}");
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
                    "the node name {name} is in use by another node on this host; stop that node, or set HECATE_NODE_NAME"
                );
                let severity = if self.config.node_explicit { Severity::NotReady } else { Severity::Notice };
                problems.push(Problem { code: "node_name_taken", detail, severity });
            }
        }
        // A name with random digits is a problem. A name with only the uid is normal for a second
        // user.
        if let [_, _, ..] = *cluster.names_taken {
            let detail = format!(
                "other processes on this host use the node names {}, so this node is named {}, and peers that look for \
                 `hecate` do not find it; run `hecate-daemon doctor` to find these processes, or set HECATE_NODE_NAME",
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

    /// Reports on standard output, in the run files and to the service manager that the daemon is
    /// ready.
    fn announce(&self, node: Option<&str>) {
        // If `run/` vanished, the watch of the daemon's own files writes the state again.
        if let Err(e) = self.lock.write_state(RunState::Running) {
            warn!("{e}");
        }
        let node = node.unwrap_or("none yet (see `hecate-daemon status`)");
        let socket = self.config.locations.socket.display();
        // Standard output may be closed, which is not an error.
        let _ = writeln!(std::io::stdout(), "hecate-daemon is ready: socket {socket}, node {node}");
        // A program that parses the log expects the event in any case.
        if self.config.log_format == log::Format::Json || !log::shares_standard_output() {
            info!(%socket, node, "ready");
        }
        self.manager.ready();
    }

    /// Returns the status of the daemon in one line, for the service manager.
    fn status_line(&self, ready: bool, registry: &registry::View) -> String {
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

/// The signals that start an orderly shutdown.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Sent when the terminal is closed.
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
    fn the_limit_of_open_files_is_raised_only_as_far_as_needed() {
        assert_eq!(open_files(Some(2_048)), 2_048);
        assert_eq!(open_files(Some(limits::OPEN_FILES + 1)), limits::OPEN_FILES);
        assert_eq!(open_files(None), limits::OPEN_FILES);
    }

    #[test]
    fn plugins_with_the_same_failure_code_share_one_problem() {
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
                    "the nodes of these plugins are not connected (cookie_mismatch): {named}; run `hecate-daemon \
                     diagnose n2@h`"
                )
                .as_str(),
                "the nodes of these plugins are not connected (tcp_refused): a-1d (n1@h); run `hecate-daemon \
                 diagnose n1@h`",
            ]
        );
        let judging = registry::View { ready: false, ..registry };
        assert_eq!(not_connected(&nodes, &judging), [], "before the plugins are judged, no status is reliable");
    }
}
