//! The JSON that clients see, all of it: what the API reads and answers, and what our own commands read again.
//!
//! The three shapes of the convention (`Registered`, `PluginEntry`'s first four keys, `Done`) never change; keys may be
//! added to the others. A registration is checked here; everything behind this file deals with valid ones only.

mod diagnosis;
mod events;
mod hosts;
mod peer;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;
use hyper::StatusCode;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

pub use diagnosis::{Diagnosis, OwnScope, OwnView, Stage};
pub use events::{NodeEvent, NodeStateEvent, Snapshot, StoredEvent};
pub use hosts::{ClusterPlugin, ClusterPlugins, Host};
pub use peer::{LastFailure, Peer};

use super::problem;
pub use crate::cluster::view::REFUSALS;
use crate::cluster::view::{ClusterView, EpmdState, NodeState, NodeStates, PeerState, PeerView, ScopeView};
use crate::escape;
use crate::layout::{self, Home, Namespace};
use crate::plugin::{FieldValue, Plugin, PluginName, Registration, RegistrationRequest, Status};
use crate::registry;
use crate::timestamp;

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
    /// `running` or `stopped`.
    pub status: String,
    /// Its description, as it said.
    pub description: Option<String>,
    /// Its Erlang node.
    pub node: Option<String>,
    /// Since when it has its status, RFC 3339.
    pub since: String,
    /// Why it has its status.
    pub reason: String,
    /// `connected`, `not_connected`, or `unknown` until the first attempt to connect to its node
    /// has ended. Absent if it has no node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_state: Option<String>,
    /// Why its node is not connected, as a code. Absent for a node that left: then `reason` says
    /// why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_failure: Option<String>,
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
    /// `starting`, `healthy` or `unhealthy`.
    pub status: String,
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
    pub plugins: BTreeMap<String, String>,
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
    pub code: String,
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
    pub peers: Vec<Peer>,
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
    /// `unknown`, `registered`, `served` (by us), `name_taken` or `unavailable`.
    pub state: String,
    /// Why it is unavailable.
    pub reason: Option<String>,
}

impl Registered {
    /// The convention's answer.
    #[must_use]
    pub fn new(name: &PluginName, namespace: &Namespace) -> Self {
        Self { name: name.to_string(), base_dir: namespace.base().display().to_string(), paths: Paths::new(namespace) }
    }
}

impl Purgeable {
    /// Describes the data in this namespace.
    #[must_use]
    pub fn new(name: &PluginName, namespace: &Namespace) -> Self {
        Self { name: name.to_string(), base_dir: namespace.base().display().to_string() }
    }
}

impl Purged {
    /// What was removed of this namespace.
    #[must_use]
    pub fn new(name: &PluginName, namespace: &Namespace, removed: layout::Removed) -> Self {
        let layout::Removed { directories, files, bytes } = removed;
        Self {
            ok: true,
            name: name.to_string(),
            base_dir: namespace.base().display().to_string(),
            removed: Removed { directories, files, bytes },
        }
    }
}

impl Paths {
    fn new(namespace: &Namespace) -> Self {
        // Home is known to be UTF-8, so that `display` loses nothing.
        Self {
            sqlite: namespace.sqlite().display().to_string(),
            reckon_db: namespace.reckon_db().display().to_string(),
            sockets: namespace.sockets().display().to_string(),
            run: namespace.run().display().to_string(),
            connectors: namespace.connectors().display().to_string(),
        }
    }
}

impl PluginEntry {
    /// The list's entry for a plugin.
    #[must_use]
    pub fn new(plugin: &Plugin, namespace: &Namespace) -> Self {
        Self {
            name: plugin.name.to_string(),
            version: plugin.version.clone(),
            socket: namespace.api_sock().display().to_string(),
            status: match plugin.status {
                Status::Running => "running".to_owned(),
                Status::Stopped => "stopped".to_owned(),
            },
            description: plugin.description.clone(),
            node: plugin.node.clone(),
            since: time(plugin.since),
            reason: plugin.reason.clone(),
            node_state: None,
            node_failure: None,
        }
    }

    /// Adds the state of the plugin's node.
    #[must_use]
    pub fn with_node(mut self, nodes: &NodeStates) -> Self {
        let state = self.node.as_deref().map(|node| nodes.of(node));
        self.node_state = state.map(|state| state.name().to_owned());
        self.node_failure = state.and_then(NodeState::failure).map(str::to_owned);
        self
    }
}

