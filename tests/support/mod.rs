//! What the integration tests and the benches share.
//!
//! - [`Host`] is one test's own host: a `HOME`, a cookie, the port of an EPMD, and the programs that
//!   run there (the built daemon, the real `epmd` and `erl`). It shares nothing with other tests or
//!   with the machine. [`http`] is the client of its daemon's socket.
//! - [`world::World`] is an API without a cluster, in the process of the test. [`client`] is its
//!   client.
//! - [`wait_for`] and [`wait_within`] wait for a condition.
//!
//! Every child is killed by its pid when its value is dropped, which a panic does too. A program that
//! is not installed fails the test, and says what to install.

#![allow(dead_code, reason = "each test file is a crate of its own and needs another part of this")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test ends where it is surprised")]

pub mod client;
pub mod daemon;
pub mod database;
pub mod dns;
pub mod epmd;
pub mod erl;
pub mod http;
pub mod network;
pub mod node;
pub mod plugin;
pub mod strace;
pub mod world;

use std::fmt::{Display, from_fn};
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use daemon::Daemon;
use epmd::Epmd;
use erl::{Erl, Start};
use http::Answer;
use serde_json::{Value, json};

/// No test waits longer for anything, even on a machine that does much else.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long a condition is left alone before it is looked at again.
const GLANCE: Duration = Duration::from_millis(10);

/// Waits until `condition` gives something, and gives that.
///
/// # Panics
/// It gave nothing within `deadline`.
pub fn wait_within<T>(deadline: Duration, what: impl Display, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < deadline, "not within {deadline:?}: {what}");
        std::thread::sleep(GLANCE);
    }
}

/// Waits until `condition` holds, at most [`PATIENCE`].
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    wait_within(PATIENCE, what, || condition().then_some(()));
}

/// The host of one test.
pub struct Host {
    directory: tempfile::TempDir,
    /// The port of its EPMD, on which nothing listens yet.
    pub epmd_port: u16,
    /// The cookie of all its nodes.
    pub cookie: String,
    /// The host part of its nodes' names.
    pub name: String,
}

impl Host {
    pub fn new() -> Self {
        // Paths of sockets are short, so this one is too.
        let directory = tempfile::Builder::new().prefix("h").tempdir_in("/tmp").unwrap();
        std::fs::create_dir(directory.path().join("no-programs")).unwrap();
        let system = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self {
            epmd_port: unused_port(),
            cookie: format!("cookie-of-{}", directory.path().file_name().unwrap().to_string_lossy()),
            name: system.split('.').next().unwrap().to_owned(),
            directory,
        }
    }

    /// Makes a host with an EPMD and a daemon that is ready, which has more environment than it needs.
    pub fn running(environment: &[(&str, &str)]) -> (Self, Epmd, Daemon) {
        let host = Self::new();
        let epmd = host.epmd();
        let daemon = host.daemon(environment);
        daemon.ready();
        (host, epmd, daemon)
    }

    /// `HOME` of whatever runs here.
    pub fn home(&self) -> &Path {
        self.directory.path()
    }

    /// A directory without any program, to be a `PATH`.
    pub fn no_programs(&self) -> PathBuf {
        self.home().join("no-programs")
    }

    /// The directory of a daemon in `~/.hecate`.
    pub fn namespace(&self, name: &str) -> PathBuf {
        self.home().join(".hecate").join(name)
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.namespace("hecate-daemon").join("sockets/api.sock")
    }

    /// A file in the daemon's `run/`.
    pub fn run_file(&self, name: &str) -> PathBuf {
        self.namespace("hecate-daemon").join("run").join(name)
    }

    /// The full name of a node of this host.
    pub fn node(&self, short: &str) -> String {
        format!("{short}@{}", self.name)
    }

    /// Starts EPMD.
    pub fn epmd(&self) -> Epmd {
        Epmd::start(self.epmd_port)
    }

    /// Starts an Erlang node, whose name may have a host part of its own.
    pub fn erl(&self, name: &str) -> Erl {
        Erl::start(self, Start { name: Some(name), ..Start::default() })
    }

    /// Starts the daemon with more environment than it needs.
    pub fn daemon(&self, environment: &[(&str, &str)]) -> Daemon {
        Daemon::start(self, environment)
    }

