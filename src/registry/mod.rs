//! The registry: which plugins are installed on this host, and which of them live.
//!
//! One task owns all of it ([`start`]); everybody else has a [`Handle`] to ask by and a [`View`] to look at. What decides
//! is `state`, which is pure. Knows the store, the layout and names; never what a node, a connection or HTTP is.

mod batch;
mod chores;
mod effect;
mod entries;
mod follow;
mod handle;
mod nodes;
mod refusal;
mod request;
mod state;
mod task;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use rpds::RedBlackTreeMapSync;

pub use batch::SocketCheck;
pub use effect::Config;
pub use follow::{Follower, Next};
pub use handle::{FileCheck, Handle};
pub use refusal::Refusal;
pub use request::{Given, Request, Wrong};
pub use task::start;

use crate::name::PluginName;

/// Whether a plugin lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It has shown a sign of life, and nothing since says that it is gone.
    Running,
    /// Its node has left the cluster, or its socket no longer answers.
    Stopped,
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
    pub node: Option<String>,
    /// Whether `node` was given at registration; else it was found, and another may be found in its place.
    pub node_given: bool,
    /// Whether it lives.
    pub status: Status,
    /// Since when `status` holds.
    pub since: SystemTime,
    /// Why `status` holds, as a sentence for people.
    pub reason: String,
    /// When the plugin was first registered.
    pub registered_at: SystemTime,
    /// The revision at which it last began to run: a plugin that stopped and runs again differs in it.
    pub incarnation: u64,
}

/// The registered plugins in name order. Persistent: a copy costs nothing, and shares what is not changed.
pub type Plugins = RedBlackTreeMapSync<PluginName, Arc<Plugin>>;

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

/// A field of a registration request: re-registration keeps what is absent and clears what is `null`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Field {
    /// The key was absent: the stored value stays.
    #[default]
    Absent,
    /// The key was `null`: the stored value goes.
    Clear,
    /// The key had this value.
    Set(String),
}

impl Field {
    /// Makes a stored value what the request wants.
    fn apply(self, value: &mut Option<String>) {
        match self {
            Self::Absent => {}
            Self::Clear => *value = None,
            Self::Set(new) => *value = Some(new),
        }
    }
}

/// A request to register a plugin, valid in form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The plugin to register.
    pub name: PluginName,
    /// New version.
    pub version: Field,
    /// New description.
    pub description: Field,
    /// New node, a full name `name@host`.
    pub node: Field,
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
        names: BTreeSet<String>,
    },
    /// This daemon's own node has joined the cluster.
    OwnNode {
        /// Its full names, one per name of this host: no plugin runs there.
        names: BTreeSet<String>,
    },
    /// A node connected.
    NodeUp {
        /// Its full name.
        node: String,
        /// Whether its host part is ours (short or long form) or `localhost`.
        on_this_host: bool,
    },
    /// A node left.
    NodeDown {
        /// Its full name.
        node: String,
        /// Why, as a sentence for people (`connection closed by peer`, `net_tick_timeout`, …).
        reason: String,
    },
    /// A node of this host is running and refuses to connect: EPMD has its name, and its port
    /// belongs to an allowed user who has no hecate-daemon of their own.
    NodeRefused {
        /// Its full name.
        node: String,
        /// The stable code of the refusal, such as `cookie_mismatch`.
        code: &'static str,
    },
    /// A node that refused to connect has ended: its name left EPMD, or another process has it.
    NodeEnded {
        /// Its full name.
        node: String,
    },
    /// A process of a node on this host joined the pg group of this plugin.
    Announced {
        /// The plugin whose group it is.
        plugin: PluginName,
        /// The node of the process.
        node: String,
    },
    /// The last process of that node left the pg group of this plugin.
    Withdrawn {
        /// The plugin whose group it was.
        plugin: PluginName,
        /// The node of the process.
        node: String,
    },
    /// Every node that was to be found at start has been tried: the stored plugins can be judged.
    Settled,
}

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
