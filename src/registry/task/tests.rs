//! Tests of the registry's task with a real store and home: commits, followers and the end.

mod home;
mod purge;

use std::collections::BTreeSet;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::Connection;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;
use crate::layout::{Home, Modes, RunLock};
use crate::plugin::Plugin;
use crate::plugin::{
    EventKind, Field, Registration, Status,
    sample::{name, registration},
};
use crate::registry::command::DiskCommand;
use crate::registry::{Follower, Membership, Next, Registrant};

/// How long a test waits for a condition.
const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    dir: tempfile::TempDir,
    layout: Arc<Layout>,
    handle: Handle,
    task: JoinHandle<()>,
    /// The number of checks of the API's socket.
    checks: Arc<AtomicUsize>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = dir.path().to_owned();
        Self::at(dir, root)
    }

    fn at(dir: tempfile::TempDir, root: PathBuf) -> Self {
        let home = Home::new(root).expect("absolute");
        let layout = Arc::new(Layout::open(home, Modes::default()).expect("opened"));
        let own = layout.ensure_own().expect("made");
        let opened = Store::open(&own.sqlite(), SystemTime::now()).expect("opened");
        let checks = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&checks);
        let check_socket = Arc::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let (handle, task) = start(Config::default(), Arc::clone(&layout), opened, check_socket);
        Self { dir, layout, handle, task, checks }
    }

    async fn stop(self) -> tempfile::TempDir {
        self.handle.stop().await;
        timeout(PATIENCE, self.task).await.expect("it ends").expect("without a panic");
        self.dir
    }

    async fn register(&self, name: &str) -> Result<Arc<Plugin>, Refusal> {
        self.handle.register(registration(name), None).await
    }

    fn path(&self, name: &str, sub: &str) -> PathBuf {
        self.layout.home().root().join(name).join(sub)
    }

    /// Opens the database on a second connection.
    fn database(&self) -> Connection {
        Connection::open(self.path("hecate-daemon", "sqlite/plugins.db")).expect("opened")
    }

    fn count(&self, query: &str) -> i64 {
        self.database().query_row(query, (), |row| row.get(0)).expect("a number")
    }

    /// Makes every commit fail.
    fn break_store(&self) {
        let refuse = "CREATE TRIGGER broken BEFORE INSERT ON events BEGIN SELECT raise(ABORT, 'broken'); END";
        self.database().execute_batch(refuse).expect("made");
    }

    fn repair_store(&self) {
        self.database().execute_batch("DROP TRIGGER broken").expect("removed");
    }

    async fn until(&self, holds: impl Fn(&View) -> bool) {
        let mut watch = self.handle.watch();
        let seen = timeout(PATIENCE, watch.wait_for(|view| holds(view))).await;
        seen.unwrap_or_else(|_| panic!("not reached: {:?}", self.handle.view())).expect("the registry is running");
    }

    async fn up(&self, node: &str) {
        self.handle.membership(Membership::NodeUp { node: node.parse().unwrap(), on_this_host: true }).await;
    }

    async fn down(&self, node: &str) {
        self.handle.membership(Membership::NodeDown { node: node.parse().unwrap(), reason: "gone".into() }).await;
    }
}

fn on(text: &str, node: &str) -> Registration {
    Registration { node: Field::Set(node.parse().unwrap()), ..registration(text) }
}

fn status(view: &View, plugin: &str) -> Option<Status> {
    view.plugins.get(&name(plugin)).map(|plugin| plugin.status)
}

/// Waits for a condition that no channel reports.
async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn code<T: std::fmt::Debug>(result: Result<T, Refusal>) -> &'static str {
    result.expect_err("refused").code()
}

