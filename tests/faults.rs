//! Disk faults in the real daemon. The tests make each system call that touches the disk fail, once
//! with each of four errors. They do so in a registration, a repeated registration, a
//! deregistration, a purge and a start.
//!
//! `strace` counts the calls of each name in each thread. The test lets each call fail in turn,
//! until a run has no failure. The response is a success or a clear refusal. The state is the same
//! as before the request or as after it, and the same daemon continues.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;

use hecate_daemon::files::beside;
use serde_json::json;
use support::daemon::Daemon;
use support::database::{self, Projection};
use support::http::Answer;
use support::strace::{self, Fault, Strace};
use support::{Host, PATIENCE, program, wait_for, wait_within};

/// Registered plugins, each with its version.
type Plugins = BTreeMap<String, Option<String>>;

/// A name, and the version to register, or `None` to deregister.
type Call = (String, Option<String>);

const SUBDIRECTORIES: [&str; 5] = ["sqlite", "reckon-db", "sockets", "run", "connectors"];

/// Returns every path that belongs to a plugin of this name or to the registry.
fn places(host: &Host, name: &str) -> Vec<PathBuf> {
    let mut places = vec![host.home().join(".hecate")];
    for namespace in [host.namespace(name), host.namespace("hecate-daemon")] {
        places.extend(SUBDIRECTORIES.iter().map(|directory| namespace.join(directory)));
        places.push(namespace);
    }
    let database = database::path(host);
    places.extend(["", "-wal", "-shm", "-journal"].iter().map(|tail| beside(&database, tail)));
    places.push(database.with_file_name(".plugins.db.new"));
    places
        .extend([".daemon.pid.new", ".daemon.state.new", "daemon.pid", "daemon.state"].map(|name| host.run_file(name)));
    places.extend([host.socket(), host.socket().with_file_name(".api.new")]);
    places
}

fn ask(host: &Host, (name, version): &Call) -> Answer {
    match version {
        Some(version) => host.register(&json!({"name": name, "version": version})),
        None => host.ask("DELETE", &format!("/api/plugins/{name}")),
    }
}

fn listed(host: &Host) -> Plugins {
    let list = host.ask("GET", "/api/plugins").body;
    let list = list.as_array().unwrap().iter();
    list.map(|plugin| (plugin["name"].as_str().unwrap().to_owned(), plugin["version"].as_str().map(str::to_owned)))
        .collect()
}

fn after(mut plugins: Plugins, (name, version): &Call) -> Plugins {
    match version {
        Some(version) => drop(plugins.insert(name.clone(), Some(version.clone()))),
        None => drop(plugins.remove(name)),
    }
    plugins
}

fn is_success(answer: &Answer) -> bool {
    matches!(answer.status, 200 | 201)
}

/// Checks that a refusal has its code, and names the file or the directory.
fn check_refusal(host: &Host, fault: &Fault, answer: &Answer) {
    let code = answer.body["code"].as_str().expect("a code");
    let expected = [("layout_failed", 500), ("store_failed", 503), ("may_be_running", 409)];
    assert!(expected.contains(&(code, answer.status)), "{fault:?}: {answer:?}");
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.contains(&host.home().join(".hecate").display().to_string()), "{fault:?}: {detail}");
    assert!(detail.contains("; "), "{fault:?}: no remedy in {detail}");
}

/// A daemon, and its expected state.
struct Scene {
    host: Host,
    daemon: Daemon,
    projection: Projection,
    version: u32,
    faults: u32,
    refusals: u32,
}

impl Scene {
    fn new() -> Self {
        let host = Host::new();
        let daemon = host.daemon(&[]);
        daemon.ready();
        Self { host, daemon, projection: Projection::default(), version: 0, faults: 0, refusals: 0 }
    }

    fn restart(&mut self) {
        self.daemon.end();
        self.daemon = self.host.daemon(&[]);
        self.daemon.ready();
    }

    fn stored(&mut self) -> Plugins {
        self.projection.follow(&database::path(&self.host))
    }

    /// Fails each system call of one kind of request. `next` prepares the state and returns the
    /// request.
    fn sweep(&mut self, error: &'static str, mut next: impl FnMut(&mut Self) -> Call) {
        let call = next(self);
        let strace = Strace::attach(&self.host, self.daemon.id(), &places(&self.host, &call.0), None);
        assert!(is_success(&ask(&self.host, &call)));
        let calls = strace::calls(&strace.detach());
        assert!(calls.iter().any(|call| call == "pwrite64"), "no writes were seen: {calls:?}");
        for name in calls {
            for number in 1.. {
                let call = next(self);
                let fault = Fault { call: name.clone(), number, error };
                if !self.fail(&fault, &call) {
                    break;
                }
            }
        }
    }

