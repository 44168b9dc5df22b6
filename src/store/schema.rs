//! The tables, and how they came to be: one step a schema version, from the first release on.
//!
//! A step that has been released is never changed; a new one is added. `user_version` counts the steps taken.

use rusqlite::{Connection, TransactionBehavior};

use super::error::Trouble;

/// Version 1: times are nanoseconds since the Unix epoch. `events` carries the plugin as it was, so that a reader who
/// comes back needs nothing else. `salvage` reads the columns of both tables by their place.
///
/// Version 2: the names of damaged databases that were set aside, what was recovered from each, and
/// the revision at which the log continues. The empty name is for a database that was rewritten
/// from memory.
///
/// Version 3: the codes of reasons. Null in the rows of earlier versions, which get one when they
/// are read (`reason`). SQLite does not rewrite those rows: they still end before the column.
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

/// The schema version that this release writes.
pub(super) const VERSION: usize = MIGRATIONS.len();

/// Refuses, before anything is written, what is not ours to write.
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

/// Takes the steps that are missing, each in a transaction of its own.
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
