//! The JSON of the API: the API writes these types, and the commands read them.
//!
//! The types of the convention (`Registered`, the first four keys of `PluginEntry`, `Done`) never
//! change. Keys may be added to the others. This module uses no type of the daemon. For example,
//! node names are `String`: a daemon of another version may accept names that this version refuses,
//! and a command must be able to read its responses.

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

/// Encodes a value as JSON on one line. Escapes characters that control a terminal.
pub fn encode(value: &impl Serialize) -> Bytes {
    // Each type here can be encoded, so the default never occurs.
    let text = serde_json::to_string(value).unwrap_or_default();
    match escape::json(&text) {
        Cow::Owned(escaped) => escaped.into(),
        Cow::Borrowed(_) => text.into(),
    }
}

// ---- Answers --------------------------------------------------------------------------------

/// Problem details (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem<'a> {
    /// Always `about:blank`; `code` is the kind of the problem.
    pub r#type: Cow<'a, str>,
    /// The name of the status code.
    pub title: Cow<'a, str>,
    /// The status code.
    pub status: u16,
    /// What is wrong and what to do.
    pub detail: Cow<'a, str>,
    /// The stable code for programs.
    pub code: Cow<'a, str>,
    /// False.
    pub ok: bool,
    /// The same as `detail`, for other Hecate clients.
    pub error: Cow<'a, str>,
}

/// The response to a deregistration.
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

/// The response to a purge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// True.
    pub ok: bool,
    /// The plugin.
    pub name: String,
    /// Its removed namespace.
    pub base_dir: String,
    /// What was removed.
    pub removed: Removed,
}

/// What a purge has removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Directories, including the namespace itself.
    pub directories: u64,
    /// Files, sockets and symbolic links.
    pub files: u64,
    /// The size of the files, in bytes.
    pub bytes: u64,
}

/// The response to a registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The plugin.
    pub name: String,
    /// Its namespace.
    pub base_dir: String,
    /// The directories in it.
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

/// A plugin in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginEntry {
    /// Its name.
    pub name: String,
    /// Its version, from its registration.
    pub version: Option<String>,
    /// Its API socket.
    pub socket: String,
    /// Whether it is running.
    pub status: PluginStatus,
    /// Its description, from its registration.
    pub description: Option<String>,
    /// Its Erlang node.
    pub node: Option<String>,
    /// Since when it has its status (RFC 3339).
    pub since: String,
    /// The reason for its status, as a sentence.
    pub reason: String,
    /// The reason, as a stable code; empty in responses of older daemons.
    #[serde(default)]
    pub reason_code: String,
    /// Whether its node is connected. Absent if it has no node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_state: Option<NodeState>,
    /// The code of the failed attempt to connect. Absent if the node disconnected; see `reason`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_failure: Option<FailureCode>,
}

/// All details of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginDetail {
    /// Its entry in the list.
    #[serde(flatten)]
    pub entry: PluginEntry,
    /// When it was first registered (RFC 3339).
    pub registered_at: String,
    /// Its namespace.
    pub base_dir: String,
    /// The directories in it.
    pub paths: Paths,
    /// The sockets in its `connectors`.
    pub connectors: Vec<Connector>,
    /// Names of further directories in its namespace.
    pub extra_directories: Vec<String>,
}

/// A connector socket of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connector {
    /// Its file name without `.sock`.
    pub id: String,
    /// Its path.
    pub socket: String,
    /// Whether a process listens on it.
    pub answers: bool,
}

/// `/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The state of the daemon.
    pub status: HealthStatus,
    /// Whether the daemon runs as configured.
    pub ready: bool,
    /// `hecate`.
    pub service: String,
    /// The version of the daemon.
    pub version: String,
    /// The full name of our node, once it has one.
    pub node_name: Option<String>,
    /// Seconds since the daemon started.
    pub uptime_seconds: u64,
    /// The users who own this host's EPMD; empty if unknown.
    #[serde(default)]
    pub epmd_owners: Vec<EpmdOwner>,
    /// `not_initialized`: this daemon keeps no identity.
    pub identity: String,
    /// Each plugin with `ok` or the reason why it is stopped.
    pub plugins: BTreeMap<String, PluginHealth>,
    /// The current problems.
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

/// A problem of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthProblem {
    /// The stable code for programs.
    pub code: ProblemCode,
    /// What is wrong and what to do.
    pub detail: String,
}

/// `/livez`, and `/readyz` if the daemon is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// `ok`.
    pub status: &'static str,
}

/// `/api/cluster`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// The full name of our node, once it has one.
    pub node: Option<String>,
    /// The EPMD of this host.
    pub epmd: Epmd,
    /// The known nodes.
    pub peers: Vec<PeerEntry>,
    /// The scopes of process groups that our node has joined.
    pub scopes: Vec<Scope>,
    /// Connected nodes of this host that are named like nodes of plugins, but belong to no
    /// registered plugin.
    pub unregistered: Vec<String>,
    /// The MD5 of our cookie in Base64. Nodes with another hash cannot connect.
    pub cookie_hash: String,
}

/// A scope of process groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Its name.
    pub name: String,
    /// Groups with processes of our node.
    pub own_groups: usize,
    /// Processes of our node in groups, counted once per group.
    pub own_members: usize,
    /// Groups with processes of peers, counted once per peer.
    pub peer_groups: usize,
    /// Processes of peers in groups, counted once per join.
    pub peer_members: usize,
}

/// The EPMD of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epmd {
    /// Its state.
    pub state: EpmdState,
    /// Why it is unavailable.
    pub reason: Option<String>,
}