#[tokio::test]
async fn the_socket_is_compared_before_each_change_is_answered() {
    let world = World::new();
    for expected in 1..=2 {
        world.register(&format!("hecate-p{expected}d")).await.expect("registered");
        assert_eq!(world.checks.load(Ordering::Relaxed), expected);
    }
    world.handle.deregister(name("hecate-p1d")).await.expect("deregistered");
    assert_eq!(world.checks.load(Ordering::Relaxed), 3);
    world.handle.purge(name("hecate-p1d")).await.expect("purged");
    assert_eq!(world.checks.load(Ordering::Relaxed), 4);
    world.stop().await;
}

#[tokio::test]
async fn an_answered_registration_is_on_disk_and_in_the_view() {
    let world = World::new();
    for (number, plugin) in (1_i64..).zip(["hecate-oned", "hecate-twod", "hecate-oned"]) {
        let registered = world.register(plugin).await.expect("accepted");
        let query = format!("SELECT count(*) FROM plugins WHERE name = '{plugin}' AND status = 'running'");
        assert_eq!(world.count(&query), 1);
        assert_eq!(world.count("SELECT max(revision) FROM events"), number);
        assert_eq!(world.handle.view().plugins.get(&registered.name), Some(&registered));
        assert!(world.path(plugin, "sockets").is_dir() && world.path(plugin, "reckon-db").is_dir());
    }
    world.handle.deregister(name("hecate-oned")).await.expect("there");
    assert_eq!(world.count("SELECT count(*) FROM plugins"), 1);
    assert_eq!(status(&world.handle.view(), "hecate-oned"), None);
    assert!(world.path("hecate-oned", "sockets").is_dir(), "its data is kept");
}

#[tokio::test]
async fn many_registrations_share_commits() {
    let world = World::new();
    let many = 2 * BATCH + 256;
    let mut asked = JoinSet::new();
    for number in 0..many {
        let handle = world.handle.clone();
        asked.spawn(async move { handle.register(registration(&format!("hecate-x{number}d")), None).await });
    }
    let revisions: BTreeSet<u64> =
        asked.join_all().await.into_iter().map(|answer| answer.expect("accepted").incarnation).collect();
    assert_eq!(revisions.len(), many, "each registration has a distinct revision");
    assert_eq!(world.handle.view().plugins.size(), many);
    // All events of a batch have the same time, because the clock is read once per batch.
    let commits = usize::try_from(world.count("SELECT count(DISTINCT at) FROM events")).expect("a number");
    assert!(commits >= many / BATCH, "{commits} commits: a batch is bounded");
    assert!(commits <= many / 8, "{commits} commits for {many} registrations");
}

#[tokio::test]
async fn commands_that_wait_are_bounded() {
    // The registry begins at the first await.
    let world = World::new();
    let ping = || Command::Ping { reply: oneshot::channel().0 };
    for number in 1..=256 {
        assert!(world.handle.commands.try_send(ping()).is_ok(), "{number}");
    }
    assert!(world.handle.commands.try_send(ping()).is_err(), "more than 256");
    let contents = || DiskCommand::Contents { name: name("hecate-oned"), reply: oneshot::channel().0 };
    for number in 1..=256 {
        assert!(world.handle.disk.try_send(contents()).is_ok(), "{number}");
    }
    assert!(world.handle.disk.try_send(contents()).is_err(), "more than 256");
    world.register("hecate-oned").await.expect("it waits for its turn");
    world.stop().await;
}

#[tokio::test]
async fn changes_that_cannot_be_stored_are_refused() {
    let world = World::new();
    world.register("hecate-oned").await.expect("accepted");
    let before = world.handle.view();
    let mut events = world.handle.events();
    world.break_store();
    assert_eq!(code(world.register("hecate-twod").await), "store_failed");
    assert_eq!(code(world.handle.deregister(name("hecate-oned")).await), "store_failed");
    let after = world.handle.view();
    assert_eq!((after.revision, &after.plugins), (before.revision, &before.plugins));
    world.repair_store();
    let registered = world.register("hecate-threed").await.expect("accepted");
    assert_eq!(registered.incarnation, before.revision + 1);
    let event = events.recv().await.expect("an event");
    assert_eq!(event.plugin, registered, "no event of a failed change");
    let after: Vec<_> = world.handle.view().plugins.keys().map(PluginName::to_string).collect();
    assert_eq!(after, ["hecate-oned", "hecate-threed"]);
    assert_eq!(world.count("SELECT count(*) FROM plugins"), 2);
}

