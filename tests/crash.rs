//! No acknowledged change is lost. The daemon is killed at random moments, while it starts and
//! while several clients register, register again, deregister and purge.
//!
//! An acknowledged change must still be there. A request without a response may be applied
//! completely or not at all. The test checks the database that the kill left, the disk, the list
//! over HTTP after the next start, and `pg` on a real node. The number of kills is
//! `HECATE_CRASHES`, 200 by default (`make crash`: 2,000). Random choices follow from a seed, which
//! a failure prints and `HECATE_CRASH_SEED` sets. The timing of the daemon's writes does not follow
//! from the seed.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use support::database::{self, Projection};
use support::erl::Erl;
use support::{Host, PATIENCE, http, wait_for};

const CLIENTS: u64 = 4;

/// Plugins of each client that have a listening socket all the time.
const LIVING: usize = 2;

/// The number of registered plugins from which a client mostly deregisters.
const MANY: usize = 12;

/// Longest time from the start of the requests to the kill, in microseconds.
const STORM: u64 = 60_000;

/// Longest time from the start of the program to a kill before it is ready, in microseconds.
const START: u64 = 20_000;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn pick<'a>(&mut self, names: &[&'a String]) -> &'a String {
        let index = self.below(names.len().try_into().unwrap());
        names[usize::try_from(index).unwrap()]
    }
}

/// A request of a client.
#[derive(Debug)]
enum Call {
    /// Registers this name and version.
    Register(String, String),
    Deregister(String),
    /// Purges the data of a plugin that is not registered.
    Purge(String),
}

/// A client, and the changes that were acknowledged to it.
struct Client {
    number: u64,
    random: Random,
    calls: u64,
    /// Registered plugins, each with its version.
    acknowledged: BTreeMap<String, String>,
    /// Deregistered plugins that still have their directories.
    left: BTreeSet<String>,
    /// Plugins that were purged since the last check.
    purged: BTreeSet<String>,
    /// The plugin whose purge may have been applied.
    purging: Option<String>,
    /// The request that got no response.
    open: Option<Call>,
    /// Every name in a request since the last check.
    sent: BTreeSet<String>,
    living: Vec<String>,
}

impl Client {
    fn new(number: u64, seed: u64) -> Self {
        let living = (0..LIVING).map(|n| format!("living-{number}-{n}-d")).collect();
        let random = Random(seed.wrapping_add(number + 1).wrapping_mul(0x9e37_79b9));
        let (acknowledged, left, purged, sent) = Default::default();
        Self { number, random, calls: 0, acknowledged, left, purged, purging: None, open: None, sent, living }
    }

    /// Sends one request after another, until the daemon no longer answers.
    fn storm(&mut self, socket: &Path) {
        loop {
            let call = self.next();
            let (asked, expected) = match &call {
                Call::Register(name, version) => {
                    let body = json!({"name": name, "version": version});
                    self.sent.insert(name.clone());
                    (http::ask(socket, "POST", "/api/plugins/register", Some(&body)), 201)
                }
                Call::Deregister(name) => (http::ask(socket, "DELETE", &format!("/api/plugins/{name}"), None), 200),
                Call::Purge(name) => (http::ask(socket, "DELETE", &format!("/api/plugins/{name}/data"), None), 200),
            };
            match asked {
                Ok(answer) => {
                    assert_eq!(answer.status, expected, "{call:?}: {answer:?}");
                    self.learn(call);
                }
                // The daemon did not receive the request.
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return,
                Err(_) => {
                    self.open = Some(call);
                    return;
                }
            }
        }
    }

    fn next(&mut self) -> Call {
        self.calls += 1;
        let held: Vec<&String> = self.acknowledged.keys().collect();
        let absent: Vec<&String> = self.living.iter().filter(|name| !self.acknowledged.contains_key(*name)).collect();
        let version = format!("1.{}", self.calls);
        let dice = self.random.below(10);
        if !held.is_empty() && (dice < 2 || held.len() > MANY && dice < 6) {
            return Call::Deregister(self.random.pick(&held).clone());
        }
        if !held.is_empty() && dice < 4 {
            return Call::Register(self.random.pick(&held).clone(), version);
        }
        if !absent.is_empty() && dice < 6 {
            return Call::Register(self.random.pick(&absent).clone(), version);
        }
        if !self.left.is_empty() && dice < 8 {
            return Call::Purge(self.random.pick(&self.left.iter().collect::<Vec<_>>()).clone());
        }
        Call::Register(format!("new-{}-{}-d", self.number, self.calls), version)
    }

