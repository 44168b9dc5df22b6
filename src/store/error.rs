//! The errors of opening, writing and reading the database.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::ErrorCode;

/// Why the database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It was written by a newer release.
    #[error("{path} has schema version {found}, but this release supports only versions up to {known}; run the release \
             that wrote it, or move it away", path = path.display(), known = known)]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The schema version that this release writes.
        known: usize,
    },
    /// It is a sound database of another program.
    #[error("{path} is not a database of hecate-daemon; move it away", path = .0.display())]
    Foreign(PathBuf),
    /// It is a symbolic link.
    #[error("{path} is a symbolic link, which is not followed below home; replace it with a file, or remove it", path = .0.display())]
    SymbolicLink(PathBuf),
    /// The file or its directory cannot be accessed.
    #[error("cannot open {path}: {source}; check that its disk is not full, not damaged and writable for the daemon", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// SQLite returned an error other than damage.
    #[error("cannot open {path}: {source}; check that its disk is not full, not damaged and writable for the daemon", path = path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// The error of SQLite.
        source: rusqlite::Error,
    },
}

/// Why a commit failed. No event of it was stored. Cheap to clone for all requests of a batch.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// SQLite returned an error.
    #[error("the registry could not be saved in {path}: {source}; check that its disk is writable, not damaged and not full, \
             and try again", path = path.display())]
    Sqlite {
        /// The file.
        path: Arc<Path>,
        /// The error of SQLite.
        source: Arc<rusqlite::Error>,
    },
    /// The files were removed or replaced.
    #[error("the registry could not be saved: {0}")]
    Vanished(Arc<str>),
}

/// Why stored events could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the stored events from {path}: {source}; check that its disk is not damaged, and try again", path = path.display())]
pub struct ReadError {
    /// The file.
    pub(super) path: Arc<Path>,
    /// The error of SQLite.
    pub(super) source: rusqlite::Error,
}

/// Why a database could not be opened, before the path is added in [`OpenError`].
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
            // `Unknown` is SQLite's generic error, for example for a missing table or column, or
            // for an unknown format in the header.
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown) => {
                Self::Damaged(error.to_string())
            }
            Some(_) => Self::Sqlite(error),
            // This error is about a value that the daemon could not have written.
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
