//! Reads the daemon's database from another process, as the next start would find it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

use super::Host;

/// The columns that `plugins` and `events` share.
const COLUMNS: &str = "name, version, description, node, node_given, status, since, reason, reason_code, registered_at, \
                       incarnation";

type Row = Vec<Value>;

/// The plugins that follow from the events. It continues after the last event that it read, because
/// old events are deleted.
#[derive(Default)]
pub struct Projection {
    revision: i64,
    rows: BTreeMap<String, Row>,
}

impl Projection {
    /// Reads the events that were stored since the last call. Returns the registered names with
    /// their versions.
    ///
    /// Checks that no revision is missing, and that the `plugins` table matches the events.
    pub fn follow(&mut self, database: &Path) -> BTreeMap<String, Option<String>> {
        let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("opens");
        // One transaction, so that both tables show the same moment.
        connection.execute_batch("BEGIN").unwrap();
        let query = format!("SELECT {COLUMNS}, revision, kind FROM events WHERE revision > ?1 ORDER BY revision");
        for mut row in rows(&connection, &query, &[&self.revision]) {
            let kind = text(&row.pop().unwrap());
            assert_eq!(row.pop(), Some(Value::Integer(self.revision + 1)), "no revision is missing");
            self.revision += 1;
            let name = text(&row[0]);
            match kind.as_str() {
                "plugin_registered_v1" | "plugin_status_changed_v1" => drop(self.rows.insert(name, row)),
                "plugin_deregistered_v1" => drop(self.rows.remove(&name)),
                "plugin_data_purged_v1" => {}
                other => panic!("unknown event kind {other}"),
            }
        }
        let stored = rows(&connection, &format!("SELECT {COLUMNS} FROM plugins"), &[]);
        let stored: BTreeMap<String, Row> = stored.into_iter().map(|row| (text(&row[0]), row)).collect();
        assert_eq!(stored, self.rows, "the plugins match the events");
        let version = |row: &Row| (row[1] != Value::Null).then(|| text(&row[1]));
        stored.iter().map(|(name, row)| (name.clone(), version(row))).collect()
    }
}

fn rows(connection: &Connection, query: &str, parameters: &[&dyn rusqlite::ToSql]) -> Vec<Row> {
    let mut statement = connection.prepare(query).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map(parameters, |row| (0..columns).map(|column| row.get(column)).collect()).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn text(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        other => panic!("expected text, not {other:?}"),
    }
}

/// Returns the path of the database of a host's daemon.
pub fn path(host: &Host) -> PathBuf {
    host.namespace("hecate-daemon").join("sqlite/plugins.db")
}

/// Copies the database as a dead daemon left it. Opening the original would already repair it.
pub fn copy(host: &Host) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let original = path(host);
    for tail in ["", "-wal"] {
        let name = format!("plugins.db{tail}");
        let from = original.with_file_name(&name);
        if from.exists() {
            std::fs::copy(from, directory.path().join(name)).unwrap();
        }
    }
    let database = directory.path().join("plugins.db");
    (directory, database)
}
