//! Decides what to do if home, the daemon's own namespace, the lock or the socket was removed or
//! replaced. Pure: the caller checks the paths.
//!
//! Inside an existing home, missing files are created again. Home itself is never created again,
//! because the daemon cannot know whether it comes back, as after a mount. Files of other processes
//! at the daemon's paths are reported and not changed.

use std::path::Path;

use crate::files::Sight;

/// The states of all paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sights {
    /// Home.
    pub home: Sight,
    /// The directories of the daemon's own namespace. Never [`Sight::Foreign`], because any
    /// directory can be used. A symbolic link counts as missing.
    pub directories: Sight,
    /// The locked directories.
    pub lock: Sight,
    /// The run files. Never [`Sight::Foreign`].
    pub run_files: Sight,
    /// The socket of the API.
    pub socket: Sight,
}

impl Sights {
    /// All files are the daemon's own.
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
    /// There is no file at its path.
    #[error("was removed")]
    Gone,
    /// Another directory or file system is at its path.
    #[error("was replaced by another directory or file system")]
    Replaced,
}

impl Loss {
    /// Returns a message with the loss, and what to do.
    #[must_use]
    pub fn explain(self, home: &Path) -> String {
        format!(
            "the home directory {} {self} while the daemon used it, so nothing can be saved; restore it, then start the \
             daemon again",
            home.display()
        )
    }
}

/// A repair. Repairs are made in the order of the variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Create the missing directories of the daemon's own namespace.
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
        /// Empty if no file is missing.
        repairs: Vec<Repair>,
        /// Whether the file at the path of the API's socket is not that socket.
        foreign_socket: bool,
    },
    /// End the process.
    End(Loss),
}

/// Decides what to do, given the states of the paths in this check and the previous one. A file is
/// created again only if it is missing in both, because a running `rm -rf` would fail on new files.
#[must_use]
pub fn decide(before: Sights, now: Sights) -> Decision {
    let confirmed = |before, now| if before == Sight::Ours && now == Sight::Missing { Sight::Ours } else { now };
    let sights = Sights {
        home: now.home,
        directories: confirmed(before.directories, now.directories),
        lock: confirmed(before.lock, now.lock),
        run_files: confirmed(before.run_files, now.run_files),
        socket: confirmed(before.socket, now.socket),
    };
    match sights.home {
        Sight::Missing => return Decision::End(Loss::Gone),
        Sight::Foreign => return Decision::End(Loss::Replaced),
        // Home may become accessible again, and nothing below it can be checked until then.
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
        assert_eq!(repairs(all(Sight::Unclear)), [], "a disk error does not show that files are missing");
    }

    #[test]
    fn missing_files_in_an_existing_home_are_created_again() {
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
    fn a_file_is_created_again_only_if_two_checks_miss_it() {
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
        assert!(text.contains("/h/.hecate was removed") && text.contains("start the daemon again"), "{text}");
    }
}
