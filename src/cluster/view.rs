//! The view of the cluster for other modules. It is plain data, and replaced as a whole when it
//! changes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use beam::connect::dial::DialCode;
use beam::name::NodeName;
use beam::node::view::PeerReason;
use rpds::RedBlackTreeMapSync;

use crate::plugin::{PluginName, Reason, Status};

/// The cluster as our node sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// The full name of our node; none before it has joined.
    pub node: Option<NodeName>,
    /// The host part of our node's present or preferred name.
    pub host: String,
    /// When our node joined the cluster.
    pub since: Option<SystemTime>,
    /// The other hecate-daemons, in the order of their nodes' names.
    pub hosts: Arc<Vec<HostView>>,
    /// The state of EPMD and of our registration with it.
    pub epmd: EpmdState,
    /// The users who own the EPMD that answers; empty if unknown.
    pub epmd_owners: Arc<[EpmdOwner]>,
    /// The preferred names of our node, which other nodes of this host have.
    pub names_taken: Vec<String>,
    /// The known nodes, in name order.
    pub peers: Vec<PeerView>,
    /// Whether the nodes of plugins are connected.
    pub plugin_nodes: NodeStates,
    /// Our scopes of process groups, in name order.
    pub scopes: Vec<ScopeView>,
    /// The hash of the cookie, to compare the cookies of two nodes: its MD5 in base64, as RabbitMQ
    /// prints it.
    pub cookie_hash: String,
}

/// A user who owns this host's EPMD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpmdOwner {
    /// The user.
    pub uid: u32,
    /// The process that serves EPMD, if the kernel shows it to us.
    pub pid: Option<i32>,
    /// The name of its program, escaped.
    pub program: Option<String>,
}

/// The state of this host's EPMD and of our registration with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum EpmdState {
    /// Our node has not tried to register yet.
    #[default]
    Unknown,
    /// Our node is registered.
    Registered,
    /// This daemon serves EPMD, and its node is registered.
    Served,
    /// EPMD does not answer.
    Unavailable {
        /// Why, and what to do, for people.
        reason: String,
    },
    /// EPMD answers, but another node has our name.
    NameTaken {
        /// The name.
        name: String,
    },
}

/// A scope of process groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeView {
    /// Its name.
    pub name: String,
    /// The number of groups with members on our node.
    pub own_groups: usize,
    /// The number of memberships of our processes.
    pub own_members: usize,
    /// The number of groups with members on peers, once for each peer.
    pub peer_groups: usize,
    /// The number of memberships of peers' processes; one that joined twice counts twice.
    pub peer_members: usize,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerView {
    /// Its full name.
    pub name: NodeName,
    /// Whether its host part is this host's.
    pub on_this_host: bool,
    /// Whether it is connected.
    pub state: PeerState,
    /// When it connected, when the present attempt began, when it was lost, or, if it was never
    /// connected, when it was first found.
    pub since: SystemTime,
    /// Why `state` holds.
    pub reason: PeerReason,
    /// Details for troubleshooting.
    pub details: PeerDetails,
}

/// Details of a node for troubleshooting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerDetails {
    /// How the node was found.
    pub introduced_by: Option<Introduction>,
    /// The number of attempts to connect since its last connection.
    pub attempts: u32,
    /// The failure of the last attempt that failed.
    pub last_failure: Option<DialFailure>,
    /// Its connection, if there is one.
    pub link: Option<LinkView>,
}

/// How a node was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Introduction {
    /// This host's EPMD has its name.
    Epmd,
    /// It is configured.
    Configuration,
    /// The DNS name of the cluster has its address.
    Dns,
    /// The global name servers of peers have its name.
    Peers,
    /// This peer is connected to it.
    Peer(NodeName),
    /// It connected to our node.
    Itself,
}

/// The failure of an attempt to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialFailure {
    /// The stable code.
    pub code: DialCode,
    /// A description for people.
    pub detail: String,
    /// When the attempt failed.
    pub at: SystemTime,
}

/// A connection, and the answers of the peer about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkView {
    /// Whether the peer is visible in `nodes()`.
    pub published: bool,
    /// The names of the distribution flags that both sides have.
    pub flags: Vec<&'static str>,
    /// The peer's OTP release, if it answered.
    pub otp_release: Option<String>,
    /// The peer's `net_ticktime`, if it answered.
    pub tick_time: Option<Duration>,
    /// The round-trip time of the last ping, if it was answered.
    pub round_trip: Option<Duration>,
}

/// Whether a peer is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// Connected.
    Connected,
    /// An attempt to connect is under way.
    Connecting,
    /// Not connected: it disconnected, or cannot be reached.
    Disconnected,
}

