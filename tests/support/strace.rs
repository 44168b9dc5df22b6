//! Injects disk faults with `strace`: a system call of the real daemon fails if it uses one of the
//! given paths. The log shows whether one failed.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{Host, Output, Process, wait_for};

/// A system call that fails: its name, the number of the call within a thread, and the error.
#[derive(Debug, Clone)]
pub struct Fault {
    pub call: String,
    pub number: u32,
    pub error: &'static str,
}

pub struct Strace {
    process: Process,
    messages: Output,
    log: PathBuf,
}

/// Returns the arguments that select the watched calls and the one that fails.
pub fn arguments(host: &Host, paths: &[PathBuf], fault: Option<&Fault>) -> Vec<String> {
    let mut arguments = vec!["-f".to_owned(), "-o".to_owned(), log(host).display().to_string()];
    // Of the calls on descriptors, those that access a disk.
    let watched = "trace=%file,read,pread64,readv,write,pwrite64,writev,ftruncate,fallocate,fsync,fdatasync,sync_file_range,\
                   fchmod,fchown,fstat,getdents64,flock,mmap,bind";
    arguments.extend(["-e".to_owned(), watched.to_owned()]);
    for path in paths {
        arguments.extend(["-P".to_owned(), path.display().to_string()]);
    }
    if let Some(Fault { call, number, error }) = fault {
        arguments.extend(["-e".to_owned(), format!("inject={call}:error={error}:when={number}")]);
    }
    arguments
}

/// Returns the path of the log.
pub fn log(host: &Host) -> PathBuf {
    host.home().join("strace.log")
}

impl Strace {
    /// Attaches to each thread of a process.
    pub fn attach(host: &Host, pid: u32, paths: &[PathBuf], fault: Option<&Fault>) -> Self {
        let mut command = Command::new("strace");
        command.args(arguments(host, paths, fault)).args(["-p", &pid.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process::start(&mut command, "Install strace (Debian: apt-get install strace)");
        let messages = Output::collect(process.pipes().stderr.take().unwrap(), Some);
        let strace = Self { process, messages, log: log(host) };
        wait_for("strace is attached", || {
            assert!(!strace.messages.text().contains("not permitted"), "{}", strace.messages.text());
            strace.messages.text().contains("attached")
        });
        strace
    }

    /// Detaches from the process, and returns the log.
    pub fn detach(mut self) -> String {
        self.process.signal(rustix::process::Signal::INT);
        self.process.ended("strace ends");
        std::fs::read_to_string(&self.log).unwrap()
    }
}

/// Returns whether an injected fault occurred.
pub fn has_failed(log: &str) -> bool {
    log.contains("(INJECTED)")
}

/// Returns the name of each disk operation in a log, once.
pub fn calls(log: &str) -> Vec<String> {
    let mut calls = Vec::new();
    for line in log.lines() {
        let Some(call) = line.split_whitespace().nth(1).and_then(|call| call.split_once('(')) else { continue };
        if !calls.iter().any(|known| known == call.0) {
            calls.push(call.0.to_owned());
        }
    }
    calls
}
