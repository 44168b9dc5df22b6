//! The inputs and effects of the registry's state. Pure data.

use std::time::{Duration, Instant, SystemTime};

use beam::name::NodeName;

use super::Membership;
use crate::layout::{Process, SocketState};
use crate::limits;
use crate::plugin::{Event, PluginName};

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// The monotonic time, for deadlines.
    pub instant: Instant,
    /// The wall-clock time, for events.
    pub time: SystemTime,
}

/// The settings of the registry.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// How long to wait for the first sign of life after a registration.
    pub grace: Duration,
    /// How long to wait for the nodes of stored plugins after a start.
    pub judge: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { grace: limits::GRACE, judge: limits::JUDGE }
    }
}

/// An observation. It arrives only once, so it is kept and tried again if it cannot be stored.
#[derive(Debug, Clone)]
pub enum RegistryInput {
    /// A change in the cluster.
    Membership(Membership),
    /// The result of [`RegistryEffect::ProbeSocket`].
    SocketProbed {
        /// The plugin.
        name: PluginName,
        /// The state of its socket.
        state: SocketState,
    },
    /// The process that registered a plugin has ended.
    Exited {
        /// The plugin.
        name: PluginName,
        /// The process.
        process: Process,
    },
    /// Time has passed.
    Tick,
}

/// An action for the task. Only [`RegistryEffect::Store`] can fail; then the other effects of the
/// same batch are dropped too.
#[derive(Debug)]
pub enum RegistryEffect {
    /// Store this event, in one commit with the others of the batch.
    Store(Event),
    /// Probe the plugin's socket. The result is always a [`RegistryInput::SocketProbed`].
    ProbeSocket(PluginName),
    /// Create the plugin's missing directories.
    EnsureLayout(PluginName),
    /// Remove the socket of a dead plugin, and its run files if `process` wrote them. Has no effect
    /// while an earlier removal is in progress.
    CleanUp {
        /// The plugin.
        name: PluginName,
        /// The process that registered it.
        process: Option<Process>,
    },
    /// Abort the removal, because the plugin is running.
    CancelCleanUp(PluginName),
    /// Report when this process ends, instead of an earlier process of the plugin.
    AwaitExit {
        /// The plugin that it registered.
        name: PluginName,
        /// The process.
        process: Process,
    },
    /// Log a warning.
    Warn(Warning),
    /// Stop waiting for the end of the plugin's process, because the plugin is no longer
    /// registered.
    Forget(PluginName),
}

/// A warning for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// Too many nodes are connected, so this one is ignored.
    TooManyNodes {
        /// The node.
        node: NodeName,
    },
    /// Too many nodes refuse to connect, so this one is ignored.
    TooManyRefusals {
        /// The node.
        node: NodeName,
    },
    /// There are too many announcements, so this one is ignored.
    TooManyAnnouncements {
        /// The node that announced the plugin.
        node: NodeName,
        /// The plugin.
        plugin: PluginName,
    },
    /// Too many unregistered plugins are announced, so no directories are created for this one.
    TooManyUnregistered {
        /// The plugin.
        plugin: PluginName,
    },
    /// The node of a stored registration is the daemon's own node, and is ignored.
    OwnNode {
        /// The node.
        node: NodeName,
        /// The plugin.
        plugin: PluginName,
    },
}
