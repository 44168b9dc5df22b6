//! One limit on the memory for all peers together. All memory that a peer can make grow is either
//! counted, or has a separate limit for all peers together:
//!
//! | memory | counted by | separate limit |
//! | --- | --- | --- |
//! | unfinished frames | [`dist::link`](super::link) | [`limits::FRAME`] per peer |
//! | messages in fragments | `dist::header` | [`limits::FRAGMENTED_BYTES`] per peer |
//! | atom caches and tables of atoms | `dist::header`, [`etf`](crate::etf) | about 20 MiB per peer |
//! | messages that wait for the node, read or not | `node::intake` | [`limits::LINK_BATCHES`] per peer |
//! | messages queued for a peer that does not read | [`dist::link`](super::link) | [`limits::LINK_QUEUE`] per peer |
//! | members of groups; a message being applied | `node::services::pg` | [`limits::PG_MEMBERS`] per peer |
//! | monitors and links | `node::machine` | [`limits::TIES`] per peer |
//! | read buffers | no | 64 KiB per peer: 256 MiB for [`limits::PEERS`], mostly untouched |
//! | large messages while they are read | no | [`limits::LARGE_READERS`] at once: see [`limits::TERM_NODES`] |
//! | calls of peers, with their arguments | no | [`limits::SERVED`] × [`limits::CALL_ARGUMENTS`]: 64 MiB in all |
//! | names of nodes that peers report | no | [`limits::KNOWN_NODES`] in all: 5 MiB |
//! | signals gathered for sending | no | [`limits::GATHERED`] in all, plus one message |
//! | the table of atoms of the node's task | no | [`limits::ATOMS`]: 17 MiB |
//! | our calls to peers | no | [`limits::CALLS`] in all; their bytes are not kept |
//!
//! Each connection has a [`Holding`], and each buffer that it holds has a [`Charge`], which returns
//! its bytes when it is dropped. Each change costs one atomic addition. While the budget is
//! exceeded, connections that hold much stop reading, and their owner closes the connection that
//! [`largest`] returns.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::fair::Source;
use crate::limits;

/// A connection was closed because it held the most while the budget was exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "memory for peers is exhausted: together they hold more than {} MiB; {host} holds the most, and this connection is \
     its largest, with {} MiB (setting `peer_memory`)", mebibytes(*.limit), mebibytes(*.held)
)]
pub struct Exhausted {
    /// The budget in bytes.
    pub limit: usize,
    /// The memory that the connection held, in bytes.
    pub held: usize,
    /// The host or user that held the most.
    pub host: Source,
}

fn mebibytes(bytes: usize) -> usize {
    bytes >> 20
}

/// The budget of a node.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
    /// Notified when it is exceeded.
    exceeded: Notify,
    /// Notified when it is no longer exceeded.
    room: Notify,
}

impl Budget {
    /// Creates a budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0), exceeded: Notify::new(), room: Notify::new() })
    }

    /// Returns its size in bytes.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Returns whether connections hold more than the limit.
    #[must_use]
    pub(crate) fn is_exceeded(&self) -> bool {
        self.used.load(Ordering::SeqCst) > self.limit
    }

    /// Waits until the budget is exceeded. Only one caller may wait.
    pub(crate) async fn exceeded(&self) {
        self.exceeded.notified().await;
    }

    /// Creates the empty holding of a new connection.
    #[must_use]
    pub fn holding(self: &Arc<Self>) -> Arc<Holding> {
        Arc::new(Holding { budget: self.clone(), bytes: AtomicUsize::new(0) })
    }

    async fn wait_for_room(&self) {
        loop {
            let room = self.room.notified();
            if !self.is_exceeded() {
                return;
            }
            room.await;
        }
    }

    fn add(&self, bytes: usize) {
        if self.used.fetch_add(bytes, Ordering::SeqCst).saturating_add(bytes) > self.limit {
            self.exceeded.notify_one();
        }
    }

    fn subtract(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::SeqCst);
        if before <= self.limit {
            return;
        }
        if before - bytes <= self.limit {
            self.room.notify_waiters();
        } else {
            self.exceeded.notify_one();
        }
    }
}

/// The memory that one connection holds.
#[derive(Debug)]
pub struct Holding {
    budget: Arc<Budget>,
    bytes: AtomicUsize,
}

impl Holding {
    /// Returns the number of bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }

