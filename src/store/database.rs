//! The open database: opening, committing and reading it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use beam::name::NodeName;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::backoff::Backoff;
use super::contents::Contents;
use super::draft::{FILE, check_damage, create};
use super::error::{CommitError, OpenError, ReadError, Trouble};
use super::files::{Files, JOURNAL, SHM, State, WAL};
use super::salvage::{self, Salvaged};
use super::{row, schema};
use crate::files::{beside, look};
use crate::limits;
use crate::plugin::{Event, EventKind, PluginName, Plugins};
use crate::timestamp;

/// How the names begin of what was set aside.
const ASIDE: &str = "plugins.db.damaged-";

/// How the names end until what is readable in it is recovered.
const RECOVERING: &str = ".recovering";

/// The database, open.
#[derive(Debug)]
pub struct Store {
    pub(super) connection: Connection,
    pub(super) path: Arc<Path>,
    /// The files as they were opened.
    pub(super) files: Files,
    /// The committed state.
    pub(super) contents: Contents,
    /// Whether the connection has the file at our path open.
    pub(super) is_attached: bool,
    /// Whether the database may hold more than was committed.
    pub(super) is_unsure: bool,
    /// Whether a copy was kept since another file replaced one of our files.
    pub(super) is_kept: bool,
    /// Delays the next copy after a failed one.
    pub(super) backoff: Backoff,
}

/// What opening found.
#[derive(Debug)]
pub struct Opened {
    /// The database.
    pub store: Store,
    /// Number of the last stored event, 0 if there was none.
    pub revision: u64,
    /// The registered plugins, as they were last.
    pub plugins: Plugins,
    /// Where a damaged database was put, at this start or an earlier one. Some of its plugins may
    /// be missing from the new one, and the daemon is unhealthy until the file is moved away.
    pub set_aside: Option<PathBuf>,
    /// What was recovered from it, unless that could not be stored.
    pub salvaged: Option<Salvaged>,
}

impl Store {
    /// Opens `plugins.db` in `dir`, and makes it if it is missing, for our own user only. The directory is one that the
    /// layout has made: it exists and is no symbolic link. Nor may the file be one.
    ///
    /// # Errors
    /// See [`OpenError`]. Damage is none: see [`Opened::set_aside`].
    pub fn open(dir: &Path, now: SystemTime) -> Result<Opened, OpenError> {
        // SQLite refuses a link anywhere on the way, and on the way to home there may be one.
        let dir = dir.canonicalize().map_err(|source| OpenError::Io { path: dir.join(FILE), source })?;
        let path = dir.join(FILE);
        let first = match Self::open_file(&path) {
            // A read that failed once looks the same, and is no reason to begin anew.
            Err(Trouble::Damaged(_)) => Self::open_file(&path),
            opened => opened,
        };
        let mut opened = match first {
            Err(Trouble::Damaged(why)) => {
                let aside = set_aside(&path, now).map_err(|source| OpenError::Io { path: path.clone(), source })?;
                tracing::error!(
                    database = %path.display(), set_aside = %recovered_name(&aside).display(), error = %why,
                    "the registry's database is damaged: setting it aside and recovering its readable rows"
                );
                Self::open_file(&path)
            }
            opened => opened,
        }
        .map_err(|trouble| trouble.explain(&path))?;
        opened.recover(&dir, now).map_err(|trouble| trouble.explain(&path))?;
        Ok(opened)
    }

