//! The examples of the node's crate, each with a real Erlang node.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{Host, Output, PATIENCE, Process, wait_for};

/// Returns the built example. Cargo builds it if it is missing or older than its sources.
fn built(name: &str) -> PathBuf {
    // `PROFILE/deps/examples-HASH` is this test.
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).expect("cargo keeps tests in `deps`");
    let directory = profile.file_name().unwrap().to_str().unwrap();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--locked", "--package", "beam-node", "--example", name]);
    cargo.args(["--profile", if directory == "debug" { "dev" } else { directory }]);
    cargo.arg("--target-dir").arg(profile.parent().unwrap()).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    profile.join("examples").join(name)
}

/// A running example.
struct Example {
    process: Process,
    output: Output,
}

impl Example {
    fn start(host: &Host, name: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(built(name));
        command.args(arguments).env("ERL_EPMD_PORT", host.epmd_port.to_string()).stdout(Stdio::piped());
        let mut process = Process::start(&mut command, "cargo builds it");
        let output = Output::collect(process.pipes().stdout.take().unwrap(), Some);
        Self { process, output }
    }

    /// Waits until the example has printed a line.
    fn prints(&self, line: &str) {
        wait_for(&format!("the example prints {line:?}"), || self.output.text().lines().any(|printed| printed == line));
    }

    /// Ends the example as Ctrl-C does.
    fn interrupt(mut self) {
        self.process.signal(rustix::process::Signal::INT);
        assert!(self.process.ended("the example ends").success());
    }
}

#[test]
fn ping_connects_to_a_node() {
    let host = Host::new();
    let _epmd = host.epmd();
    let _erl = host.erl("erl");
    let (ours, theirs) = (host.node("ping"), host.node("erl"));
    let mut ping = Example::start(&host, "ping", &[&ours, &host.cookie, &theirs]);
    assert!(ping.process.ended("the example ends").success());
    ping.prints("pong");
    let mut wrong = Example::start(&host, "ping", &[&ours, "another-cookie", &theirs]);
    assert!(!wrong.process.ended("the example ends").success(), "another cookie must be refused");
}

#[test]
fn a_gen_server_is_called_by_erlang() {
    let host = Host::new();
    let example = Example::start(&host, "gen_server", &[&host.node("rust"), &host.cookie]);
    example.prints("ready");
    // The example serves EPMD too, because none runs.
    let mut erl = host.erl("erl");
    let counter = format!("{{counter, '{}'}}", host.node("rust"));
    for by in ["2", "40", "wrong"] {
        assert_eq!(erl.eval(&format!("gen_server:cast({counter}, {{add, {by}}})")), "ok");
    }
    assert_eq!(erl.eval(&format!("gen_server:call({counter}, get)")), "42");
    assert_eq!(erl.eval(&format!("gen_server:call({counter}, what)")), "{error,badarg}");
    // Releases differ in what they expect as the state.
    let state = format!("case sys:get_state({counter}) of {{ok, State}} -> State; State -> State end");
    assert_eq!(erl.eval(&state), "42");
    erl.eval(&format!("{counter} ! hello"));
    example.prints("message Atom('hello')");
    example.interrupt();
    erl.eval_until("nodes()", "[]", PATIENCE);
}

#[test]
fn functions_are_called_in_both_directions() {
    let host = Host::new();
    let _epmd = host.epmd();
    let mut erl = host.erl("erl");
    let rust = host.node("rust");
    let example = Example::start(&host, "erpc", &[&rust, &host.cookie, &host.node("erl")]);
    let release = erl.eval("erlang:system_info(otp_release)");
    example.prints(&format!("OTP {}", release.trim_matches('"')));
    example.prints("the function failed on the node");
    assert_eq!(erl.eval(&format!("erpc:call('{rust}', calc, add, [2, 3])")), "5");
    let caught = |args: &str| format!("try erpc:call('{rust}', calc, add, {args}) catch C:{{_, R, _}} -> {{C, R}} end");
    assert_eq!(erl.eval(&caught("[2, two]")), "{error,badarg}");
    assert_eq!(erl.eval(&caught("[2]")), "{error,undef}");
    example.interrupt();
}

#[test]
fn members_of_a_group_are_followed_and_monitored() {
    let host = Host::new();
    let _epmd = host.epmd();
    let mut erl = host.erl("erl");
    let (rust, theirs) = (host.node("rust"), host.node("erl"));
    let example = Example::start(&host, "pg", &[&rust, &host.cookie, &theirs]);
    example.prints("members: 1");
    erl.eval(
        "{ok, _} = pg:start_link(), Self = self(), Worker = spawn(fun() -> \
              receive Message -> Self ! {got, Message} end, receive stop -> exit(oops) end end), \
              put(worker, Worker), pg:join(workers, Worker)",
    );
    example.prints(&format!("joined: {theirs}"));
    example.prints("members: 2");
    assert_eq!(erl.eval("receive {got, Message} -> Message after 30000 -> timeout end"), "welcome");
    erl.eval_until("length(pg:get_members(workers))", "2", PATIENCE);
    erl.eval("get(worker) ! stop");
    example.prints("down: Atom('oops')");
    example.prints(&format!("left: {theirs}"));
    // The members of a node leave when the node ends.
    erl.eval("pg:join(workers, self())");
    wait_for("the member joins", || example.output.text().matches("joined: ").count() == 2);
    erl.kill();
    example.prints("down: Atom('noconnection')");
    // The monitor and the group report it in any order.
    wait_for("the member leaves", || example.output.text().matches("left: ").count() == 2);
    example.interrupt();
}
