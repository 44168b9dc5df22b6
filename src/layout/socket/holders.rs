//! Finds the processes that serve a home, and compares their open files with those at its paths.
//! For `doctor`, which must work even if the daemon does not answer.
//!
//! A daemon keeps `run/` open while it runs. proc(5) lists the open files of processes of the same
//! user, including removed files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::files::{Inode, Sight, found};
use crate::layout::paths::Home;

/// The files of the registry's database.
const DATABASE: [&str; 3] = ["sqlite/plugins.db", "sqlite/plugins.db-wal", "sqlite/plugins.db-shm"];

/// A process that serves a home.
#[derive(Debug)]
pub struct Holder {
    /// The pid.
    pub pid: i32,
    /// Whether it has opened the registry's database.
    pub has_database: bool,
    open: BTreeSet<Inode>,
}

impl Holder {
    /// Compares the file at a path with those that this process has open.
    #[must_use]
    pub fn probe(&self, path: &Path) -> Sight {
        Sight::of(|inode| self.open.contains(&inode), found(fs::metadata(path)))
    }
}

impl Home {
    /// Returns the other processes that have the daemon's own `run/` open and are visible to this
    /// user.
    #[must_use]
    pub fn holders(&self) -> Vec<Holder> {
        let run = self.own().run();
        // The paths in proc(5) have no symbolic links.
        let resolved = self.root().canonicalize().map(|root| root.join(self.own_name()).join("run"));
        let runs = [Some(run), resolved.ok()].map(|path| path.unwrap_or_default());
        let own = i32::try_from(std::process::id()).ok();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| Some(*pid) != own).filter_map(|pid| holder(pid, &runs)).collect()
    }
}

fn holder(pid: i32, runs: &[PathBuf]) -> Option<Holder> {
    let mut holder = Holder { pid, has_database: false, open: BTreeSet::new() };
    let mut holds_run = false;
    for descriptor in fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten() {
        let target = fs::read_link(descriptor.path()).unwrap_or_default();
        let target = target.to_str().unwrap_or_default();
        let target = Path::new(target.strip_suffix(" (deleted)").unwrap_or(target));
        holds_run |= target.is_absolute() && runs.iter().any(|run| run == target);
        // Compared by the end of the path, because a file may have been moved.
        holder.has_database |= DATABASE.iter().any(|name| target.ends_with(name));
        holder.open.extend(fs::metadata(descriptor.path()).ok().as_ref().map(Inode::from));
    }
    holds_run.then_some(holder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Layout, Modes, RunLock};

    #[test]
    fn open_files_of_a_process_are_compared_with_the_paths() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let home = Home::new(dir.path().join("home")).expect("absolute");
        let layout = Layout::open(home.clone(), Modes::default()).expect("opened");
        layout.ensure_own().expect("made");
        let _lock = RunLock::acquire(&layout).expect("free");
        assert_eq!(home.holders().len(), 0, "this process does not count");
        let own = i32::try_from(std::process::id()).expect("a pid");
        let probe = |path: &Path| holder(own, &[home.own().run()]).expect("it has `run/` open").probe(path);
        assert_eq!(probe(home.root()), Sight::Ours);
        std::fs::remove_dir_all(home.root()).expect("removed");
        assert_eq!((probe(home.root()), probe(&home.own().run())), (Sight::Missing, Sight::Missing));
        layout.check_home().expect_err("gone");
        std::fs::create_dir(home.root()).expect("made");
        assert_eq!(probe(home.root()), Sight::Foreign);
        assert!(!holder(own, &[home.own().run()]).expect("it has `run/` open").has_database);
    }
}
