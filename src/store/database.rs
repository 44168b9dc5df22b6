//! Opens, writes and reads the database.

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

/// The prefix of the name of a damaged database that was set aside.
const ASIDE: &str = "plugins.db.damaged-";

/// The suffix of that name until the readable rows are recovered.
const RECOVERING: &str = ".recovering";

/// The open database.
#[derive(Debug)]
pub struct Store {
    pub(super) connection: Connection,
    pub(super) path: Arc<Path>,
    /// The inodes of the opened files.
    pub(super) files: Files,
    /// The committed state.
    pub(super) contents: Contents,
    /// Whether the connection has the file at `path` open.
    pub(super) is_attached: bool,
    /// Whether the database may contain changes that were refused.
    pub(super) is_unsure: bool,
    /// Whether a copy was kept since another file replaced one of the database's files.
    pub(super) is_kept: bool,
    /// Delays the next copy after a failed one.
    pub(super) backoff: Backoff,
}

/// The result of opening the database.
#[derive(Debug)]
pub struct Opened {
    /// The database.
    pub store: Store,
    /// The revision of the last stored event, or 0.
    pub revision: u64,
    /// The registered plugins.
    pub plugins: Plugins,
    /// The path of a damaged database that was set aside at this start or an earlier one. The new
    /// database may lack some of its plugins, so the daemon is unhealthy until the file is moved
    /// away.
    pub set_aside: Option<PathBuf>,
    /// How much was recovered from it. None if that could not be stored.
    pub salvaged: Option<Salvaged>,
}

impl Store {
    /// Checks that this release supports the schema of `plugins.db` in `dir`. Reads only the header
    /// of the file, so it is safe while a daemon has the database open.
    ///
    /// # Errors
    /// [`OpenError::Newer`]. A file that cannot be read is not an error.
    pub fn check_version(dir: &Path) -> Result<(), OpenError> {
        let path = dir.join(FILE);
        schema::check_header(&path).map_err(|trouble| trouble.explain(&path))
    }

    /// Opens `plugins.db` in `dir`, or creates it with access only for the process's own user.
    /// `dir` must be a directory that the layout has created. The file must not be a symbolic link.
    ///
    /// # Errors
    /// See [`OpenError`]. Damage is not an error, see [`Opened::set_aside`].
    pub fn open(dir: &Path, now: SystemTime) -> Result<Opened, OpenError> {
        // SQLite refuses symbolic links anywhere in the path, but the path of home may have some.
        let dir = dir.canonicalize().map_err(|source| OpenError::Io { path: dir.join(FILE), source })?;
        let path = dir.join(FILE);
        let first = match Self::open_file(&path) {
            // A single failed read looks like damage, so it is tried again.
            Err(Trouble::Damaged(_)) => Self::open_file(&path),
            opened => opened,
        };
        let mut opened = match first {
            Err(Trouble::Damaged(why)) => {
                let aside = set_aside(&path, now).map_err(|source| OpenError::Io { path: path.clone(), source })?;
                tracing::error!(
                    database = %path.display(), set_aside = %recovered_name(&aside).display(), error = %why,
                    "the registry's database is damaged; setting it aside and recovering its readable rows"
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
        // Until the database is checked, nothing must be written to it, not even when it is closed.
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

    /// Stores events in the order of their revisions, and applies them to the plugins, in one
    /// transaction that is durable when this returns. Deletes all but the last
    /// [`limits::EVENTS_KEPT`] events.
    ///
    /// Before and after the commit, the files are compared with the opened ones, and restored if
    /// they are missing.
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
            // The commit is refused, but the open database contains it.
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
            row::delete_before(&transaction, last.revision)?;
        }
        transaction.commit()
    }

    /// Returns the events after a revision in order, at most [`limits::EVENTS_PAGE`]. Returns
    /// `None` if the next event was deleted, or if the revision does not exist yet.
    ///
    /// # Errors
    /// The database could not be read.
    pub fn events_after(&self, revision: u64) -> Result<Option<Vec<Event>>, ReadError> {
        row::events_after(&self.connection, revision)
            .map_err(|source| ReadError { path: Arc::clone(&self.path), source })
    }

    /// Returns the node of a plugin, registered or not, from its last event. Returns `None` if all
    /// its events were deleted.
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
        // Closing would remove the files next to the database by name, and another daemon may use
        // them now.
        let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    }
}

impl Opened {
    /// Recovers the readable rows of a database that was set aside at this start, or at an earlier
    /// start that crashed. The name of such a database still ends in [`RECOVERING`]. A recovered
    /// database is only reported, because the user may have removed the new database to start with
    /// an empty registry.
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
                    "recovered the readable rows of the damaged database; plugins and events may be missing; register \
                     missing plugins again"
                );
                self.salvaged = Some(salvaged);
                (self.revision, self.plugins) = row::load(connection)?;
                self.store.contents = Contents::of(connection, self.revision, self.plugins.clone());
            }
            Err(error) => tracing::error!(
                set_aside = %aside.display(), %error,
                "cannot store the recovered rows of the damaged database; the registry starts empty"
            ),
        }
        Ok(())
    }
}

