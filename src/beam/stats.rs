//! Counters of the process, to which all its nodes add.
//!
//! Each counter is an atomic number. The messages of a batch are added in one operation.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes read from connections to peers, including ticks and excluding handshakes.
pub static LINK_RECEIVED_BYTES: Counter = Counter::new();
/// Bytes written to connections to peers, including ticks. Handshakes are excluded, except for the
/// last packet of a handshake if this node sends it.
pub static LINK_SENT_BYTES: Counter = Counter::new();
/// Well-formed messages from peers.
pub static LINK_RECEIVED_MESSAGES: Counter = Counter::new();
/// Messages that were queued for peers.
pub static LINK_SENT_MESSAGES: Counter = Counter::new();
/// Connections to nodes that had been connected before.
pub static LINK_RECONNECTS: Counter = Counter::new();
/// Connections that were closed because nothing arrived for the whole tick time.
pub static LINK_TICK_TIMEOUTS: Counter = Counter::new();

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Creates a counter with the value 0.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds a number.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Adds a size or a number of items.
    pub(crate) fn add_size(&self, more: usize) {
        self.add(u64::try_from(more).unwrap_or(u64::MAX));
    }

    /// Returns the current value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
