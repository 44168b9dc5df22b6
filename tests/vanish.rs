//! The daemon's own files are removed or replaced while the real daemon runs. Acknowledged
//! registrations survive a restart, others are refused, and the files of other processes are not
//! touched.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::daemon::Daemon;
use support::http::{self, Client};
use support::{Host, wait_for};

const DATABASE: [&str; 3] = ["plugins.db", "plugins.db-wal", "plugins.db-shm"];

struct Scene {
    host: Host,
    daemon: Daemon,
    acknowledged: Vec<String>,
}

impl Scene {
    /// A daemon with one registered plugin.
    fn new() -> Self {
        let host = Host::new();
        let daemon = host.daemon(&[]);
        daemon.ready();
        let mut scene = Self { host, daemon, acknowledged: Vec::new() };
        scene.register("hecate-firstd");
        scene
    }

    fn own(&self, below: &str) -> PathBuf {
        self.host.namespace("hecate-daemon").join(below)
    }

    fn register(&mut self, name: &str) {
        let answer = self.host.register(&json!({"name": name}));
        assert_eq!(answer.status, 201, "{answer:?}");
        self.acknowledged.push(name.to_owned());
        self.acknowledged.sort();
    }

    fn health(&self) -> Value {
        self.host.ask("GET", "/health").body
    }

    fn problem(&self, code: &str) -> Option<String> {
        let health = self.health();
        let problem = health["problems"].as_array().unwrap().iter().find(|problem| problem["code"] == code)?;
        assert_eq!(health["status"], "unhealthy", "{health}");
        Some(problem["detail"].as_str().unwrap().to_owned())
    }

    fn is_well(&self) {
        wait_for("the daemon is healthy", || {
            self.health()["status"] == "healthy" && self.health()["problems"] == json!([])
        });
        assert_eq!(self.host.ask("GET", "/readyz").status, 200);
    }

    /// Checks that the daemon keeps reporting the replaced file while it checks its own files
    /// several times. No request changes anything meanwhile.
    fn stays_lost(&self, database: &Path) {
        let is_reported =
            || self.problem("store_failed").is_some_and(|detail| detail.contains(database.to_str().unwrap()));
        wait_for("the fault is reported", is_reported);
        for _ in 0..2 {
            let pid = self.host.run_file("daemon.pid");
            fs::remove_file(&pid).unwrap();
            wait_for("the run files are back", || {
                assert!(is_reported(), "the report ended too early");
                assert_eq!(self.host.ask("GET", "/readyz").status, 503);
                pid.exists()
            });
        }
    }

    /// Kills the daemon, and checks that the next one has every acknowledged registration and no
    /// damage.
    fn survives(self) {
        let Self { host, daemon, acknowledged } = self;
        daemon.kill();
        starts_with(&host, &acknowledged);
    }
}

/// Starts a daemon, and checks that it has these plugins and no damage.
fn starts_with(host: &Host, plugins: &[String]) {
    let daemon = host.daemon(&[]);
    daemon.ready();
    let list = host.ask("GET", "/api/plugins").body;
    let names: Vec<&str> = list.as_array().unwrap().iter().map(|plugin| plugin["name"].as_str().unwrap()).collect();
    assert_eq!(names, plugins);
    assert_eq!(host.ask("GET", "/health").body["problems"], json!([]));
}

/// Removes a directory as `rm -rf` does, until it is gone: the daemon may create files in between.
fn remove_all(path: &Path) {
    wait_for("the directory is removed", || fs::remove_dir_all(path).is_ok() || !path.exists());
}

