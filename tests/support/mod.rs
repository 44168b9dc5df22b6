//! Support for the integration tests and the benches.
//!
//! - [`Host`] is the host of one test: a `HOME`, a cookie, an EPMD port, and the programs that run
//!   there (the built daemon, the real `epmd` and `erl`). It shares nothing with other tests or
//!   with the machine. [`http`] is the client of its daemon's socket.
//! - [`world::World`] is an API without a cluster, in the test's process. [`client`] is its client.
//! - [`wait_for`] and [`wait_within`] wait for a condition.
//!
//! Each child is killed by its pid when its value is dropped, also during a panic. A test fails if
//! a program is not installed, and its message names the package.

#![allow(dead_code, reason = "each test file is a separate crate and uses only a part of this module")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails at the first unexpected value")]

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

/// The longest wait of a test, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The pause between two checks of a condition.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// Waits until `condition` returns a value, and returns it.
///
/// # Panics
/// The condition returned no value within `deadline`.
pub fn wait_within<T>(deadline: Duration, what: impl Display, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < deadline, "timed out after {deadline:?}: {what}");
        std::thread::sleep(CHECK_INTERVAL);
    }
}

/// Waits until `condition` holds, at most [`PATIENCE`].
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    wait_within(PATIENCE, what, || condition().then_some(()));
}

/// The host of one test. Nothing runs on it at first.
pub struct Host {
    directory: tempfile::TempDir,
    /// The EPMD port.
    pub epmd_port: u16,
    /// The cookie of all nodes of this host.
    pub cookie: String,
    /// The host part of the names of its nodes.
    pub name: String,
}

impl Host {
    pub fn new() -> Self {
        // A socket path must be short, so the directory's path is short.
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

    /// Makes a host with an EPMD and a daemon that is ready. Adds `environment` to the daemon's
    /// environment.
    pub fn running(environment: &[(&str, &str)]) -> (Self, Epmd, Daemon) {
        let host = Self::new();
        let epmd = host.epmd();
        let daemon = host.daemon(environment);
        daemon.ready();
        (host, epmd, daemon)
    }

    /// Returns the `HOME` of the programs on this host.
    pub fn home(&self) -> &Path {
        self.directory.path()
    }

    /// Returns an empty directory to use as `PATH`.
    pub fn no_programs(&self) -> PathBuf {
        self.home().join("no-programs")
    }

    /// Returns the directory of this name below `~/.hecate`.
    pub fn namespace(&self, name: &str) -> PathBuf {
        self.home().join(".hecate").join(name)
    }

    /// Returns the path of the daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.namespace("hecate-daemon").join("sockets/api.sock")
    }

    /// Returns the path of a file in the daemon's `run/`.
    pub fn run_file(&self, name: &str) -> PathBuf {
        self.namespace("hecate-daemon").join("run").join(name)
    }

    /// Returns the full name of a node of this host.
    pub fn node(&self, short: &str) -> String {
        format!("{short}@{}", self.name)
    }

    pub fn epmd(&self) -> Epmd {
        Epmd::start(self.epmd_port)
    }

    /// Starts an Erlang node. `name` may include a host part.
    pub fn erl(&self, name: &str) -> Erl {
        Erl::start(self, Start { name: Some(name), ..Start::default() })
    }

    /// Starts the daemon, and adds `environment` to its environment.
    pub fn daemon(&self, environment: &[(&str, &str)]) -> Daemon {
        Daemon::start(self, environment)
    }

