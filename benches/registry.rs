//! Compares the registry with the minimum cost of its work: see `docs/internals/benchmarks.md`.
//!
//! Each measurement is one function below, from its host to its line in the table. Arguments select
//! measurements by name. With the argument `bare-hyper`, this program is the server that the list
//! is compared with.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a bench fails at the first unexpected value")]

mod measure;
#[path = "../tests/support/mod.rs"]
mod support;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use hecate_daemon::layout::{Home, Layout, Modes};
use hecate_daemon::plugin::{Event, EventKind, Plugin, PluginName, Reason, ReasonCode, Status};
use hecate_daemon::store::Store;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use measure::client::{Client, LIST, registration};
use measure::{
    Goal, Samples, Unit, between, compare, compare_figures, heading, own_memory, resident_memory, since_epoch,
    take_turns,
};
use support::daemon::Daemon;
use support::erl::Erl;
use support::{Host, Process, wait_for};

/// The number of concurrent clients.
const CLIENTS: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, what, socket, body] = arguments.as_slice()
        && what == "bare-hyper"
    {
        return bare_hyper(Path::new(socket), fs::read(body).unwrap().into());
    }
    heading();
    // Cargo adds a flag.
    let chosen: Vec<_> = arguments.iter().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let known = |chosen: &&String| MEASUREMENTS.iter().any(|(name, _)| name == chosen);
    assert!(chosen.iter().all(known), "the measurements are {:?}", MEASUREMENTS.map(|(name, _)| name));
    for (name, measure) in MEASUREMENTS {
        if chosen.is_empty() || chosen.iter().any(|chosen| *chosen == name) {
            measure();
        }
    }
}

const MEASUREMENTS: [(&str, fn()); 6] = [
    ("list", list),
    ("one", one_registration),
    ("many", many_registrations),
    ("stored", stored),
    ("event", event),
    ("slow", slow_disk),
];

// ---- The list -------------------------------------------------------------------------------

/// Lists 100 plugins, by clients that keep their connections.
fn list() {
    let host = Host::new();
    let daemon = host.daemon(&[]);
    daemon.ready();
    let mut client = Client::connect(&host.socket());
    for number in 0..100 {
        client.ask(&registration(&format!("hecate-plugin{number}d")));
    }
    let (body, bare) = (host.home().join("body"), host.home().join("bare.sock"));
    fs::write(&body, client.ask(LIST).1).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    let _server = Process::start(command.arg("bare-hyper").arg(&bare).arg(&body), "Build it");
    wait_for("bare hyper listens", || UnixStream::connect(&bare).is_ok());
    assert_eq!(Client::connect(&bare).ask(LIST).1, client.ask(LIST).1, "the same bytes");

    let (mut ours, mut theirs) = (|| lists(&host.socket()), || lists(&bare));
    let [ours, theirs] = take_turns(48, [&mut ours, &mut theirs]);
    compare("list of 100 plugins / bare hyper, same bytes", Unit::PerSecond, &ours, &theirs, Goal::AtLeast(0.95));
}

/// Returns how many lists are read per second.
fn lists(socket: &Path) -> f64 {
    let begun = Instant::now();
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let mut client = Client::connect(socket);
            thread::spawn(move || {
                let mut count = 0_u32;
                while begun.elapsed() < Duration::from_millis(200) {
                    client.ask(LIST);
                    count += 1;
                }
                count
            })
        })
        .collect();
    let count: u32 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
    f64::from(count) / begun.elapsed().as_secs_f64()
}

