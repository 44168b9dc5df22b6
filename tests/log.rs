//! The log in the journal, on a terminal and as JSON; and that no flood of outside events fills it.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use beam::cookie::Cookie;
use beam::dist::Identity;
use beam::dist::setup;
use beam::name::NodeName;
use hecate_daemon::limits;
use rustix::process::{Resource, Rlimit};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;
use support::daemon::Daemon;
use support::node::{address, identity};
use support::{Host, Output, Process, wait_for, wait_within};

// ---- Destinations ---------------------------------------------------------------------------------

/// Returns what the daemon writes to standard error, a file that `JOURNAL_STREAM` may name.
fn written(host: &Host, stream_of: impl Fn(&File) -> String, more: &[(&str, &str)]) -> String {
    let path = host.home().join("log");
    let file = File::create(&path).unwrap();
    let stream = stream_of(&file);
    let mut environment = vec![("JOURNAL_STREAM", stream.as_str())];
    environment.extend_from_slice(more);
    let mut command = Daemon::command(host, &environment);
    command.stdout(Stdio::null()).stderr(file);
    let mut process = Process::start(&mut command, "Build it");
    let text = || std::fs::read_to_string(&path).unwrap();
    wait_for("the daemon is ready", || text().contains("ready"));
    process.terminate();
    assert!(process.ended("the daemon ends").success());
    text()
}

fn its_own(file: &File) -> String {
    let metadata = file.metadata().unwrap();
    format!("{}:{}", metadata.dev(), metadata.ino())
}

#[test]
fn the_journal_gets_levels_and_no_times() {
    let host = Host::new();
    let log = written(&host, its_own, &[("HECATE_LOG", "info"), ("HECATE_PG_SCOPES", "pg")]);
    for line in log.lines() {
        let (level, rest) = line.split_at(3);
        let expected = match rest.trim_start().split(' ').next().unwrap() {
            "ERROR" => "<3>",
            "WARN" => "<4>",
            "INFO" => "<6>",
            other => panic!("{other} is not a level in {line}"),
        };
        assert_eq!(level, expected, "{line}");
    }
    assert!(log.lines().count() >= 2 && log.is_ascii() && !log.contains('\u{1b}'), "{log}");
}

#[test]
fn a_stream_that_is_not_the_journal_gets_times() {
    let host = Host::new();
    let log = written(&host, |file| format!("0{}", its_own(file)), &[]);
    assert!(log.lines().all(|line| line.starts_with("20")), "each has a time: {log}");
}

#[test]
fn an_error_before_the_log_exists_has_a_level_for_the_journal() {
    let host = Host::new();
    let path = host.home().join("log");
    let file = File::create(&path).unwrap();
    let stream = its_own(&file);
    let environment = [("JOURNAL_STREAM", stream.as_str()), ("HECATE_LOG_FORMAT", "xml")];
    let mut command = Daemon::command(&host, &environment);
    command.stdout(Stdio::null()).stderr(file);
    assert_eq!(Process::start(&mut command, "Build it").ended("the daemon ends").code(), Some(2));
    let log = std::fs::read_to_string(&path).unwrap();
    assert!(log.starts_with("<3>hecate-daemon: ") && log.contains("text or json"), "{log}");
}

#[test]
fn the_json_log_has_one_object_per_line() {
    let host = Host::new();
    let log = written(&host, |_| String::new(), &[("HECATE_LOG_FORMAT", "json")]);
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let ready = events.iter().find(|event| event["message"] == "ready").expect("the event `ready`");
    assert_eq!((&ready["level"], &ready["node"]), (&Value::from("INFO"), &Value::from(host.node("hecate"))));
    assert!(events.iter().all(|event| event["timestamp"].is_string()), "{log}");
}

/// Returns what the daemon writes to standard error, a terminal.
fn on_a_terminal(host: &Host, more: &[(&str, &str)]) -> String {
    run_on_a_terminal(host, more, |_| Stdio::null())
}

/// Returns what the daemon writes to a terminal until it is ready and has ended.
fn run_on_a_terminal(host: &Host, more: &[(&str, &str)], stdout: impl FnOnce(&OwnedFd) -> Stdio) -> String {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let theirs: OwnedFd = File::options().read(true).write(true).open(name).unwrap().into();
    let mut command = Daemon::command(host, more);
    command.stdout(stdout(&theirs)).stderr(theirs);
    let mut process = Process::start(&mut command, "Build it");
    drop(command);
    let output = Output::collect(File::from(ours), Some);
    wait_for("the daemon is ready", || output.text().contains("ready"));
    process.terminate();
    process.ended("the daemon ends");
    output.text()
}