fn id(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

#[test]
fn a_registration_after_the_database_was_removed_survives_a_restart() {
    for files in [&DATABASE[..], &DATABASE[..1], &DATABASE[1..2], &DATABASE[1..]] {
        let mut scene = Scene::new();
        for file in files {
            fs::remove_file(scene.own("sqlite").join(file)).unwrap();
        }
        scene.register("hecate-secondd");
        scene.daemon.logs(&["ERROR", "while it was in use", "no events are lost"]);
        scene.register("hecate-thirdd");
        scene.is_well();
        scene.survives();
    }
}

#[test]
fn a_removed_database_is_written_again_without_a_registration() {
    let scene = Scene::new();
    remove_all(&scene.own("sqlite"));
    wait_for("the database exists again", || scene.own("sqlite/plugins.db").exists());
    scene.daemon.logs(&["ERROR", "sqlite", "created it again"]);
    scene.daemon.logs(&["ERROR", "wrote it again from the removed file"]);
    scene.is_well();
    scene.survives();
}

#[test]
fn a_database_removed_while_no_daemon_runs_is_recovered_from_its_log() {
    let Scene { host, daemon, acknowledged } = Scene::new();
    let database = host.namespace("hecate-daemon").join("sqlite/plugins.db");
    daemon.kill();
    fs::remove_file(&database).unwrap();
    let daemon = host.daemon(&[]);
    daemon.ready();
    daemon.logs(&["ERROR", "plugins.db-wal", "recovering its readable rows"]);
    let list = host.ask("GET", "/api/plugins").body;
    assert_eq!(list[0]["name"], json!(acknowledged[0]));
    let problems = host.ask("GET", "/health").body["problems"].clone();
    assert_eq!(problems[0]["code"], "registry_set_aside", "{problems}");
    assert!(problems[0]["detail"].as_str().unwrap().contains("1 plugin and "), "{problems}");
}

#[test]
fn a_replaced_database_refuses_registrations_and_is_left_alone() {
    let mut scene = Scene::new();
    let database = scene.own("sqlite/plugins.db");
    fs::rename(&database, scene.own("sqlite/moved")).unwrap();
    fs::write(&database, "another's").unwrap();
    let refused = scene.host.register(&json!({"name": "hecate-secondd"}));
    assert_eq!((refused.status, &refused.body["code"]), (503, &json!("store_failed")), "{refused:?}");
    scene.stays_lost(&database);
    assert_eq!(fs::read_to_string(&database).unwrap(), "another's");
    fs::remove_file(&database).unwrap();
    scene.register("hecate-thirdd");
    scene.is_well();
    scene.survives();
}

#[test]
fn a_replaced_database_is_reported_without_a_registration() {
    let scene = Scene::new();
    let database = scene.own("sqlite/plugins.db");
    fs::rename(&database, scene.own("sqlite/moved")).unwrap();
    fs::write(&database, "another's").unwrap();
    scene.stays_lost(&database);
    fs::rename(scene.own("sqlite/moved"), &database).unwrap();
    scene.is_well();
    scene.survives();
}

#[test]
fn a_backup_that_is_restored_over_the_database_is_used_by_the_next_start() {
    let restored: Vec<String> = (1..=8).map(|number| format!("hecate-old{number}d")).collect();
    let former = Host::new();
    let daemon = former.daemon(&[]);
    daemon.ready();
    for name in &restored {
        former.register_named(name);
    }
    assert_eq!(daemon.terminate().0.code(), Some(0));
    let backup = former.namespace("hecate-daemon").join("sqlite/plugins.db");

    for is_killed in [true, false] {
        let scene = Scene::new();
        let copy = scene.own("sqlite/backup");
        fs::copy(&backup, &copy).unwrap();
        fs::rename(&copy, scene.own("sqlite/plugins.db")).unwrap();
        if is_killed {
            wait_for("the fault is reported", || scene.problem("store_failed").is_some());
        }
        let Scene { host, daemon, .. } = scene;
        if is_killed {
            daemon.kill();
        } else {
            // Usually before the next check, so that the shutdown detects it.
            assert_eq!(daemon.terminate().0.code(), Some(0));
        }
        starts_with(&host, &restored);
    }
}

#[test]
fn a_removed_socket_is_bound_again() {
    let mut scene = Scene::new();
    for gone in ["sockets/api.sock", "sockets"] {
        let path = scene.own(gone);
        let _ = fs::remove_dir_all(&path);
        let _ = fs::remove_file(&path);
        wait_for("the socket answers again", || UnixStream::connect(scene.host.socket()).is_ok());
        scene.is_well();
    }
    scene.register("hecate-secondd");
    scene.daemon.logs(&["ERROR", "bound it again"]);
    let Scene { host, daemon, .. } = scene;
    assert_eq!(daemon.terminate().0.code(), Some(0));
    assert!(!host.socket().exists(), "the new socket was not removed at the end");
}

#[test]
fn removed_lock_and_run_files_are_restored_and_no_second_daemon_starts() {
    let mut scene = Scene::new();
    remove_all(&scene.own("run"));
    // Before the daemon has noticed, and after.
    assert_eq!(scene.host.daemon(&[]).ended(), Some(1));
    wait_for("the run files are back", || {
        fs::read_to_string(scene.host.run_file("daemon.state")).is_ok_and(|state| state == "running")
    });
    assert_eq!(fs::read_to_string(scene.host.run_file("daemon.pid")).unwrap(), scene.daemon.id().to_string());
    let mut second = scene.host.daemon(&[]);
    assert_eq!(second.ended(), Some(1));
    second.logs(&["another hecate-daemon serves", &scene.daemon.id().to_string()]);
    scene.register("hecate-secondd");
    scene.is_well();
    scene.survives();
}

#[test]
fn a_directory_that_was_replaced_by_a_link_is_reported() {
    let scene = Scene::new();
    for name in ["sqlite", "sockets"] {
        let (path, moved) = (scene.own(name), scene.own("moved"));
        fs::rename(&path, &moved).unwrap();
        std::os::unix::fs::symlink(&moved, &path).unwrap();
        wait_for("the fault is reported", || {
            scene.problem("own_files_lost").is_some_and(|detail| detail.contains(path.to_str().unwrap()))
        });
        assert_eq!(scene.host.ask("GET", "/readyz").status, 503);
        assert!(path.is_symlink(), "the link was replaced");
        fs::remove_file(&path).unwrap();
        fs::rename(&moved, &path).unwrap();
        scene.is_well();
    }
    scene.survives();
}

#[test]
fn a_removed_namespace_is_created_again_with_its_files() {
    let mut scene = Scene::new();
    remove_all(&scene.own(""));
    wait_for("the socket answers again", || UnixStream::connect(scene.host.socket()).is_ok());
    wait_for("the run files are back", || scene.host.run_file("daemon.state").exists());
    scene.register("hecate-secondd");
    scene.is_well();
    scene.survives();
}

/// `client` was connected before home was lost.
fn ends_without_home(scene: &mut Scene, client: &mut Client) {
    let mut ask = |method: &str, path: &str, body: &str| client.ask(method, path, body).expect("a response");
    let refused = ask("POST", "/api/plugins/register", r#"{"name": "hecate-secondd"}"#);
    assert_eq!((refused.status, &refused.body["code"]), (503, &json!("store_failed")), "{refused:?}");
    wait_for("the daemon is not ready", || ask("GET", "/readyz", "").status == 503);
    let health = ask("GET", "/health", "").body;
    assert_eq!((&health["status"], &health["ready"]), (&json!("unhealthy"), &json!(false)), "{health}");
    assert_eq!(scene.daemon.ended(), Some(1), "a supervisor decides about a restart");
    scene.daemon.logs(&["ERROR", "home directory", scene.host.home().join(".hecate").to_str().unwrap()]);
}

#[test]
fn a_removed_home_ends_the_daemon_and_is_not_created_again() {
    let mut scene = Scene::new();
    let mut client = Client::connect(&scene.host.socket()).unwrap();
    remove_all(&scene.host.home().join(".hecate"));
    ends_without_home(&mut scene, &mut client);
    assert!(!scene.host.home().join(".hecate").exists());
}

#[test]
fn a_replaced_home_ends_the_daemon_and_is_left_alone() {
    let mut scene = Scene::new();
    let mut client = Client::connect(&scene.host.socket()).unwrap();
    let (home, moved) = (scene.host.home().join(".hecate"), scene.host.home().join("moved"));
    fs::rename(&home, &moved).unwrap();
    // A second daemon may start there as on any other home.
    let second = scene.host.daemon(&[]);
    second.ready();
    let socket = id(&scene.host.socket());
    ends_without_home(&mut scene, &mut client);
    assert_eq!(id(&scene.host.socket()), socket, "the socket of the other daemon was removed");
    assert_eq!(fs::read_to_string(scene.host.run_file("daemon.pid")).unwrap(), second.id().to_string());
    assert_eq!(scene.host.ask("GET", "/api/plugins").body, json!([]));
    second.kill();
    // The home that was moved has everything that was acknowledged.
    fs::remove_dir_all(&home).unwrap();
    fs::rename(&moved, &home).unwrap();
    scene.daemon = scene.host.daemon(&[]);
    scene.daemon.ready();
    scene.survives();
}

#[test]
fn a_foreign_socket_at_our_path_is_reported_and_left_alone() {
    let scene = Scene::new();
    let mut client = Client::connect(&scene.host.socket()).unwrap();
    let path = scene.host.socket();
    fs::rename(&path, scene.own("sockets/ours")).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    let there = id(&path);
    wait_for("the fault is reported", || {
        let health = client.ask("GET", "/health", "").unwrap().body;
        health["problems"].as_array().unwrap().iter().any(|problem| problem["code"] == "socket_foreign")
    });
    assert_eq!(client.ask("GET", "/readyz", "").unwrap().status, 503);
    assert_eq!(id(&path), there);
    drop(other);
    fs::remove_file(&path).unwrap();
    wait_for("the socket answers again", || http::ask(&path, "GET", "/health", None).is_ok());
    scene.is_well();

    fs::rename(&path, scene.own("sockets/ours")).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    let there = id(&path);
    let Scene { daemon, .. } = scene;
    assert_eq!(daemon.terminate().0.code(), Some(0));
    assert_eq!(id(&path), there, "the other process's socket was removed");
}
