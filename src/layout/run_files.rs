//! The files in `run/`: the lock that makes us the only daemon of a home, `daemon.pid` and `daemon.state`, and what a
//! dead plugin leaves of them.
//!
//! The lock is `flock(2)` on our namespace and on its `run/`: a second daemon is refused even if
//! one of them was made again. The files are as the ecosystem has them: a decimal pid, or one word,
//! without a newline; finding them while the lock is free means a crash. Never removes a
//! plugin's files unless the process that they name is known to be gone.

use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustix::fs;
use rustix::io::Errno;

use super::create::Layout;
use super::run_lock::{
    DIGITS, Hold, LOCK_PATIENCE, PID, RunError, RunLock, STATE, lock, look_at, read_digits, read_pid, remove, write,
};
use crate::files::Sight;
use crate::plugin::PluginName;

impl RunLock {
    /// Takes the lock on `run/` of our own namespace. One that is held is asked for once more for a moment: a program that
    /// a killed predecessor was just starting has all that was open there, until it is loaded.
    ///
    /// # Errors
    /// [`RunError::Held`] if another daemon has it.
    pub fn take(layout: &Layout) -> Result<Arc<Self>, RunError> {
        let (base, run) = (layout.own_base()?, layout.own_run()?);
        let path = layout.home().own().run();
        let patience = Instant::now() + LOCK_PATIENCE;
        lock(&base, &run, &path, patience)?;
        lock(&run, &run, &path, patience)?;
        // Even if this start does not need them, a later one may.
        let digits = read_digits(&run);
        let hold = Hold { base: Arc::new(base), run: Arc::new(run), state: None, digits };
        let taken = Arc::new(Self { path, hold: Mutex::new(hold) });
        layout.locked_by(&taken);
        Ok(taken)
    }

    /// Compares the locked directories with those at their paths.
    #[must_use]
    pub fn probe(&self, layout: &Layout) -> Sight {
        let hold = self.hold();
        let own = layout.home().own();
        let sights = [look_at(&hold.base, own.base()), look_at(&hold.run, &own.run())];
        sights.into_iter().find(|sight| *sight != Sight::Ours).unwrap_or(Sight::Ours)
    }

    /// Compares only our namespace: while it is the locked one, no second daemon starts.
    pub(super) fn look_at_base(&self, layout: &Layout) -> Sight {
        look_at(&self.hold().base, layout.home().own().base())
    }

    /// Locks the directories that are at the paths now, if they are not the ones that are locked.
    ///
    /// # Errors
    /// [`RunError::Held`] if another daemon has locked them: it serves this home now.
    pub fn renew(&self, layout: &Layout) -> Result<(), RunError> {
        let held = self.hold();
        let (base, run) = (layout.own_base()?, Arc::new(layout.own_run()?));
        let base = self.renewed(&held.base, Arc::new(base), &run)?;
        let run = self.renewed(&held.run, Arc::clone(&run), &run)?;
        let mut hold = self.locked();
        (hold.base, hold.run) = (base, run);
        Ok(())
    }

    /// Returns the descriptor to hold from now on: the held one, if both are of the same directory.
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

/// One process of this host, as far as it can be told from a later one with the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pid: i32,
    /// Start in clock ticks after boot, field 22 of `/proc/pid/stat`.
    started: u64,
    /// Whether it counts pids as we do. In a pid namespace of its own, what it writes down means another process here.
    counts_as_we_do: bool,
}

impl Process {
    /// Looks up a living process by a pid that the kernel gave us, so that it counts in our own pid namespace.
    #[must_use]
    pub fn living(pid: i32) -> Option<Self> {
        let (state, started) = stat(pid).ok()?;
        (!is_dead(state)).then_some(Self { pid, started, counts_as_we_do: is_in_our_namespace(pid) })
    }

