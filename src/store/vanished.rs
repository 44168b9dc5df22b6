//! Restores a database whose files were removed while it was open.
//!
//! The connection still has the removed file open. Its content is copied into a new file
//! (`VACUUM INTO`), compared with the committed state, and renamed to the path of the database. If
//! the copy fails, the new file is written from memory. Another file at that path is never
//! overwritten. It is reported, and nothing is committed until it is moved away.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, TransactionBehavior};

use super::contents::Contents;
use super::database::Store;
use super::draft::{FILE, check_damage, close, draft_name, make_draft, sync_directory, write_new};
use super::error::{CommitError, Trouble};
use super::files::{Files, JOURNAL, SHM, State, WAL};
use super::row;
use crate::files::{beside, place, remove};
use crate::limits;
use crate::timestamp;

/// Why a database was not restored.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("another process is using it")]
    Busy,
    #[error("its files changed while the copy was written")]
    Changed,
    #[error("the last attempt failed; the next one follows within {} s", limits::COPY_RETRY.as_secs())]
    Delayed,
    #[error("{0}")]
    Unusable(String),
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Io(error) => Self::Io(error),
            Trouble::Sqlite(error) => Self::Sqlite(error),
            other => Self::Unusable(format!("{other:?}")),
        }
    }
}

impl Store {
    /// Checks that the files are the opened ones, and restores missing ones.
    ///
    /// # Errors
    /// The committed state is not in the files and could not be written there. The open database
    /// still has it.
    pub fn settle(&mut self) -> Result<(), CommitError> {
        let path = Arc::clone(&self.path);
        let state = self.files.look(&path).map_err(|error| self.vanished(format!("cannot be checked: {error}")))?;
        let settled = match state {
            State::Intact if self.is_attached && !self.is_unsure => Ok(()),
            State::Intact if self.is_attached => reconcile(&mut self.connection, &self.contents).map(drop),
            State::Intact => self.attach(),
            State::SideMissing => self.write_back(),
            State::Missing => self.rewrite(),
            State::Foreign(tail) => return Err(self.report_foreign(tail)),
        };
        settled.map_err(|error| self.vanished(format!("was removed and could not be written again: {error}")))?;
        self.is_unsure = false;
        self.is_kept = false;
        Ok(())
    }

    /// Makes the next [`Self::settle`] write a copy at once, even after failed attempts.
    pub fn retry_at_once(&mut self) {
        self.backoff.reset();
    }

    /// Returns whether all files exist and are the opened ones.
    pub fn is_intact(&mut self) -> bool {
        matches!(self.files.look(&Arc::clone(&self.path)), Ok(State::Intact))
    }

    fn vanished(&self, what: String) -> CommitError {
        let text = format!("{} {what}; nothing is saved until it is restored", self.path.display());
        CommitError::Vanished(text.into())
    }

