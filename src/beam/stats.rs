//! Counters of the process: every node in it adds to the same ones.
//!
//! Each is an atomic number. Messages that arrive in a batch are added once.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes read from connections to peers, ticks included, handshakes not.
pub static LINK_RECEIVED_BYTES: Counter = Counter::new();
/// Bytes written to connections to peers, ticks included, handshakes not, but for the packet that ends one.
pub static LINK_SENT_BYTES: Counter = Counter::new();
/// Messages that came from peers and could be read.
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
    /// Zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds to it.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Adds a length or a number of things to it.
    pub(crate) fn add_size(&self, more: usize) {
        self.add(u64::try_from(more).unwrap_or(u64::MAX));
    }

    /// Returns the current value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
