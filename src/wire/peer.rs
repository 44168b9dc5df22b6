//! What `/api/cluster` tells of each other node.

use serde::{Deserialize, Serialize};

use super::{FailureCode, PeerState};

/// One other node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerEntry {
    /// Its full name.
    pub name: String,
    /// Whether it is connected.
    pub state: PeerState,
    /// RFC 3339. Since when it is connected; since when the attempt is under way; when it was lost, or, if it never was connected,
    /// first named.
    pub since: String,
    /// Why it has its state, as a sentence.
    pub reason: String,
    /// The same as a stable code; empty in answers of older daemons.
    #[serde(default)]
    pub reason_code: String,
    /// Who told us of it: `epmd`, `configuration`, `dns`, `peers`, `itself`, or the name of a peer.
    pub introduced_by: Option<String>,
    /// How often we tried to connect since it was connected last.
    pub attempts: u32,
    /// How the last attempt that failed did so.
    pub last_failure: Option<LastFailure>,
    /// Whether it hides from `nodes()`; null unless it is connected, as is all that follows.
    pub hidden: Option<bool>,
    /// The names of the distribution flags that both sides have.
    pub flags: Option<Vec<String>>,
    /// Its release of OTP; null for what runs on none, as a hecate-daemon or a node in C or Java, for one that had no name of its own,
    /// and until it has answered.
    pub otp_release: Option<String>,
    /// Its `net_ticktime` in seconds; null for a node that takes no calls, as those in C and Java, for one that had no name of its
    /// own, and until it has answered.
    pub net_ticktime: Option<u64>,
    /// How long a ping of it took, in milliseconds; null as `net_ticktime` is, and where the last was not answered.
    pub round_trip_ms: Option<f64>,
}

/// Why there was no connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    /// Stable, for clients to branch on.
    pub code: FailureCode,
    /// The same as a sentence.
    pub detail: String,
    /// When, RFC 3339.
    pub at: String,
}