    fn learn(&mut self, call: Call) {
        match call {
            Call::Register(name, version) => drop(self.acknowledged.insert(name, version)),
            Call::Deregister(name) => {
                self.acknowledged.remove(&name);
                if !has_socket(&name) {
                    self.left.insert(name);
                }
            }
            Call::Purge(name) => {
                self.left.remove(&name);
                self.purged.insert(name);
            }
        }
    }

    /// Compares the stored plugins with the acknowledged ones, and learns whether the open request
    /// was applied.
    fn check(&mut self, stored: &BTreeMap<String, Option<String>>) {
        let Some(call) = self.open.take() else { return };
        let (name, version) = match &call {
            Call::Register(name, version) => (name, Some(version)),
            Call::Deregister(name) => (name, None),
            // The disk shows it, after the next start has completed or undone the purge.
            Call::Purge(name) => {
                self.left.remove(name);
                self.purging = Some(name.clone());
                return;
            }
        };
        let found = stored.get(name).and_then(Option::as_ref);
        let before = self.acknowledged.get(name);
        assert!(found == version || found == before, "{name}: {found:?}, not {before:?} or {version:?}");
        if found == version {
            self.learn(call);
        }
    }
}

impl Client {
    /// Checks that deregistered plugins still have their directories and purged ones have none, and
    /// nothing in between. Returns the unregistered plugins that may have directories.
    fn check_data(&mut self, host: &Host) -> BTreeSet<String> {
        for name in std::mem::take(&mut self.purged) {
            assert!(!host.namespace(&name).exists(), "{name} was purged");
        }
        let purging = self.purging.take().filter(|name| host.namespace(name).exists());
        let mut left = std::mem::take(&mut self.left);
        left.extend(purging);
        for name in &left {
            assert_eq!(entries(&host.namespace(name)), whole(), "{name} was deregistered");
        }
        left.append(&mut self.sent);
        left
    }
}

/// Returns the directories of a namespace.
fn whole() -> BTreeSet<String> {
    ["connectors", "reckon-db", "run", "sockets", "sqlite"].map(String::from).into()
}

/// Binds the sockets of the plugins. They never accept connections, but are still alive.
fn bind_sockets(host: &Host, clients: &[Client]) -> Vec<UnixListener> {
    let bind = |name: &String| {
        let sockets = host.namespace(name).join("sockets");
        std::fs::create_dir_all(&sockets).unwrap();
        UnixListener::bind(sockets.join("api.sock")).unwrap()
    };
    clients.iter().flat_map(|client| &client.living).map(bind).collect()
}

fn has_socket(name: &str) -> bool {
    name.starts_with("living-")
}