/// Refuses symbolic links in place of the database's files. SQLite itself would follow some of
/// them.
fn refuse_links(path: &Path) -> Result<(), Trouble> {
    for tail in ["", WAL, SHM, JOURNAL] {
        let place = beside(path, tail);
        if look(&place).map_err(Trouble::Io)?.is_some_and(|found| found.is_symlink()) {
            return Err(Trouble::SymbolicLink(place));
        }
    }
    Ok(())
}

/// Refuses a write-ahead log or journal without a database, which SQLite would apply to a new one.
fn check_no_log(path: &Path) -> Result<(), Trouble> {
    for tail in [WAL, JOURNAL] {
        if look(&beside(path, tail)).map_err(Trouble::Io)?.is_some_and(|log| log.len() > 0) {
            return Err(Trouble::Damaged(format!("the file is missing, but {FILE}{tail} exists")));
        }
    }
    Ok(())
}

/// Checks that the file is a readable regular file, and not empty. See [`create`].
fn check_readable(path: &Path) -> Result<(), Trouble> {
    let metadata = std::fs::symlink_metadata(path).map_err(Trouble::Io)?;
    if !metadata.is_file() {
        return Err(Trouble::Damaged("it is not a regular file".to_owned()));
    }
    if metadata.len() == 0 {
        return Err(Trouble::Damaged("the file is empty".to_owned()));
    }
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(Trouble::Damaged(error.to_string())),
        opened => check_write_version(&opened.map_err(Trouble::Io)?),
    }
}

/// Refuses a database with a later file format, which SQLite would open read-only. The daemon never
/// writes such a format.
fn check_write_version(file: &File) -> Result<(), Trouble> {
    let mut header = [0; 19];
    match file.read_exact_at(&mut header, 0) {
        // Too short for a header, which SQLite reports.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        Err(error) => Err(Trouble::Io(error)),
        Ok(()) if header.starts_with(b"SQLite format 3\0") && header[18] > 2 => {
            Err(Trouble::Damaged(format!("its header has write version {}", header[18])))
        }
        Ok(()) => Ok(()),
    }
}

/// Returns the newest database that was set aside and not yet moved away.
fn last_set_aside(dir: &Path) -> io::Result<Option<PathBuf>> {
    let mut last = None;
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(ASIDE) {
            // The files next to a database count as the database.
            let database = [WAL, SHM, JOURNAL].iter().fold(&*name, |name, tail| name.trim_end_matches(tail));
            last = last.max(Some(dir.join(database)));
        }
    }
    Ok(last)
}

/// Renames a damaged database and the files next to it, so that `sqlite3` can still open them
/// together. The new name has the date and ends in [`RECOVERING`].
fn set_aside(path: &Path, now: SystemTime) -> io::Result<PathBuf> {
    let date = timestamp::seconds(now);
    let named = |number: u32| path.with_file_name(format!("{ASIDE}{date}-{number}"));
    // Several databases may be set aside in one second, and none may replace another.
    let recovering = |name: &Path| beside(name, RECOVERING);
    let aside = (1..=limits::SET_ASIDE).map(named).find(|name| !name.exists() && !recovering(name).exists());
    let aside = recovering(&aside.ok_or_else(|| io::Error::from(io::ErrorKind::AlreadyExists))?);
    rename_all(path, &aside)?;
    Ok(aside)
}

/// Returns the name of a database that was set aside, without [`RECOVERING`].
fn recovered_name(aside: &Path) -> PathBuf {
    let name = aside.file_name().unwrap_or_default().to_string_lossy();
    aside.with_file_name(name.strip_suffix(RECOVERING).unwrap_or(&name))
}

/// Renames a database and the files next to it, the database last. Each may be missing.
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