    pub(super) fn open_file(path: &Path) -> Result<Opened, Trouble> {
        refuse_links(path)?;
        if look(path).map_err(Trouble::Io)?.is_some() {
            check_readable(path)?;
        } else {
            check_no_log(path)?;
            create(path)?;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(limits::STORE_BUSY)?;
        // Until it is known to be sound nothing is to be written, not even when it is closed.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        schema::check_version(&connection)?;
        check_damage(&connection)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        schema::migrate(&mut connection)?;
        let (revision, plugins) = row::load(&connection)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        let files = Files::note(path).map_err(Trouble::Io)?;
        let contents = Contents::of(&connection, revision, plugins.clone());
        let path = path.into();
        let store = Self {
            connection,
            path,
            files,
            contents,
            is_attached: true,
            is_unsure: false,
            is_kept: false,
            backoff: Backoff::default(),
        };
        Ok(Opened { store, revision, plugins, set_aside: None, salvaged: None })
    }

    /// Stores events, in the order of their revisions, and what they make of the plugins: all or nothing, and durable
    /// when it returns. Of the log only the last [`limits::EVENTS_KEPT`] events stay.
    ///
    /// The files are compared with those that were opened before and after, and are put back if
    /// they vanished.
    ///
    /// # Errors
    /// Nothing was stored.
    pub fn commit(&mut self, events: &[Event]) -> Result<(), CommitError> {
        self.settle()?;
        self.try_commit(events)
            .map_err(|error| CommitError::Sqlite { path: Arc::clone(&self.path), source: Arc::new(error) })?;
        let next = self.contents.after(events);
        let before = std::mem::replace(&mut self.contents, next);
        if self.is_intact() {
            return Ok(());
        }
        self.settle().inspect_err(|_| {
            // The commit is refused, but the open database has it.
            self.contents = before;
            self.is_unsure = true;
        })
    }

    pub(super) fn try_commit(&mut self, events: &[Event]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for event in events {
            row::append(&transaction, event)?;
            match event.kind {
                EventKind::Registered | EventKind::StatusChanged => row::put(&transaction, &event.plugin)?,
                EventKind::Deregistered => row::remove(&transaction, &event.plugin.name)?,
                EventKind::DataPurged => {}
            }
        }
        if let Some(last) = events.last() {
            row::forget_before(&transaction, last.revision)?;
        }
        transaction.commit()
    }

    /// The events after a revision, in order, at most [`limits::EVENTS_PAGE`] of them. None if the log doesn't reach back
    /// that far, or hasn't come that far.
    ///
    /// # Errors
    /// The database could not be read.
    pub fn events_after(&self, revision: u64) -> Result<Option<Vec<Event>>, ReadError> {
        row::events_after(&self.connection, revision)
            .map_err(|source| ReadError { path: Arc::clone(&self.path), source })
    }

    /// The node of a plugin, registered or not, as the last event of it tells; none if the log has forgotten it.
    ///
    /// # Errors
    /// The database could not be read.
    pub fn last_node(&self, name: &PluginName) -> Result<Option<NodeName>, ReadError> {
        row::last_node(&self.connection, name).map_err(|source| ReadError { path: Arc::clone(&self.path), source })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let path = Arc::clone(&self.path);
        if matches!(self.files.look(&path), Ok(State::Intact | State::SideMissing)) {
            return;
        }
        // Closing would remove the files beside the database by their names, which another daemon may use now.
        let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    }
}

impl Opened {
    /// Recovers what is readable in a database that this start set aside, or an earlier one that a crash cut off: its name shows
    /// that it is not recovered yet. A database that was set aside before is only reported, because the user may have removed
    /// the new one to start with an empty registry.
    fn recover(&mut self, dir: &Path, now: SystemTime) -> Result<(), Trouble> {
        self.set_aside = last_set_aside(dir).map_err(Trouble::Io)?;
        let Some(found) = self.set_aside.clone() else { return Ok(()) };
        let aside = recovered_name(&found);
        let file = aside.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.salvaged = salvage::report(&self.store.connection, &file)?;
        if aside == found {
            return Ok(());
        }
        if self.salvaged.is_none() && self.revision == 0 {
            self.salvage(&found, &file, now)?;
            if self.salvaged.is_none() {
                // The next start tries again.
                return Ok(());
            }
        }
        rename_all(&found, &aside).map_err(Trouble::Io)?;
        self.set_aside = Some(aside);
        Ok(())
    }

