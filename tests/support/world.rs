//! The API on its own socket with its own registry. Only the cluster is simulated.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use beam::connect::dial::Dialer;
use beam::cookie::Cookie;
use beam::dist::challenges::Challenges;
use hecate_daemon::api::{self, Context, DaemonStatus, Limits, Phase};
use hecate_daemon::cluster::diagnosis::{self, Diagnostician};
use hecate_daemon::cluster::view::{ClusterView, HostState, HostView, PluginView};
use hecate_daemon::layout::{Home, Layout, Modes};
use hecate_daemon::plugin::{Reason, ReasonCode};
use hecate_daemon::registry::{self, Handle, Membership};
use hecate_daemon::store::Store;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::PATIENCE;

/// A daemon without a cluster. It ends with the test's runtime.
pub struct World {
    pub directory: tempfile::TempDir,
    pub socket: PathBuf,
    pub registry: Handle,
    pub status: watch::Sender<DaemonStatus>,
    pub cluster: watch::Sender<Arc<ClusterView>>,
    pub stop: CancellationToken,
    pub server: JoinHandle<()>,
    _file: api::SocketFile,
}

impl World {
    /// Starts a daemon that is running and has a status for each plugin.
    pub async fn start(limits: Limits) -> Self {
        let world = Self::starting(limits).await;
        world.status.send_modify(|status| status.phase = Phase::Running);
        world.registry.membership(Membership::Settled).await;
        let mut view = world.registry.watch();
        let ready = tokio::time::timeout(PATIENCE, view.wait_for(|view| view.ready)).await;
        ready.expect("in time").expect("the registry lives");
        world
    }

    /// Starts a daemon that has not finished starting.
    pub async fn starting(limits: Limits) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let home = Home::new(directory.path().join("home")).expect("absolute");
        let layout = Arc::new(Layout::open(home.clone(), Modes::default()).expect("made"));
        let own = layout.ensure_own().expect("made");
        let opened = Store::open(&own.sqlite(), SystemTime::now()).expect("opened");
        let (registry, _task) = registry::start(registry::Config::default(), layout, opened, Arc::new(|| ()));
        let (status, status_seen) = watch::channel(DaemonStatus::default());
        let (cluster, cluster_seen) = watch::channel(Arc::default());
        let context = Context {
            registry: registry.clone(),
            home,
            status: status_seen,
            diagnostician: diagnostician(cluster_seen.clone()),
            cluster: cluster_seen,
            allowed_uids: Vec::new(),
            started: Instant::now(),
        };
        let socket = own.api_sock();
        let (listener, file) = api::bind(&socket, 0o600, None).expect("bound");
        let stop = CancellationToken::new();
        Self {
            directory,
            socket,
            registry,
            status,
            cluster,
            server: tokio::spawn(api::serve(listener, context, limits, stop.clone())),
            stop,
            _file: file,
        }
    }
}

/// Returns a cluster in which another daemon was lost, 1.5 s after it announced a plugin of this
/// name.
pub fn with_a_lost_host(plugin: &str) -> ClusterView {
    let plugin = PluginView {
        name: plugin.to_owned(),
        version: Some("0.1.0".to_owned()),
        description: None,
        node: Some("hecate_traderd@beam01".parse().unwrap()),
        socket: "/there/api.sock".to_owned(),
        status: hecate_daemon::plugin::Status::Running,
        since: SystemTime::UNIX_EPOCH,
        reason: Reason::new(ReasonCode::Registered, "it registered"),
    };
    let lost = HostView {
        daemon: "hecate@beam01".parse().unwrap(),
        state: HostState::Lost,
        since: SystemTime::UNIX_EPOCH + Duration::from_millis(1500),
        plugins: [(plugin.name.clone(), Arc::new(plugin))].into_iter().collect(),
        left_out: 2,
    };
    ClusterView {
        node: Some("hecate@beam00".parse().unwrap()),
        host: "beam00".to_owned(),
        since: Some(SystemTime::UNIX_EPOCH),
        hosts: Arc::new(vec![lost]),
        ..ClusterView::default()
    }
}

/// Makes the diagnostician of a daemon that is not a node.
fn diagnostician(cluster: watch::Receiver<Arc<ClusterView>>) -> Diagnostician {
    let dialer = Dialer { epmd_port: 0, default_port: None, this_host: BTreeSet::new(), allowed_uids: BTreeSet::new() };
    let settings = diagnosis::DiagnosisSettings {
        dialer,
        cookie: Cookie::parse(b"cookie").expect("a cookie"),
        challenges: Challenges::default(),
        hidden: false,
        scopes: Vec::new(),
        tick_time: Duration::from_secs(60),
    };
    Diagnostician::new(settings, cluster, watch::channel(None).1)
}