/// Whether the node of a plugin is connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NodeState {
    /// The first attempt to connect has not ended.
    #[default]
    Unknown,
    /// It is connected.
    Connected,
    /// It is not connected, with the code of the failure. A node that was connected has none until
    /// an attempt fails although EPMD has its name.
    NotConnected(Option<DialCode>),
}

impl NodeState {
    /// Returns the name of the state, the same in JSON and as an atom.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Connected => "connected",
            Self::NotConnected(_) => "not_connected",
        }
    }

    /// Returns the code of the failure, if one is known.
    #[must_use]
    pub fn failure(self) -> Option<DialCode> {
        match self {
            Self::NotConnected(code) => code,
            Self::Unknown | Self::Connected => None,
        }
    }
}

/// The node of one or more plugins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginNode {
    /// Whether it is connected.
    pub state: NodeState,
    /// Its plugins, in name order.
    pub plugins: Arc<[PluginName]>,
}

/// The nodes of plugins by name. Persistent: a copy is cheap, and comparing two copies compares a
/// counter.
#[derive(Debug, Clone, Default)]
pub struct NodeStates {
    /// How often it has changed.
    changes: u64,
    nodes: RedBlackTreeMapSync<NodeName, PluginNode>,
    /// The nodes that are not connected.
    not_connected: RedBlackTreeMapSync<NodeName, PluginNode>,
}

/// Copies of one map are equal if it has not changed between them.
impl PartialEq for NodeStates {
    fn eq(&self, other: &Self) -> bool {
        self.changes == other.changes
    }
}

impl Eq for NodeStates {}

impl NodeStates {
    /// Sets the state of a node, or removes it if it is no longer the node of a plugin.
    pub fn set(&mut self, node: NodeName, seen: Option<PluginNode>) {
        if self.nodes.get(&node) == seen.as_ref() {
            return;
        }
        self.changes += 1;
        match seen.clone().filter(|seen| matches!(seen.state, NodeState::NotConnected(_))) {
            Some(apart) => self.not_connected.insert_mut(node.clone(), apart),
            None => drop(self.not_connected.remove_mut(&node)),
        }
        match seen {
            Some(seen) => self.nodes.insert_mut(node, seen),
            None => drop(self.nodes.remove_mut(&node)),
        }
    }

    /// Returns the state of a plugin's node.
    #[must_use]
    pub fn of(&self, node: &str) -> NodeState {
        self.nodes.get(node).map(|seen| seen.state).unwrap_or_default()
    }

    /// Returns the nodes that are not connected, in name order, each with its failure code and
    /// plugins.
    pub fn not_connected(&self) -> impl Iterator<Item = (&NodeName, Option<DialCode>, &[PluginName])> {
        self.not_connected.iter().map(|(node, seen)| (node, seen.state.failure(), &*seen.plugins))
    }

    /// Returns the nodes whose state differs from that in `before`, in name order.
    #[must_use]
    pub fn changed_since(&self, before: &Self) -> Vec<(&NodeName, NodeState)> {
        if self == before {
            return Vec::new();
        }
        let states = self.nodes.iter().map(|(node, seen)| (node, seen.state));
        states.filter(|(node, state)| before.of(node) != *state).collect()
    }
}

/// Another hecate-daemon, and its last report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostView {
    /// Its node's full name.
    pub daemon: NodeName,
    /// Whether it is connected.
    pub state: HostState,
    /// Since when `state` holds.
    pub since: SystemTime,
    /// Its plugins by name.
    pub plugins: PluginViews,
    /// The number of its plugins that are not in `plugins`, because they are invalid or exceed a
    /// limit.
    pub left_out: usize,
}

/// Whether another hecate-daemon is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostState {
    /// It is connected, and its report is up to date.
    Connected,
    /// It is not connected, and its last report may be out of date.
    Lost,
}

/// Plugins by name. Persistent: a copy is cheap.
pub type PluginViews = RedBlackTreeMapSync<String, Arc<PluginView>>;

/// A plugin of another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginView {
    /// Its name.
    pub name: String,
    /// Its version, as registered.
    pub version: Option<String>,
    /// Its description, as registered.
    pub description: Option<String>,
    /// Its Erlang node.
    pub node: Option<NodeName>,
    /// The path of its API socket on that host.
    pub socket: String,
    /// Whether it runs.
    pub status: Status,
    /// Since when `status` holds.
    pub since: SystemTime,
    /// Why `status` holds.
    pub reason: Reason,
}
