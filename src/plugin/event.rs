//! The stored events of the registry.

use std::sync::Arc;
use std::time::SystemTime;

use super::Plugin;

/// A stored change of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The revision of the registry after the event.
    pub revision: u64,
    /// When the event happened.
    pub at: SystemTime,
    /// What happened.
    pub kind: EventKind,
    /// The plugin after the event, or before it for a deregistration. For a purge only the name is
    /// meaningful, because the plugin is not registered.
    pub plugin: Arc<Plugin>,
}

/// The kinds of stored events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// `plugin_registered_v1`
    Registered,
    /// `plugin_deregistered_v1`
    Deregistered,
    /// `plugin_status_changed_v1`: the status, its reason or the node of the plugin changed.
    StatusChanged,
    /// `plugin_data_purged_v1`
    DataPurged,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Registered, Self::Deregistered, Self::StatusChanged, Self::DataPurged];

    /// Returns the name that the kind has in the API, in the store and for Erlang nodes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Registered => "plugin_registered_v1",
            Self::Deregistered => "plugin_deregistered_v1",
            Self::StatusChanged => "plugin_status_changed_v1",
            Self::DataPurged => "plugin_data_purged_v1",
        }
    }

    /// Returns the kind with a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}
