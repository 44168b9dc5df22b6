//! The JSON of other nodes in `/api/cluster`.

use serde::{Deserialize, Serialize};

use super::{FailureCode, PeerState};

/// Another node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerEntry {
    /// Its full name.
    pub name: String,
    /// Whether it is connected.
    pub state: PeerState,
    /// Since when it has its state (RFC 3339). A node that was never connected is disconnected
    /// since it was found.
    pub since: String,
    /// The reason for its state, as a sentence.
    pub reason: String,
    /// The reason, as a stable code; empty in responses of older daemons.
    #[serde(default)]
    pub reason_code: String,
    /// How it was found: `epmd`, `configuration`, `dns`, `peers`, `itself`, or the name of a peer.
    pub introduced_by: Option<String>,
    /// The number of attempts to connect since it was last connected.
    pub attempts: u32,
    /// The last failed attempt.
    pub last_failure: Option<LastFailure>,
    /// Whether it is hidden. Null unless it is connected, like all following fields.
    pub hidden: Option<bool>,
    /// The names of the distribution flags that both nodes have.
    pub flags: Option<Vec<String>>,
    /// Its OTP release. Null until the node has answered. Always null for a node without OTP, such
    /// as a hecate-daemon or a C or Java node, and for a node that had no name of its own.
    pub otp_release: Option<String>,
    /// Its `net_ticktime` in seconds. Null until the node has answered. Always null for a node that
    /// accepts no calls, such as a C or Java node, and for a node that had no name of its own.
    pub net_ticktime: Option<u64>,
    /// The round trip of a ping, in milliseconds. Null like `net_ticktime`, and if the last ping
    /// was not answered.
    pub round_trip_ms: Option<f64>,
}

/// A failed attempt to connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    /// The stable code.
    pub code: FailureCode,
    /// The failure, as a sentence.
    pub detail: String,
    /// The time (RFC 3339).
    pub at: String,
}