    /// Restores a missing write-ahead log, whose content the connection still has.
    fn write_back(&mut self) -> Result<(), Failure> {
        if self.is_attached {
            let busy: i64 = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0))?;
            if busy != 0 {
                return Err(Failure::Busy);
            }
            self.detach()?;
        }
        self.attach()?;
        tracing::error!(
            database = %self.path.display(), plugins = self.contents.plugins.size(),
            "the write-ahead log of the registry's database was removed while it was in use; wrote its content into the \
             database; no events are lost"
        );
        Ok(())
    }

    /// Restores a missing database, under another name first.
    fn rewrite(&mut self) -> Result<(), Failure> {
        let (draft, source) = self.write_draft()?;
        let placed = self.place_draft(&draft);
        if placed.is_err() {
            remove(&draft)?;
        }
        placed?;
        // From here on, the file at the path is the daemon's, but the connection has another file
        // open.
        self.files = Files::note(&self.path)?;
        self.is_attached = false;
        sync_directory(&self.path)?;
        self.attach()?;
        let lost = match source {
            Source::Copy => "no events are lost".to_owned(),
            Source::Memory => format!("the events before revision {} are lost", self.contents.revision),
        };
        tracing::error!(
            database = %self.path.display(), plugins = self.contents.plugins.size(), revision = self.contents.revision,
            "the registry's database was removed while it was in use; wrote it again from {}; {lost}", source.name()
        );
        Ok(())
    }

    /// Renames a draft to the path of the database, if no file is there.
    fn place_draft(&mut self, draft: &Path) -> Result<(), Failure> {
        // Another process may have created files there while the draft was written.
        if self.files.look(&self.path)? != State::Missing {
            return Err(Failure::Changed);
        }
        // These files belong to the removed database, and SQLite would apply them to the new one.
        self.files.remove_beside(&self.path)?;
        Ok(place(draft, &self.path)?)
    }

    /// Reports that another file replaced one of the database's files. Keeps a copy of the
    /// committed state next to it, once for each replacement.
    fn report_foreign(&mut self, tail: &str) -> CommitError {
        let foreign = beside(&self.path, tail);
        if !self.is_kept {
            match self.keep() {
                Ok(kept) => {
                    tracing::error!(
                        foreign = %foreign.display(), kept = %kept.display(),
                        "another file replaced a file of the registry's database; nothing is saved until it is moved \
                         away; a copy of the registry is in the kept file"
                    );
                    self.is_kept = true;
                }
                Err(Failure::Delayed) => {}
                Err(error) => {
                    if self.backoff.is_new("keep", &error.to_string()) {
                        tracing::error!(%error, "cannot keep a copy of the registry next to the file that replaced it");
                    }
                }
            }
        }
        let mut text = format!(
            "{} was replaced by another file while the daemon used it; move that file away, then the daemon writes its own \
             file again",
            foreign.display()
        );
        if tail.is_empty() && self.is_kept {
            match self.leave_to_foreign() {
                Ok(()) => text += ", or restart the daemon to use that file",
                Err(error) => {
                    if self.backoff.is_new("leave", &error.to_string()) {
                        tracing::error!(%error, "cannot remove the write-ahead log next to the file that replaced the database");
                    }
                }
            }
        }
        CommitError::Vanished(text.into())
    }

    /// Removes the write-ahead log next to the file that replaced the database, because the next
    /// start would apply it to that file. The open database still has the log, and a copy of its
    /// content is kept.
    fn leave_to_foreign(&self) -> io::Result<()> {
        // If the database is not open, its inode numbers may have been reused.
        if self.is_attached && self.files.remove_beside(&self.path)? {
            sync_directory(&self.path)?;
        }
        Ok(())
    }

    fn keep(&mut self) -> Result<PathBuf, Failure> {
        let (draft, _) = self.write_draft()?;
        let date = timestamp::seconds(SystemTime::now());
        // Several copies may be kept in one second, and none may replace another.
        let named = |number: u32| self.path.with_file_name(format!("{FILE}.kept-{date}-{number}"));
        let kept = (1..=limits::SET_ASIDE).map(named).find(|name| !name.exists());
        let kept = kept.ok_or_else(|| io::Error::from(io::ErrorKind::AlreadyExists))?;
        place(&draft, &kept)?;
        sync_directory(&kept)?;
        Ok(kept)
    }

    /// Writes the committed state durably into a new file next to the database. A failed attempt
    /// delays the next one.
    fn write_draft(&mut self) -> Result<(PathBuf, Source), Failure> {
        if !self.backoff.is_due(Instant::now()) {
            return Err(Failure::Delayed);
        }
        let draft = draft_name(&self.path);
        // Fails at once if the directory is missing. That is cheap, so it does not delay the next
        // attempt.
        make_draft(&draft)?;
        match self.fill_draft(&draft) {
            Ok(source) => {
                self.backoff.reset();
                Ok((draft, source))
            }
            Err(error) => {
                self.backoff.failed(Instant::now());
                // An incomplete draft may fill the disk.
                for tail in ["", JOURNAL, WAL, SHM] {
                    remove(&beside(&draft, tail))?;
                }
                Err(error)
            }
        }
    }

    fn fill_draft(&mut self, draft: &Path) -> Result<Source, Failure> {
        if self.is_attached {
            match self.copy_to(draft) {
                Ok(()) => return Ok(Source::Copy),
                Err(error) => {
                    if self.backoff.is_new("copy", &error.to_string()) {
                        tracing::error!(%error, "cannot copy the removed database; writing it from memory");
                    }
                }
            }
        }
        write_new(draft, |connection| reconcile(connection, &self.contents).map(drop))?;
        Ok(Source::Memory)
    }

    fn copy_to(&self, draft: &Path) -> Result<(), Failure> {
        let name = draft.to_str().ok_or_else(|| Failure::Unusable("its path is not text".to_owned()))?;
        self.connection.execute("VACUUM INTO ?1", [name])?;
        let mut connection = Connection::open(draft)?;
        check_damage(&connection)?;
        if reconcile(&mut connection, &self.contents)? {
            tracing::error!("the copy of the removed database differed from the committed state and was corrected");
        }
        close(connection)?;
        Ok(File::open(draft)?.sync_all()?)
    }

    /// Closes the connection without letting SQLite write back or remove files by name.
    fn detach(&mut self) -> Result<(), Failure> {
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        self.is_attached = false;
        self.connection = Connection::open_in_memory()?;
        Ok(())
    }

    /// Opens the file at the path of the database, and ensures that it has the committed state.
    fn attach(&mut self) -> Result<(), Failure> {
        let mut opened = Self::open_file(&self.path)?;
        reconcile(&mut opened.store.connection, &self.contents)?;
        // The old connection is closed last, and must not write to the files at the path.
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        std::mem::swap(&mut self.connection, &mut opened.store.connection);
        self.files = opened.store.files;
        self.is_attached = true;
        Ok(())
    }
}

/// The source that a database was written from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Copy,
    Memory,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::Copy => "the removed file, which was still open",
            Self::Memory => "memory",
        }
    }
}

/// Writes the committed state into a database. Returns whether the database differed.
fn reconcile(connection: &mut Connection, contents: &Contents) -> Result<bool, Failure> {
    let (revision, plugins) = row::load(connection)?;
    if revision == contents.revision && plugins == contents.plugins {
        return Ok(false);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    row::delete_after(&transaction, contents.revision)?;
    if revision < contents.revision {
        match &contents.last {
            Some(last) => row::append(&transaction, last)?,
            None => row::continue_after(&transaction, contents.revision)?,
        }
    }
    row::remove_all(&transaction)?;
    for plugin in contents.plugins.values() {
        row::put(&transaction, plugin)?;
    }
    transaction.commit()?;
    Ok(true)
}