#[test]
fn a_terminal_gets_colours_unless_no_color_is_set() {
    let host = Host::new();
    assert!(on_a_terminal(&host, &[]).contains('\u{1b}'));
    assert!(on_a_terminal(&host, &[("NO_COLOR", "")]).contains('\u{1b}'), "an empty value is like none");
    assert!(!on_a_terminal(&host, &[("NO_COLOR", "1")]).contains('\u{1b}'));
}

#[test]
fn a_terminal_shows_one_line_when_the_daemon_is_ready() {
    let host = Host::new();
    let both = |theirs: &OwnedFd| Stdio::from(theirs.try_clone().unwrap());
    let text = run_on_a_terminal(&host, &[("HECATE_LOG", "info"), ("NO_COLOR", "1")], both);
    let lines_with = |words: &str| text.lines().filter(|line| line.contains(words)).count();
    assert_eq!((lines_with("ready"), lines_with("hecate-daemon is ready: socket ")), (1, 1), "{text}");
    assert_eq!(lines_with(&host.node("hecate")), 1, "{text}");
    // The JSON log has the event in any case.
    let text = run_on_a_terminal(&host, &[("HECATE_LOG_FORMAT", "json")], both);
    assert!(text.lines().any(|line| line.contains(r#""message":"ready""#)), "{text}");
}

// ---- Storms ---------------------------------------------------------------------------------------

/// Returns the number of lines with these words, and the number of lines that were left out.
fn lines_and_more(log: &str, words: &str, kind: &str) -> (usize, u64) {
    let lines = log.lines().filter(|line| line.contains(words)).count();
    let more = log.lines().filter(|line| line.contains(" more within ") && line.contains(kind));
    let number = |line: &str| {
        let before = line.split(" more within ").next().unwrap();
        before.rsplit(' ').next().unwrap().parse::<u64>().expect(line)
    };
    (lines, more.map(number).sum())
}

#[test]
fn a_storm_on_the_distribution_port_logs_few_lines_and_a_count() {
    const BLOWS: u64 = 500;
    let (_host, epmd, daemon) = Host::running(&[]);
    let port = epmd.port_of("hecate");
    for _ in 0..BLOWS {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.write_all(b"\x00\x0eGET / HTTP/1.0").unwrap();
        // The connection ends, so the daemon has refused it.
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    }
    let counted = || lines_and_more(&daemon.log(), "rejected a malformed handshake", "handshakes refused");
    wait_for("the count is logged meanwhile", || {
        let (lines, more) = counted();
        more > 0 && u64::try_from(lines).unwrap() + more == BLOWS
    });
    let (lines, _) = counted();
    assert!(lines <= 5, "{lines} lines");
    assert!(daemon.log().lines().count() < 20, "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_wrong_cookies_logs_few_lines_and_a_count() {
    const BLOWS: u64 = 300;
    let host = Host::new();
    let epmd = host.epmd();
    let daemon = host.daemon(&[]);
    let us: NodeName = daemon.ready().parse().unwrap();
    let port = epmd.port_of("hecate");
    let cookie = Cookie::parse(b"another").unwrap();
    let local = Identity { cookie, ..identity(&host, "visitor", 1) };
    for _ in 0..BLOWS {
        let stream = tokio::net::TcpStream::connect(address(port)).await.unwrap();
        assert!(setup::dial(stream, &local, us.clone(), async || true).await.is_err());
    }
    let (_, _, log) = daemon.terminate();
    let (lines, more) = lines_and_more(&log, "rejected the handshake", "handshakes refused");
    assert_eq!(u64::try_from(lines).unwrap() + more, BLOWS, "the count is logged at the end: {log}");
    assert!((1..=5).contains(&lines), "{log}");
}

#[test]
fn names_that_others_register_do_not_fill_the_log() {
    const NAMES: u64 = 60;
    let (_host, epmd, daemon) = Host::running(&[]);
    // No process listens on these ports, or one that is not a node.
    let nobody = 1;
    let names: Vec<TcpStream> = (0..NAMES).map(|i| epmd.register(&format!("hecate_{i}d"), nobody)).collect();
    let logged = || {
        let (lines, more) = lines_and_more(&daemon.log(), "not connected", "could not be connected to");
        (u64::try_from(lines).unwrap(), more)
    };
    wait_for("all names were dialled", || logged().0 + logged().1 >= NAMES);
    assert!(logged().0 <= 3 * limits::LOG_DIALS, "{}", daemon.log());
    drop(names);
}

#[test]
fn changes_of_plugins_are_logged_and_do_not_fill_the_log() {
    const STORM: u64 = 250;
    let (host, _epmd, daemon) = Host::running(&[]);
    host.register(&serde_json::json!({"name": "hecate-traderd"}));
    daemon.logs(&[
        "INFO",
        "plugin_registered_v1",
        "plugin=hecate-traderd",
        "status=running",
        "reason=\"it registered\"",
    ]);
    // A plugin that is no longer registered has neither a status nor a reason.
    assert_eq!(host.ask("DELETE", "/api/plugins/hecate-traderd").status, 200);
    daemon.logs(&["INFO", "plugin_deregistered_v1", "plugin=hecate-traderd", "revision=2"]);
    let line = daemon.log_lines(&["plugin_deregistered_v1"]).concat();
    assert!(!line.contains("status=") && !line.contains("reason="), "{line}");
    for _ in 0..STORM {
        host.register(&serde_json::json!({"name": "hecate-stormd"}));
    }
    let (_, _, log) = daemon.terminate();
    let (lines, more) = lines_and_more(&log, "plugin=hecate-stormd", "changes of plugins");
    let lines = u64::try_from(lines).unwrap();
    assert_eq!(lines + more, STORM, "the count is logged at the end: {log}");
    assert!(lines <= 2 * limits::LOG_PLUGINS, "{log}");
}

// ---- Without free descriptors ---------------------------------------------------------------------

/// Returns how many connections could not be accepted in one window of
/// [`beam::limits::LOG_WINDOW`]. During the window the daemon may not open files, and the
/// connection of `connect` waits to be accepted. Then restores the daemon's limit.
fn not_taken<T>(daemon: &Daemon, words: &str, connect: impl FnOnce() -> T) -> u64 {
    let pid = rustix::process::Pid::from_raw(i32::try_from(daemon.id()).unwrap());
    let may_open = |limit: Rlimit| rustix::process::prlimit(pid, Resource::Nofile, limit).unwrap();
    let before = may_open(Rlimit { current: Some(0), maximum: rustix::process::getrlimit(Resource::Nofile).maximum });
    let _waiting = connect();
    let line = wait_within(3 * beam::limits::LOG_WINDOW, "a complete window is logged", || {
        let log = daemon.log();
        // The first window may have begun before.
        let mut sums = log.lines().filter(|line| line.contains("connections that could not be accepted"));
        sums.nth(1).map(str::to_owned)
    });
    may_open(before);
    daemon.logs(&["WARN", words, "Too many open files"]);
    let number = line.split(" more within ").next().unwrap().rsplit(' ').next().unwrap();
    number.parse().expect(&line)
}

/// Returns the possible numbers of attempts in a window, one more or less than its pauses.
fn tries(pause: Duration) -> std::ops::RangeInclusive<u64> {
    let pauses = u64::try_from(beam::limits::LOG_WINDOW.as_millis() / pause.as_millis()).unwrap();
    1..=pauses + 1
}

#[test]
fn the_distribution_port_pauses_without_free_descriptors() {
    let (host, epmd, daemon) = Host::running(&[]);
    let port = epmd.port_of("hecate");
    let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let sum = not_taken(&daemon, "cannot accept a connection on the distribution port", connect);
    assert!(tries(beam::limits::ACCEPT_PAUSE).contains(&sum), "{sum} tries");
    assert_eq!(host.erl("late").eval(&format!("net_adm:ping('{}')", host.node("hecate"))), "pong");
}

#[test]
fn the_socket_pauses_without_free_descriptors() {
    let (host, _epmd, daemon) = Host::running(&[]);
    let connect = || UnixStream::connect(host.socket()).unwrap();
    let sum = not_taken(&daemon, "cannot accept a connection on the API socket", connect);
    assert!(tries(limits::HTTP_ACCEPT_PAUSE).contains(&sum), "{sum} tries");
    assert_eq!(host.ask("GET", "/readyz").status, 200);
}
