//! The built daemon as a separate process.

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
    /// Starts the daemon with only `environment` and what it needs to run, without the machine's
    /// environment. Its `PATH` contains no program.
    pub fn start(host: &Host, environment: &[(&str, &str)]) -> Self {
        Self::start_as(host, &[], environment)
    }

    /// Starts the daemon by another program, given with its arguments. The program either becomes
    /// the daemon or ends with it.
    pub fn start_as(host: &Host, by: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Self::command_as(host, by, environment);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::start(&mut command, "Build it");
        let out = process.pipes().stdout.take().unwrap();
        let err = process.pipes().stderr.take().unwrap();
        Self { process, out: Output::collect(out, Some), log: Output::collect(err, Some) }
    }

    /// Returns the command that starts the daemon, without redirected output.
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

    /// Waits until the daemon prints that it is ready, and returns the node name in that line.
    pub fn ready(&self) -> String {
        let line = wait_within(PATIENCE, "the daemon is ready", || self.ready_line());
        line.rsplit_once("node ").expect("a node name").1.to_owned()
    }

    /// Returns the line that the daemon prints when it is ready, if it has printed it.
    pub fn ready_line(&self) -> Option<String> {
        let out = self.out.text();
        let line = out.strip_suffix('\n')?;
        assert!(!line.contains('\n'), "one line on standard output: {out:?}");
        Some(line.to_owned())
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns the log so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Returns the log lines that contain all of `words`.
    pub fn log_lines(&self, words: &[&str]) -> Vec<String> {
        self.log.lines(words)
    }

    /// Waits for a log line that contains all of `words`.
    pub fn logs(&self, words: &[&str]) {
        self.log.shows(words);
    }

    /// Sends SIGSTOP: the daemon stops working, and its connections stay open.
    pub fn stop(&self) {
        self.process.stop();
    }

    /// Sends SIGCONT.
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Returns the peak resident memory, in bytes.
    pub fn peak_memory(&self) -> usize {
        self.status("VmHWM:")
    }

    /// Returns the resident memory, in bytes.
    pub fn memory(&self) -> usize {
        self.status("VmRSS:")
    }

    fn status(&self, field: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
        line.trim().strip_suffix(" kB").expect("in kB").parse::<usize>().unwrap() * 1024
    }

    /// Sends SIGKILL, and waits for the end.
    pub fn kill(mut self) {
        self.end();
    }

    /// Sends SIGKILL, and keeps the output readable.
    pub fn end(&mut self) {
        self.process.kill();
    }

    /// Sends SIGTERM. Returns the exit status, the time until the end, and the log.
    pub fn terminate(mut self) -> (ExitStatus, Duration, String) {
        let start = Instant::now();
        self.process.terminate();
        let status = self.process.ended("the daemon ends on SIGTERM");
        (status, start.elapsed(), self.log())
    }

    /// Waits until the daemon ends by itself, and returns its exit code.
    pub fn ended(&mut self) -> Option<i32> {
        self.process.ended("the daemon ends by itself").code()
    }

    /// Returns whether the daemon is running.
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
