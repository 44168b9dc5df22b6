//! Recovers plugins and events from a damaged database that was set aside.
//!
//! Every row from [`pages`] is checked like input from outside, and the plugins are made consistent
//! with the events. Events may be missing, even the last ones. So the next revision is one that the
//! damaged database cannot have reached. Otherwise a client could mistake a new event for an old
//! one.

mod pages;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::{reason, row};
use crate::limits;
use crate::plugin::{
    Event, EventKind, Field, FieldValue, Plugin, PluginName, Registration, RegistrationRequest, Status,
};
use crate::timestamp;

/// How much was recovered from a damaged database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salvaged {
    /// The number of registered plugins.
    pub plugins: u64,
    /// The number of events.
    pub events: u64,
}

/// Returns how much was recovered from the file with this name, or `None` before its recovery.
pub(super) fn report(connection: &Connection, file: &str) -> rusqlite::Result<Option<Salvaged>> {
    let read = |row: &rusqlite::Row<'_>| Ok(Salvaged { plugins: row::number(row, 0)?, events: row::number(row, 1)? });
    connection.query_row("SELECT plugins, events FROM salvaged WHERE file = ?1", [file], read).optional()
}

/// Recovers the readable rows of the database `aside` into the new one, which must be empty, in one
/// transaction. `file` is the name for [`report`].
pub(super) fn recover(
    connection: &mut Connection,
    aside: &Path,
    file: &str,
    now: SystemTime,
) -> rusqlite::Result<Salvaged> {
    let Found { events, plugins, revision } = Found::new(pages::rows(aside), now);
    let salvaged = Salvaged { plugins: plugins.len() as u64, events: events.len() as u64 };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for event in events.values() {
        row::append(&transaction, event)?;
    }
    for plugin in plugins.values() {
        row::put(&transaction, plugin)?;
    }
    transaction.execute(
        "INSERT INTO salvaged (file, revision, plugins, events) VALUES (?1, ?2, ?3, ?4)",
        params![file, row::revision(revision)?, row::integer(salvaged.plugins)?, row::integer(salvaged.events)?],
    )?;
    transaction.commit()?;
    Ok(salvaged)
}

/// The valid rows that were found.
#[derive(Debug, Default)]
struct Found {
    /// The newest events.
    events: BTreeMap<u64, Event>,
    /// The registered plugins.
    plugins: BTreeMap<PluginName, Arc<Plugin>>,
    /// The revision after which new events follow.
    revision: u64,
}

impl Found {
    fn new(rows: Vec<pages::Row>, now: SystemTime) -> Self {
        let mut found = Self::default();
        for row in rows {
            match row {
                pages::Row::Table { id, values } => {
                    if let Some(event) = event(id, &values) {
                        found.events.insert(event.revision, event);
                        if found.events.len() as u64 > limits::EVENTS_KEPT {
                            found.events.pop_first();
                        }
                    }
                }
                pages::Row::Index { values } => {
                    if let Some(plugin) = plugin(&values) {
                        found.add_plugin(plugin);
                    }
                }
            }
        }
        found.apply_events();
        found.revision = found.next_revision(now);
        found
    }

    /// Adds a row of the plugins, unless a newer one was found. An unused page may have an old row.
    fn add_plugin(&mut self, plugin: Plugin) {
        let newness = |plugin: &Plugin| (plugin.incarnation, plugin.since.max(plugin.registered_at));
        match self.plugins.get(&plugin.name) {
            Some(known) if newness(known) >= newness(&plugin) => {}
            _ => drop(self.plugins.insert(plugin.name.clone(), Arc::new(plugin))),
        }
    }

    /// Applies the events to plugins whose row is missing or older than their last event.
    fn apply_events(&mut self) {
        let of_plugins = self.events.values().filter(|event| event.kind != EventKind::DataPurged);
        let last: BTreeMap<&PluginName, &Event> = of_plugins.map(|event| (&event.plugin.name, event)).collect();
        for (name, event) in last {
            let stored = self.plugins.get(name);
            // If the row is newer than the event, later events are missing.
            let is_newer = stored.is_some_and(|plugin| {
                plugin.incarnation > event.revision || plugin.since.max(plugin.registered_at) > event.at
            });
            match event.kind {
                EventKind::Deregistered if !is_newer => drop(self.plugins.remove(name)),
                EventKind::Registered | EventKind::StatusChanged if stored.is_none() => {
                    self.plugins.insert(name.clone(), Arc::clone(&event.plugin));
                }
                _ => {}
            }
        }
        while self.plugins.len() > limits::PLUGINS {
            self.plugins.pop_last();
        }
    }

