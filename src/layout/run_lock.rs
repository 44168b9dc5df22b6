//! The lock on the daemon's own namespace, and the run files that only its holder writes.

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

/// The state in `daemon.state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// The daemon is not ready yet.
    Starting,
    /// The daemon is ready.
    Running,
    /// The daemon is shutting down.
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

/// Why `run/` could not be locked or written.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another daemon serves this home.
    #[error("another hecate-daemon serves {home}{holder}; stop it, or choose another home", home = home.display(), holder = holder(*pid))]
    Held {
        /// The home.
        home: PathBuf,
        /// The process that holds the lock, if its `daemon.pid` can be read.
        pid: Option<i32>,
    },
    /// The directory could not be opened.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A system call failed.
    #[error("cannot {doing} {path}: {source}; {advice}", path = path.display(), advice = advice(source))]
    Io {
        /// What was attempted, as a verb.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

fn holder(pid: Option<i32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// The lock on a home. While it exists, no other daemon can start there.
#[derive(Debug)]
pub struct RunLock {
    pub(super) path: PathBuf,
    /// Also locked while a file is written, so that two writers do not interfere.
    pub(super) held: Mutex<Held>,
}

/// The locked directories.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) base: Arc<OwnedFd>,
    pub(super) run: Arc<OwnedFd>,
    /// The state that was last written.
    pub(super) state: Option<RunState>,
    /// The digits of the node's name that were last read or written.
    pub(super) digits: Option<String>,
}

impl RunLock {
    /// Returns whether all files that were written still exist.
    #[must_use]
    pub fn has_files(&self) -> bool {
        let Held { run, state, digits, .. } = self.held();
        let is_there = |name: &str| !matches!(fs::statat(&run, name, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT));
        state.is_none() || (is_there(PID) && is_there(STATE) && (digits.is_none() || is_there(DIGITS)))
    }

    /// Writes all files again with their last content.
    ///
    /// # Errors
    /// A file could not be written.
    pub fn rewrite(&self) -> Result<(), RunError> {
        let Held { state, digits, .. } = self.held();
        let Some(state) = state else { return Ok(()) };
        if let Some(digits) = digits {
            self.write(DIGITS, &digits)?;
        }
        self.write_pid()?;
        self.write_state(state)
    }

    /// Writes the digits of the node's name.
    pub(super) fn write_digits(&self, digits: &str) -> Result<(), RunError> {
        self.locked().digits = Some(digits.to_owned());
        self.write(DIGITS, digits)
    }

    pub(super) fn held(&self) -> Held {
        self.locked().clone()
    }

    pub(super) fn locked(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the pid in `daemon.pid`. Until this process writes its own, this is the pid of a
    /// daemon that crashed.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        read_pid(&self.held().run)
    }

    /// Writes the pid of this process.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn write_pid(&self) -> Result<(), RunError> {
        self.write(PID, &std::process::id().to_string())
    }

    /// Writes the state.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn write_state(&self, state: RunState) -> Result<(), RunError> {
        self.locked().state = Some(state);
        self.write(STATE, &state.to_string())
    }

    /// Removes `daemon.state` and then `daemon.pid`, at the end of an orderly shutdown. The lock
    /// remains until it is dropped.
    ///
    /// # Errors
    /// A file could not be removed.
    pub fn remove_files(&self) -> Result<(), RunError> {
        let mut held = self.locked();
        // Keeps the watch of the daemon's own files from writing them again.
        held.state = None;
        for name in [STATE, PID] {
            remove(&held.run, name).map_err(|source| self.io("remove", name, source))?;
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
pub(super) fn compare(held: &OwnedFd, path: &Path) -> Sight {
    match fs::fstat(held) {
        Ok(stat) => Sight::at(path, Inode::from(&stat)),
        Err(_) => Sight::Unclear,
    }
}

/// Locks a directory, and waits for the lock until `patience`. If another process holds it, the pid
/// in `run` is added to the error.
pub(super) fn lock(dir: &OwnedFd, run: &OwnedFd, path: &Path, patience: Instant) -> Result<(), RunError> {
    loop {
        match fs::flock(dir, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if Instant::now() < patience => std::thread::sleep(LOCK_PATIENCE / 20),
            Err(Errno::WOULDBLOCK) => {
                // Home is two levels above `run`.
                let home = path.ancestors().nth(2).unwrap_or(path).to_owned();
                return Err(RunError::Held { home, pid: read_pid(run) });
            }
            Err(errno) => return Err(RunError::Io { doing: "lock", path: path.to_owned(), source: errno.into() }),
        }
    }
}

/// Writes a file atomically. The lock keeps other processes from writing there.
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

/// Returns the pid in `daemon.pid`, if it is a regular file with a valid pid.
pub(super) fn read_pid(dir: &OwnedFd) -> Option<i32> {
    read(dir, PID)?.trim_end().parse().ok().filter(|pid| *pid > 0)
}

/// Reads a small regular file. Returns `None` for any other file.
fn read(dir: &OwnedFd, name: &str) -> Option<String> {
    // Opening a FIFO must not block.
    let fd = open_at(dir.as_fd(), Path::new(name), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).ok()?;
    let stat = fs::fstat(&fd).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut text = String::new();
    // One byte more than the limit shows that the file is too long.
    let bytes = u64::try_from(limits::RUN_FILE + 1).unwrap_or(u64::MAX);
    std::fs::File::from(fd).take(bytes).read_to_string(&mut text).ok()?;
    (text.len() <= limits::RUN_FILE).then_some(text)
}

pub(super) fn remove(dir: &OwnedFd, name: &str) -> io::Result<()> {
    match fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
