//! The limits of the server.

use std::time::Duration;

use super::places::Capacity;
use crate::limits;

/// The limits of the server. The defaults are in `limits.rs`; tests use smaller ones.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections served at a time. For one more, the connection that has been idle longest is
    /// closed.
    pub connections: usize,
    /// Connections of one process.
    pub share: usize,
    /// Connections of all processes of one user that are in pid namespaces we cannot see.
    pub user_share: usize,
    /// Further connections, which may call only the probes. For one more, the oldest is closed.
    pub limited: usize,
    /// Bytes of a request head on a limited connection.
    pub limited_head: usize,
    /// Time for a request head on a limited connection.
    pub limited_time: Duration,
    /// Connections of users who may not call. For one more, the oldest is closed.
    pub strangers: usize,
    /// Bytes of a request head.
    pub head: usize,
    /// Time for a request head, and idle time between two requests.
    pub head_time: Duration,
    /// Bytes of a request body.
    pub body: usize,
    /// Time for a request body.
    pub body_time: Duration,
    /// How long a client may pause while it reads a response.
    pub stall: Duration,
    /// How long the rest of a refused body is read and discarded.
    pub linger: Duration,
    /// How long a call waits while the daemon starts.
    pub ready: Duration,
    /// Event streams at a time. More are refused.
    pub streams: usize,
    /// Event streams of one process, or of one user whose processes we cannot see.
    pub stream_share: usize,
    /// Time between two heartbeats of an event stream.
    pub heartbeat: Duration,
    /// Time for a call, except for reading the head and writing the response.
    pub call: Duration,
    /// How long requests may continue after the daemon has begun to stop.
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

    /// Returns the limits for users who may not call. Their connections close after the refusal.
    pub(super) fn strangers(&self) -> Capacity {
        let (places, share) = (self.strangers, self.strangers.div_ceil(2));
        Capacity { places, share, user_share: share, limited: 1, streams: 0, stream_share: 0 }
    }

    /// Returns how many connections may be open, including those that are closing. This leaves file
    /// descriptors for the rest of the daemon.
    pub(super) fn open(&self) -> usize {
        self.connections + self.streams + self.limited + self.strangers + limits::HTTP_CLOSING
    }
}
