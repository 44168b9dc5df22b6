//! Decides what to do if home, our own namespace, the lock or the socket vanished or was replaced.
//! Pure: the caller looks at the paths.
//!
//! Inside an existing home, vanished files are made again. A home that is gone or was replaced is
//! never made again, because only a person or a supervisor knows whether it comes back. Files that
//! another process put at our paths are reported and left alone.

use std::path::Path;

use crate::files::Sight;

/// The sights of all paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sights {
    /// Home.
    pub home: Sight,
    /// The directories of our own namespace; never [`Sight::Foreign`], because any directory will
    /// do. A symbolic link is not one, and counts as missing.
    pub directories: Sight,
    /// The directories that are locked.
    pub lock: Sight,
    /// The run files; never [`Sight::Foreign`].
    pub run_files: Sight,
    /// The socket of the API.
    pub socket: Sight,
}

impl Sights {
    /// Everything is as it should be.
    pub const INTACT: Self = Self {
        home: Sight::Ours,
        directories: Sight::Ours,
        lock: Sight::Ours,
        run_files: Sight::Ours,
        socket: Sight::Ours,
    };
}

/// How home was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// Nothing is at its path.
    #[error("is gone")]
    Gone,
    /// Another directory, or another file system, is at its path.
    #[error("was replaced by another directory or file system")]
    Replaced,
}

impl Loss {
    /// Describes the loss, and what to do.
    #[must_use]
    pub fn explain(self, home: &Path) -> String {
        format!(
            "the home directory {} {self} while the daemon used it: nothing can be saved there; put it back, then start the \
             daemon again",
            home.display()
        )
    }
}

/// One repair. Repairs are done in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Make the directories of our own namespace that are missing.
    Directories,
    /// Lock the new directories, so that no second daemon starts.
    Lock,
    /// Write the run files again.
    RunFiles,
    /// Bind a new socket.
    Socket,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Continue after these repairs.
    Continue {
        /// Empty if nothing vanished.
        repairs: Vec<Repair>,
        /// Whether another process's file is at our socket's path.
        foreign_socket: bool,
    },
    /// End the process.
    End(Loss),
}

/// Decides what to do, from this check of the paths and the one before. A file is made again only
/// if it is missing in both: an `rm -rf` of everything may be running, and would fail on new files.
#[must_use]
pub fn decide(before: Sights, now: Sights) -> Decision {
    let steady = |before, now| if before == Sight::Ours && now == Sight::Missing { Sight::Ours } else { now };
    let sights = Sights {
        home: now.home,
        directories: steady(before.directories, now.directories),
        lock: steady(before.lock, now.lock),
        run_files: steady(before.run_files, now.run_files),
        socket: steady(before.socket, now.socket),
    };
    match sights.home {
        Sight::Missing => return Decision::End(Loss::Gone),
        Sight::Foreign => return Decision::End(Loss::Replaced),
        // Home may come back, and nothing below it can be judged until then.
        Sight::Unclear => return Decision::Continue { repairs: Vec::new(), foreign_socket: false },
        Sight::Ours => {}
    }
    let directories = sights.directories == Sight::Missing;
    let lock = directories || matches!(sights.lock, Sight::Missing | Sight::Foreign);
    let run_files = lock || sights.run_files == Sight::Missing;
    let needed = [
        (directories, Repair::Directories),
        (lock, Repair::Lock),
        (run_files, Repair::RunFiles),
        (sights.socket == Sight::Missing, Repair::Socket),
    ];
    let repairs = needed.into_iter().filter_map(|(needed, repair)| needed.then_some(repair)).collect();
    Decision::Continue { repairs, foreign_socket: sights.socket == Sight::Foreign }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repairs(sights: Sights) -> Vec<Repair> {
        match decide(sights, sights) {
            Decision::Continue { repairs, foreign_socket: false } => repairs,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_intact_home_needs_nothing() {
        assert_eq!(repairs(Sights::INTACT), []);
    }

    #[test]
    fn a_home_that_is_gone_or_replaced_ends_the_daemon_without_repairs() {
        let all = |home| Sights {
            home,
            directories: Sight::Missing,
            lock: Sight::Missing,
            run_files: Sight::Missing,
            socket: Sight::Missing,
        };
        assert_eq!(decide(Sights::INTACT, all(Sight::Missing)), Decision::End(Loss::Gone));
        assert_eq!(decide(Sights::INTACT, all(Sight::Foreign)), Decision::End(Loss::Replaced));
        assert_eq!(repairs(all(Sight::Unclear)), [], "an error of the disk proves nothing");
    }

    #[test]
    fn vanished_files_in_an_existing_home_are_made_again() {
        let directories = Sights { directories: Sight::Missing, ..Sights::INTACT };
        assert_eq!(repairs(directories), [Repair::Directories, Repair::Lock, Repair::RunFiles]);
        let all = [Repair::Directories, Repair::Lock, Repair::RunFiles, Repair::Socket];
        assert_eq!(repairs(Sights { socket: Sight::Missing, ..directories }), all);
        for lock in [Sight::Missing, Sight::Foreign] {
            assert_eq!(repairs(Sights { lock, ..Sights::INTACT }), [Repair::Lock, Repair::RunFiles]);
        }
        assert_eq!(repairs(Sights { run_files: Sight::Missing, ..Sights::INTACT }), [Repair::RunFiles]);
        assert_eq!(repairs(Sights { socket: Sight::Missing, ..Sights::INTACT }), [Repair::Socket]);
        assert_eq!(repairs(Sights { socket: Sight::Unclear, ..Sights::INTACT }), []);
    }

    #[test]
    fn a_file_is_made_again_only_if_two_looks_miss_it() {
        let now = Sights {
            directories: Sight::Missing,
            lock: Sight::Missing,
            run_files: Sight::Missing,
            socket: Sight::Missing,
            ..Sights::INTACT
        };
        let nothing = Decision::Continue { repairs: Vec::new(), foreign_socket: false };
        assert_eq!(decide(Sights::INTACT, now), nothing);
        assert_eq!(repairs(now).len(), 4);
    }

    #[test]
    fn a_foreign_socket_is_reported_and_not_replaced() {
        let before = Sights { run_files: Sight::Missing, ..Sights::INTACT };
        let decision = decide(before, Sights { socket: Sight::Foreign, ..before });
        assert_eq!(decision, Decision::Continue { repairs: vec![Repair::RunFiles], foreign_socket: true });
    }

    #[test]
    fn the_message_names_home_and_what_to_do() {
        let text = Loss::Gone.explain(Path::new("/h/.hecate"));
        assert!(text.contains("/h/.hecate is gone") && text.contains("start the daemon again"), "{text}");
    }
}