impl PluginDetail {
    /// All that is known of a plugin.
    #[must_use]
    pub fn new(plugin: &Plugin, namespace: &Namespace, nodes: &NodeStates, contents: layout::Contents) -> Self {
        let connector = |connector: layout::Connector| Connector {
            id: connector.id,
            socket: connector.socket.display().to_string(),
            answers: connector.answers,
        };
        Self {
            connectors: contents.connectors.into_iter().map(connector).collect(),
            extra_directories: contents.extra_directories,
            entry: PluginEntry::new(plugin, namespace).with_node(nodes),
            registered_at: time(plugin.registered_at),
            base_dir: namespace.base().display().to_string(),
            paths: Paths::new(namespace),
        }
    }
}

impl Cluster {
    /// The cluster as our node sees it.
    #[must_use]
    pub fn new(view: &ClusterView, registry: &registry::View) -> Self {
        let (state, reason) = match &view.epmd {
            EpmdState::Unknown => ("unknown", None),
            EpmdState::Registered => ("registered", None),
            EpmdState::Served => ("served", None),
            EpmdState::Unavailable { reason } => ("unavailable", Some(reason.clone())),
            EpmdState::NameTaken { name } => {
                ("name_taken", Some(format!("{name} is held by another node of this host")))
            }
        };
        let scope = |scope: &ScopeView| Scope {
            name: scope.name.clone(),
            own_groups: scope.own_groups,
            own_members: scope.own_members,
            peer_groups: scope.peer_groups,
            peer_members: scope.peer_members,
        };
        let unregistered = view.peers.iter().filter(|peer| is_unregistered(peer, registry));
        Self {
            node: view.node.clone(),
            epmd: Epmd { state: state.to_owned(), reason },
            peers: view.peers.iter().map(Peer::new).collect(),
            scopes: view.scopes.iter().map(scope).collect(),
            unregistered: unregistered.map(|peer| peer.name.clone()).collect(),
            cookie_hash: view.cookie_hash.clone(),
        }
    }
}

/// "A node of this host that looks like a plugin's (`hecate_*d`, no hecate-daemon) but isn't registered".
fn is_unregistered(peer: &PeerView, registry: &registry::View) -> bool {
    let short = peer.name.split('@').next().unwrap_or_default();
    let is_plugins = |plugin: &Plugin| plugin.node.as_deref() == Some(&peer.name);
    peer.state == PeerState::Connected
        && peer.on_this_host
        && PluginName::parse(&short.replace('_', "-")).is_ok_and(|name| name.as_str().starts_with("hecate-"))
        && !registry.plugins.values().any(|plugin| is_plugins(plugin))
}

/// RFC 3339 in UTC, to the millisecond.
#[must_use]
pub fn time(time: SystemTime) -> String {
    timestamp::millis(time)
}

// ---- The registration -----------------------------------------------------------------------

/// Reads the body of a registration.
///
/// # Errors
/// 400 if it is no JSON object, 422 if a field is wrong.
pub fn registration(body: &[u8]) -> Result<Registration, problem::Problem> {
    let request: Request = serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            let example = "the body must be one JSON object, such as {\"name\": \"hecate-traderd\"}";
            problem::Problem::new(StatusCode::BAD_REQUEST, "not_an_object", example)
        }
        _ => {
            let detail = format!("the body is not JSON: {error}");
            problem::Problem::new(StatusCode::BAD_REQUEST, "not_json", detail)
        }
    })?;
    if let Some(key) = request.twice {
        let detail = format!("the key `{key}` stands there twice: give it once");
        return Err(problem::Problem::new(StatusCode::BAD_REQUEST, "key_twice", detail));
    }
    let given = |value: Option<Value>| match value {
        None => FieldValue::Absent,
        Some(Value::Null) => FieldValue::Null,
        Some(Value::String(text)) => FieldValue::Text(text),
        Some(_) => FieldValue::NotText,
    };
    let request = RegistrationRequest {
        name: given(request.name),
        version: given(request.version),
        description: given(request.description),
        node: given(request.node),
    };
    request.check().map_err(|wrong| problem::Problem::new(StatusCode::UNPROCESSABLE_ENTITY, wrong.code, wrong.detail))
}

/// The keys that we read; others are ignored.
#[derive(Default)]
struct Request {
    name: Option<Value>,
    version: Option<Value>,
    description: Option<Value>,
    node: Option<Value>,
    /// One of these keys that stood there more than once: which one holds would be a guess.
    twice: Option<&'static str>,
}

/// By hand, as a derived one takes an array for an object.
impl<'de> Deserialize<'de> for Request {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Request;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Request, A::Error> {
                let mut request = Request::default();
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    let (key, slot) = match key.as_ref() {
                        "name" => ("name", &mut request.name),
                        "version" => ("version", &mut request.version),
                        "description" => ("description", &mut request.description),
                        "node" => ("node", &mut request.node),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    if slot.replace(map.next_value()?).is_some() {
                        request.twice = Some(key);
                    }
                }
                Ok(request)
            }
        }
        deserializer.deserialize_any(Keys)
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