    /// Returns a revision that the damaged database cannot have reached.
    ///
    /// The remaining events may all be from before an earlier salvage. Then they do not show the
    /// revisions after it. So the result is at least the seconds since 1970, which revisions exceed
    /// only with more than one event per second. In case the clock is wrong, twice
    /// [`limits::EVENTS_KEPT`] is added. The last revision is ahead of a remaining event by at most
    /// [`limits::EVENTS_KEPT`], or by twice that number after an earlier salvage.
    fn next_revision(&self, now: SystemTime) -> u64 {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let event = self.events.last_key_value().map_or(0, |(last, _)| *last);
        let incarnation = self.plugins.values().map(|plugin| plugin.incarnation).max().unwrap_or(0);
        let known = event.max(incarnation).max(seconds).min(REVISION);
        known.saturating_add(2 * limits::EVENTS_KEPT)
    }
}

/// The largest revision that is accepted from a damaged database, so that enough revisions remain.
const REVISION: u64 = limits::REVISION - 3 * limits::EVENTS_KEPT;

/// Reads a row of `events` of any schema version.
fn event(id: i64, values: &[Value]) -> Option<Event> {
    let [Value::Null, Value::Integer(at), Value::Text(kind), of_plugin @ ..] = values else { return None };
    let revision = u64::try_from(id).ok().filter(|revision| *revision <= REVISION)?;
    Some(Event {
        revision,
        at: timestamp::from_nanoseconds(*at),
        kind: EventKind::parse(kind)?,
        plugin: Arc::new(plugin(of_plugin)?),
    })
}

/// Reads a row of `plugins` of any schema version. Rows of versions 1 and 2 have no code of the
/// reason.
fn plugin(values: &[Value]) -> Option<Plugin> {
    let [
        Value::Text(name),
        version,
        description,
        node,
        Value::Integer(node_given),
        Value::Text(status),
        Value::Integer(since),
        Value::Text(detail),
        Value::Integer(registered_at),
        Value::Integer(incarnation),
        rest @ ..,
    ] = values
    else {
        return None;
    };
    let code = match rest {
        [] | [Value::Null] => None,
        [Value::Text(code)] => Some(code.as_str()),
        _ => return None,
    };
    let named = || RegistrationRequest { name: FieldValue::Text(name.clone()), ..RegistrationRequest::default() };
    let (version, description, node) = (given(version)?, given(description)?, given(node)?);
    let node = checked(RegistrationRequest { node, ..named() }, |checked| checked.node);
    Some(Plugin {
        name: named().check().ok()?.name,
        version: checked(RegistrationRequest { version, ..named() }, |checked| checked.version),
        description: checked(RegistrationRequest { description, ..named() }, |checked| checked.description),
        node_given: *node_given != 0 && node.is_some(),
        node,
        status: Status::parse(status)?,
        since: timestamp::from_nanoseconds(*since),
        reason: is_text(detail).then(|| reason::stored(code, detail.clone()))?,
        registered_at: timestamp::from_nanoseconds(*registered_at),
        incarnation: u64::try_from(*incarnation).unwrap_or(0).min(REVISION),
    })
}

/// Returns one field of a request. Returns `None` if it is invalid, since an earlier release may
/// have accepted it.
fn checked<T>(request: RegistrationRequest, field: impl FnOnce(Registration) -> Field<T>) -> Option<T> {
    match request.check().map(field) {
        Ok(Field::Set(text)) => Some(text),
        Ok(Field::Absent | Field::Clear) | Err(_) => None,
    }
}

/// Returns a field of a row, or `None` if the row is damaged: no release accepted other types or
/// control characters.
fn given(value: &Value) -> Option<FieldValue> {
    match value {
        Value::Null => Some(FieldValue::Null),
        Value::Text(text) if !text.contains(|c: char| c.is_control() && c != '\n' && c != '\t') => {
            Some(FieldValue::Text(text.clone()))
        }
        _ => None,
    }
}

fn is_text(text: &str) -> bool {
    text.len() <= limits::PLUGIN_REASON && !text.contains(char::is_control)
}
