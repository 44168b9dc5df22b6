//! The bounds of the server.

use std::time::Duration;

use super::places::Capacity;
use crate::limits;

/// The bounds of the server. The default is what `limits.rs` says; tests cross smaller ones.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at a time that are served: for one more, the one that has been idle longest is
    /// closed.
    pub connections: usize,
    /// Connections of one process.
    pub share: usize,
    /// Connections of all processes of one user that the kernel does not show.
    pub user_share: usize,
    /// Connections beyond these, which may call only the probes; for one more, the oldest is
    /// closed.
    pub limited: usize,
    /// Bytes of a request's head on a limited connection.
    pub limited_head: usize,
    /// Time for such a head.
    pub limited_time: Duration,
    /// Connections at a time of users who are refused; for one more, the oldest is closed.
    pub strangers: usize,
    /// Bytes of a request's head.
    pub head: usize,
    /// Time for a request's head, and between two requests.
    pub head_time: Duration,
    /// Bytes of a request's body.
    pub body: usize,
    /// Time for a request's body.
    pub body_time: Duration,
    /// How long a client may take nothing of an answer.
    pub stall: Duration,
    /// How long the rest of a refused body is taken.
    pub linger: Duration,
    /// How long a call waits for the daemon to be up.
    pub ready: Duration,
    /// Streams of events at a time; more are refused.
    pub streams: usize,
    /// Streams of one process, or of one user whose processes the kernel does not show.
    pub stream_share: usize,
    /// How often a stream shows that it is alive.
    pub heartbeat: Duration,
    /// Time for a whole call.
    pub call: Duration,
    /// How long requests may take to end once we stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: limits::HTTP_CONNECTIONS,
            share: limits::HTTP_SHARE,
            user_share: limits::HTTP_USER_SHARE,
            limited: limits::HTTP_LIMITED,
            limited_head: limits::HTTP_LIMITED_HEAD,
            limited_time: limits::HTTP_LIMITED_TIME,
            strangers: limits::HTTP_STRANGERS,
            head: limits::HTTP_HEAD,
            head_time: limits::HTTP_HEAD_TIME,
            body: limits::HTTP_BODY,
            body_time: limits::HTTP_BODY_TIME,
            stall: limits::HTTP_STALL,
            linger: limits::HTTP_LINGER,
            ready: limits::HTTP_READY,
            streams: limits::HTTP_STREAMS,
            stream_share: limits::HTTP_STREAM_SHARE,
            heartbeat: limits::HTTP_HEARTBEAT,
            call: limits::HTTP_CALL,
            drain: limits::HTTP_DRAIN,
        }
    }
}

impl Limits {
    /// Returns the limits for users who may call.
    pub(super) fn capacity(&self) -> Capacity {
        Capacity {
            places: self.connections,
            share: self.share,
            user_share: self.user_share,
            limited: self.limited,
            streams: self.streams,
            stream_share: self.stream_share,
        }
    }

    /// Returns the limits for users who may not call, until they have been refused.
    pub(super) fn strangers(&self) -> Capacity {
        let (places, share) = (self.strangers, self.strangers.div_ceil(2));
        Capacity { places, share, user_share: share, limited: 1, streams: 0, stream_share: 0 }
    }

    /// Returns the most connections that may be open, which leaves descriptors for the rest of the
    /// daemon. Closing ones count too.
    pub(super) fn open(&self) -> usize {
        self.connections + self.streams + self.limited + self.strangers + limits::HTTP_CLOSING
    }
}
