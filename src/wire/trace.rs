//! The JSON of `/api/cluster/peers/{node}/trace`.

use serde::{Deserialize, Serialize};

/// The first event: all following messages are traced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceStarted {
    /// The time (RFC 3339).
    pub at: String,
    /// The traced node.
    pub node: String,
}

/// A frame, a handshake packet, an EPMD message, or a change of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceEvent {
    /// The time (RFC 3339).
    pub at: String,
    /// The full name of the peer; null if only the short name in EPMD is known. Only a complete
    /// handshake proves the name.
    pub node: Option<String>,
    /// The number of the connection; null without a connection.
    pub connection: Option<u64>,
    /// The layer of the protocol.
    pub layer: TraceLayer,
    /// The direction.
    pub direction: TraceDirection,
    /// The message and its fields, for people.
    pub text: String,
}

/// The layer of a traced event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceLayer {
    /// A message of EPMD.
    Epmd,
    /// The start or end of a connection.
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

/// The direction of a traced event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceDirection {
    /// The peer sent it.
    Received,
    /// Our node sent it.
    Sent,
    /// An event in our node.
    Local,
}

/// Events are missing here because the client reads too slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceDropped {
    /// The number of missing events.
    pub dropped: u64,
}
