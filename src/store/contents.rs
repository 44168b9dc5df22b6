//! The committed state of the registry, in memory.

use std::sync::Arc;

use rusqlite::Connection;

use super::row;
use crate::plugin::{Event, EventKind, Plugins};

/// The committed state, without past events.
#[derive(Debug, Clone)]
pub(super) struct Contents {
    pub plugins: Plugins,
    pub revision: u64,
    /// The event of the last revision, if it exists and can be read.
    pub last: Option<Event>,
}

impl Contents {
    /// Reads the contents of a database.
    pub(super) fn of(connection: &Connection, revision: u64, plugins: Plugins) -> Self {
        let last = revision.checked_sub(1).and_then(|before| row::events_after(connection, before).ok().flatten());
        Self { plugins, revision, last: last.and_then(|events| events.into_iter().last()) }
    }

    /// Returns the contents after these events.
    pub(super) fn after(&self, events: &[Event]) -> Self {
        let mut next = self.clone();
        for event in events {
            let name = event.plugin.name.clone();
            match event.kind {
                EventKind::Registered | EventKind::StatusChanged => {
                    next.plugins.insert_mut(name, Arc::clone(&event.plugin));
                }
                EventKind::Deregistered => {
                    next.plugins.remove_mut(&name);
                }
                EventKind::DataPurged => {}
            }
            next.revision = event.revision;
            next.last = Some(event.clone());
        }
        next
    }
}
