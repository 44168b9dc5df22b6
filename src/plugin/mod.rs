//! The types that every other module uses for a plugin: its name, its record, a request to register
//! it, and its events. A leaf module: it does not depend on the registry, the store, the node or
//! HTTP.

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

/// Whether a plugin is running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It has shown a sign of life, and nothing since then shows that it ended.
    Running,
    /// Its node has left the cluster, or its socket no longer answers.
    Stopped,
}

impl Status {
    /// Returns the name of the status in the API, in the store and in messages to Erlang nodes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
        }
    }

    /// Returns the status with a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Running, Self::Stopped].into_iter().find(|status| status.name() == name)
    }
}

/// A registered plugin at one revision of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    /// Its name, the key of the registry.
    pub name: PluginName,
    /// The version from its registration.
    pub version: Option<String>,
    /// The description from its registration.
    pub description: Option<String>,
    /// The full name of its node (`name@host`), from its registration or found in the cluster.
    pub node: Option<NodeName>,
    /// Whether `node` is from the registration. If not, another node that is found may replace it.
    pub node_given: bool,
    /// Whether it is running.
    pub status: Status,
    /// When `status` last changed.
    pub since: SystemTime,
    /// Why it has this status.
    pub reason: Reason,
    /// When it was first registered.
    pub registered_at: SystemTime,
    /// The revision at which it last became running. A plugin that stopped and runs again has a new
    /// incarnation.
    pub incarnation: u64,
}

/// The registered plugins in name order. A persistent map: a copy is cheap and shares unchanged
/// parts.
pub type Plugins = RedBlackTreeMapSync<PluginName, Arc<Plugin>>;
