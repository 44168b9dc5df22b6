//! Checks whether the files of the database are still the opened ones.
//!
//! A process can still read and write a removed file that it has open. A commit into it succeeds,
//! and is lost at the next start. So the file at the path is compared with the open file, by device
//! and inode. The inode number of an open file is not reused.

use std::fs::Metadata;
use std::io;
use std::path::Path;

use crate::files::{Inode, Sight, beside, look};

/// The suffixes of the files that SQLite keeps next to the database.
pub(super) const WAL: &str = "-wal";
pub(super) const SHM: &str = "-shm";
/// Exists only while a new database is switched to the write-ahead log.
pub(super) const JOURNAL: &str = "-journal";

/// The inodes of the files of an open database. A file that did not exist when the database was
/// opened is accepted when it appears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Files {
    database: Option<Inode>,
    wal: Option<Inode>,
    shm: Option<Inode>,
}

/// The state of all files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// All files are the opened ones.
    Intact,
    /// The database is the opened one, but a file next to it is missing.
    SideMissing,
    /// The database is missing.
    Missing,
    /// Another file replaced the file with the name of the database and this suffix.
    Foreign(&'static str),
}

impl Files {
    /// Records the files of a database that has just been opened.
    ///
    /// # Errors
    /// A path cannot be checked.
    pub(super) fn note(database: &Path) -> io::Result<Self> {
        let id = |path: &Path| Ok::<_, io::Error>(look(path)?.as_ref().map(Inode::from));
        Ok(Self { database: id(database)?, wal: id(&beside(database, WAL))?, shm: id(&beside(database, SHM))? })
    }

    /// Compares the files at the paths with the recorded ones.
    ///
    /// # Errors
    /// A path cannot be checked.
    pub(super) fn look(&mut self, database: &Path) -> io::Result<State> {
        let here = sight(&mut self.database, look(database)?);
        let wal = look(&beside(database, WAL))?;
        let is_empty = wal.as_ref().is_some_and(|wal| wal.len() == 0);
        let wal = match sight(&mut self.wal, wal) {
            // Any process that opens the database creates an empty write-ahead log.
            Sight::Foreign if is_empty => Sight::Missing,
            sight => sight,
        };
        let shm = match sight(&mut self.shm, look(&beside(database, SHM))?) {
            // SQLite rebuilds this index.
            Sight::Foreign => Sight::Missing,
            sight => sight,
        };
        Ok(judge(here, wal, shm))
    }
}

impl Files {
    /// Removes the recorded files next to the database, but not files of other processes. Returns
    /// whether a file was removed.
    ///
    /// # Errors
    /// A file cannot be checked or removed.
    pub(super) fn remove_beside(&self, database: &Path) -> io::Result<bool> {
        let mut is_removed = false;
        for (noted, tail) in [(self.wal, WAL), (self.shm, SHM)] {
            let path = beside(database, tail);
            let found = look(&path)?.as_ref().map(Inode::from);
            if found.is_some() && found == noted {
                std::fs::remove_file(&path)?;
                is_removed = true;
            }
        }
        Ok(is_removed)
    }
}

/// Returns the state of the database for the states of its three paths.
fn judge(database: Sight, wal: Sight, shm: Sight) -> State {
    match (database, wal, shm) {
        (Sight::Foreign | Sight::Unclear, ..) => State::Foreign(""),
        // SQLite would apply it to a database that it does not belong to.
        (_, Sight::Foreign | Sight::Unclear, _) => State::Foreign(WAL),
        (Sight::Missing, ..) => State::Missing,
        (Sight::Ours, Sight::Ours, Sight::Ours) => State::Intact,
        (Sight::Ours, ..) => State::SideMissing,
    }
}

/// Compares a file with the recorded one. Never returns [`Sight::Unclear`].
fn sight(noted: &mut Option<Inode>, found: Option<Metadata>) -> Sight {
    let Some(ours) = *noted else {
        *noted = found.as_ref().map(Inode::from);
        return Sight::Ours;
    };
    Sight::of(|found| found == ours, Ok(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_paths_are_judged_together() {
        use Sight::{Foreign, Missing, Ours};
        assert_eq!(judge(Ours, Ours, Ours), State::Intact);
        for (wal, shm) in [(Missing, Ours), (Ours, Missing), (Missing, Missing)] {
            assert_eq!(judge(Ours, wal, shm), State::SideMissing);
            assert_eq!(judge(Missing, wal, shm), State::Missing);
            assert_eq!(judge(Foreign, wal, shm), State::Foreign(""));
        }
        assert_eq!(judge(Missing, Ours, Ours), State::Missing);
        assert_eq!(judge(Ours, Foreign, Ours), State::Foreign(WAL));
        assert_eq!(judge(Missing, Foreign, Ours), State::Foreign(WAL), "it would be applied to a new database");
    }

    #[test]
    fn paths_are_compared_by_device_and_inode() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let database = dir.path().join("plugins.db");
        let write = |path: &Path, text: &str| std::fs::write(path, text).expect("written");
        write(&database, "x");
        write(&beside(&database, WAL), "x");
        let mut files = Files::note(&database).expect("readable");
        assert_eq!(files.look(&database).expect("readable"), State::Intact);
        write(&beside(&database, SHM), "x");
        assert_eq!(files.look(&database).expect("readable"), State::Intact, "a new file is accepted");

        // The file is kept under another name, so that its inode number is not reused.
        let moved = |tail: &str| std::fs::rename(beside(&database, tail), beside(&database, ".old")).expect("moved");
        moved(WAL);
        assert_eq!(files.look(&database).expect("readable"), State::SideMissing);
        write(&beside(&database, WAL), "");
        assert_eq!(files.look(&database).expect("readable"), State::SideMissing, "an empty log counts as missing");
        write(&beside(&database, WAL), "frames");
        assert_eq!(files.look(&database).expect("readable"), State::Foreign(WAL));
        std::fs::rename(beside(&database, ".old"), beside(&database, WAL)).expect("moved back");
        assert_eq!(files.look(&database).expect("readable"), State::Intact);

        moved("");
        assert_eq!(files.look(&database).expect("readable"), State::Missing);
        write(&database, "another's");
        assert_eq!(files.look(&database).expect("readable"), State::Foreign(""));
        let nowhere = dir.path().join("gone/plugins.db");
        assert_eq!(files.look(&nowhere).expect("readable"), State::Missing);
    }
}
