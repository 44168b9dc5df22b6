//! What `/api/cluster` tells of each other node.

use std::time::Duration;

use super::{Deserialize, PeerState, PeerView, Serialize, time};
use crate::cluster::view::{DialFailure, Introduction};

/// One other node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Its full name.
    pub name: String,
    /// `connected`, `connecting` or `disconnected`.
    pub state: String,
    /// RFC 3339. Since when it is connected; since when the attempt is under way; when it was lost, or, if it never was connected,
    /// first named.
    pub since: String,
    /// Why it has its state.
    pub reason: String,
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
    pub code: String,
    /// The same as a sentence.
    pub detail: String,
    /// When, RFC 3339.
    pub at: String,
}

impl Peer {
    /// One node, as our own sees it.
    #[must_use]
    pub fn new(peer: &PeerView) -> Self {
        let details = &peer.details;
        let link = details.link.as_ref();
        Self {
            name: peer.name.clone(),
            state: match peer.state {
                PeerState::Connected => "connected".to_owned(),
                PeerState::Connecting => "connecting".to_owned(),
                PeerState::Disconnected => "disconnected".to_owned(),
            },
            since: time(peer.since),
            reason: peer.reason.clone(),
            introduced_by: details.introduced_by.as_ref().map(|by| match by {
                Introduction::Epmd => "epmd".to_owned(),
                Introduction::Configuration => "configuration".to_owned(),
                Introduction::Dns => "dns".to_owned(),
                Introduction::Peers => "peers".to_owned(),
                Introduction::Itself => "itself".to_owned(),
                Introduction::Peer(name) => name.clone(),
            }),
            attempts: details.attempts,
            last_failure: details.last_failure.as_ref().map(LastFailure::new),
            hidden: link.map(|link| !link.published),
            flags: link.map(|link| link.flags.iter().map(|flag| (*flag).to_owned()).collect()),
            otp_release: link.and_then(|link| link.otp_release.clone()),
            net_ticktime: link.and_then(|link| link.tick_time).map(|time| time.as_secs()),
            round_trip_ms: link.and_then(|link| link.round_trip).map(milliseconds),
        }
    }
}

impl LastFailure {
    fn new(failure: &DialFailure) -> Self {
        Self { code: failure.code.to_owned(), detail: failure.detail.clone(), at: time(failure.at) }
    }
}

/// To the microsecond.
pub(super) fn milliseconds(duration: Duration) -> f64 {
    // Not even an hour has so many that one would be lost.
    let micros = u32::try_from(duration.as_micros()).unwrap_or(u32::MAX);
    f64::from(micros) / 1000.0
}
