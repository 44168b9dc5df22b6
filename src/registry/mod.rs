//! The registry: which plugins are installed on this host, and which of them live.
//!
//! One task owns all of it ([`start`]); everybody else has a [`Handle`] to ask by and a [`View`] to look at. What decides
//! is `state`, which is pure. Knows the store, the layout and names; never what a node, a connection or HTTP is.

mod background;
mod batch;
mod command;
mod disk;
mod effect;
mod entries;
mod follow;
mod handle;
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

/// What everybody else sees of the registry: immutable, replaced at each revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Number of the last stored event.
    pub revision: u64,
    /// Whether the stored plugins have been judged since the start: no status is to be believed before.
    pub ready: bool,
    /// The registered plugins in name order.
    pub plugins: Plugins,
    /// How many of them run.
    pub running: usize,
    /// Why this may lag behind what happened: the last change could not be saved, and is tried again.
    pub unsaved: Option<String>,
    /// Whether nothing can be saved, because the database vanished or was replaced.
    pub is_lost: bool,
}

/// Credentials of the process that registers, as the kernel gives them for a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registrant {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its process, where it is in a pid namespace that we can see.
    pub pid: Option<i32>,
}

/// What the cluster tells the registry about nodes. Nodes are full names `name@host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Membership {
    /// The names that this daemon's own node may get when it joins the cluster.
    WantedNames {
        /// Full names: no plugin may register one of them as its node.
        names: BTreeSet<NodeName>,
    },
    /// This daemon's own node has joined the cluster.
    OwnNode {
        /// Its full names, one per name of this host: no plugin runs there.
        names: BTreeSet<NodeName>,
    },
    /// A node connected.
    NodeUp {
        /// Its full name.
        node: NodeName,
        /// Whether its host part is ours (short or long form) or `localhost`.
        on_this_host: bool,
    },
    /// A node left.
    NodeDown {
        /// Its full name.
        node: NodeName,
        /// Why, as a sentence for people (`connection closed by peer`, `net_tick_timeout`, …).
        reason: String,
    },
    /// A node of this host is running and refuses to connect: EPMD has its name, and its port
    /// belongs to an allowed user who has no hecate-daemon of their own.
    NodeRefused {
        /// Its full name.
        node: NodeName,
        /// The stable code of the refusal, such as `cookie_mismatch`.
        code: &'static str,
    },
    /// A node that refused to connect has ended: its name left EPMD, or another process has it.
    NodeEnded {
        /// Its full name.
        node: NodeName,
    },
    /// A process of a node on this host joined the pg group of this plugin.
    Announced {
        /// The plugin whose group it is.
        plugin: PluginName,
        /// The node of the process.
        node: NodeName,
    },
    /// The last process of that node left the pg group of this plugin.
    Withdrawn {
        /// The plugin whose group it was.
        plugin: PluginName,
        /// The node of the process.
        node: NodeName,
    },
    /// Every node that was to be found at start has been tried: the stored plugins can be judged.
    Settled,
}