    /// Asks the daemon, which must answer.
    pub fn ask(&self, method: &str, path: &str) -> Answer {
        http::ask(&self.socket(), method, path, None).unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    /// Registers a plugin.
    pub fn register(&self, body: &Value) -> Answer {
        http::ask(&self.socket(), "POST", "/api/plugins/register", Some(body)).expect("an answer")
    }

    /// Registers a plugin by nothing but its name, which must succeed.
    pub fn register_named(&self, name: &str) {
        let answer = self.register(&json!({ "name": name }));
        assert_eq!(answer.status, 201, "{answer:?}");
    }

    /// What the daemon says of a plugin.
    pub fn plugin(&self, name: &str) -> Value {
        self.ask("GET", &format!("/api/plugins/{name}")).body
    }

    /// Waits until a plugin has a status, and gives all that is said of it then.
    pub fn plugin_until(&self, name: &str, status: &str) -> Value {
        let mut last = Value::Null;
        let what = format!("{name} is {status}");
        wait_within(PATIENCE, &what, || {
            last = self.plugin(name);
            (last["status"] == status).then(|| last.clone())
        })
    }

    /// How the daemon stands with a peer: `connected`, `disconnected`, or none if it knows nothing of it.
    pub fn peer(&self, node: &str) -> Option<String> {
        let cluster = self.ask("GET", "/api/cluster").body;
        let peers = cluster["peers"].as_array().expect("peers").clone();
        let peer = peers.into_iter().find(|peer| peer["name"] == node)?;
        Some(peer["state"].as_str().expect("a state").to_owned())
    }
}

/// Returns a port on which nothing listens, and which no other test gets until this process ends. It is not one of
/// those that the system gives away by itself, for an EPMD comes back to it.
fn unused_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let locks = std::env::temp_dir().join(format!("hecate-test-ports-{}", rustix::process::geteuid().as_raw()));
    std::fs::create_dir_all(&locks).unwrap();
    loop {
        // Tests that run at the same time in other processes begin elsewhere.
        let number = std::process::id().wrapping_mul(97) + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(10_000 + number % 20_000).unwrap();
        let lock = std::fs::File::create(locks.join(port.to_string())).unwrap();
        if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            std::mem::forget(lock);
            return port;
        }
    }
}

/// Where a program is, for one that is started without a `PATH`.
pub fn program(name: &str) -> String {
    let path = std::env::var_os("PATH").expect("a PATH");
    let mut places = std::env::split_paths(&path).map(|directory| directory.join(name));
    let found = places.find(|file| file.exists()).unwrap_or_else(|| panic!("{name} is not installed: install it"));
    found.to_str().unwrap().to_owned()
}

/// A running program.
pub struct Process(Child);

impl Process {
    /// Starts it; `install` says what to install where it is missing.
    pub fn start(command: &mut Command, install: &str) -> Self {
        match command.spawn() {
            Ok(child) => Self(child),
            Err(e) => panic!("{command:?} can't be started: {e}. {install}"),
        }
    }

    /// Its ends of the pipes.
    pub fn pipes(&mut self) -> &mut Child {
        &mut self.0
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Its pid.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Any signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    /// SIGSTOP. All of its threads have come to a stop then, and answer nobody.
    pub fn stop(&self) {
        self.signal(rustix::process::Signal::STOP);
        let pid = rustix::process::Pid::from_child(&self.0);
        let status = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::UNTRACED).expect("our child");
        assert!(status.is_some_and(|(_, status)| status.stopped()), "{status:?}");
    }

    /// SIGCONT: it continues after [`Self::stop`].
    pub fn resume(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    /// Waits for its end.
    pub fn ended(&mut self, what: &str) -> ExitStatus {
        wait_within(PATIENCE, what, || self.0.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a program has written so far.
#[derive(Clone, Default)]
pub struct Output(Arc<Mutex<String>>);

impl Output {
    /// Collects lines as they come, until the other end is closed. `take` sees each first, and keeps what it returns.
    pub fn collect(
        pipe: impl Read + Send + 'static,
        mut take: impl FnMut(String) -> Option<String> + Send + 'static,
    ) -> Self {
        let output = Self::default();
        let collected = output.clone();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(pipe);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                if let Some(line) = take(String::from_utf8_lossy(&line).into_owned()) {
                    collected.0.lock().unwrap().push_str(&line);
                }
                line.clear();
            }
        });
        output
    }

    /// All of it.
    pub fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }

    /// Returns the lines that have all these words.
    pub fn lines(&self, words: &[&str]) -> Vec<String> {
        let has_all = |line: &&str| words.iter().all(|word| line.contains(word));
        self.text().lines().filter(has_all).map(str::to_owned).collect()
    }

    /// Waits for a line that has all these words.
    pub fn shows(&self, words: &[&str]) {
        let what = from_fn(|f| write!(f, "a line with {words:?} in:\n{}", self.text()));
        wait_within(PATIENCE, what, || (!self.lines(words).is_empty()).then_some(()));
    }
}
