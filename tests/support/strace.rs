//! Faults of the disk, by the kernel's own door: `strace` has a system call of the real daemon fail that touches one of
//! the paths given, and says in its log whether one did.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{Host, Output, Process, wait_for};

/// One system call that fails: which, the how many-th of a thread, and with what.
#[derive(Debug, Clone)]
pub struct Fault {
    pub call: String,
    pub number: u32,
    pub error: &'static str,
}

/// A running `strace`.
pub struct Strace {
    process: Process,
    said: Output,
    log: PathBuf,
}

/// The arguments that say what is watched, and what of it fails.
pub fn arguments(host: &Host, paths: &[PathBuf], fault: Option<&Fault>) -> Vec<String> {
    let mut arguments = vec!["-f".to_owned(), "-o".to_owned(), log(host).display().to_string()];
    // Of those that take a descriptor, the ones that work on a disk.
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

/// Where it writes what it sees.
pub fn log(host: &Host) -> PathBuf {
    host.home().join("strace.log")
}

impl Strace {
    /// Attaches it to every thread of a process.
    pub fn attach(host: &Host, pid: u32, paths: &[PathBuf], fault: Option<&Fault>) -> Self {
        let mut command = Command::new("strace");
        command.args(arguments(host, paths, fault)).args(["-p", &pid.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process::start(&mut command, "Install strace (Debian: apt-get install strace)");
        let said = Output::collect(process.pipes().stderr.take().unwrap(), Some);
        let strace = Self { process, said, log: log(host) };
        wait_for("strace is attached", || {
            assert!(!strace.said.text().contains("not permitted"), "{}", strace.said.text());
            strace.said.text().contains("attached")
        });
        strace
    }

    /// Leaves the process alone again; gives what was seen.
    pub fn detach(mut self) -> String {
        self.process.signal(rustix::process::Signal::INT);
        self.process.ended("strace ends");
        std::fs::read_to_string(&self.log).unwrap()
    }
}

/// Whether something was made to fail.
pub fn has_failed(log: &str) -> bool {
    log.contains("(INJECTED)")
}

/// The operations of a disk in a log, each name once.
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