#[tokio::test]
async fn observations_are_kept_while_the_store_fails() {
    let world = World::new();
    world.handle.register(on("hecate-oned", "one@host"), None).await.expect("accepted");
    world.up("one@host").await;
    world.break_store();
    world.down("one@host").await;
    assert_eq!(code(world.register("hecate-twod").await), "store_failed");
    let view = world.handle.view();
    assert_eq!(status(&view, "hecate-oned"), Some(Status::Running));
    assert!(
        view.unsaved.as_ref().is_some_and(|why| why.contains("plugins.db")),
        "the view shows that it is outdated: {view:?}"
    );

    // The cluster continues to send while the store fails, and must wait at some point.
    let handle = world.handle.clone();
    let bound = limits::REGISTRY_BACKLOG + BATCH + limits::REGISTRY_QUEUE;
    let (sent, count) = watch::channel(0);
    let cluster = tokio::spawn(async move {
        for number in 0..2 * bound {
            let node = format!("n{number}@host").parse().unwrap();
            handle.membership(Membership::NodeUp { node, on_this_host: true }).await;
            sent.send_replace(number + 1);
        }
    });
    eventually("the backlog is full", || *count.borrow() >= limits::REGISTRY_BACKLOG + limits::REGISTRY_QUEUE / 2)
        .await;
    world.repair_store();
    world.until(|view| status(view, "hecate-oned") == Some(Status::Stopped)).await;
    assert_eq!(world.handle.view().unsaved, None);
    timeout(PATIENCE, cluster).await.expect("it continues").expect("without a panic");
    world.register("hecate-twod").await.expect("accepted");
    let revisions = "SELECT max(revision) - min(revision) + 1 - count(*) FROM events";
    assert_eq!(world.count(revisions), 0, "no gap");
}

#[tokio::test]
async fn a_full_backlog_makes_the_cluster_wait() {
    let world = World::new();
    world.handle.register(on("hecate-oned", "one@host"), None).await.expect("accepted");
    world.up("one@host").await;
    world.break_store();
    world.down("one@host").await;
    let bound = limits::REGISTRY_BACKLOG + BATCH + limits::REGISTRY_QUEUE;
    let send = async {
        for number in 0..=bound {
            world.up(&format!("n{number}@host")).await;
        }
    };
    let sent = timeout(COMMIT_RETRY / 2, send).await;
    assert!(sent.is_err(), "more than {bound} observations were accepted");
    world.repair_store();
    world.until(|view| status(view, "hecate-oned") == Some(Status::Stopped)).await;
}

#[tokio::test]
async fn changes_of_a_batch_see_earlier_ones() {
    // The test runs in one thread, so both requests are queued before the registry handles one.
    let world = World::new();
    world.handle.register(on("hecate-oned", "one@host"), None).await.expect("accepted");
    world.up("one@host").await;
    world.until(|view| view.revision >= 1).await;
    assert_eq!(code(world.handle.register(on("hecate-oned", "two@host"), None).await), "node_conflict");
    world.down("one@host").await;
    let moved = world.handle.register(on("hecate-oned", "two@host"), None).await.expect("the other node disconnected");
    assert_eq!(moved.node.as_deref(), Some("two@host"));
}

#[tokio::test]
async fn a_refused_registration_creates_no_directories() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let deep = dir.path().join("h".repeat(limits::SUN_PATH - 45 - dir.path().as_os_str().len()));
    let world = World::at(dir, deep);
    world.register("hecate-shortd").await.expect("it fits");
    let long = format!("hecate-{}d", "x".repeat(40));
    assert_eq!(code(world.register(&long).await), "socket_path_too_long");
    assert!(!world.path(&long, "").exists());
    assert_eq!(status(&world.handle.view(), &long), None);
}

