//! The reasons for which the registry refuses a request.

use std::path::PathBuf;
use std::time::SystemTime;

use beam::name::NodeName;

use crate::layout::{Incomplete, LayoutError, SocketPathTooLong};
use crate::limits;
use crate::plugin::PluginName;
use crate::store::{CommitError, ReadError};
use crate::timestamp;

/// Why the registry refused a request. Nothing has changed then, except for
/// [`Self::PurgeIncomplete`]. The message includes what to do.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such plugin.
    #[error("no plugin named `{name}` is registered; `GET /api/plugins` lists the registered plugins")]
    NotFound {
        /// The requested name.
        name: PluginName,
    },
    /// The registered node is the daemon's own.
    #[error("`node`: {node} is the node of this hecate-daemon; omit `node`, or set it to the node of the plugin")]
    OwnNode {
        /// The node.
        node: NodeName,
    },
    /// The plugin is running on another connected node.
    #[error(
        "`{name}` is running on the connected node {holder} since {since}; stop that node first, or register under \
         another name", since = timestamp::seconds(*since)
    )]
    NodeConflict {
        /// The plugin.
        name: PluginName,
        /// Its connected node.
        holder: NodeName,
        /// When it began to run there.
        since: SystemTime,
    },
    /// The data of a registered plugin cannot be purged.
    #[error("`{name}` is registered; deregister it before you purge its data")]
    Registered {
        /// The plugin.
        name: PluginName,
    },
    /// The data of a running plugin cannot be purged.
    #[error("`{name}` is still running ({sign}); stop it before you purge its data")]
    StillRunning {
        /// The plugin.
        name: PluginName,
        /// The sign of life.
        sign: String,
    },
    /// It is unknown whether the plugin is running, so its data cannot be purged.
    #[error("cannot determine whether `{name}` is still running: {why}; then try again")]
    MayRun {
        /// The plugin.
        name: PluginName,
        /// Why, and what to do.
        why: String,
    },
    /// There is nothing to purge.
    #[error("`{name}` has no data: the directory {path} does not exist", path = path.display())]
    NoData {
        /// The plugin.
        name: PluginName,
        /// The path of its namespace.
        path: PathBuf,
    },
    /// The data was set aside, but some of it could not be removed.
    #[error("the data of `{name}` was moved away, but not all of it could be removed: {0}", name = .1)]
    PurgeIncomplete(Incomplete, PluginName),
    /// The plugin could not bind its socket, because the path is too long.
    #[error(transparent)]
    SocketPathTooLong(#[from] SocketPathTooLong),
    /// [`limits::PLUGINS`] plugins are registered already.
    #[error("plugin limit ({max}) reached; deregister a plugin first", max = limits::PLUGINS)]
    Full,
    /// The directories of the plugin could not be created.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The change could not be saved.
    #[error(transparent)]
    Store(#[from] CommitError),
    /// The stored events could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The daemon is stopping.
    #[error("this hecate-daemon is stopping; try again after it has been restarted")]
    Stopping,
}

impl Refusal {
    /// Returns the stable code of the refusal, for clients to branch on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::OwnNode { .. } => "node_is_daemon",
            Self::NodeConflict { .. } => "node_conflict",
            Self::Registered { .. } => "registered",
            Self::StillRunning { .. } => "still_running",
            Self::MayRun { .. } => "may_be_running",
            Self::NoData { .. } => "no_data",
            Self::PurgeIncomplete(..) => "purge_incomplete",
            Self::SocketPathTooLong(_) => "socket_path_too_long",
            Self::Full => "too_many_plugins",
            Self::Layout(_) => "layout_failed",
            Self::Store(_) => "store_failed",
            Self::Read(_) => "events_unreadable",
            Self::Stopping => "stopping",
        }
    }
}
