//! The terms that every other module uses for a plugin: its name, its record, a request to register
//! it, and its events. A leaf module: it depends neither on the registry, the store or the node,
//! nor on HTTP.

mod event;
mod name;
mod reason;
mod request;
#[cfg(test)]
pub mod sample;

use std::sync::Arc;
use std::time::SystemTime;

use beam::name::NodeName;
use rpds::RedBlackTreeMapSync;

pub use event::{Event, EventKind};
pub use name::{NameError, PRIMARY, PluginName};
pub use reason::{Reason, ReasonCode};
pub use request::{Field, FieldValue, InvalidField, Registration, RegistrationRequest};

/// Whether a plugin lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It has shown a sign of life, and nothing since says that it is gone.
    Running,
    /// Its node has left the cluster, or its socket no longer answers.
    Stopped,
}

impl Status {
    /// Returns the name that it has in the API, in the store and towards Erlang nodes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
        }
    }

    /// Returns the status of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Running, Self::Stopped].into_iter().find(|status| status.name() == name)
    }
}

/// One registered plugin, as it is at one revision of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    /// Its name, the key of the registry.
    pub name: PluginName,
    /// Version as the plugin gave it.
    pub version: Option<String>,
    /// Description as the plugin gave it.
    pub description: Option<String>,
    /// Full name of its node (`name@host`), given at registration or found in the cluster.
    pub node: Option<NodeName>,
    /// Whether `node` was given at registration; else it was found, and another may be found in its place.
    pub node_given: bool,
    /// Whether it lives.
    pub status: Status,
    /// Since when `status` holds.
    pub since: SystemTime,
    /// Why `status` holds.
    pub reason: Reason,
    /// When the plugin was first registered.
    pub registered_at: SystemTime,
    /// The revision at which it last began to run: a plugin that stopped and runs again differs in it.
    pub incarnation: u64,
}

/// The registered plugins in name order. Persistent: a copy costs nothing, and shares what is not changed.
pub type Plugins = RedBlackTreeMapSync<PluginName, Arc<Plugin>>;