#[tokio::test]
async fn a_namespace_that_cannot_be_created_refuses_the_registration() {
    let world = World::new();
    std::fs::write(world.layout.home().root().join("hecate-oned"), "").expect("written");
    let (bad, good) = tokio::join!(world.register("hecate-oned"), world.register("hecate-twod"));
    assert_eq!(code(bad), "layout_failed");
    assert_eq!(good.expect("accepted").incarnation, 1, "the other registration gets the first revision");
}

#[tokio::test]
async fn stored_plugins_are_judged_before_the_view_is_ready() {
    let world = World::new();
    world.register("hecate-oned").await.expect("accepted");
    let dir = world.stop().await;
    let root = dir.path().to_owned();
    let world = World::at(dir, root);
    let view = world.handle.view();
    assert_eq!((view.ready, view.revision, status(&view, "hecate-oned")), (false, 1, Some(Status::Running)));
    world.handle.membership(Membership::Settled).await;
    world.until(|view| view.ready).await;
    assert_eq!(status(&world.handle.view(), "hecate-oned"), Some(Status::Stopped));
}

#[tokio::test]
async fn a_dead_plugin_is_stopped_and_its_files_are_removed() {
    let world = World::new();
    let mut process = std::process::Command::new("sleep").arg("60").spawn().expect("sleep runs");
    world.layout.ensure(&name("hecate-oned"), None).expect("made");
    let socket = UnixListener::bind(world.path("hecate-oned", "sockets/api.sock")).expect("bound");
    let registrant = Registrant {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        pid: Some(i32::try_from(process.id()).expect("a pid")),
    };
    world.handle.register(registration("hecate-oned"), Some(registrant)).await.expect("accepted");
    let run = |file: &str| world.path("hecate-oned", "run").join(file);
    std::fs::write(run("daemon.pid"), process.id().to_string()).expect("written");
    std::fs::write(run("daemon.state"), "running").expect("written");

    // A sign of life ends the grace period, so that the death of the plugin is noticed at once.
    socket.set_nonblocking(true).expect("set");
    eventually("its socket is probed", || socket.accept().is_ok()).await;
    drop(socket);
    process.kill().expect("killed");
    process.wait().expect("ended");
    world.until(|view| status(view, "hecate-oned") == Some(Status::Stopped)).await;
    let gone = |path: &Path| !path.exists();
    eventually("its socket is removed", || gone(&world.path("hecate-oned", "sockets/api.sock"))).await;
    eventually("its run files are removed", || gone(&run("daemon.pid")) && gone(&run("daemon.state"))).await;
    assert!(world.path("hecate-oned", "sqlite").is_dir());
}

#[tokio::test]
async fn directories_are_created_when_a_node_connects_or_announces() {
    let world = World::new();
    world.handle.register(on("hecate-oned", "one@host"), None).await.expect("accepted");
    std::fs::remove_dir_all(world.path("hecate-oned", "run")).expect("removed");
    world.up("one@host").await;
    eventually("created again", || world.path("hecate-oned", "run").is_dir()).await;
    world
        .handle
        .membership(Membership::Announced { plugin: name("hecate-newd"), node: "one@host".parse().unwrap() })
        .await;
    eventually("created for an announcement", || world.path("hecate-newd", "connectors").is_dir()).await;
    assert_eq!(status(&world.handle.view(), "hecate-newd"), None);
}

#[tokio::test]
async fn a_follower_that_has_caught_up_reads_only_live_events() {
    let world = World::new();
    world.register("hecate-oned").await.expect("accepted");
    let (commands, mut queue) = mpsc::channel(1);
    let mut follower = Follower::new(Handle { commands, ..world.handle.clone() }, 0);
    let answer = async {
        let Some(Command::EventsAfter { revision: 0, reply }) = queue.recv().await else { panic!("not asked") };
        reply.send(world.handle.events_after(0).await).expect("waited for");
    };
    let (first, ()) = tokio::join!(follower.next(), answer);
    assert!(matches!(first, Ok(Next::Event(event)) if event.revision == 1));
    // Further requests would be refused.
    drop(queue);
    world.register("hecate-twod").await.expect("accepted");
    assert!(matches!(follower.next().await, Ok(Next::Event(event)) if event.revision == 2));
}