fn entries(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Checks that every namespace of a registered plugin is complete, and that others contain at most
/// empty directories.
fn check_disk(host: &Host, acknowledged: &BTreeMap<String, String>, sent: &BTreeSet<String>) {
    let whole = whole();
    for name in acknowledged.keys() {
        assert_eq!(entries(&host.namespace(name)), whole, "{name} is registered");
    }
    let home = host.home().join(".hecate");
    // Interrupted purges are completed while the daemon serves.
    wait_for("interrupted purges are completed", || !entries(&home).iter().any(|name| name.contains(".purged-")));
    for name in entries(&home) {
        if name == "hecate-daemon" {
            continue;
        }
        let base = host.namespace(&name);
        assert!(
            acknowledged.contains_key(&name) || sent.contains(&name) || has_socket(&name),
            "{name} was never registered"
        );
        for directory in entries(&base) {
            let inside = entries(&base.join(&directory));
            let socket = has_socket(&name) && directory == "sockets";
            assert!(whole.contains(&directory), "{name}/{directory}");
            assert_eq!(inside, if socket { ["api.sock".to_owned()].into() } else { [].into() }, "{name}/{directory}");
        }
        if !acknowledged.contains_key(&name) && !has_socket(&name) {
            // As a user would do who no longer wants the data.
            std::fs::remove_dir_all(&base).unwrap();
        }
    }
    let own = |directory: &str| entries(&host.namespace("hecate-daemon").join(directory)).into_iter();
    assert_eq!(own("run").collect::<Vec<_>>(), ["daemon.pid", "daemon.state"]);
    assert_eq!(own("sockets").collect::<Vec<_>>(), ["api.sock"]);
    let tails = ["plugins.db", "plugins.db-shm", "plugins.db-wal"];
    assert!(own("sqlite").all(|file| tails.contains(&file.as_str())), "{:?}", own("sqlite"));
}

/// Checks that the list contains the acknowledged plugins, and that those with a listening socket
/// are running.
fn check_list(host: &Host, acknowledged: &BTreeMap<String, String>) {
    let list = host.ask("GET", "/api/plugins").body;
    let entry = |entry: &Value| {
        let text = |key: &str| entry[key].as_str().unwrap_or_else(|| panic!("{key} in {entry}")).to_owned();
        (text("name"), text("version"), text("status"))
    };
    let listed: Vec<_> = list.as_array().unwrap().iter().map(entry).collect();
    let status = |name: &str| if has_socket(name) { "running" } else { "stopped" };
    let expected: Vec<_> =
        acknowledged.iter().map(|(name, version)| (name.clone(), version.clone(), status(name).to_owned())).collect();
    assert_eq!(listed, expected);
    assert_eq!(host.ask("GET", "/health").body["status"], "healthy");
}

/// Checks that a real node finds exactly the running plugins in `pg`.
fn check_pg(erl: &mut Erl, us: &str, acknowledged: &BTreeMap<String, String>) {
    erl.pings(us);
    let running: Vec<String> =
        acknowledged.keys().filter(|name| has_socket(name)).map(|name| format!("<<\"{name}\">>")).collect();
    let groups =
        "lists:sort([{N, length(pg:get_members({hecate_plugin, N}))} || {hecate_plugin, N} <- pg:which_groups()])";
    let expected: Vec<String> = running.iter().map(|name| format!("{{{name},1}}")).collect();
    erl.eval_until(groups, &format!("[{}]", expected.join(",")), PATIENCE);
    erl.eval_until("length(pg:get_members(hecate_plugins))", &expected.len().to_string(), PATIENCE);
}

fn from_environment(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().unwrap_or_else(|e| panic!("{name}: {e}")))
}

#[test]
fn acknowledged_changes_survive_every_kill() {
    let crashes = from_environment("HECATE_CRASHES").unwrap_or(200);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = from_environment("HECATE_CRASH_SEED").unwrap_or(u64::from(now.subsec_nanos()));
    println!("HECATE_CRASH_SEED={seed} makes the same choices");
    let mut random = Random(seed);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|number| Client::new(number, seed)).collect();

    let host = Host::new();
    let _epmd = host.epmd();
    let _living = bind_sockets(&host, &clients);
    let mut erl = host.erl("watcher");
    erl.eval("pg:start_link()");
    let mut projection = Projection::default();
    let mut kills = 0;
    loop {
        while random.below(8) == 0 {
            let daemon = host.daemon(&[]);
            std::thread::sleep(Duration::from_micros(random.below(START)));
            daemon.kill();
            kills += 1;
        }
        let daemon = host.daemon(&[]);
        let us = daemon.ready();
        let acknowledged: BTreeMap<String, String> =
            clients.iter().flat_map(|client| client.acknowledged.clone()).collect();
        let mut sent = BTreeSet::new();
        for client in &mut clients {
            sent.append(&mut client.check_data(&host));
        }
        check_disk(&host, &acknowledged, &sent);
        check_list(&host, &acknowledged);
        check_pg(&mut erl, &us, &acknowledged);
        if kills >= crashes {
            println!("{kills} kills, {} calls", clients.iter().map(|client| client.calls).sum::<u64>());
            assert_eq!(daemon.terminate().0.code(), Some(0));
            break;
        }

        let socket = host.socket();
        std::thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(|| client.storm(&socket));
            }
            std::thread::sleep(Duration::from_micros(random.below(STORM)));
            daemon.kill();
        });
        kills += 1;
        let (_copy, database) = database::copy(&host);
        let stored = projection.follow(&database);
        clients.iter_mut().for_each(|client| client.check(&stored));
        let acknowledged = clients.iter().flat_map(|client| client.acknowledged.clone());
        let acknowledged: BTreeMap<String, Option<String>> =
            acknowledged.map(|(name, version)| (name, Some(version))).collect();
        assert_eq!(stored, acknowledged, "the stored plugins differ from the acknowledged ones");
    }
}