/// Serves this response on a Unix socket with as little of hyper as possible.
fn bare_hyper(socket: &Path, body: Bytes) {
    let serve = async {
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let body = body.clone();
            let answer = service_fn(move |_: Request<hyper::body::Incoming>| {
                let mut answer = Response::new(Full::new(body.clone()));
                answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                async { Ok::<_, Infallible>(answer) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    };
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(serve)
}

// ---- Registrations --------------------------------------------------------------------------

/// Registers one plugin at a time, each with a new name.
fn one_registration() {
    let host = Host::new();
    let _daemon = daemon(&host);
    let [ours, theirs] = registrations_in_turn(&host, 200);
    let what = "one new name / six mkdir, write, fsync";
    compare(what, Unit::Time, &ours, &theirs, Goal::AtMost(1.3));
}

fn registrations_in_turn(host: &Host, rounds: usize) -> [Samples; 2] {
    let mut client = Client::connect(&host.socket());
    let mut number = 0;
    let mut ours = || {
        number += 1;
        let request = registration(&format!("hecate-single{number}d"));
        time(|| {
            client.ask(&request);
        })
    };
    let mut plain = Plain::new(host);
    let mut theirs = || time(|| plain.register());
    take_turns(rounds, [&mut ours, &mut theirs])
}

/// The same work without a registry: six directories, and a line in a file.
struct Plain {
    root: PathBuf,
    log: File,
    count: u32,
}

impl Plain {
    fn new(host: &Host) -> Self {
        let root = host.home().join("plain");
        fs::create_dir(&root).unwrap();
        let log = OpenOptions::new().create(true).append(true).open(root.join("log")).unwrap();
        Self { root, log, count: 0 }
    }

    fn register(&mut self) {
        self.count += 1;
        let base = self.root.join(format!("hecate-single{}d", self.count));
        fs::create_dir(&base).unwrap();
        for sub in ["sqlite", "reckon-db", "sockets", "run", "connectors"] {
            fs::create_dir(base.join(sub)).unwrap();
        }
        self.log.write_all(&[b'x'; 256]).unwrap();
        self.log.sync_all().unwrap();
    }
}

fn time(work: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    work();
    begun.elapsed().as_secs_f64()
}

/// Registers many plugins at once. The comparison is a loop that calls the same store and layout,
/// with a commit for each registration.
fn many_registrations() {
    let host = Host::new();
    let _daemon = daemon(&host);
    let mut each = CommitEach::new(&host);

    let again = |client: usize, _| format!("hecate-again{client}d");
    at_once(&host.socket(), CLIENTS, 1, again);
    let mut ours = || at_once(&host.socket(), CLIENTS, 32, again);
    let mut theirs = || each.rate(256, |_| "hecate-againd".to_owned());
    let mut alone = || at_once(&host.socket(), 1, 256, again);
    let [ours, theirs, alone] = take_turns(8, [&mut ours, &mut theirs, &mut alone]);
    let what = "64 clients register again / one commit per registration, in sequence";
    compare(what, Unit::PerSecond, &ours, &theirs, Goal::AtLeast(10.0));
    compare("64 clients register again / one client", Unit::PerSecond, &ours, &alone, Goal::None);

    let (mut round, mut turn, mut time) = (0, 0, 0);
    let mut ours = || {
        round += 1;
        at_once(&host.socket(), CLIENTS, 8, |client, number| format!("hecate-new{round}x{client}x{number}d"))
    };
    let mut theirs = || {
        turn += 1;
        each.rate(128, |number| format!("hecate-new{turn}x{number}d"))
    };
    let mut alone = || {
        time += 1;
        at_once(&host.socket(), 1, 128, |_, number| format!("hecate-alone{time}x{number}d"))
    };
    let [ours, theirs, alone] = take_turns(6, [&mut ours, &mut theirs, &mut alone]);
    let what = "64 clients, new names / directories and a commit each";
    compare(what, Unit::PerSecond, &ours, &theirs, Goal::AtLeast(2.0));
    compare("64 clients, new names / one client", Unit::PerSecond, &ours, &alone, Goal::None);
}

/// Runs `one` and `many` again, with a slow disk for this program and its daemons.
fn slow_disk() {
    let dir = tempfile::tempdir().unwrap();
    let library = dir.path().join("slow_fsync.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/measure/slow_fsync.c");
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(source);
    assert!(cc.status().expect("a C compiler").success());
    println!("\nOnce more, with each fsync a millisecond longer, on both sides:");
    let mut again = Command::new(std::env::current_exe().unwrap());
    assert!(again.args(["one", "many"]).env(PRELOAD, library).status().unwrap().success());
}

const PRELOAD: &str = "LD_PRELOAD";

/// Starts a daemon with the same disk speed as this program.
fn daemon(host: &Host) -> Daemon {
    let preloaded = std::env::var(PRELOAD).ok();
    let environment: Vec<_> = preloaded.iter().map(|library| (PRELOAD, library.as_str())).collect();
    let daemon = host.daemon(&environment);
    daemon.ready();
    for process in [daemon.id(), std::process::id()] {
        let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
        assert!(preloaded.iter().all(|library| maps.contains(library)), "both sides have the slow disk");
    }
    daemon
}

/// Returns the registrations per second of this many clients, with `count` registrations each.
fn at_once(socket: &Path, clients: usize, count: usize, name: impl Fn(usize, usize) -> String) -> f64 {
    let ready = Arc::new(Barrier::new(clients + 1));
    let running: Vec<_> = (0..clients)
        .map(|client| {
            let requests: Vec<_> = (0..count).map(|number| registration(&name(client, number))).collect();
            let (mut client, ready) = (Client::connect(socket), ready.clone());
            thread::spawn(move || {
                ready.wait();
                for request in &requests {
                    client.ask(request);
                }
            })
        })
        .collect();
    ready.wait();
    let begun = Instant::now();
    for client in running {
        client.join().unwrap();
    }
    rate(clients * count, begun)
}

fn rate(count: usize, begun: Instant) -> f64 {
    f64::from(u32::try_from(count).unwrap()) / begun.elapsed().as_secs_f64()
}

/// A store and a layout without a daemon.
struct CommitEach {
    layout: Layout,
    store: Store,
    revision: u64,
}

impl CommitEach {
    fn new(host: &Host) -> Self {
        let home = Home::new(host.home().join("each")).unwrap();
        let layout = Layout::open(home, Modes::default()).unwrap();
        let sqlite = layout.ensure_own().unwrap().sqlite();
        Self { layout, store: Store::open(&sqlite, SystemTime::now()).unwrap().store, revision: 0 }
    }

    fn rate(&mut self, count: usize, name: impl Fn(usize) -> String) -> f64 {
        let begun = Instant::now();
        for number in 0..count {
            self.revision += 1;
            let event = registered(&name(number), self.revision);
            self.layout.ensure(&event.plugin.name, None).unwrap();
            self.store.commit(&[event]).unwrap();
        }
        rate(count, begun)
    }
}

fn registered(name: &str, revision: u64) -> Event {
    let now = SystemTime::now();
    let plugin = Plugin {
        name: PluginName::parse(name).unwrap(),
        version: Some("0.1.0".to_owned()),
        description: Some("A plugin that is measured".to_owned()),
        node: None,
        node_given: false,
        status: Status::Running,
        since: now,
        reason: Reason::new(ReasonCode::Registered, "it registered"),
        registered_at: now,
        incarnation: revision,
    };
    Event { revision, at: now, kind: EventKind::Registered, plugin: Arc::new(plugin) }
}

// ---- Boot and memory ------------------------------------------------------------------------

/// A host whose plugins were running when the daemon ended.
struct Stored {
    host: Host,
    _epmd: support::epmd::Epmd,
    count: usize,
    database: Vec<u8>,
}

impl Stored {
    /// Registers the plugins, and measures the daemon once with all of them.
    fn new(count: usize) -> Self {
        let (host, epmd, daemon) = Host::running(&[]);
        if count > 0 {
            let each = count / CLIENTS + 1;
            let name = |client, number| format!("hecate-x{}d", (client * each + number) % count);
            let rate = at_once(&host.socket(), CLIENTS, each, name);
            println!("{count} plugins were registered at {rate:.0}/s");
        }
        let erl = idle_erl();
        let goal = if count == 0 { Goal::AtMost(0.15) } else { Goal::None };
        for (what, memory, goal) in
            [("memory", resident_memory as fn(u32) -> f64, goal), ("of its own", own_memory, Goal::None)]
        {
            let what = format!("{what} with {count} plugins / idle erl");
            compare_figures(&what, Unit::Memory, memory(daemon.id()), memory(erl.id()), goal);
        }
        if count == 10_000 {
            let [ours, theirs] = registrations_in_turn(&host, 50);
            let what = "one new name beside 10000 others / six mkdir, write, fsync";
            compare(what, Unit::Time, &ours, &theirs, Goal::None);
        }
        let (status, ..) = daemon.terminate();
        assert!(status.success(), "{status}");
        let database = fs::read(Self::file(&host)).unwrap();
        Self { host, _epmd: epmd, count, database }
    }

    fn file(host: &Host) -> PathBuf {
        host.namespace("hecate-daemon").join("sqlite/plugins.db")
    }

    /// Returns the seconds from the start of the process until it prints that it is ready.
    fn boot(&self) -> f64 {
        // Restores the database, so that each boot starts from the same state.
        fs::write(Self::file(&self.host), &self.database).unwrap();
        let (seconds, mut daemon) = until_its_line(&mut Daemon::command(&self.host, &[]));
        daemon.terminate();
        daemon.ended("the daemon ends on SIGTERM");
        seconds
    }
}

/// Measures memory, and the time from the start of the process to its first line. The comparison is
/// an `erl` that is not a node.
fn stored() {
    for stored in [0, 1_000, 10_000].map(Stored::new) {
        let (rounds, goal) = if stored.count == 0 { (20, Goal::AtMost(0.05)) } else { (6, Goal::None) };
        let (mut ours, mut theirs) = (|| stored.boot(), || until_its_line(&mut erl("io:put_chars(\"ready\\n\").")).0);
        let [ours, theirs] = take_turns(rounds, [&mut ours, &mut theirs]);
        let what = format!("boot to ready with {} plugins / erl", stored.count);
        compare(&what, Unit::Time, &ours, &theirs, goal);
    }
}

fn until_its_line(command: &mut Command) -> (f64, Process) {
    let begun = Instant::now();
    let mut process = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::null()), "Install Erlang/OTP");
    let mut line = String::new();
    BufReader::new(process.pipes().stdout.take().unwrap()).read_line(&mut line).unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    assert!(line.contains("ready"), "{line:?}");
    (seconds, process)
}

fn erl(eval: &str) -> Command {
    let mut command = Command::new("erl");
    command.args(["-noshell", "-eval", eval]).stdin(Stdio::null());
    command
}

/// Starts an `erl` that runs until it is dropped.
fn idle_erl() -> Process {
    until_its_line(&mut erl("io:put_chars(\"ready\\n\").")).1
}

// ---- Events on a peer -----------------------------------------------------------------------

/// Measures the time from a registration over HTTP to the plugin's group on a peer. The comparison
/// is a registration without peers, plus a join between two `erl`s.
fn event() {
    let (host, alone) = (Host::new(), Host::new());
    let _epmd = host.epmd();
    let daemons = [host.daemon(&[]), alone.daemon(&[])];
    let [node, _] = daemons.each_ref().map(Daemon::ready);
    let (mut watcher, mut joiner) = (peer(&host, "watcher", &node), peer(&host, "joiner", &node));
    watcher.eval(
        "Me = self(), Watch = fun Watch() ->
             receive {_, join, Group, _} -> Me ! {seen, Group, os:system_time(nanosecond)}; _ -> ok end, Watch()
         end,
         spawn_link(fun() -> {_, _} = pg:monitor_scope(pg), Me ! watching, Watch() end),
         receive watching -> ok end",
    );
    watcher.eval_until(&format!("lists:member('{}', nodes())", host.node("joiner")), "true", support::PATIENCE);

    let (mut client, mut client_alone) = (Client::connect(&host.socket()), Client::connect(&alone.socket()));
    // Both measurements with a peer need the watcher.
    let watcher = RefCell::new(watcher);
    let numbers = Cell::new(0);
    let name = || {
        numbers.set(numbers.get() + 1);
        format!("hecate-seen{}d", numbers.get())
    };
    let mut seen = || {
        let name = name();
        let request = registration(&name);
        let begun = since_epoch();
        client.ask(&request);
        between(begun, seen_at(&mut watcher.borrow_mut(), &format!("{{hecate_plugin, <<\"{name}\">>}}")))
    };
    let mut registered = || {
        let request = registration(&name());
        time(|| {
            client_alone.ask(&request);
        })
    };
    let mut joined = || {
        let group = format!("{{bench, <<\"{}\">>}}", name());
        let begun = joiner.eval(&format!("Begun = os:system_time(nanosecond), ok = pg:join({group}, self()), Begun"));
        between(begun.parse().unwrap(), seen_at(&mut watcher.borrow_mut(), &group))
    };
    let [seen, registered, joined] = take_turns(300, [&mut seen, &mut registered, &mut joined]);
    for (what, share) in [("p50", 0.5), ("p99", 0.99)] {
        let parts = registered.quantile(share) + joined.quantile(share);
        let what = format!("{what} registration to pg on a peer / registration + join");
        compare_figures(&what, Unit::Time, seen.quantile(share), parts, Goal::None);
    }
}

/// Returns the time at which the watcher saw a member join.
fn seen_at(watcher: &mut Erl, group: &str) -> u128 {
    let at = watcher.eval(&format!("receive {{seen, {group}, At}} -> At after 10000 -> exit(never_seen) end"));
    at.parse().expect("nanoseconds")
}

fn peer(host: &Host, name: &str, daemon: &str) -> Erl {
    let mut erl = host.erl(name);
    erl.eval("{ok, _} = pg:start(pg), ok");
    erl.eval_until(&format!("net_adm:ping('{daemon}')"), "pong", support::PATIENCE);
    erl
}
