//! The JSON of the API: the API writes these types, and the commands read them.
//!
//! The three shapes of the convention (`Registered`, the first four keys of `PluginEntry`, `Done`) never change. Keys may
//! be added to the others. A leaf: it knows nothing of what it describes.
//!
//! Node names are `String` here, not `NodeName`: a command must be able to read the answers of a
//! daemon of another version, which may accept names that this version refuses.

mod diagnosis;
mod events;
mod hosts;
mod peer;
mod trace;
mod words;

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use diagnosis::{Diagnosis, OwnScope, OwnView, Stage};
pub use events::{NodeEvent, NodeStateEvent, Snapshot, StoredEvent};
pub use hosts::{ClusterPlugin, ClusterPlugins, Host};
pub use peer::{LastFailure, PeerEntry};
pub use trace::{TraceDirection, TraceDropped, TraceEvent, TraceLayer, TraceStarted};
pub use words::{
    EpmdState, EventName, FailureCode, HealthStatus, HostState, NodeState, PeerState, PluginHealth, PluginStatus,
    ProblemCode, StageName, StageOutcome,
};

use crate::escape;

/// The OpenAPI document, which describes the API.
pub const OPENAPI: &str = include_str!("../api/openapi.json");

/// Encodes JSON on one line, in which no character can drive a terminal. Every type here can be
/// written as JSON, so the empty default never occurs.
pub fn encode(value: &impl Serialize) -> Bytes {
    let text = serde_json::to_string(value).unwrap_or_default();
    match escape::json(&text) {
        Cow::Owned(escaped) => escaped.into(),
        Cow::Borrowed(_) => text.into(),
    }
}

// ---- Answers --------------------------------------------------------------------------------

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem<'a> {
    /// `about:blank`: the kind is told by `code`.
    pub r#type: Cow<'a, str>,
    /// The status in words.
    pub title: Cow<'a, str>,
    /// The status.
    pub status: u16,
    /// What is wrong and what to do.
    pub detail: Cow<'a, str>,
    /// Stable, for clients to branch on.
    pub code: Cow<'a, str>,
    /// False.
    pub ok: bool,
    /// The detail again, where the ecosystem's clients look for it.
    pub error: Cow<'a, str>,
}

/// The answer to a deregistration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// True.
    pub ok: bool,
}

/// The data of a plugin that a purge would remove now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purgeable {
    /// The plugin.
    pub name: String,
    /// Its namespace.
    pub base_dir: String,
}

/// The answer to a purge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// True.
    pub ok: bool,
    /// The plugin.
    pub name: String,
    /// Its namespace, which is gone.
    pub base_dir: String,
    /// What was removed with it.
    pub removed: Removed,
}

/// What a purge has removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Directories, the namespace itself among them.
    pub directories: u64,
    /// Files, sockets and symbolic links.
    pub files: u64,
    /// What the files held, in bytes.
    pub bytes: u64,
}

/// The answer to a registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The plugin.
    pub name: String,
    /// Its namespace.
    pub base_dir: String,
    /// What lies in it.
    pub paths: Paths,
}

/// The directories of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paths {
    /// SQLite read models.
    pub sqlite: String,
    /// Event stores.
    pub reckon_db: String,
    /// Unix sockets.
    pub sockets: String,
    /// Pid and state files.
    pub run: String,
    /// Sockets of connectors.
    pub connectors: String,
}

/// One plugin in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginEntry {
    /// Its name.
    pub name: String,
    /// Its version, as it said.
    pub version: Option<String>,
    /// Its API socket.
    pub socket: String,
    /// Whether it lives.
    pub status: PluginStatus,
    /// Its description, as it said.
    pub description: Option<String>,
    /// Its Erlang node.
    pub node: Option<String>,
    /// Since when it has its status, RFC 3339.
    pub since: String,
    /// Why it has its status, as a sentence.
    pub reason: String,
    /// The same as a stable code; empty in answers of older daemons.
    #[serde(default)]
    pub reason_code: String,
    /// Whether its node is connected. Absent if it has no node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_state: Option<NodeState>,
    /// Why its node is not connected, as a code. Absent for a node that left: then `reason` says
    /// why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_failure: Option<FailureCode>,
}

/// One plugin, all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginDetail {
    /// What the list says.
    #[serde(flatten)]
    pub entry: PluginEntry,
    /// When it was first registered, RFC 3339.
    pub registered_at: String,
    /// Its namespace.
    pub base_dir: String,
    /// What lies in it.
    pub paths: Paths,
    /// The sockets in its `connectors`.
    pub connectors: Vec<Connector>,
    /// Names of directories in its namespace beside those in `paths`.
    pub extra_directories: Vec<String>,
}

/// A connector socket of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connector {
    /// Its file name without `.sock`.
    pub id: String,
    /// Where it is.
    pub socket: String,
    /// Whether somebody listens there.
    pub answers: bool,
}

/// `/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// How it is doing.
    pub status: HealthStatus,
    /// Whether everything that was asked for is up.
    pub ready: bool,
    /// `hecate`.
    pub service: String,
    /// Our version.
    pub version: String,
    /// Our node's full name, once it has one.
    pub node_name: Option<String>,
    /// How long we have been up.
    pub uptime_seconds: u64,
    /// The users who own this host's EPMD; empty if unknown.
    #[serde(default)]
    pub epmd_owners: Vec<EpmdOwner>,
    /// `not_initialized`: this daemon keeps no identity.
    pub identity: String,
    /// Each plugin with `ok` or why it is stopped.
    pub plugins: BTreeMap<String, PluginHealth>,
    /// What is wrong.
    pub problems: Vec<HealthProblem>,
}

/// A user who owns this host's EPMD.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpmdOwner {
    /// The user.
    pub uid: u32,
    /// The user's name, if the system's accounts have it.
    pub user: Option<String>,
    /// The process that serves EPMD, if the kernel shows it to the daemon.
    #[serde(default)]
    pub pid: Option<i32>,
    /// The name of its program, escaped.
    #[serde(default)]
    pub program: Option<String>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthProblem {
    /// Stable, for clients to branch on.
    pub code: ProblemCode,
    /// What is wrong and what to do.
    pub detail: String,
}

/// `/livez`, and `/readyz` when we are ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// `ok`.
    pub status: &'static str,
}

/// `/api/cluster`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Our node's full name, once it has one.
    pub node: Option<String>,
    /// How we stand with EPMD.
    pub epmd: Epmd,
    /// The nodes that we know of.
    pub peers: Vec<PeerEntry>,
    /// The scopes of process groups that our node takes part in.
    pub scopes: Vec<Scope>,
    /// Names of connected nodes of this host that are called like plugins' and are no registered plugin's.
    pub unregistered: Vec<String>,
    /// Base64 of the cookie's MD5: nodes with another one can't connect.
    pub cookie_hash: String,
}

/// One scope of process groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Its name.
    pub name: String,
    /// Groups that processes of ours are in.
    pub own_groups: usize,
    /// Processes of ours in them, once for each group.
    pub own_members: usize,
    /// Groups that processes of peers are in, once for each peer.
    pub peer_groups: usize,
    /// Processes of peers in them, once for each time that they joined.
    pub peer_members: usize,
}

/// How we stand with EPMD.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epmd {
    /// How we stand with it.
    pub state: EpmdState,
    /// Why it is unavailable.
    pub reason: Option<String>,
}
