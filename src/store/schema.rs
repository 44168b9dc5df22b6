//! The schema, as one migration per schema version.
//!
//! A released migration is never changed; new ones are added. `user_version` is the number of
//! applied migrations.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};
use rustix::fs::OFlags;

use super::error::Trouble;

/// The migrations.
///
/// Version 1: the tables. Times are nanoseconds since 1970. An event has the whole plugin, so that
/// a client that follows the events needs no other data. `salvage` reads the columns by position.
///
/// Version 2: the names of damaged databases that were set aside, how much was recovered from each,
/// and the revision after which new events follow. The name is empty for a database that was
/// written from memory.
///
/// Version 3: the codes of reasons. Rows of earlier versions have null, and get a code when they
/// are read (`reason`). SQLite does not rewrite those rows, which still end before this column.
const MIGRATIONS: [&str; 3] = [
    "
    CREATE TABLE plugins (
        name          TEXT PRIMARY KEY NOT NULL,
        version       TEXT,
        description   TEXT,
        node          TEXT,
        node_given    INTEGER NOT NULL,
        status        TEXT NOT NULL,
        since         INTEGER NOT NULL,
        reason        TEXT NOT NULL,
        registered_at INTEGER NOT NULL,
        incarnation   INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE events (
        revision      INTEGER PRIMARY KEY NOT NULL,
        at            INTEGER NOT NULL,
        kind          TEXT NOT NULL,
        name          TEXT NOT NULL,
        version       TEXT,
        description   TEXT,
        node          TEXT,
        node_given    INTEGER NOT NULL,
        status        TEXT NOT NULL,
        since         INTEGER NOT NULL,
        reason        TEXT NOT NULL,
        registered_at INTEGER NOT NULL,
        incarnation   INTEGER NOT NULL
    ) STRICT;
",
    "
    CREATE TABLE salvaged (
        file     TEXT PRIMARY KEY NOT NULL,
        revision INTEGER NOT NULL,
        plugins  INTEGER NOT NULL,
        events   INTEGER NOT NULL
    ) STRICT;
",
    "
    ALTER TABLE plugins ADD COLUMN reason_code TEXT;
    ALTER TABLE events ADD COLUMN reason_code TEXT;
",
];

/// The first bytes of a database of SQLite.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// The schema version that this release writes.
pub(super) const VERSION: usize = MIGRATIONS.len();

/// Refuses a database of a newer release or of another program, before anything is written.
pub(super) fn check_version(connection: &Connection) -> Result<(), Trouble> {
    let version = version(connection)?;
    if usize::try_from(version).is_ok_and(|version| version > VERSION) {
        return Err(Trouble::Newer { found: version, known: VERSION });
    }
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    if version < 0 || (version == 0 && tables > 0) {
        return Err(Trouble::Foreign);
    }
    Ok(())
}

/// Refuses a database of a newer release by its header: SQLite stores `user_version` at byte 60
/// (sqlite.org/fileformat.html). A log next to the file may have a later version.
pub(super) fn check_header(path: &Path) -> Result<(), Trouble> {
    let (mut magic, mut version) = ([0; MAGIC.len()], [0; 4]);
    // A FIFO at this path must not block the caller.
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let read = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)
        .and_then(|file| file.read_exact_at(&mut magic, 0).and_then(|()| file.read_exact_at(&mut version, 60)));
    let version = i32::from_be_bytes(version);
    let is_newer = usize::try_from(version).is_ok_and(|version| version > VERSION);
    match read {
        Ok(()) if magic == *MAGIC && is_newer => Err(Trouble::Newer { found: version.into(), known: VERSION }),
        _ => Ok(()),
    }
}

/// Applies the missing migrations, each in its own transaction.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Trouble> {
    let done = usize::try_from(version(connection)?).unwrap_or_default();
    for (number, step) in (1_i64..).zip(MIGRATIONS).skip(done) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
    }
    Ok(())
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}
