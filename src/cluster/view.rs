//! What others may know of the cluster: plain data, replaced as a whole whenever something changes.

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
    /// Our node's full name, once it has one.
    pub node: Option<NodeName>,
    /// The host part of the name that our node has, or is to have.
    pub host: String,
    /// Since when our node is in the cluster.
    pub since: Option<SystemTime>,
    /// The other hecate-daemons, in the order of their nodes' names.
    pub hosts: Arc<Vec<HostView>>,
    /// How we stand with EPMD.
    pub epmd: EpmdState,
    /// The users who own the EPMD that answers; empty if unknown.
    pub epmd_owners: Arc<[EpmdOwner]>,
    /// The preferred names of our node, which other nodes of this host have.
    pub names_taken: Vec<String>,
    /// The nodes that we know of, in name order.
    pub peers: Vec<PeerView>,
    /// Whether the nodes of plugins are connected.
    pub plugin_nodes: NodeStates,
    /// The scopes of process groups that we take part in, in name order.
    pub scopes: Vec<ScopeView>,
    /// The hash of the cookie, base64 of its MD5 as RabbitMQ prints it: two nodes that show the same have the same.
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

/// How we stand with this host's EPMD.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum EpmdState {
    /// Not asked yet.
    #[default]
    Unknown,
    /// Our node is registered with it.
    Registered,
    /// We serve it ourselves, and are registered with it.
    Served,
    /// It does not answer.
    Unavailable {
        /// Why, and what to do, as a sentence for people.
        reason: String,
    },
    /// It answers, but another node holds our name.
    NameTaken {
        /// The name.
        name: String,
    },
}

/// One scope of process groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeView {
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

/// One other node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerView {
    /// Its full name.
    pub name: NodeName,
    /// Whether its host part is this host's.
    pub on_this_host: bool,
    /// Whether we are connected.
    pub state: PeerState,
    /// Since when it is connected; since when the attempt is under way; or when it was lost, or first named if it never was connected.
    pub since: SystemTime,
    /// Why `state` holds.
    pub reason: PeerReason,
    /// What else is known of it.
    pub details: PeerDetails,
}

/// What is known of a node for people who look for what is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerDetails {
    /// Who told us of it.
    pub introduced_by: Option<Introduction>,
    /// How often we tried to connect since it was connected last.
    pub attempts: u32,
    /// How the last attempt that failed did so.
    pub last_failure: Option<DialFailure>,
    /// Its connection, if there is one.
    pub link: Option<LinkView>,
}

/// Who told us of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Introduction {
    /// This host's EPMD has its name.
    Epmd,
    /// It is configured.
    Configuration,
    /// The DNS name of the cluster leads to it.
    Dns,
    /// The name servers of peers know it.
    Peers,
    /// This peer is connected to it.
    Peer(NodeName),
    /// It connected to us.
    Itself,
}

/// Why there was no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialFailure {
    /// The stable code.
    pub code: DialCode,
    /// The same as a sentence for people.
    pub detail: String,
    /// When.
    pub at: SystemTime,
}

/// A connection, and what the peer has told of itself over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkView {
    /// Whether the peer is to be seen in `nodes()`.
    pub published: bool,
    /// The names of the distribution flags that both sides have.
    pub flags: Vec<&'static str>,
    /// The peer's release of OTP, if it could be asked.
    pub otp_release: Option<String>,
    /// Its `net_ticktime`, if it could be asked.
    pub tick_time: Option<Duration>,
    /// How long a ping of it took.
    pub round_trip: Option<Duration>,
}

/// Whether we are connected to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// The handshake is done and the link is up.
    Connected,
    /// An attempt to connect is under way.
    Connecting,
    /// Not connected: it left, or cannot be reached.
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
    /// It is not connected, with the code of the failure. A node that left has none, unless it came
    /// back and refuses.
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

/// Another hecate-daemon, and what it said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostView {
    /// Its node's full name.
    pub daemon: NodeName,
    /// Whether it is there.
    pub state: HostState,
    /// Since when `state` holds.
    pub since: SystemTime,
    /// Its plugins, by their names.
    pub plugins: PluginViews,
    /// How many there were besides that could not be taken.
    pub left_out: usize,
}

/// Whether another hecate-daemon is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostState {
    /// It is, and what it said holds.
    Connected,
    /// It is not: what it said last may hold no more.
    Lost,
}

/// Plugins by their names. Persistent: a copy costs nothing.
pub type PluginViews = RedBlackTreeMapSync<String, Arc<PluginView>>;

/// A plugin of another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginView {
    /// Its name.
    pub name: String,
    /// Its version, as it said.
    pub version: Option<String>,
    /// Its description, as it said.
    pub description: Option<String>,
    /// Its Erlang node.
    pub node: Option<NodeName>,
    /// Its API socket, a path on that host.
    pub socket: String,
    /// Whether it lives.
    pub status: Status,
    /// Since when `status` holds.
    pub since: SystemTime,
    /// Why `status` holds.
    pub reason: Reason,
}
