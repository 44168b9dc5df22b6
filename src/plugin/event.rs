//! The stored events of the registry.

use std::sync::Arc;
use std::time::SystemTime;

use super::Plugin;

/// Something that happened to the registry and was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The revision that it made.
    pub revision: u64,
    /// When.
    pub at: SystemTime,
    /// What.
    pub kind: EventKind,
    /// The plugin after it (before it, for a deregistration). Of a purge, which is of no registered plugin, no more than
    /// the name is known.
    pub plugin: Arc<Plugin>,
}

/// The kinds of stored events, each with the name it carries outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// `plugin_registered_v1`
    Registered,
    /// `plugin_deregistered_v1`
    Deregistered,
    /// `plugin_status_changed_v1`: its status, the reason for it, or the node that was found for it.
    StatusChanged,
    /// `plugin_data_purged_v1`
    DataPurged,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Registered, Self::Deregistered, Self::StatusChanged, Self::DataPurged];

    /// The name that it carries outside, and in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Registered => "plugin_registered_v1",
            Self::Deregistered => "plugin_deregistered_v1",
            Self::StatusChanged => "plugin_status_changed_v1",
            Self::DataPurged => "plugin_data_purged_v1",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}