    /// Its pid, as it counts for us.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it has ended for certain.
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

/// A zombie runs no more, even if its parent never asks for it.
fn is_dead(state: char) -> bool {
    matches!(state, 'Z' | 'X')
}

/// State and start time of a process, from `/proc/pid/stat` (proc_pid_stat(5)).
fn stat(pid: i32) -> io::Result<(char, u64)> {
    let text = proc_file(pid, "stat")?;
    // The name, field 2, is in parentheses and may hold anything: the last one closes it.
    let mut fields = text.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    let state = fields.next().and_then(|field| field.chars().next());
    let started = fields.nth(18).and_then(|field| field.parse().ok());
    state.zip(started).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Whether a process has a single pid, the one that we know: `NSpid` of `/proc/pid/status` (proc_pid_status(5)) lists one
/// for each pid namespace from ours down to its own.
fn is_in_our_namespace(pid: i32) -> bool {
    has_one_pid(&proc_file(pid, "status").unwrap_or_default())
}

/// What proc(5) says of a process, in one call: the size that such a file shows is 0, so that it would be read in ever larger
/// pieces. What we look for stands in the first page.
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
    /// Removes `daemon.pid` and `daemon.state` of a plugin, if they are those of `process` and it is gone. Tells
    /// whether it did. A pid that another process wrote may count in another pid namespace: it proves nothing.
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn remove_dead_run_files(&self, name: &PluginName, process: &Process) -> Result<bool, RunError> {
        let dir = self.run(name)?;
        if !process.counts_as_we_do || read_pid(&dir) != Some(process.pid) || !process.is_gone() {
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
    /// Returns six digits for our node's name, for when all simpler names are taken. They are
    /// random, and the same at each start, unless they equal `other_than`, which are taken too:
    /// then they are replaced.
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

        /// The files that a plugin with this pid would have written.
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
        (child, Process::living(pid).expect("it lives"))
    }

    #[test]
    fn the_digits_of_the_node_stay_the_same_until_they_are_taken() {
        let directory = tempfile::tempdir().unwrap();
        let home = crate::layout::Home::new(directory.path().join("home")).unwrap();
        let layout = Layout::open(home, crate::layout::Modes::default()).unwrap();
        layout.ensure_own().unwrap();
        let digits = layout.node_digits(None).unwrap();
        assert!(digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{digits}");
        assert_eq!(layout.node_digits(None).unwrap(), digits);
        assert_eq!(layout.node_digits(Some("x")).unwrap(), digits, "others are taken");
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
    fn a_hold_that_ends_soon_is_waited_for() {
        let scene = Scene::new();
        let held = RunLock::take(&scene.layout).expect("free");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| RunLock::take(&scene.layout));
            std::thread::sleep(LOCK_PATIENCE / 4);
            assert!(!waiting.is_finished(), "it waits");
            drop(held);
            waiting.join().expect("no panic").expect("free in time");
        });
    }

    #[test]
    fn the_second_daemon_is_told_who_is_first() {
        let scene = Scene::new();
        let lock = RunLock::take(&scene.layout).expect("free");
        lock.write_pid().expect("written");
        let refused = RunLock::take(&scene.layout).expect_err("held");
        let me = std::process::id();
        assert!(
            matches!(refused, RunError::Held { pid: Some(pid), .. } if u32::try_from(pid) == Ok(me)),
            "{refused:?}"
        );
        assert!(refused.to_string().contains(&format!("(process {me})")), "{refused}");
        drop(lock);
        RunLock::take(&scene.layout).expect("free again");
    }

    #[test]
    fn a_directory_that_was_removed_leaves_no_room_for_a_second_daemon() {
        let scene = Scene::new();
        let lock = RunLock::take(&scene.layout).expect("free");
        lock.write_pid().expect("written");
        lock.write_state(RunState::Running).expect("written");
        let own = scene.layout.home().own();
        std::fs::remove_dir_all(own.run()).expect("removed");
        assert_eq!(lock.probe(&scene.layout), Sight::Missing);
        scene.layout.ensure_own().expect("made");
        assert_eq!(lock.probe(&scene.layout), Sight::Foreign);
        RunLock::take(&scene.layout).expect_err("the namespace is locked");
        lock.renew(&scene.layout).expect("free");
        assert_eq!(lock.probe(&scene.layout), Sight::Ours);
        assert!(!lock.has_files());
        lock.rewrite().expect("written");
        assert!(lock.has_files());
        assert_eq!(scene.own(STATE).expect("there"), "running");

        // Everything is removed, and another daemon is faster.
        std::fs::remove_dir_all(own.base()).expect("removed");
        scene.layout.ensure_own().expect("made");
        let second = RunLock::take(&scene.layout).expect("free");
        second.write_pid().expect("written");
        assert!(matches!(lock.renew(&scene.layout), Err(RunError::Held { .. })));
        lock.remove_files().expect("its own are gone");
        assert!(own.run().join(PID).exists(), "those of the other stay");
    }

    #[test]
    fn the_files_are_as_the_ecosystem_has_them() {
        let scene = Scene::new();
        let lock = RunLock::take(&scene.layout).expect("free");
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
    fn all_files_come_back_after_run_was_removed() {
        let scene = Scene::new();
        let lock = RunLock::take(&scene.layout).expect("free");
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
            // The name is taken.
            digits = scene.layout.node_digits(Some(&digits)).expect("written");
        }
        drop(lock);
        let lock = RunLock::take(&scene.layout).expect("free");
        lock.write_state(RunState::Starting).expect("written");
        std::fs::remove_file(scene.layout.home().own().run().join(DIGITS)).expect("there");
        lock.rewrite().expect("written");
        assert_eq!(scene.own(DIGITS).expect("there"), digits, "also of an earlier start");
    }

    #[test]
    fn a_link_in_place_of_a_run_file_is_replaced_and_not_followed() {
        let scene = Scene::new();
        let run = scene.layout.home().own().run();
        std::fs::write(run.join("victim"), "kept").expect("written");
        for name in [PID, ".daemon.pid.new"] {
            std::os::unix::fs::symlink("victim", run.join(name)).expect("linked");
        }
        let lock = RunLock::take(&scene.layout).expect("free");
        lock.write_pid().expect("written");
        assert_eq!(scene.own("victim").expect("there"), "kept");
        assert_eq!(scene.own(PID).expect("there"), std::process::id().to_string());
    }

    #[test]
    fn files_of_a_living_process_stay_and_those_of_a_dead_one_go() {
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
            assert!(std::time::Instant::now() < deadline, "killed, and never a zombie");
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
    fn a_pid_that_another_wrote_proves_nothing() {
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
    fn a_pid_of_another_namespace_proves_nothing() {
        assert!(has_one_pid("Name:\tsleep\nNSpid:\t4711\nNSpgid:\t4711\t37\n"));
        assert!(!has_one_pid("Name:\tsleep\nNSpid:\t4711\t37\nNSpgid:\t4711\n"));
        assert!(!has_one_pid(""), "where it can't be told");
        let scene = Scene::new();
        let (mut child, process) = child();
        child.kill().expect("killed");
        child.wait().expect("ended");
        scene.written_by(&child.id().to_string());
        assert!(process.counts_as_we_do);
        assert!(!scene.remove(&Process { counts_as_we_do: false, ..process }));
        assert!(scene.plugins(PID).exists() && scene.plugins(STATE).exists());
    }

    #[test]
    fn a_huge_pid_file_is_not_believed() {
        let scene = Scene::new();
        let (mut child, process) = child();
        child.kill().expect("killed");
        child.wait().expect("ended");
        let padded = format!("{:0>width$}", child.id(), width = limits::RUN_FILE);
        scene.written_by(&format!("{padded}0"));
        // Cut at the bound it reads as the pid of the dead one.
        assert!(!scene.remove(&process));
        scene.written_by(&format!("0{padded}"));
        assert!(!scene.remove(&process), "it is one byte too long");
        scene.written_by(&padded);
        assert!(scene.remove(&process));
    }

    #[test]
    fn a_fifo_in_place_of_a_pid_file_keeps_nobody_waiting() {
        let scene = Scene::new();
        let run = scene.layout.own_run().expect("opened");
        rustix::fs::mknodat(&run, PID, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)
            .expect("made");
        assert_eq!(read_pid(&run), None);
    }
}