#[tokio::test]
async fn a_follower_that_falls_behind_misses_nothing() {
    let world = World::new();
    let (mut slow, mut live) = (Follower::new(world.handle.clone(), 0), world.handle.events());
    let revision_of = |next| match next {
        Ok(Next::Event(event)) => event.revision,
        other => panic!("no event: {other:?}"),
    };
    world.register("hecate-x0d").await.expect("accepted");
    assert_eq!(revision_of(slow.next().await), 1);
    let mut revision = 0;
    while revision <= u64::try_from(limits::EVENTS_BEHIND).expect("small") {
        let batch = (0..100).map(|number| {
            let handle = world.handle.clone();
            async move { handle.register(registration(&format!("hecate-x{number}d")), None).await }
        });
        let answers = batch.collect::<JoinSet<_>>().join_all().await;
        assert!(answers.iter().all(Result::is_ok));
        revision = world.handle.view().revision;
    }
    assert!(matches!(live.recv().await, Err(broadcast::error::RecvError::Lagged(_))));
    // The missed events are read from the store, and new ones follow.
    for expected in 2..=revision {
        assert_eq!(revision_of(slow.next().await), expected);
    }
    let (next, registered) = tokio::join!(slow.next(), world.register("hecate-nextd"));
    registered.expect("accepted");
    assert_eq!((revision_of(next), slow.delivered()), (revision + 1, revision + 1));
    // After a revision from another database, it gets the current view, and then new events.
    let mut lost = Follower::new(world.handle.clone(), revision + 100);
    assert_eq!(lost.next().await.expect("read"), Next::Missed(world.handle.view()));
    world.register("hecate-nextd").await.expect("accepted");
    assert_eq!(revision_of(lost.next().await), revision + 2);
}

#[tokio::test]
async fn a_stop_handles_queued_requests_and_refuses_later_ones() {
    let world = World::new();
    let (handle, mut events) = (world.handle.clone(), world.handle.events());
    // The test runs in one thread, so these are queued in this order before the registry handles
    // one.
    let (before, (), after) = tokio::join!(world.register("hecate-oned"), handle.stop(), world.register("hecate-twod"));
    before.expect("queued before the stop");
    after.expect("queued before the registry closed its queue");
    let dir = world.stop().await;
    assert_eq!(code(handle.register(registration("hecate-threed"), None).await), "stopping");
    assert_eq!(code(handle.deregister(name("hecate-oned")).await), "stopping");
    handle.membership(Membership::Settled).await;
    assert_eq!(events.recv().await.map(|event| event.revision), Ok(1));
    assert_eq!(events.recv().await.map(|event| event.revision), Ok(2));
    assert!(events.recv().await.is_err(), "the stream ends with the registry");
    let left = dir.path().join("hecate-daemon/sqlite/plugins.db-wal");
    assert!(!left.exists(), "the database is closed");
}

#[tokio::test]
async fn work_on_disk_ends_with_the_registry() {
    let world = World::new();
    world.register("hecate-oned").await.expect("accepted");
    std::fs::create_dir(world.path("hecate-oned", "own")).expect("made");
    let mut requests = JoinSet::new();
    for _ in 0..3 * disk::JOBS {
        let handle = world.handle.clone();
        requests.spawn(async move { handle.contents(name("hecate-oned")).await });
    }
    let answers = timeout(PATIENCE, requests.join_all()).await.expect("each is answered");
    for contents in answers {
        assert_eq!(contents.expect("read").extra_directories, ["own"]);
    }
    let handle = world.handle.clone();
    let _dir = world.stop().await;
    assert!(matches!(handle.contents(name("hecate-oned")).await, Err(Refusal::Stopping)));
}
