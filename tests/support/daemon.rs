//! The built daemon as a process of its own.

use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::{Host, Output, PATIENCE, Process, wait_within};

/// A running daemon.
pub struct Daemon {
    process: Process,
    out: Output,
    log: Output,
}

impl Daemon {
    /// Starts it. Nothing of the machine's environment reaches it, and there is no program that it could start; what is
    /// in `environment` comes on top.
    pub fn start(host: &Host, environment: &[(&str, &str)]) -> Self {
        Self::start_as(host, &[], environment)
    }

    /// Starts it by another program, which is given with its arguments and ends by becoming the daemon or when that ends.
    pub fn start_as(host: &Host, by: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Self::command_as(host, by, environment);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::start(&mut command, "Build it");
        let out = process.pipes().stdout.take().unwrap();
        let err = process.pipes().stderr.take().unwrap();
        Self { process, out: Output::collect(out, Some), log: Output::collect(err, Some) }
    }

    /// How it is started, but for where it writes.
    pub fn command(host: &Host, environment: &[(&str, &str)]) -> Command {
        Self::command_as(host, &[], environment)
    }

    fn command_as(host: &Host, by: &[&str], environment: &[(&str, &str)]) -> Command {
        let words: Vec<&str> = by.iter().copied().chain([env!("CARGO_BIN_EXE_hecate-daemon")]).collect();
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .env_clear()
            .env("HOME", host.home())
            .env("PATH", host.no_programs())
            .env("ERL_EPMD_PORT", host.epmd_port.to_string())
            .env("HECATE_COOKIE", &host.cookie)
            .envs(environment.iter().copied())
            .current_dir(host.home())
            .stdin(Stdio::null());
        command
    }

    /// Waits for the line that says that it is ready, and gives the node's name in it.
    pub fn ready(&self) -> String {
        let line = wait_within(PATIENCE, "the daemon is ready", || self.ready_line());
        line.rsplit_once("node ").expect("it names the node").1.to_owned()
    }

    /// The line that says that it is ready, once it has said so.
    pub fn ready_line(&self) -> Option<String> {
        let out = self.out.text();
        let line = out.strip_suffix('\n')?;
        assert!(!line.contains('\n'), "one line on standard output: {out:?}");
        Some(line.to_owned())
    }

    /// Its pid.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Lines of the log that have all these words.
    pub fn log_lines(&self, words: &[&str]) -> Vec<String> {
        self.log.lines(words)
    }

    /// Waits for a line of the log with all these words.
    pub fn logs(&self, words: &[&str]) {
        self.log.shows(words);
    }

    /// SIGSTOP: it does nothing any more, and its connections stay open.
    pub fn stop(&self) {
        self.process.stop();
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.process.resume();
    }

    /// The most memory that it has had at once, in bytes.
    pub fn peak_memory(&self) -> usize {
        self.status("VmHWM:")
    }

    /// The memory that it has now, in bytes.
    pub fn memory(&self) -> usize {
        self.status("VmRSS:")
    }

    fn status(&self, field: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
        line.trim().strip_suffix(" kB").expect("in kB").parse::<usize>().unwrap() * 1024
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.end();
    }

    /// SIGKILL, of one whose output is still wanted.
    pub fn end(&mut self) {
        self.process.kill();
    }

    /// SIGTERM; gives how it ended, after which time, and its log.
    pub fn terminate(mut self) -> (ExitStatus, Duration, String) {
        let start = Instant::now();
        self.process.terminate();
        let status = self.process.ended("the daemon ends on SIGTERM");
        (status, start.elapsed(), self.log())
    }

    /// Waits for it to end by itself; gives its exit code.
    pub fn ended(&mut self) -> Option<i32> {
        self.process.ended("the daemon ends by itself").code()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.process.pipes().try_wait().unwrap().is_none()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- log of the daemon ----\n{}----", self.log());
        }
    }
}
