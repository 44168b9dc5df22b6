//! Restores a database whose files vanished while it was open.
//!
//! The connection still has the removed file, so its content is copied into a
//! new one (`VACUUM INTO`), compared with the committed state, and linked to the name of the
//! database. If the copy fails, the new file is written from memory. An existing file at our path
//! is never overwritten but reported, and nothing is committed until it is moved away.

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
    /// Compares the files with those that were opened, and restores missing ones.
    ///
    /// # Errors
    /// The committed state is not in the files and could not be written there. The open database
    /// still has it.
    pub fn settle(&mut self) -> Result<(), CommitError> {
        let path = Arc::clone(&self.path);
        let state = self.files.look(&path).map_err(|error| self.vanished(format!("cannot be looked at: {error}")))?;
        let settled = match state {
            State::Intact if self.is_attached && !self.is_unsure => Ok(()),
            State::Intact if self.is_attached => reconcile(&mut self.connection, &self.contents).map(drop),
            State::Intact => self.attach(),
            State::SideMissing => self.write_back(),
            State::Missing => self.rewrite(),
            State::Foreign(tail) => return Err(self.report_foreign(tail)),
        };
        settled.map_err(|error| self.vanished(format!("is gone and could not be written again: {error}")))?;
        self.is_unsure = false;
        self.is_kept = false;
        Ok(())
    }

    /// Makes the next [`Self::settle`] write a copy at once, also after attempts that failed.
    pub fn retry_at_once(&mut self) {
        self.backoff.reset();
    }

    /// Returns whether all files are there and are the ones that were opened.
    pub fn is_intact(&mut self) -> bool {
        matches!(self.files.look(&Arc::clone(&self.path)), Ok(State::Intact))
    }

    fn vanished(&self, what: String) -> CommitError {
        let text = format!("{} {what}; nothing is saved until that is repaired", self.path.display());
        CommitError::Vanished(text.into())
    }

    /// The log of transactions is gone and the database is there: the connection still has both.
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
            "the write-ahead log of the registry's database was removed while it was in use: wrote its content into the \
             database; no events are lost"
        );
        Ok(())
    }

    /// The database is gone: writes it again, under another name first.
    fn rewrite(&mut self) -> Result<(), Failure> {
        let (draft, source) = self.write_draft()?;
        let placed = self.place_draft(&draft);
        if placed.is_err() {
            remove(&draft)?;
        }
        placed?;
        // From here on, the file at the path is ours, but the connection has another file open.
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
            "the registry's database was removed while it was in use: wrote it again from {}; {lost}", source.name()
        );
        Ok(())
    }

    /// Gives a draft the name of the database, if the name is still free.
    fn place_draft(&mut self, draft: &Path) -> Result<(), Failure> {
        // Another process may have put its files there while the draft was written.
        if self.files.look(&self.path)? != State::Missing {
            return Err(Failure::Changed);
        }
        // They belong to the database that is gone, and would be applied to the new one.
        self.files.remove_beside(&self.path)?;
        Ok(place(draft, &self.path)?)
    }

    /// Another file is at one of our paths. Keeps a copy of the committed state next to it, once
    /// for each replacement.
    fn report_foreign(&mut self, tail: &str) -> CommitError {
        let foreign = beside(&self.path, tail);
        if !self.is_kept {
            match self.keep() {
                Ok(kept) => {
                    tracing::error!(
                        foreign = %foreign.display(), kept = %kept.display(),
                        "another file replaced a file of the registry's database: it is left as it is, and nothing is \
                         saved until it is moved away; the committed state is in the kept file"
                    );
                    self.is_kept = true;
                }
                Err(Failure::Delayed) => {}
                Err(error) => {
                    if self.backoff.is_new("keep", &error.to_string()) {
                        tracing::error!(%error, "could not keep a copy of the registry next to the file that replaced it");
                    }
                }
            }
        }
        let mut text = format!(
            "{} was replaced by another file while the daemon used it: move that file away, then the daemon writes its own \
             again",
            foreign.display()
        );
        if tail.is_empty() && self.is_kept {
            match self.leave_to_foreign() {
                Ok(()) => text += ", or restart the daemon to use that file",
                Err(error) => {
                    if self.backoff.is_new("leave", &error.to_string()) {
                        tracing::error!(%error, "could not remove our log next to the file that replaced the database");
                    }
                }
            }
        }
        CommitError::Vanished(text.into())
    }

    /// Removes our log next to the file that replaced the database: the next start would apply it
    /// to that file. The open database still has it, and a copy of its content is kept.
    fn leave_to_foreign(&self) -> io::Result<()> {
        // Without the open database, its inode numbers may be in use for other files.
        if self.is_attached && self.files.remove_beside(&self.path)? {
            sync_directory(&self.path)?;
        }
        Ok(())
    }

    fn keep(&mut self) -> Result<PathBuf, Failure> {
        let (draft, _) = self.write_draft()?;
        let date = timestamp::seconds(SystemTime::now());
        // Several in one second are possible, and none may replace another.
        let named = |number: u32| self.path.with_file_name(format!("{FILE}.kept-{date}-{number}"));
        let kept = (1..=limits::SET_ASIDE).map(named).find(|name| !name.exists());
        let kept = kept.ok_or_else(|| io::Error::from(io::ErrorKind::AlreadyExists))?;
        place(&draft, &kept)?;
        sync_directory(&kept)?;
        Ok(kept)
    }

    /// Writes the committed state durably into a new file next to the database. A failed attempt delays the next.
    fn write_draft(&mut self) -> Result<(PathBuf, Source), Failure> {
        if !self.backoff.is_due(Instant::now()) {
            return Err(Failure::Delayed);
        }
        let draft = draft_name(&self.path);
        // Fails without a copy where the directory is gone, which costs nothing and is not delayed.
        make_draft(&draft)?;
        match self.fill_draft(&draft) {
            Ok(source) => {
                self.backoff.reset();
                Ok((draft, source))
            }
            Err(error) => {
                self.backoff.failed(Instant::now());
                // It may take the last space of the disk.
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
                        tracing::error!(%error, "the removed database cannot be copied: writing it from memory");
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
            tracing::error!("the copy of the removed database differed from what was committed, and was corrected");
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

    /// Opens the file at our path, and ensures that it has the committed state.
    fn attach(&mut self) -> Result<(), Failure> {
        let mut opened = Self::open_file(&self.path)?;
        reconcile(&mut opened.store.connection, &self.contents)?;
        // The old one is closed last: by then its file is not the one at the path.
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

/// Writes the committed state into a database. Returns whether it differed.
fn reconcile(connection: &mut Connection, contents: &Contents) -> Result<bool, Failure> {
    let (revision, plugins) = row::load(connection)?;
    if revision == contents.revision && plugins == contents.plugins {
        return Ok(false);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    row::forget_after(&transaction, contents.revision)?;
    if revision < contents.revision {
        match &contents.last {
            Some(last) => row::append(&transaction, last)?,
            None => row::go_on_after(&transaction, contents.revision)?,
        }
    }
    row::remove_all(&transaction)?;
    for plugin in contents.plugins.values() {
        row::put(&transaction, plugin)?;
    }
    transaction.commit()?;
    Ok(true)
}