    /// Starts to count one buffer of the connection, of `bytes` bytes.
    #[must_use]
    pub(crate) fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        let mut charge = Charge { holding: self.clone(), bytes: 0 };
        charge.set(bytes);
        charge
    }

    /// Waits until the budget is no longer exceeded, if this connection holds much. One that holds
    /// little is never delayed.
    pub(crate) async fn wait_for_room(&self) {
        if self.bytes() > limits::HELD_FREELY {
            self.budget.wait_for_room().await;
        }
    }
}

/// The counted memory of one buffer.
#[derive(Debug)]
pub struct Charge {
    holding: Arc<Holding>,
    bytes: usize,
}

impl Charge {
    /// Sets the current size in bytes.
    pub fn set(&mut self, bytes: usize) {
        let Holding { budget, bytes: held } = &*self.holding;
        if bytes > self.bytes {
            held.fetch_add(bytes - self.bytes, Ordering::SeqCst);
            budget.add(bytes - self.bytes);
        } else if bytes < self.bytes {
            held.fetch_sub(self.bytes - bytes, Ordering::SeqCst);
            budget.subtract(self.bytes - bytes);
        }
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Returns the connection to close: the largest one of the host that holds the most. Returns `None`
/// if all connections together hold no more than `limit`.
pub fn largest<K: Copy + Ord>(limit: usize, connections: &[(K, Source, usize)]) -> Option<(K, Exhausted)> {
    let mut hosts: HashMap<Source, usize> = HashMap::new();
    for (_, source, bytes) in connections {
        *hosts.entry(*source).or_default() += bytes;
    }
    if hosts.values().sum::<usize>() <= limit {
        return None;
    }
    let (host, _) = hosts.into_iter().max_by_key(|(source, bytes)| (*bytes, *source))?;
    let of_host = connections.iter().filter(|(_, source, _)| *source == host);
    let (connection, _, held) = of_host.max_by_key(|(connection, _, bytes)| (*bytes, *connection))?;
    Some((*connection, Exhausted { limit, held: *held, host }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_largest_connection_of_the_largest_host_is_closed() {
        let (one, two) = (Source::User(1), Source::User(2));
        // One host has the largest connection, the other holds more in all.
        let connections = [(1, one, 50), (2, two, 30), (3, two, 31), (4, Source::User(3), 1)];
        let (closed, reason) = largest(111, &connections).expect("it is exceeded");
        assert_eq!((closed, reason), (3, Exhausted { limit: 111, held: 31, host: two }));
        assert_eq!(largest(112, &connections), None, "exactly the limit");
        assert_eq!(largest::<u8>(0, &[]), None);
    }

    #[test]
    fn the_reason_names_the_limit_the_host_and_the_setting() {
        let reason = Exhausted { limit: 256 << 20, held: 60 << 20, host: Source::User(7) }.to_string();
        for words in ["256 MiB", "60 MiB", "uid 7", "peer_memory"] {
            assert!(reason.contains(words), "{reason}");
        }
    }

    #[test]
    fn one_peer_within_its_limits_fits_into_the_smallest_budget() {
        let least = usize::try_from(limits::PEER_BYTES_LEAST).unwrap() << 20;
        assert!(limits::FRAGMENTED_BYTES + 2 * limits::HELD_FREELY < least);
        assert!(2 * limits::FRAME + limits::LINK_QUEUE < least);
    }

    #[test]
    fn a_dropped_charge_is_no_longer_counted() {
        let budget = Budget::new(10);
        let (one, two) = (budget.holding(), budget.holding());
        let mut charge = one.charge(6);
        let other = two.charge(5);
        assert!(budget.is_exceeded());
        charge.set(5);
        assert!(!budget.is_exceeded());
        charge.set(7);
        let again = one.charge(1);
        assert_eq!((one.bytes(), two.bytes()), (8, 5));
        drop((charge, again, other));
        assert_eq!((one.bytes(), two.bytes(), budget.used.load(Ordering::SeqCst)), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_holds_much_waits_and_one_that_holds_little_does_not() {
        let budget = Budget::new(limits::HELD_FREELY);
        let (much, little) = (budget.holding(), budget.holding());
        let (_most, mut rest) = (much.charge(limits::HELD_FREELY), much.charge(1));
        budget.exceeded().await;
        let _few = little.charge(0);
        little.wait_for_room().await;
        let waiting = tokio::time::timeout(Duration::from_secs(3600), much.wait_for_room()).await;
        assert!(waiting.is_err(), "it waits");
        let (waited, ()) = tokio::join!(much.wait_for_room(), async { rest.set(0) });
        assert_eq!((waited, budget.is_exceeded()), ((), false));
    }
}
