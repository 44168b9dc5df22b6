//! An immutable snapshot of the node. Each change replaces it, so readers always find the newest
//! state.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::dist::flags::Flags;
use crate::dist::link::CloseReason;
use crate::name::NodeName;

/// The node and its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The full name of the node.
    pub name: NodeName,
    /// Identifies this incarnation of the node.
    pub creation: u32,
    /// The nodes that are connected, or were connected and are not forgotten.
    pub peers: BTreeMap<NodeName, Peer>,
    /// The binary of each watched group `{Tag, Binary}`, with the node of a peer's process in it.
    pub announced: BTreeSet<(Bytes, NodeName)>,
    /// The peers with a process in the watched group that has a name.
    pub grouped: BTreeSet<NodeName>,
    /// The nodes that the `global` of a connected peer knows.
    pub known: BTreeSet<NodeName>,
    /// The connected peers that may be introduced to other nodes. The `global` of such a peer has
    /// sent `init_connect` on this connection. A peer is not included if this node dialled it after
    /// the peer had closed an earlier connection cleanly.
    pub introducible: BTreeSet<NodeName>,
}

/// The size of each scope, by its name.
pub type Groups = BTreeMap<Arc<str>, Census>;

/// The size of a scope of process groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// Groups with processes of our node.
    pub own_groups: usize,
    /// Processes of our node in groups, counted once for each group.
    pub own_members: usize,
    /// Groups with processes of peers, counted once for each peer.
    pub peer_groups: usize,
    /// Processes of peers in groups, counted once for each join.
    pub peer_members: usize,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Whether it is connected.
    pub state: PeerState,
    /// When this state began.
    pub since: SystemTime,
    /// The number of the connection, or of the last one.
    pub connection: u64,
    /// The user that runs it, if it is connected, on this host, and its user is known.
    pub owner: Option<u32>,
}

/// Whether a node is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerState {
    /// It is connected.
    Up {
        /// Its incarnation.
        creation: u32,
        /// Whether it is visible in `nodes()`.
        published: bool,
        /// The capabilities of both sides.
        flags: Flags,
        /// Whether we dialled.
        dialled: bool,
    },
    /// It is not connected, but was.
    Down {
        /// Why the connection ended.
        reason: PeerReason,
        /// The node's incarnation, if the node closed the connection cleanly because it stopped or
        /// disconnected us.
        left: Option<u32>,
    },
}

/// The reason for the state of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerReason {
    /// A stable code for programs.
    pub code: &'static str,
    /// A text for people.
    pub detail: String,
}

impl PeerReason {
    /// Creates a reason.
    #[must_use]
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// Creates the reason for a peer that broke a protocol.
    pub(crate) fn protocol(error: impl fmt::Display) -> Self {
        Self::new("protocol_error", error.to_string())
    }

    /// Creates the reason for a peer that exceeded a limit.
    pub(crate) fn limit(error: impl fmt::Display) -> Self {
        Self::new("limit_exceeded", error.to_string())
    }
}

impl From<&CloseReason> for PeerReason {
    fn from(reason: &CloseReason) -> Self {
        Self::new(reason.code(), reason.to_string())
    }
}

impl Peer {
    /// Returns whether it is connected.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.state, PeerState::Up { .. })
    }

    /// Returns whether the node itself closed its last connection cleanly.
    #[must_use]
    pub fn has_left(&self) -> bool {
        matches!(self.state, PeerState::Down { left: Some(_), .. })
    }

    /// Returns whether it is connected and has dialled us.
    #[must_use]
    pub fn has_dialled(&self) -> bool {
        matches!(self.state, PeerState::Up { dialled: false, .. })
    }

    /// Returns whether the peer is connected under a name that this node assigned. Only a peer that
    /// sent no name gets such a name.
    #[must_use]
    pub fn was_nameless(&self) -> bool {
        matches!(self.state, PeerState::Up { flags, .. } if flags.contains(Flags::NAME_ME))
    }

    /// Returns whether the peer is connected and visible in `nodes()`.
    #[must_use]
    pub fn is_published(&self) -> bool {
        matches!(self.state, PeerState::Up { published: true, .. })
    }
}