    /// Makes one request with one fault. Returns whether the fault happened.
    fn fail(&mut self, fault: &Fault, call: &Call) -> bool {
        let before = listed(&self.host);
        let strace = Strace::attach(&self.host, self.daemon.id(), &places(&self.host, &call.0), Some(fault));
        let answer = ask(&self.host, call);
        let failed = strace::has_failed(&strace.detach());
        let expected = if is_success(&answer) {
            after(before, call)
        } else {
            assert!(failed, "{call:?} fails without a fault: {answer:?}");
            check_refusal(&self.host, fault, &answer);
            self.refusals += 1;
            before
        };
        assert_eq!(listed(&self.host), expected, "{fault:?}: the list");
        assert_eq!(self.stored(), expected, "{fault:?}: the database");
        if is_success(&answer) && call.1.is_some() {
            for directory in SUBDIRECTORIES {
                assert!(self.host.namespace(&call.0).join(directory).is_dir(), "{fault:?}: {directory}");
            }
        }
        // The same daemon continues.
        if !is_success(&answer) {
            let again = ask(&self.host, call);
            assert!(is_success(&again), "{fault:?}, then {again:?}");
        }
        self.faults += u32::from(failed);
        failed
    }

    fn version(&mut self) -> Option<String> {
        self.version += 1;
        Some(format!("1.{}", self.version))
    }

    fn registered(&mut self, name: &str) -> Call {
        let call = (name.to_owned(), self.version());
        assert!(is_success(&ask(&self.host, &call)));
        call
    }
}

fn requests_on(error: &'static str) {
    let mut scene = Scene::new();
    // The namespace is new each time, or partly created before.
    scene.sweep(error, |scene| (format!("new-{}-d", scene.version), scene.version()));
    scene.registered("old-d");
    scene.sweep(error, |scene| ("old-d".to_owned(), scene.version()));
    scene.sweep(error, |scene| (scene.registered("old-d").0, None));
    println!("{error}: {} faults, {} refusals", scene.faults, scene.refusals);
    assert!(scene.refusals >= 10, "too few faults caused a refusal");
    let before = listed(&scene.host);
    scene.restart();
    assert_eq!(listed(&scene.host), before);
    assert_eq!(scene.stored(), before);

    // All steps of a commit but the last are done, and the daemon cannot undo them.
    let call = ("last-d".to_owned(), scene.version());
    let fault = Fault { call: "fsync".into(), number: 1, error };
    let strace = Strace::attach(&scene.host, scene.daemon.id(), &places(&scene.host, &call.0), Some(&fault));
    let answer = ask(&scene.host, &call);
    assert!(strace::has_failed(&strace.detach()) && !is_success(&answer), "{answer:?}");
    assert_eq!(listed(&scene.host), before);
    scene.restart();
    let then = listed(&scene.host);
    assert!(then == before || then == after(before, &call), "{then:?}");
    assert_eq!(scene.stored(), then);
}

#[test]
fn requests_on_a_full_disk_apply_completely_or_not_at_all() {
    requests_on("ENOSPC");
}

#[test]
fn requests_on_a_forbidden_disk_apply_completely_or_not_at_all() {
    requests_on("EACCES");
}

#[test]
fn requests_on_a_read_only_disk_apply_completely_or_not_at_all() {
    requests_on("EROFS");
}

#[test]
fn requests_on_a_broken_disk_apply_completely_or_not_at_all() {
    requests_on("EIO");
}

/// Starts on a new home, on one whose daemon was killed, and on one with a damaged database.
fn starts(error: &'static str) {
    let new = |host: &Host| drop(std::fs::remove_dir_all(host.home().join(".hecate")));
    let old = ("old-d".to_owned(), Some("1.0".to_owned()));
    let killed = |host: &Host| {
        if !host.socket().exists() {
            let daemon = host.daemon(&[]);
            daemon.ready();
            assert!(is_success(&ask(host, &old)));
            daemon.kill();
        }
    };
    let damaged = |host: &Host| {
        new(host);
        let database = database::path(host);
        std::fs::create_dir_all(database.parent().unwrap()).unwrap();
        std::fs::write(database, "no database at all").unwrap();
    };
    let plugins = Plugins::from([old.clone()]);
    std::thread::scope(|scope| {
        scope.spawn(|| starts_on(error, &Plugins::new(), "healthy", new));
        scope.spawn(|| starts_on(error, &plugins, "healthy", killed));
        // The daemon never silently starts with an empty database, whatever else fails.
        scope.spawn(|| starts_on(error, &Plugins::new(), "unhealthy", damaged));
    });
}

