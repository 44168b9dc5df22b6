//! The files in `run/`: the lock that excludes a second daemon, `daemon.pid` and `daemon.state`,
//! and the removal of these files after a plugin has died.
//!
//! The lock is `flock(2)` on the daemon's namespace and on its `run/`. So a second daemon is
//! refused even if one of the two directories was created again. The files contain a decimal pid or
//! one word, without a newline. If they exist while the lock is free, the daemon has crashed. A
//! plugin's files are removed only if the process that they name is known to have ended.

use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustix::fs;
use rustix::io::Errno;

use super::create::Layout;
use super::run_lock::{
    DIGITS, Held, LOCK_PATIENCE, PID, RunError, RunLock, STATE, compare, lock, read_digits, read_pid, remove, write,
};
use crate::files::Sight;
use crate::plugin::PluginName;

impl RunLock {
    /// Locks the daemon's own namespace and its `run/`. Waits for up to `LOCK_PATIENCE`,
    /// because a program that a killed daemon was starting inherits its locks until `exec` closes
    /// them.
    ///
    /// # Errors
    /// [`RunError::Held`] if another daemon holds the lock.
    pub fn acquire(layout: &Layout) -> Result<Arc<Self>, RunError> {
        let (base, run) = (layout.own_base()?, layout.own_run()?);
        let path = layout.home().own().run();
        let patience = Instant::now() + LOCK_PATIENCE;
        lock(&base, &run, &path, patience)?;
        lock(&run, &run, &path, patience)?;
        // Kept even if this start does not need them, because a later one may.
        let digits = read_digits(&run);
        let held = Held { base: Arc::new(base), run: Arc::new(run), state: None, digits };
        let acquired = Arc::new(Self { path, held: Mutex::new(held) });
        layout.set_lock(&acquired);
        Ok(acquired)
    }

    /// Compares the locked directories with those at their paths.
    #[must_use]
    pub fn compare(&self, layout: &Layout) -> Sight {
        let held = self.held();
        let own = layout.home().own();
        let sights = [compare(&held.base, own.base()), compare(&held.run, &own.run())];
        sights.into_iter().find(|sight| *sight != Sight::Ours).unwrap_or(Sight::Ours)
    }

    /// Compares the locked namespace with the one at its path. While they are the same, no second
    /// daemon can start.
    pub(super) fn compare_base(&self, layout: &Layout) -> Sight {
        compare(&self.held().base, layout.home().own().base())
    }

    /// Locks the directories that are at the paths now, unless they are the locked ones.
    ///
    /// # Errors
    /// [`RunError::Held`] if another daemon holds their lock and thus serves this home.
    pub fn renew(&self, layout: &Layout) -> Result<(), RunError> {
        let before = self.held();
        let (base, run) = (layout.own_base()?, Arc::new(layout.own_run()?));
        let base = self.renewed(&before.base, Arc::new(base), &run)?;
        let run = self.renewed(&before.run, Arc::clone(&run), &run)?;
        let mut held = self.locked();
        (held.base, held.run) = (base, run);
        Ok(())
    }

    /// Returns the descriptor to keep: `held` if both descriptors are of the same directory, else
    /// `found`, which is locked.
    fn renewed(&self, held: &Arc<OwnedFd>, found: Arc<OwnedFd>, run: &OwnedFd) -> Result<Arc<OwnedFd>, RunError> {
        let id = |fd: &OwnedFd| fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
        match (id(held), id(&found)) {
            (Ok(held_id), Ok(found_id)) if held_id == found_id => Ok(Arc::clone(held)),
            _ => {
                lock(&found, run, &self.path, Instant::now())?;
                Ok(found)
            }
        }
    }
}

/// A process on this host, distinguishable from a later one with the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pid: i32,
    /// The start time in clock ticks after boot, field 22 of `/proc/pid/stat`.
    started: u64,
    /// Whether it is in the daemon's pid namespace. If not, a pid that it writes to a file means
    /// another process here.
    shares_pid_namespace: bool,
}

