//! What goes into the registry's state and what comes out of it. Pure data.

use std::time::{Duration, Instant, SystemTime};

use beam::name::NodeName;

use super::Membership;
use crate::layout::{Process, SocketState};
use crate::limits;
use crate::plugin::{Event, PluginName};

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For deadlines.
    pub instant: Instant,
    /// For people.
    pub time: SystemTime,
}

/// The registry's settings: how long we wait for plugins.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// For the first sign of life after a registration.
    pub grace: Duration,
    /// For the nodes of stored plugins after a start.
    pub judge: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { grace: limits::GRACE, judge: limits::JUDGE }
    }
}

/// What was observed. Nobody repeats it, so that what cannot be stored is kept and tried again.
#[derive(Debug, Clone)]
pub enum RegistryInput {
    /// News from the cluster.
    Membership(Membership),
    /// Answer to [`RegistryEffect::ProbeSocket`].
    SocketProbed {
        /// Whose socket.
        name: PluginName,
        /// What it showed.
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

/// What is to be done. Only [`RegistryEffect::Store`] can fail; what comes with it is then not done either.
#[derive(Debug)]
pub enum RegistryEffect {
    /// Store this event, with all of the same batch.
    Store(Event),
    /// Probe the plugin's socket. The answer is [`RegistryInput::SocketProbed`], in any case.
    ProbeSocket(PluginName),
    /// Make what is missing of its directories.
    EnsureLayout(PluginName),
    /// Remove what a dead plugin left: its socket, and the run files if they are those of `process`. If that is under
    /// way already, let it.
    CleanUp {
        /// The plugin.
        name: PluginName,
        /// The process that registered it.
        process: Option<Process>,
    },
    /// It lives: stop cleaning up.
    CancelCleanUp(PluginName),
    /// Tell when this process ends, instead of any before.
    AwaitExit {
        /// The plugin that it registered.
        name: PluginName,
        /// The process.
        process: Process,
    },
    /// Log this.
    Warn(Warning),
    /// It is no longer registered: wait no more for its process to end.
    Forget(PluginName),
}

/// What is worth a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// Too many nodes are connected: this one decides nothing here.
    TooManyNodes {
        /// The node.
        node: NodeName,
    },
    /// Too many nodes refuse to connect: this one is ignored.
    TooManyRefusals {
        /// The node.
        node: NodeName,
    },
    /// There are too many announcements: this one is ignored.
    TooManyAnnouncements {
        /// The node that announced the plugin.
        node: NodeName,
        /// The plugin.
        plugin: PluginName,
    },
    /// Too many plugins are announced and not registered: this one gets no directories.
    TooManyUnregistered {
        /// The plugin.
        plugin: PluginName,
    },
    /// The node of a stored registration is the daemon's own, and is ignored.
    OwnNode {
        /// The node.
        node: NodeName,
        /// The plugin.
        plugin: PluginName,
    },
}