/// Returns the lines that explain a refused start, from the log or from before the log existed.
fn refusals_in(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("ERROR hecate_daemon: ") || line.starts_with("hecate-daemon: ")).collect()
}

/// Starts the daemon under `strace`, and waits until it is ready or has ended. Returns whether it
/// is ready, its log, and the output of `strace`.
fn start(host: &Host, paths: &[PathBuf], fault: Option<&Fault>) -> (bool, String, String) {
    let arguments = strace::arguments(host, paths, fault);
    // The daemon is our child, and `strace` is its grandchild.
    let program = program("strace");
    let by: Vec<&str> = [program.as_str(), "-D"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
    let mut daemon = Daemon::start_as(host, &by, &[]);
    let ended = wait_within(PATIENCE, "the daemon is ready or ends", || match daemon.ready_line() {
        Some(_) => Some(false),
        None => (!daemon.runs()).then_some(true),
    });
    if ended {
        let code = daemon.ended().expect("an exit code, not a signal");
        // A home that cannot be read is a configuration error.
        assert!([1, 2].contains(&code), "{fault:?}: {code}");
    } else {
        daemon.end();
    }
    let end = daemon.id().to_string();
    let mut seen = String::new();
    wait_for("strace reports the end", || {
        seen = std::fs::read_to_string(strace::log(host)).unwrap();
        let is_end = |line: &str| line.split_whitespace().take(2).eq([end.as_str(), "+++"]);
        // The daemon may fail at the kill itself, after `strace` has seen everything before.
        seen.lines().any(is_end) || daemon.log().contains("strace: ptrace(")
    });
    if ended {
        wait_for("the daemon has logged the reason", || !refusals_in(&daemon.log()).is_empty());
    }
    (!ended, daemon.log(), seen)
}

/// Fails each system call of a start, on a home that `prepare` has left and that contains
/// `plugins`.
fn starts_on(error: &'static str, plugins: &Plugins, word: &str, prepare: impl Fn(&Host)) {
    let host = Host::new();
    let paths = places(&host, "old-d");
    prepare(&host);
    let (ready, _, seen) = start(&host, &paths, None);
    assert!(ready);
    let (mut faults, mut refusals) = (0, 0);
    for call in strace::calls(&seen) {
        for number in 1.. {
            prepare(&host);
            let fault = Fault { call: call.clone(), number, error };
            let (ready, log, seen) = start(&host, &paths, Some(&fault));
            if !ready {
                let errors = refusals_in(&log);
                let home = host.home().join(".hecate").display().to_string();
                assert!(errors.len() == 1 && errors[0].contains(&home), "{fault:?}: {log}");
                assert!(
                    errors[0].contains("; ") || errors[0].contains(": move"),
                    "{fault:?}: it says what to do: {log}"
                );
                refusals += 1;
            }
            // The fault has caused no damage.
            let daemon = host.daemon(&[]);
            daemon.ready();
            assert_eq!(listed(&host), *plugins, "{fault:?}");
            let health = host.ask("GET", "/health").body;
            assert_eq!(health["status"], word, "{fault:?}: {health}\n{log}");
            daemon.kill();
            if !strace::has_failed(&seen) {
                assert!(ready, "{call} {number}: it fails without a fault: {log}");
                break;
            }
            faults += 1;
        }
    }
    // `strace` does not see the socket's path in this call. So the first `bind` fails, which is the
    // call for our socket.
    prepare(&host);
    let fault = Fault { call: "bind".to_owned(), number: 1, error };
    let (ready, log, seen) = start(&host, &[], Some(&fault));
    assert!(strace::has_failed(&seen) && !ready);
    assert!(refusals_in(&log)[0].contains(host.socket().parent().unwrap().to_str().unwrap()), "{log}");
    println!("{error}: {faults} faults, {refusals} refusals");
    assert!(refusals >= 10, "too few faults caused a refusal");
}

#[test]
fn starts_on_a_full_disk_lose_nothing() {
    starts("ENOSPC");
}

#[test]
#[ignore = "takes long: `make test-long`"]
fn starts_on_a_forbidden_disk_lose_nothing() {
    starts("EACCES");
}

#[test]
#[ignore = "takes long: `make test-long`"]
fn starts_on_a_read_only_disk_lose_nothing() {
    starts("EROFS");
}

#[test]
fn starts_on_a_broken_disk_lose_nothing() {
    starts("EIO");
}

/// Fails each system call of a purge. Either the data is complete and no purge is recorded, or the
/// data is gone and the purge is recorded.
fn purges_on(error: &'static str) {
    let mut scene = Scene::new();
    let name = "gone-d";
    let purges = |host: &Host| {
        let count = "SELECT count(*) FROM events WHERE kind = 'plugin_data_purged_v1'";
        let database = rusqlite::Connection::open(database::path(host)).unwrap();
        database.query_row(count, (), |row| row.get::<_, u32>(0)).unwrap()
    };
    let revision = |host: &Host| {
        let database = rusqlite::Connection::open(database::path(host)).unwrap();
        database.query_row("SELECT max(revision) FROM events", (), |row| row.get::<_, u32>(0)).unwrap()
    };
    let data = scene.host.namespace(name).join("sqlite/a.db");
    let prepare = |scene: &mut Scene| {
        scene.registered(name);
        std::fs::write(&data, "data").unwrap();
        assert!(is_success(&ask(&scene.host, &(name.to_owned(), None))));
        // The path where the data waits for its removal. The revision of its event is part of the
        // name.
        let aside = scene.host.home().join(format!(".hecate/.{name}.purged-{}", revision(&scene.host) + 1));
        let mut paths = places(&scene.host, name);
        paths.extend(SUBDIRECTORIES.map(|directory| aside.join(directory)));
        paths.extend([data.clone(), aside.join("sqlite/a.db"), aside]);
        paths
    };
    let purge = |scene: &Scene| scene.host.ask("DELETE", &format!("/api/plugins/{name}/data"));

    let paths = prepare(&mut scene);
    let strace = Strace::attach(&scene.host, scene.daemon.id(), &paths, None);
    assert_eq!(purge(&scene).status, 200);
    let calls = strace::calls(&strace.detach());
    assert!(
        ["unlinkat", "renameat2", "pwrite64"].iter().all(|call| calls.iter().any(|seen| seen == call)),
        "{calls:?}"
    );
    for call in calls {
        for number in 1.. {
            let fault = Fault { call: call.clone(), number, error };
            let paths = prepare(&mut scene);
            let before = purges(&scene.host);
            let strace = Strace::attach(&scene.host, scene.daemon.id(), &paths, Some(&fault));
            let answer = purge(&scene);
            let failed = strace::has_failed(&strace.detach());
            let done = purges(&scene.host) - before;
            if is_success(&answer) || answer.body["code"] == "purge_incomplete" {
                assert_eq!((done, scene.host.namespace(name).exists()), (1, false), "{fault:?}: {answer:?}");
            } else {
                assert!(failed, "it fails without a fault: {answer:?}");
                assert_eq!(
                    (done, std::fs::read_to_string(&data).unwrap().as_str()),
                    (0, "data"),
                    "{fault:?}: {answer:?}"
                );
                check_refusal(&scene.host, &fault, &answer);
                // The same daemon continues.
                assert_eq!(purge(&scene).status, 200, "{fault:?}");
            }
            scene.refusals += u32::from(!is_success(&answer));
            scene.faults += u32::from(failed);
            if !failed {
                break;
            }
        }
    }
    println!("{error}: {} faults of purges, {} refusals", scene.faults, scene.refusals);
    assert!(scene.refusals >= 5, "too few faults caused a refusal");
    // The next start removes what could not be removed before.
    scene.restart();
    let home = scene.host.home().join(".hecate");
    let left = || std::fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    wait_for("the rest is removed", || left() == ["hecate-daemon"]);
}

#[test]
fn purges_on_a_full_disk_complete_or_keep_all_data() {
    purges_on("ENOSPC");
}

#[test]
fn purges_on_a_forbidden_disk_complete_or_keep_all_data() {
    purges_on("EACCES");
}

#[test]
fn purges_on_a_read_only_disk_complete_or_keep_all_data() {
    purges_on("EROFS");
}

#[test]
fn purges_on_a_broken_disk_complete_or_keep_all_data() {
    purges_on("EIO");
}
