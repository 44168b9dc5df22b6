//! The registry: which plugins are registered on this host, and which of them are running.
//!
//! One task owns the registry ([`start`]). Other modules send it requests through a [`Handle`] and
//! read its [`View`]. `state` makes the decisions and is pure. The registry depends on the store
//! and the layout, but not on connections, the node or HTTP.

mod background;
mod batch;
mod command;
mod disk;
mod effect;
mod entries;
mod follow;
mod handle;
mod log;
mod nodes;
mod refusal;
mod state;
mod task;

use std::collections::BTreeSet;

use beam::name::NodeName;

pub use batch::SocketCheck;
pub use command::FileCheck;
pub use effect::Config;
pub use follow::{Follower, Next};
pub use handle::Handle;
pub use refusal::Refusal;
pub use task::start;

use crate::plugin::{PluginName, Plugins};

/// A snapshot of the registry, replaced at each revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The revision of the last stored event.
    pub revision: u64,
    /// Whether all stored plugins have been judged since the start. Before that, a status may be
    /// outdated.
    pub ready: bool,
    /// The registered plugins in name order.
    pub plugins: Plugins,
    /// The number of running plugins.
    pub running: usize,
    /// Why the last change could not be saved, if it could not. It is tried again, and this view
    /// does not have it.
    pub unsaved: Option<String>,
    /// Whether nothing can be saved because the database was removed or replaced.
    pub is_lost: bool,
}

/// The credentials of the process that registers a plugin, which the kernel provides for a Unix
/// socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registrant {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// The process id, if the process is visible in the daemon's pid namespace.
    pub pid: Option<i32>,
}

/// A change in the cluster. Nodes have full names, `name@host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Membership {
    /// The daemon's own node is about to join the cluster, with one of these names.
    WantedNames {
        /// The full names. No plugin may register one of them as its node.
        names: BTreeSet<NodeName>,
    },
    /// The daemon's own node has joined the cluster.
    OwnNode {
        /// Its full names, one per name of this host. No plugin runs on it.
        names: BTreeSet<NodeName>,
    },
    /// A node connected.
    NodeUp {
        /// The node.
        node: NodeName,
        /// Whether its host part is the name of this host (short or long) or `localhost`.
        on_this_host: bool,
    },
    /// A node disconnected.
    NodeDown {
        /// The node.
        node: NodeName,
        /// The reason, for people: `connection closed by peer`, `net_tick_timeout`, …
        reason: String,
    },
    /// A node on this host is running and refuses to connect. EPMD has its name, and its port
    /// belongs to an allowed user without a hecate-daemon.
    NodeRefused {
        /// The node.
        node: NodeName,
        /// The stable code of the refusal, such as `cookie_mismatch`.
        code: &'static str,
    },
    /// A node that refused to connect has ended: EPMD no longer has its name, or another process
    /// has registered it.
    NodeEnded {
        /// The node.
        node: NodeName,
    },
    /// A process of a node on this host joined the process group of a plugin.
    Announced {
        /// The plugin.
        plugin: PluginName,
        /// The node of the process.
        node: NodeName,
    },
    /// The last process of a node left the process group of a plugin.
    Withdrawn {
        /// The plugin.
        plugin: PluginName,
        /// The node of the process.
        node: NodeName,
    },
    /// The daemon has tried to connect to every node that it found at the start, so the stored
    /// plugins can be judged.
    Settled,
}
