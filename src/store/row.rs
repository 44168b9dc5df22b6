//! Writes plugins and events as rows, and reads them. Has all SQL statements except the schema.
//!
//! Rows are checked like input from outside. A row that the daemon could not have written counts as
//! damage.

use std::error::Error;
use std::sync::Arc;
use std::time::SystemTime;

use beam::name::NodeName;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::reason;
use crate::limits;
use crate::plugin::{Event, EventKind, Plugin, PluginName, Plugins, Status};
use crate::timestamp;

/// Returns the last revision and the plugins.
pub(super) fn load(connection: &Connection) -> rusqlite::Result<(u64, Plugins)> {
    let newest = last_revision(connection)?;
    if newest > limits::REVISION {
        return Err(unknown(0, format!("revision {newest} is above {max}", max = limits::REVISION)));
    }
    let mut query = connection.prepare(
        "SELECT name, version, description, node, node_given, status, since, reason, registered_at, incarnation,
                reason_code
         FROM plugins",
    )?;
    let plugins = query.query_map((), |row| plugin(row, 0).map(|plugin| (plugin.name.clone(), Arc::new(plugin))))?;
    Ok((newest, plugins.collect::<rusqlite::Result<_>>()?))
}

/// Returns the revision of the last event, or of a salvage if no event followed it.
fn last_revision(connection: &Connection) -> rusqlite::Result<u64> {
    let mut query = connection.prepare_cached(
        "SELECT max(ifnull((SELECT max(revision) FROM events), 0), ifnull((SELECT max(revision) FROM salvaged), 0))",
    )?;
    query.query_row((), |row| number(row, 0))
}

pub(super) fn append(connection: &Connection, event: &Event) -> rusqlite::Result<()> {
    let plugin = &event.plugin;
    let mut insert = connection.prepare_cached(
        "INSERT INTO events (name, version, description, node, node_given, status, since, reason, registered_at,
                             incarnation, reason_code, revision, at, kind)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?;
    insert.execute(params![
        plugin.name.as_str(),
        plugin.version,
        plugin.description,
        plugin.node.as_deref(),
        plugin.node_given,
        plugin.status.name(),
        nanoseconds(plugin.since)?,
        plugin.reason.detail,
        nanoseconds(plugin.registered_at)?,
        integer(plugin.incarnation)?,
        plugin.reason.code.name(),
        revision(event.revision)?,
        nanoseconds(event.at)?,
        event.kind.name(),
    ])?;
    Ok(())
}

pub(super) fn put(connection: &Connection, plugin: &Plugin) -> rusqlite::Result<()> {
    let mut replace = connection.prepare_cached(
        "REPLACE INTO plugins (name, version, description, node, node_given, status, since, reason, registered_at,
                               incarnation, reason_code)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    replace.execute(params![
        plugin.name.as_str(),
        plugin.version,
        plugin.description,
        plugin.node.as_deref(),
        plugin.node_given,
        plugin.status.name(),
        nanoseconds(plugin.since)?,
        plugin.reason.detail,
        nanoseconds(plugin.registered_at)?,
        integer(plugin.incarnation)?,
        plugin.reason.code.name(),
    ])?;
    Ok(())
}

pub(super) fn remove(connection: &Connection, name: &PluginName) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM plugins WHERE name = ?1")?.execute([name.as_str()])?;
    Ok(())
}

/// Deletes all but the last [`limits::EVENTS_KEPT`] events before the revision `last`. Revisions
/// that a salvage skipped do not count.
pub(super) fn delete_before(connection: &Connection, last: u64) -> rusqlite::Result<()> {
    let kept = limits::EVENTS_KEPT;
    let oldest = integer(last.saturating_sub(kept))?;
    connection
        .prepare_cached(
            "DELETE FROM events WHERE revision <= iif(
                 EXISTS (SELECT 1 FROM salvaged WHERE revision > ?1),
                 ifnull((SELECT revision FROM events ORDER BY revision DESC LIMIT 1 OFFSET ?2), 0),
                 ?1
             )",
        )?
        .execute(params![oldest, integer(kept)?])?;
    Ok(())
}

/// Deletes the events after a revision.
pub(super) fn delete_after(connection: &Connection, revision: u64) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM events WHERE revision > ?1", [integer(revision)?])?;
    Ok(())
}

/// Lets the next event follow a revision whose own event is missing.
pub(super) fn continue_after(connection: &Connection, last: u64) -> rusqlite::Result<()> {
    let replace = "REPLACE INTO salvaged (file, revision, plugins, events) VALUES ('', ?1, 0, 0)";
    connection.execute(replace, [revision(last)?])?;
    Ok(())
}