    /// Sends a request to the daemon, and returns the response.
    pub fn ask(&self, method: &str, path: &str) -> Answer {
        http::ask(&self.socket(), method, path, None).unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    pub fn register(&self, body: &Value) -> Answer {
        http::ask(&self.socket(), "POST", "/api/plugins/register", Some(body)).expect("an answer")
    }

    /// Registers a plugin with only its name, and checks that this succeeds.
    pub fn register_named(&self, name: &str) {
        let answer = self.register(&json!({ "name": name }));
        assert_eq!(answer.status, 201, "{answer:?}");
    }

    /// Returns the daemon's description of a plugin.
    pub fn plugin(&self, name: &str) -> Value {
        self.ask("GET", &format!("/api/plugins/{name}")).body
    }

    /// Waits until a plugin has a status, and returns the plugin's description.
    pub fn plugin_until(&self, name: &str, status: &str) -> Value {
        let mut last = Value::Null;
        let what = format!("{name} is {status}");
        wait_within(PATIENCE, &what, || {
            last = self.plugin(name);
            (last["status"] == status).then(|| last.clone())
        })
    }

    /// Returns the state of a peer, `connected` or `disconnected`, or `None` if the daemon does not
    /// list the peer.
    pub fn peer(&self, node: &str) -> Option<String> {
        let cluster = self.ask("GET", "/api/cluster").body;
        let peers = cluster["peers"].as_array().expect("peers").clone();
        let peer = peers.into_iter().find(|peer| peer["name"] == node)?;
        Some(peer["state"].as_str().expect("a state").to_owned())
    }
}

/// Returns a port on which nothing listens, and which no other test gets until this process ends.
/// The port is outside the range that the system assigns by itself, because an EPMD may be stopped
/// and started on it again.
fn unused_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let locks = std::env::temp_dir().join(format!("hecate-test-ports-{}", rustix::process::geteuid().as_raw()));
    std::fs::create_dir_all(&locks).unwrap();
    loop {
        // Tests in other processes start from other numbers.
        let number = std::process::id().wrapping_mul(97) + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(10_000 + number % 20_000).unwrap();
        let lock = std::fs::File::create(locks.join(port.to_string())).unwrap();
        if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            std::mem::forget(lock);
            return port;
        }
    }
}

/// Returns the path of a program, to start it without a `PATH`.
pub fn program(name: &str) -> String {
    let path = std::env::var_os("PATH").expect("a PATH");
    let mut places = std::env::split_paths(&path).map(|directory| directory.join(name));
    let found = places.find(|file| file.exists()).unwrap_or_else(|| panic!("{name} is not installed"));
    found.to_str().unwrap().to_owned()
}

/// A running program.
pub struct Process(Child);

impl Process {
    /// Starts a program. `install` names the package to install if the program is missing.
    pub fn start(command: &mut Command, install: &str) -> Self {
        match command.spawn() {
            Ok(child) => Self(child),
            Err(e) => panic!("{command:?} could not be started: {e}. {install}"),
        }
    }

    /// Returns the child, for its pipes.
    pub fn pipes(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Sends SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).expect("a running process");
    }

    /// Sends SIGSTOP, and waits until all threads have stopped.
    pub fn stop(&self) {
        self.signal(rustix::process::Signal::STOP);
        let pid = rustix::process::Pid::from_child(&self.0);
        let status = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::UNTRACED)
            .expect("a child of this process");
        assert!(status.is_some_and(|(_, status)| status.stopped()), "{status:?}");
    }

    /// Sends SIGCONT, to continue after [`Self::stop`].
    pub fn resume(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    /// Waits for the end of the process.
    pub fn ended(&mut self, what: &str) -> ExitStatus {
        wait_within(PATIENCE, what, || self.0.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The output of a program so far.
#[derive(Clone, Default)]
pub struct Output(Arc<Mutex<String>>);

impl Output {
    /// Collects lines until the other end is closed. `take` is called with each line, and the
    /// output contains what it returns.
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

    /// Returns all collected text.
    pub fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }

    /// Returns the lines that contain all of `words`.
    pub fn lines(&self, words: &[&str]) -> Vec<String> {
        let has_all = |line: &&str| words.iter().all(|word| line.contains(word));
        self.text().lines().filter(has_all).map(str::to_owned).collect()
    }

    /// Waits for a line that contains all of `words`.
    pub fn shows(&self, words: &[&str]) {
        let what = from_fn(|f| write!(f, "a line with {words:?} in:\n{}", self.text()));
        wait_within(PATIENCE, what, || (!self.lines(words).is_empty()).then_some(()));
    }
}