impl Process {
    /// Looks up a running process by its pid in the daemon's pid namespace.
    #[must_use]
    pub fn living(pid: i32) -> Option<Self> {
        let (state, started) = stat(pid).ok()?;
        (!is_dead(state)).then_some(Self { pid, started, shares_pid_namespace: is_in_own_pid_namespace(pid) })
    }

    /// Returns its pid in the daemon's pid namespace.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Returns whether the process is known to have ended.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match stat(self.pid) {
            Ok((state, started)) => is_dead(state) || started != self.started,
            Err(error) => {
                error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
            }
        }
    }
}

/// Returns whether a process has ended, including a zombie, which its parent may never reap.
fn is_dead(state: char) -> bool {
    matches!(state, 'Z' | 'X')
}

/// Returns the state and start time of a process, from `/proc/pid/stat` (proc_pid_stat(5)).
fn stat(pid: i32) -> io::Result<(char, u64)> {
    let text = proc_file(pid, "stat")?;
    // Field 2 is the name in parentheses. The name may contain parentheses, so the last one ends
    // it.
    let mut fields = text.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    let state = fields.next().and_then(|field| field.chars().next());
    let started = fields.nth(18).and_then(|field| field.parse().ok());
    state.zip(started).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Returns whether a process is in the daemon's pid namespace. `NSpid` in `/proc/pid/status`
/// (proc_pid_status(5)) has one pid for each namespace from the daemon's to the process's.
fn is_in_own_pid_namespace(pid: i32) -> bool {
    has_one_pid(&proc_file(pid, "status").unwrap_or_default())
}

/// Reads the first page of a file in proc(5), which has all needed fields, in a single system call.
/// Such a file has size 0, so `read_to_string` would need many calls.
fn proc_file(pid: i32, name: &str) -> io::Result<String> {
    let mut page = [0; 4096];
    let read = std::fs::File::open(format!("/proc/{pid}/{name}"))?.read(&mut page)?;
    Ok(String::from_utf8_lossy(page.get(..read).unwrap_or_default()).into_owned())
}

fn has_one_pid(status: &str) -> bool {
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    pids.is_some_and(|pids| pids.split_ascii_whitespace().count() == 1)
}

impl Layout {
    /// Removes `daemon.pid` and `daemon.state` of a plugin, if `process` wrote them and has ended.
    /// Returns whether they were removed. A pid from another process may belong to another pid
    /// namespace, so it is not used.
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn remove_dead_run_files(&self, name: &PluginName, process: &Process) -> Result<bool, RunError> {
        let dir = self.run(name)?;
        if !process.shares_pid_namespace || read_pid(&dir) != Some(process.pid) || !process.is_gone() {
            return Ok(false);
        }
        for file in [STATE, PID] {
            remove(&dir, file).map_err(|source| RunError::Io {
                doing: "remove",
                path: self.home().namespace(name).run().join(file),
                source,
            })?;
        }
        Ok(true)
    }
}

impl Layout {
    /// Returns six digits for the node's name, which are needed if all simpler names are in use.
    /// They are random and saved, so they are the same at each start. If the saved digits equal
    /// `other_than`, which are in use too, new ones replace them.
    ///
    /// # Errors
    /// They could not be saved, or the system has no random numbers.
    pub fn node_digits(&self, other_than: Option<&str>) -> Result<String, RunError> {
        let dir = self.own_run()?;
        if let Some(digits) = read_digits(&dir)
            && Some(digits.as_str()) != other_than
        {
            return Ok(digits);
        }
        let io = |source| RunError::Io { doing: "write", path: self.home().own().run().join(DIGITS), source };
        let random = getrandom::u32().map_err(|error| io(io::Error::other(error)))?;
        let digits = format!("{:06}", random % 1_000_000);
        match self.lock() {
            Some(lock) => lock.write_digits(&digits)?,
            None => write(&dir, DIGITS, &digits).map_err(io)?,
        }
        Ok(digits)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Home, Modes};
    use std::path::PathBuf;

    use super::*;
    use crate::layout::RunState;
    use crate::limits;
    use crate::plugin::sample;

    struct Scene {
        _dir: tempfile::TempDir,
        layout: Layout,
        name: PluginName,
    }

    impl Scene {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("temporary directory");
            let home = Home::new(dir.path().to_owned()).expect("absolute");
            let layout = Layout::open(home, Modes::default()).expect("opened");
            layout.ensure_own().expect("made");
            let name = sample::name("hecate-traderd");
            layout.ensure(&name, None).expect("made");
            Self { _dir: dir, layout, name }
        }

        fn own(&self, file: &str) -> io::Result<String> {
            std::fs::read_to_string(self.layout.home().own().run().join(file))
        }

        fn plugins(&self, file: &str) -> PathBuf {
            self.layout.home().namespace(&self.name).run().join(file)
        }

        /// Writes the files of a plugin with this pid.
        fn written_by(&self, pid: &str) {
            std::fs::write(self.plugins(PID), pid).expect("written");
            std::fs::write(self.plugins(STATE), "running").expect("written");
        }

        fn remove(&self, process: &Process) -> bool {
            self.layout.remove_dead_run_files(&self.name, process).expect("no error")
        }
    }

    fn child() -> (std::process::Child, Process) {
        let child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep runs");
        let pid = i32::try_from(child.id()).expect("a pid");
        (child, Process::living(pid).expect("it is running"))
    }

    #[test]
    fn the_digits_of_the_node_are_kept_until_they_are_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let home = crate::layout::Home::new(directory.path().join("home")).unwrap();
        let layout = Layout::open(home, crate::layout::Modes::default()).unwrap();
        layout.ensure_own().unwrap();
        let digits = layout.node_digits(None).unwrap();
        assert!(digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{digits}");
        assert_eq!(layout.node_digits(None).unwrap(), digits);
        assert_eq!(layout.node_digits(Some("x")).unwrap(), digits, "other digits are in use");
        let mut replaced = layout.node_digits(Some(&digits)).unwrap();
        while replaced == digits {
            replaced = layout.node_digits(Some(&digits)).unwrap();
        }
        assert_eq!(layout.node_digits(None).unwrap(), replaced);
        let file = layout.home().own().run().join("node.digits");
        for odd in ["", "12345", "1234567", "12a456", "../../"] {
            std::fs::write(&file, odd).unwrap();
            let digits = layout.node_digits(None).unwrap();
            assert_ne!(digits, odd);
            assert_eq!(std::fs::read_to_string(&file).unwrap(), digits);
        }
    }

    #[test]
    fn a_lock_that_is_released_soon_is_acquired() {
        let scene = Scene::new();
        let held = RunLock::acquire(&scene.layout).expect("free");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| RunLock::acquire(&scene.layout));
            std::thread::sleep(LOCK_PATIENCE / 4);
            assert!(!waiting.is_finished(), "it waits");
            drop(held);
            waiting.join().expect("no panic").expect("free in time");
        });
    }

    #[test]
    fn a_second_daemon_gets_the_pid_of_the_first() {
        let scene = Scene::new();
        let lock = RunLock::acquire(&scene.layout).expect("free");
        lock.write_pid().expect("written");
        let refused = RunLock::acquire(&scene.layout).expect_err("held");
        let me = std::process::id();
        assert!(
            matches!(refused, RunError::Held { pid: Some(pid), .. } if u32::try_from(pid) == Ok(me)),
            "{refused:?}"
        );
        let home = scene.layout.home().root().display();
        let expected = format!("another hecate-daemon serves {home} (process {me});");
        assert!(refused.to_string().starts_with(&expected), "{refused}");
        drop(lock);
        RunLock::acquire(&scene.layout).expect("free again");
    }

    #[test]
    fn a_second_daemon_is_refused_after_a_directory_was_removed() {
        let scene = Scene::new();
        let lock = RunLock::acquire(&scene.layout).expect("free");
        lock.write_pid().expect("written");
        lock.write_state(RunState::Running).expect("written");
        let own = scene.layout.home().own();
        std::fs::remove_dir_all(own.run()).expect("removed");
        assert_eq!(lock.compare(&scene.layout), Sight::Missing);
        scene.layout.ensure_own().expect("made");
        assert_eq!(lock.compare(&scene.layout), Sight::Foreign);
        RunLock::acquire(&scene.layout).expect_err("the namespace is locked");
        lock.renew(&scene.layout).expect("free");
        assert_eq!(lock.compare(&scene.layout), Sight::Ours);
        assert!(!lock.has_files());
        lock.rewrite().expect("written");
        assert!(lock.has_files());
        assert_eq!(scene.own(STATE).expect("there"), "running");

        // Everything is removed, and another daemon locks the new directories first.
        std::fs::remove_dir_all(own.base()).expect("removed");
        scene.layout.ensure_own().expect("made");
        let second = RunLock::acquire(&scene.layout).expect("free");
        second.write_pid().expect("written");
        assert!(matches!(lock.renew(&scene.layout), Err(RunError::Held { .. })));
        lock.remove_files().expect("its own files are gone");
        assert!(own.run().join(PID).exists(), "the files of the other daemon are kept");
    }

    #[test]
    fn the_files_have_the_format_of_the_convention() {
        let scene = Scene::new();
        let lock = RunLock::acquire(&scene.layout).expect("free");
        lock.write_pid().expect("written");
        assert_eq!(scene.own(PID).expect("there"), std::process::id().to_string());
        for (state, text) in
            [(RunState::Starting, "starting"), (RunState::Running, "running"), (RunState::Stopping, "stopping")]
        {
            lock.write_state(state).expect("written");
            assert_eq!(scene.own(STATE).expect("there"), text);
        }
        lock.remove_files().expect("removed");
        lock.remove_files().expect("nothing to do");
        let left = std::fs::read_dir(scene.layout.home().own().run()).expect("a directory").count();
        assert_eq!(left, 0);
    }

    #[test]
    fn all_files_are_written_again_after_run_was_removed() {
        let scene = Scene::new();
        let lock = RunLock::acquire(&scene.layout).expect("free");
        let mut digits = scene.layout.node_digits(None).expect("written");
        lock.write_pid().expect("written");
        lock.write_state(RunState::Running).expect("written");
        for _ in 0..2 {
            assert!(lock.has_files());
            std::fs::remove_file(scene.layout.home().own().run().join(DIGITS)).expect("there");
            assert!(!lock.has_files());
            lock.rewrite().expect("written");
            std::fs::remove_dir_all(scene.layout.home().own().run()).expect("removed");
            scene.layout.ensure_own().expect("made again");
            lock.renew(&scene.layout).expect("free");
            lock.rewrite().expect("written");
            assert_eq!(scene.layout.node_digits(None).expect("there"), digits);
            assert_eq!(scene.own(STATE).expect("there"), "running");
            // The name is in use, so it is replaced.
            digits = scene.layout.node_digits(Some(&digits)).expect("written");
        }
        drop(lock);
        let lock = RunLock::acquire(&scene.layout).expect("free");
        lock.write_state(RunState::Starting).expect("written");
        std::fs::remove_file(scene.layout.home().own().run().join(DIGITS)).expect("there");
        lock.rewrite().expect("written");
        assert_eq!(scene.own(DIGITS).expect("there"), digits, "also the digits of an earlier start");
    }

    #[test]
    fn a_link_in_place_of_a_run_file_is_replaced_and_not_followed() {
        let scene = Scene::new();
        let run = scene.layout.home().own().run();
        std::fs::write(run.join("victim"), "kept").expect("written");
        for name in [PID, ".daemon.pid.new"] {
            std::os::unix::fs::symlink("victim", run.join(name)).expect("linked");
        }
        let lock = RunLock::acquire(&scene.layout).expect("free");
        lock.write_pid().expect("written");
        assert_eq!(scene.own("victim").expect("there"), "kept");
        assert_eq!(scene.own(PID).expect("there"), std::process::id().to_string());
    }

    #[test]
    fn only_the_files_of_a_dead_process_are_removed() {
        let scene = Scene::new();
        let (mut child, process) = child();
        scene.written_by(&child.id().to_string());
        assert!(!process.is_gone());
        assert!(!scene.remove(&process));
        assert!(scene.plugins(PID).exists() && scene.plugins(STATE).exists());
        child.kill().expect("killed");
        child.wait().expect("ended");
        assert!(process.is_gone());
        assert!(scene.remove(&process));
        assert!(!scene.plugins(PID).exists() && !scene.plugins(STATE).exists());
    }

    #[test]
    fn a_zombie_is_gone() {
        let (mut child, process) = child();
        child.kill().expect("killed");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !process.is_gone() {
            assert!(std::time::Instant::now() < deadline, "killed, but never a zombie");
            std::thread::yield_now();
        }
        assert_eq!(Process::living(process.pid()), None);
        child.wait().expect("ended");
    }

    #[test]
    fn the_same_pid_started_at_another_time_is_another_process() {
        let (mut child, process) = child();
        let earlier = Process { started: process.started - 1, ..process };
        assert!(earlier.is_gone() && !process.is_gone());
        child.kill().expect("killed");
        child.wait().expect("ended");
    }

    #[test]
    fn files_with_another_pid_are_kept() {
        let scene = Scene::new();
        let (mut child, process) = child();
        child.kill().expect("killed");
        child.wait().expect("ended");
        for other in ["1", "", "17x", "-4", "0", "99999999999999999999"] {
            scene.written_by(other);
            assert!(!scene.remove(&process), "{other:?}");
            assert!(scene.plugins(PID).exists() && scene.plugins(STATE).exists());
        }
    }

    #[test]
    fn files_of_a_process_in_another_pid_namespace_are_kept() {
        assert!(has_one_pid("Name:\tsleep\nNSpid:\t4711\nNSpgid:\t4711\t37\n"));
        assert!(!has_one_pid("Name:\tsleep\nNSpid:\t4711\t37\nNSpgid:\t4711\n"));
        assert!(!has_one_pid(""), "unknown");
        let scene = Scene::new();
        let (mut child, process) = child();
        child.kill().expect("killed");
        child.wait().expect("ended");
        scene.written_by(&child.id().to_string());
        assert!(process.shares_pid_namespace);
        assert!(!scene.remove(&Process { shares_pid_namespace: false, ..process }));
        assert!(scene.plugins(PID).exists() && scene.plugins(STATE).exists());
    }

    #[test]
    fn a_pid_file_beyond_the_limit_is_ignored() {
        let scene = Scene::new();
        let (mut child, process) = child();
        child.kill().expect("killed");
        child.wait().expect("ended");
        let padded = format!("{:0>width$}", child.id(), width = limits::RUN_FILE);
        scene.written_by(&format!("{padded}0"));
        // Cut at the limit, it would contain the pid of the dead process.
        assert!(!scene.remove(&process));
        scene.written_by(&format!("0{padded}"));
        assert!(!scene.remove(&process), "it is one byte too long");
        scene.written_by(&padded);
        assert!(scene.remove(&process));
    }

    #[test]
    fn reading_a_fifo_in_place_of_a_pid_file_does_not_block() {
        let scene = Scene::new();
        let run = scene.layout.own_run().expect("opened");
        rustix::fs::mknodat(&run, PID, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)
            .expect("made");
        assert_eq!(read_pid(&run), None);
    }
}
