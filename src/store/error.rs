//! Why the database cannot be opened, written or read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::ErrorCode;

/// Why the database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Written by a later release.
    #[error("{path} has schema version {found}, this release knows {known}: run the release that wrote it, or move it away",
        path = path.display(), known = known)]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The schema version that this release writes.
        known: usize,
    },
    /// A sound database, but of somebody else.
    #[error("{path} is a database that no hecate-daemon made: move it away", path = .0.display())]
    Foreign(PathBuf),
    /// A symbolic link where a file of ours belongs.
    #[error("{path} is a symbolic link, and none is followed below home: put a file there, or move it away", path = .0.display())]
    SymbolicLink(PathBuf),
    /// The file, or its directory, cannot be used.
    #[error("cannot open {path}: {source}; see that its disk has room, is sound, and lets us read and write there", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// SQLite refuses for another reason than damage.
    #[error("cannot open {path}: {source}; see that its disk has room, is sound, and lets us read and write there", path = path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// Why events were not stored: none of them is. Cheap to clone, for everybody who waits for the same commit.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// SQLite refused.
    #[error("the registry could not be saved in {path}: {source}; check that its disk is writable, sound and not full, and try again",
        path = path.display())]
    Sqlite {
        /// The file.
        path: Arc<Path>,
        /// What SQLite said.
        source: Arc<rusqlite::Error>,
    },
    /// The files vanished or were replaced.
    #[error("the registry could not be saved: {0}")]
    Vanished(Arc<str>),
}

/// Why stored events could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the stored events could not be read from {path}: {source}; see that its disk is sound, and try again", path = path.display())]
pub struct ReadError {
    /// The file.
    pub(super) path: Arc<Path>,
    /// What SQLite said.
    pub(super) source: rusqlite::Error,
}

/// What stands between us and an open database.
#[derive(Debug)]
pub(super) enum Trouble {
    Damaged(String),
    Newer { found: i64, known: usize },
    Foreign,
    SymbolicLink(PathBuf),
    Io(io::Error),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            // `Unknown` is SQLite's plain error: a table or a column is missing, or the header
            // names an unknown format.
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown) => {
                Self::Damaged(error.to_string())
            }
            Some(_) => Self::Sqlite(error),
            // Not from SQLite, but about a value that we could not have written.
            None => Self::Damaged(error.to_string()),
        }
    }
}

impl Trouble {
    pub(super) fn explain(self, path: &Path) -> OpenError {
        let path = path.to_owned();
        match self {
            Self::Damaged(why) => OpenError::Io { path, source: io::Error::new(io::ErrorKind::InvalidData, why) },
            Self::Newer { found, known } => OpenError::Newer { path, found, known },
            Self::Foreign => OpenError::Foreign(path),
            Self::SymbolicLink(link) => OpenError::SymbolicLink(link),
            Self::Io(source) => OpenError::Io { path, source },
            Self::Sqlite(source) => OpenError::Sqlite { path, source },
        }
    }
}
