//! What others see of the node: immutable, replaced as a whole at each change, so that nobody can fall behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::dist::flags::Flags;
use crate::dist::link::CloseReason;
use crate::name::NodeName;

/// The node and its surroundings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Our full name.
    pub name: NodeName,
    /// Which incarnation of the name we are.
    pub creation: u32,
    /// Every node that is connected, or was and has not been forgotten.
    pub peers: BTreeMap<NodeName, Peer>,
    /// Pairs of the binary in a watched group `{Tag, Binary}` and the node of a peer's process that joined it.
    pub announced: BTreeSet<(Bytes, NodeName)>,
    /// Nodes of peers with a process in the watched group that has a name.
    pub grouped: BTreeSet<NodeName>,
    /// Nodes that connected peers know.
    pub known: BTreeSet<NodeName>,
    /// Connected peers that may be introduced to others. Their `global` has greeted ours on the
    /// present connection, and we did not dial it after they closed the one before in order.
    pub introducible: BTreeSet<NodeName>,
}

/// What groups there are, by the name of their scope.
pub type Groups = BTreeMap<Arc<str>, Census>;

/// How much a scope of process groups holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// Groups that processes of ours are in.
    pub own_groups: usize,
    /// Processes of ours in them, once for each group.
    pub own_members: usize,
    /// Groups that processes of peers are in, once for each peer.
    pub peer_groups: usize,
    /// Processes of peers in them, once for each time that they joined.
    pub peer_members: usize,
}

/// A node other than ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Whether and how it is connected.
    pub state: PeerState,
    /// Since when.
    pub since: SystemTime,
    /// Differs for each connection that there was to this name.
    pub connection: u64,
    /// Whose process it is, while it is connected and on this host, and if that can be told.
    pub owner: Option<u32>,
}

/// Whether a node is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerState {
    /// It is.
    Up {
        /// Its incarnation.
        creation: u32,
        /// Whether it is to be seen in `nodes()`.
        published: bool,
        /// What both sides can do.
        flags: Flags,
        /// Whether it was we who dialled.
        dialled: bool,
    },
    /// It was, until this happened.
    Down {
        /// Why.
        reason: PeerReason,
        /// The node's incarnation if the node closed the connection in order, because it ended or
        /// wants no connection.
        left: Option<u32>,
    },
}

/// Why a peer is connected, or is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerReason {
    /// The stable code, for programs.
    pub code: &'static str,
    /// The same as a sentence for people.
    pub detail: String,
}

impl PeerReason {
    /// Creates a reason.
    #[must_use]
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// The peer broke a protocol.
    pub(crate) fn protocol(error: impl fmt::Display) -> Self {
        Self::new("protocol_error", error.to_string())
    }

    /// The peer broke one of our limits.
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
    /// Whether it is connected.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.state, PeerState::Up { .. })
    }

    /// Returns whether the node itself closed its last connection in order.
    #[must_use]
    pub fn has_left(&self) -> bool {
        matches!(self.state, PeerState::Down { left: Some(_), .. })
    }

    /// Whether it is connected, and it was the peer that dialled.
    #[must_use]
    pub fn has_dialled(&self) -> bool {
        matches!(self.state, PeerState::Up { dialled: false, .. })
    }

    /// Whether it is connected, and had no name of its own: we gave it one.
    #[must_use]
    pub fn was_nameless(&self) -> bool {
        matches!(self.state, PeerState::Up { flags, .. } if flags.contains(Flags::NAME_ME))
    }

    /// Whether it is connected and to be seen in `nodes()`.
    #[must_use]
    pub fn is_published(&self) -> bool {
        matches!(self.state, PeerState::Up { published: true, .. })
    }
}
