//! The lock on our own namespace, and the run files that are written under it.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{self, AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::error::{LayoutError, advice};
use super::open::open_at;
use crate::files::{Inode, Sight};
use crate::limits;

// ---- Tuning constants -----------------------------------------------------------------------

/// How long a start waits for a lock that another process holds. More means that a start succeeds
/// although a predecessor takes longer to end; less means that a second daemon is refused sooner.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_millis(500);

pub(super) const PID: &str = "daemon.pid";
pub(super) const STATE: &str = "daemon.state";
pub(super) const DIGITS: &str = "node.digits";

/// What `daemon.state` says of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// Not yet ready.
    Starting,
    /// Ready.
    Running,
    /// On the way out.
    Stopping,
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
        })
    }
}

/// Why `run/` could not be taken or written.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another daemon serves this home.
    #[error("another hecate-daemon serves {run}{who}: stop it, or choose another home", run = run.display(), who = holder(*pid))]
    Held {
        /// The directory.
        run: PathBuf,
        /// The process that holds it, if its `daemon.pid` can be read.
        pid: Option<i32>,
    },
    /// The directory could not be opened.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A system call failed.
    #[error("cannot {doing} {path}: {source}; {advice}", path = path.display(), advice = advice(source))]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn holder(pid: Option<i32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// Our hold on a home: as long as this lives no other daemon starts on it.
#[derive(Debug)]
pub struct RunLock {
    pub(super) path: PathBuf,
    /// Also locked while a file is written, so that two writers do not interfere.
    pub(super) hold: Mutex<Hold>,
}

/// The directories that we hold.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    pub(super) base: Arc<OwnedFd>,
    pub(super) run: Arc<OwnedFd>,
    /// The content that was last written.
    pub(super) state: Option<RunState>,
    /// The digits of our node's name that were last read or written, if there are any.
    pub(super) digits: Option<String>,
}

impl RunLock {
    /// Returns whether all files that were written exist.
    #[must_use]
    pub fn has_files(&self) -> bool {
        let Hold { run, state, digits, .. } = self.hold();
        let is_there = |name: &str| !matches!(fs::statat(&run, name, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT));
        state.is_none() || (is_there(PID) && is_there(STATE) && (digits.is_none() || is_there(DIGITS)))
    }

    /// Writes all files again, as they were written last.
    ///
    /// # Errors
    /// A file could not be written.
    pub fn rewrite(&self) -> Result<(), RunError> {
        let Hold { state, digits, .. } = self.hold();
        let Some(state) = state else { return Ok(()) };
        if let Some(digits) = digits {
            self.write(DIGITS, &digits)?;
        }
        self.write_pid()?;
        self.write_state(state)
    }

    /// Writes the digits of our node's name.
    pub(super) fn write_digits(&self, digits: &str) -> Result<(), RunError> {
        self.locked().digits = Some(digits.to_owned());
        self.write(DIGITS, digits)
    }

    pub(super) fn hold(&self) -> Hold {
        self.locked().clone()
    }

    pub(super) fn locked(&self) -> MutexGuard<'_, Hold> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pid that is found there: ours once it is written; before, that of a daemon that has crashed.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        read_pid(&self.hold().run)
    }

    /// Writes our pid.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn write_pid(&self) -> Result<(), RunError> {
        self.write(PID, &std::process::id().to_string())
    }

    /// Writes what we are doing.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn write_state(&self, state: RunState) -> Result<(), RunError> {
        self.locked().state = Some(state);
        self.write(STATE, &state.to_string())
    }

    /// Removes both files, the pid last: the clean end. The lock goes with the value.
    ///
    /// # Errors
    /// A file that is there could not be removed.
    pub fn remove_files(&self) -> Result<(), RunError> {
        let mut hold = self.locked();
        // So that they are not written again.
        hold.state = None;
        for name in [STATE, PID] {
            remove(&hold.run, name).map_err(|source| self.io("remove", name, source))?;
        }
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<(), RunError> {
        write(&self.locked().run, name, text).map_err(|source| self.io("write", name, source))
    }

    fn io(&self, doing: &'static str, name: &str, source: io::Error) -> RunError {
        RunError::Io { doing, path: self.path.join(name), source }
    }
}

/// Compares a locked directory with the one at its path.
pub(super) fn look_at(held: &OwnedFd, path: &Path) -> Sight {
    match fs::fstat(held) {
        Ok(stat) => Sight::at(path, Inode::from(&stat)),
        Err(_) => Sight::Unclear,
    }
}

/// Locks one directory. If another process holds it, the files in `run` may name that process.
pub(super) fn lock(dir: &OwnedFd, run: &OwnedFd, path: &Path, patience: Instant) -> Result<(), RunError> {
    loop {
        match fs::flock(dir, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if Instant::now() < patience => std::thread::sleep(LOCK_PATIENCE / 20),
            Err(Errno::WOULDBLOCK) => return Err(RunError::Held { run: path.to_owned(), pid: read_pid(run) }),
            Err(errno) => return Err(RunError::Io { doing: "lock", path: path.to_owned(), source: errno.into() }),
        }
    }
}

/// Writes a file whole or not at all. No other process writes here while we hold the lock.
pub(super) fn write(dir: &OwnedFd, name: &str, text: &str) -> io::Result<()> {
    let new = format!(".{name}.new");
    remove(dir, &new)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let fd = open_at(dir.as_fd(), Path::new(&new), flags, Mode::from_raw_mode(0o644))?;
    std::fs::File::from(fd).write_all(text.as_bytes())?;
    Ok(fs::renameat(dir, new.as_str(), dir, name)?)
}

pub(super) fn read_digits(dir: &OwnedFd) -> Option<String> {
    read(dir, DIGITS).filter(|digits| digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Returns the pid in `daemon.pid`, if there is a regular file that has one.
pub(super) fn read_pid(dir: &OwnedFd) -> Option<i32> {
    read(dir, PID)?.trim_end().parse().ok().filter(|pid| *pid > 0)
}

/// Reads a small regular file; none if it is anything else.
fn read(dir: &OwnedFd, name: &str) -> Option<String> {
    // A fifo in its place must not make us wait.
    let fd = open_at(dir.as_fd(), Path::new(name), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).ok()?;
    let stat = fs::fstat(&fd).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut text = String::new();
    // One byte more, so that what is too long is not taken for its beginning.
    let most = u64::try_from(limits::RUN_FILE + 1).unwrap_or(u64::MAX);
    std::fs::File::from(fd).take(most).read_to_string(&mut text).ok()?;
    (text.len() <= limits::RUN_FILE).then_some(text)
}

pub(super) fn remove(dir: &OwnedFd, name: &str) -> io::Result<()> {
    match fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