/// Deletes all plugins, but no events.
pub(super) fn remove_all(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM plugins", ())?;
    Ok(())
}

pub(super) fn events_after(connection: &Connection, revision: u64) -> rusqlite::Result<Option<Vec<Event>>> {
    let newest = last_revision(connection)?;
    if revision >= newest {
        return Ok((revision == newest).then(Vec::new));
    }
    let mut query = connection.prepare_cached(
        "SELECT name, version, description, node, node_given, status, since, reason, registered_at, incarnation,
                reason_code, revision, at, kind
         FROM events WHERE revision > ?1 ORDER BY revision LIMIT ?2",
    )?;
    let limit = i64::try_from(limits::EVENTS_PAGE).unwrap_or(i64::MAX);
    let page: Vec<Event> =
        query.query_map(params![integer(revision)?, limit], event)?.collect::<rusqlite::Result<_>>()?;
    // Old events are deleted, and a salvage may recover only some, but a page must not have gaps.
    let has_no_gap = (revision + 1..).zip(&page).all(|(expected, event)| event.revision == expected);
    let reaches_end = page.len() >= limits::EVENTS_PAGE || page.last().is_some_and(|last| last.revision == newest);
    Ok((has_no_gap && reaches_end).then_some(page))
}

/// Returns the node in the last event of a plugin, if there is one.
pub(super) fn last_node(connection: &Connection, name: &PluginName) -> rusqlite::Result<Option<NodeName>> {
    let mut query =
        connection.prepare_cached("SELECT node FROM events WHERE name = ?1 ORDER BY revision DESC LIMIT 1")?;
    Ok(query.query_row([name.as_str()], |row| node(row, 0)).optional()?.flatten())
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let kind: String = row.get(13)?;
    Ok(Event {
        plugin: Arc::new(plugin(row, 0)?),
        revision: number(row, 11)?,
        at: time(row, 12)?,
        kind: EventKind::parse(&kind).ok_or_else(|| unknown(13, format!("unknown kind of event {kind:?}")))?,
    })
}

fn plugin(row: &Row<'_>, first: usize) -> rusqlite::Result<Plugin> {
    let name: String = row.get(first)?;
    let status: String = row.get(first + 5)?;
    let node = node(row, first + 3)?;
    let code: Option<String> = row.get(first + 10)?;
    Ok(Plugin {
        name: PluginName::parse(&name).map_err(|error| unknown(first, error))?,
        version: row.get(first + 1)?,
        description: row.get(first + 2)?,
        node_given: node.is_some() && row.get(first + 4)?,
        node,
        status: Status::parse(&status).ok_or_else(|| unknown(first + 5, format!("unknown status {status:?}")))?,
        since: time(row, first + 6)?,
        reason: reason::stored(code.as_deref(), row.get(first + 7)?),
        registered_at: time(row, first + 8)?,
        incarnation: number(row, first + 9)?,
    })
}

/// Returns the name of a node. Returns `None` if it is invalid, since an earlier release may have
/// accepted it.
fn node(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<NodeName>> {
    let name: Option<String> = row.get(column)?;
    Ok(name.and_then(|name| NodeName::parse(&name).ok()))
}

pub(super) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|error| unknown(column, error))
}

/// Converts a revision.
///
/// # Errors
/// The revision exceeds [`limits::REVISION`].
pub(super) fn revision(number: u64) -> rusqlite::Result<i64> {
    if number > limits::REVISION {
        let refused = format!("revision {number} is above {max}", max = limits::REVISION);
        return Err(rusqlite::Error::ToSqlConversionFailure(refused.into()));
    }
    integer(number)
}

pub(super) fn integer(number: u64) -> rusqlite::Result<i64> {
    i64::try_from(number).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// Reads a time. An invalid time in an edited row is clamped, so that it does not count as damage.
fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<SystemTime> {
    Ok(timestamp::from_nanoseconds(row.get(column)?))
}

/// Converts a time.
///
/// # Errors
/// The time is before 1970 or after 2262.
fn nanoseconds(time: SystemTime) -> rusqlite::Result<i64> {
    let refused = || format!("the time {time:?} is before 1970 or after 2262");
    timestamp::nanoseconds(time).ok_or_else(|| rusqlite::Error::ToSqlConversionFailure(refused().into()))
}

fn unknown(column: usize, error: impl Into<Box<dyn Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
}
