//! Why the registry refuses a request.

use std::path::PathBuf;
use std::time::SystemTime;

use beam::name::NodeName;

use crate::layout::{Incomplete, LayoutError, SocketPathTooLong};
use crate::limits;
use crate::plugin::PluginName;
use crate::store::{CommitError, ReadError};
use crate::timestamp;

/// Why the registry did not do what it was asked. Nothing has changed then; the message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No such plugin.
    #[error("no plugin `{name}` is registered: `GET /api/plugins` lists those that are")]
    NotFound {
        /// The name asked for.
        name: PluginName,
    },
    /// The registered node is the daemon's own.
    #[error(
        "`node`: {node} is the node of this hecate-daemon: leave `node` out, or set it to the node that the plugin runs as"
    )]
    OwnNode {
        /// The node.
        node: NodeName,
    },
    /// Another node is connected under that name.
    #[error(
        "`{name}` is held by the connected node {holder} since {since}: stop that node first, or register under \
         another name", since = timestamp::seconds(*since)
    )]
    NodeConflict {
        /// The plugin.
        name: PluginName,
        /// The node that holds it.
        holder: NodeName,
        /// Since when the plugin runs there.
        since: SystemTime,
    },
    /// Its data is not to be purged: it is still registered.
    #[error("`{name}` is registered: deregister it first, then its data can be removed")]
    Registered {
        /// The plugin.
        name: PluginName,
    },
    /// Its data is not to be purged: it lives.
    #[error("`{name}` still runs ({sign}): stop it first, then its data can be removed")]
    StillRunning {
        /// The plugin.
        name: PluginName,
        /// What shows that it lives.
        sign: String,
    },
    /// Its data is not to be purged: perhaps it lives.
    #[error("whether `{name}` still runs can't be told: {why}; then ask again")]
    MayRun {
        /// The plugin.
        name: PluginName,
        /// Why, and what to do.
        why: String,
    },
    /// There is nothing to purge.
    #[error("`{name}` has no data: there is no directory {path}", path = path.display())]
    NoData {
        /// The plugin.
        name: PluginName,
        /// Where its namespace would be.
        path: PathBuf,
    },
    /// Its data was set aside, and some of it could not be removed.
    #[error("the data of `{name}` is no longer in its place, but not all of it could be removed: {0}", name = .1)]
    PurgeIncomplete(Incomplete, PluginName),
    /// The plugin could not bind its socket.
    #[error(transparent)]
    SocketPathTooLong(#[from] SocketPathTooLong),
    /// There are [`limits::PLUGINS`] already.
    #[error("{max} plugins are registered, and that is the most: deregister one first", max = limits::PLUGINS)]
    Full,
    /// The plugin's directories could not be made.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The change could not be saved.
    #[error(transparent)]
    Store(#[from] CommitError),
    /// The stored events could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// We are on the way out.
    #[error("this hecate-daemon is stopping: try again when it is back")]
    Stopping,
}

impl Refusal {
    /// The stable code of the refusal, for clients to branch on.
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
