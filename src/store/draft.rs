//! Writes a new database under another name, and checks a database for damage.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::error::Trouble;
use super::files::{JOURNAL, SHM, WAL};
use super::schema;
use crate::files::{beside, place, remove};

/// The name of the database in the directory that [`Store::open`](super::Store::open) opens.
pub(super) const FILE: &str = "plugins.db";

/// Checks a database for damage with SQLite's `quick_check`.
pub(super) fn check_damage(connection: &Connection) -> Result<(), Trouble> {
    let verdict: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(Trouble::Damaged(verdict)) }
}

/// Creates a database without plugins. It has another name until it is complete, because an empty
/// file from an interrupted start would count as a damaged database.
pub(super) fn create(path: &Path) -> Result<(), Trouble> {
    let draft = draft_name(path);
    write_new(&draft, |_| Ok::<_, Trouble>(()))?;
    place(&draft, path).and_then(|()| sync_directory(path)).map_err(Trouble::Io)
}

/// Creates a new database, fills it, and syncs it to disk.
pub(super) fn write_new<E>(draft: &Path, fill: impl FnOnce(&mut Connection) -> Result<(), E>) -> Result<(), E>
where
    E: From<Trouble>,
{
    let write = || {
        make_draft(draft).map_err(Trouble::Io)?;
        let mut connection = Connection::open(draft)?;
        // Only a complete draft is used, so it needs no journal, and one sync at its end is enough.
        connection.pragma_update(None, "journal_mode", "memory")?;
        connection.pragma_update(None, "synchronous", "off")?;
        schema::migrate(&mut connection)?;
        Ok::<_, Trouble>(connection)
    };
    let mut connection = write()?;
    fill(&mut connection)?;
    close(connection).map_err(Trouble::from)?;
    File::open(draft).and_then(|file| file.sync_all()).map_err(Trouble::Io)?;
    Ok(())
}

/// Returns the path of a database that is not yet complete.
pub(super) fn draft_name(path: &Path) -> PathBuf {
    path.with_file_name(format!(".{FILE}.new"))
}

/// Creates an empty file that only the process's own user may access. SQLite would apply the umask
/// instead. Replaces the draft of an earlier attempt.
pub(super) fn make_draft(draft: &Path) -> io::Result<()> {
    for tail in ["", JOURNAL, WAL, SHM] {
        remove(&beside(draft, tail))?;
    }
    OpenOptions::new().create_new(true).write(true).mode(0o600).open(draft).map(drop)
}

pub(super) fn close(connection: Connection) -> rusqlite::Result<()> {
    connection.close().map_err(|(_, error)| error)
}

pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(path))?.sync_all()
}
