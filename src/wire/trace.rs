//! What `/api/cluster/peers/{node}/trace` tells.

use serde::{Deserialize, Serialize};

/// The trace has begun: whatever happens from now on is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceStarted {
    /// When, RFC 3339.
    pub at: String,
    /// The node that is traced.
    pub node: String,
}

/// A frame, a handshake packet or an EPMD message, or what became of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceEvent {
    /// When, RFC 3339.
    pub at: String,
    /// The full name of the peer; null where only EPMD's short name is known. Proved only by a complete handshake.
    pub node: Option<String>,
    /// The number of the connection; null without one.
    pub connection: Option<u64>,
    /// What it is about.
    pub layer: TraceLayer,
    /// Where it comes from.
    pub direction: TraceDirection,
    /// The message with its operands, for people.
    pub text: String,
}

/// What a traced event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceLayer {
    /// A message of EPMD.
    Epmd,
    /// The beginning or the end of a connection.
    Connection,
    /// A packet of a handshake.
    Handshake,
    /// A frame of an established connection.
    Frame,
}

impl TraceLayer {
    /// Returns its name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Epmd => "epmd",
            Self::Connection => "connection",
            Self::Handshake => "handshake",
            Self::Frame => "frame",
        }
    }
}

/// Where a traced event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceDirection {
    /// The other end sent it.
    Received,
    /// Our node sent it.
    Sent,
    /// It happened in our node.
    Local,
}

/// Events are missing here, because the client read too slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceDropped {
    /// How many.
    pub dropped: u64,
}