    fn salvage(&mut self, aside: &Path, file: &str, now: SystemTime) -> Result<(), Trouble> {
        let connection = &mut self.store.connection;
        match salvage::recover(connection, aside, file, now) {
            Ok(salvaged) => {
                let Salvaged { plugins, events } = salvaged;
                tracing::error!(
                    set_aside = %aside.display(), plugins, events,
                    "recovered the readable rows of the damaged database; plugins and events may be missing, and missing plugins \
                     must register again"
                );
                self.salvaged = Some(salvaged);
                (self.revision, self.plugins) = row::load(connection)?;
                self.store.contents = Contents::of(connection, self.revision, self.plugins.clone());
            }
            Err(error) => tracing::error!(
                set_aside = %aside.display(), %error,
                "could not store the rows of the damaged database; the registry starts empty"
            ),
        }
        Ok(())
    }
}

/// SQLite itself would follow a link to what it keeps beside the database.
fn refuse_links(path: &Path) -> Result<(), Trouble> {
    for tail in ["", WAL, SHM, JOURNAL] {
        let place = beside(path, tail);
        if look(&place).map_err(Trouble::Io)?.is_some_and(|found| found.is_symlink()) {
            return Err(Trouble::SymbolicLink(place));
        }
    }
    Ok(())
}

/// Refuses a log whose database is missing: SQLite would apply it to a new one.
fn check_no_log(path: &Path) -> Result<(), Trouble> {
    for tail in [WAL, JOURNAL] {
        if look(&beside(path, tail)).map_err(Trouble::Io)?.is_some_and(|log| log.len() > 0) {
            return Err(Trouble::Damaged(format!("the file is missing, but {FILE}{tail} exists")));
        }
    }
    Ok(())
}

/// Checks that the file is one that we may read, and not empty: see [`create`].
fn check_readable(path: &Path) -> Result<(), Trouble> {
    let metadata = std::fs::symlink_metadata(path).map_err(Trouble::Io)?;
    if !metadata.is_file() {
        return Err(Trouble::Damaged("it is no file".to_owned()));
    }
    if metadata.len() == 0 {
        return Err(Trouble::Damaged("the file is empty".to_owned()));
    }
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(Trouble::Damaged(error.to_string())),
        opened => check_write_version(&opened.map_err(Trouble::Io)?),
    }
}

/// SQLite opens a database of a later file format read-only. We never write such a format.
fn check_write_version(file: &File) -> Result<(), Trouble> {
    let mut header = [0; 19];
    match file.read_exact_at(&mut header, 0) {
        // Too short for a header: SQLite decides.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        Err(error) => Err(Trouble::Io(error)),
        Ok(()) if header.starts_with(b"SQLite format 3\0") && header[18] > 2 => {
            Err(Trouble::Damaged(format!("its header has write version {}", header[18])))
        }
        Ok(()) => Ok(()),
    }
}

/// The last of what was ever set aside and is still there: nobody has looked yet.
fn last_set_aside(dir: &Path) -> io::Result<Option<PathBuf>> {
    let mut last = None;
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(ASIDE) {
            // What lies beside a database stands for it.
            let database = [WAL, SHM, JOURNAL].iter().fold(&*name, |name, tail| name.trim_end_matches(tail));
            last = last.max(Some(dir.join(database)));
        }
    }
    Ok(last)
}

/// Renames a database and what belongs to it to a dated name that is marked as not recovered yet, so that `sqlite3` still opens it there.
fn set_aside(path: &Path, now: SystemTime) -> io::Result<PathBuf> {
    let date = timestamp::seconds(now);
    let named = |number: u32| path.with_file_name(format!("{ASIDE}{date}-{number}"));
    // Several in one second are legal, and none may replace another.
    let recovering = |name: &Path| beside(name, RECOVERING);
    let aside = (1..=limits::SET_ASIDE).map(named).find(|name| !name.exists() && !recovering(name).exists());
    let aside = recovering(&aside.ok_or_else(|| io::Error::from(io::ErrorKind::AlreadyExists))?);
    rename_all(path, &aside)?;
    Ok(aside)
}

/// The name of a database that was set aside, once what is readable in it is recovered.
fn recovered_name(aside: &Path) -> PathBuf {
    let name = aside.file_name().unwrap_or_default().to_string_lossy();
    aside.with_file_name(name.strip_suffix(RECOVERING).unwrap_or(&name))
}

/// Renames a database and the files beside it, the database last. Any of them may be missing.
fn rename_all(from: &Path, to: &Path) -> io::Result<()> {
    for tail in [WAL, SHM, JOURNAL, ""] {
        match std::fs::rename(beside(from, tail), beside(to, tail)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
