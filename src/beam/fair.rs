//! Slots of a port that are shared fairly by its clients: when all are in use, the source that
//! holds the most loses one.
//!
//! A source identifies one client. For a connection from this host, the source is the user. For any
//! other connection, it is the IPv4 address or the /64 network of the IPv6 address, because a
//! single host usually gets a whole /64 network. Pure.

use std::collections::HashMap;
use std::fmt;

// Only addresses are used here, no sockets.
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The client that a connection is counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A user of this host, by uid.
    User(u32),
    /// A host with an IPv4 address.
    Address(Ipv4Addr),
    /// The first 64 bits of an IPv6 address.
    Network([u8; 8]),
}

impl Source {
    /// Returns the source of a connection from `remote`. `user` is its owner, if it is on this host
    /// and its owner is known.
    #[must_use]
    pub fn new(remote: IpAddr, user: Option<u32>) -> Self {
        match (user, remote.to_canonical()) {
            (Some(user), _) => Self::User(user),
            (None, IpAddr::V4(v4)) => Self::Address(v4),
            (None, IpAddr::V6(v6)) => {
                let [a, b, c, d, e, f, g, h, ..] = v6.octets();
                Self::Network([a, b, c, d, e, f, g, h])
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(uid) => write!(f, "uid {uid} of this host"),
            Self::Address(address) => address.fmt(f),
            Self::Network(prefix) => {
                let mut octets = [0; 16];
                octets[..8].copy_from_slice(prefix);
                write!(f, "{}/64", Ipv6Addr::from(octets))
            }
        }
    }
}

/// A bounded number of slots, oldest first.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    limit: usize,
    taken: Vec<Slot<T>>,
}

#[derive(Debug)]
struct Slot<T> {
    source: Source,
    holder: T,
}

impl<T> Slots<T> {
    /// Creates `limit` free slots.
    #[must_use]
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, taken: Vec::new() }
    }

    /// Adds `holder`. If no slot is free, evicts and returns another holder. It belongs to a source
    /// that holds the most, counting the new holder. Among the holders of these sources, it is the
    /// oldest that has not `progressed`, or else the oldest.
    pub(crate) fn insert(&mut self, source: Source, holder: T, progressed: impl Fn(&T) -> bool) -> Option<T> {
        let evicted = (self.taken.len() >= self.limit).then(|| self.evict(source, progressed)).flatten();
        self.taken.push(Slot { source, holder });
        evicted
    }

    fn evict(&mut self, added: Source, progressed: impl Fn(&T) -> bool) -> Option<T> {
        let mut counts: HashMap<Source, usize> = HashMap::from([(added, 1)]);
        for slot in &self.taken {
            *counts.entry(slot.source).or_default() += 1;
        }
        let count = |slot: &Slot<T>| counts.get(&slot.source).copied().unwrap_or_default();
        let most = self.taken.iter().map(count).max()?;
        let largest = |slot: &Slot<T>| count(slot) == most;
        let idle = self.taken.iter().position(|slot| largest(slot) && !progressed(&slot.holder));
        let at = idle.or_else(|| self.taken.iter().position(largest))?;
        Some(self.taken.remove(at).holder)
    }

    /// Frees the slots of all holders for which `keep` returns false.
    pub(crate) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.taken.retain(|slot| keep(&slot.holder));
    }

    /// Returns the holders, the oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.taken.iter().map(|slot| &slot.holder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Source {
        Source::Address(Ipv4Addr::new(10, 0, 0, last))
    }

    fn never(_: &u32) -> bool {
        false
    }

    #[test]
    fn a_flood_from_one_source_displaces_only_itself() {
        let mut slots = Slots::new(8);
        for honest in 0..3_u8 {
            assert_eq!(slots.insert(address(honest), u32::from(honest), never), None);
        }
        for flood in 100..10_000 {
            let evicted = slots.insert(address(9), flood, never);
            assert!(evicted.is_none_or(|evicted| evicted >= 100), "{evicted:?} was displaced");
        }
        // A new source evicts the oldest connection of the flood.
        assert_eq!(slots.insert(address(3), 3, never), Some(9_995));
        assert_eq!(slots.iter().copied().collect::<Vec<_>>(), [0, 1, 2, 9_996, 9_997, 9_998, 9_999, 3]);
    }

    #[test]
    fn equal_shares_lose_the_oldest_slot_of_all() {
        let mut slots = Slots::new(2);
        slots.insert(address(1), 1, never);
        slots.insert(address(2), 2, never);
        assert_eq!(slots.insert(address(3), 3, never), Some(1));
        slots.retain(|holder| *holder != 2);
        assert_eq!(slots.insert(address(4), 4, never), None, "there is a free slot again");
    }

    #[test]
    fn a_holder_that_has_progressed_outlives_newer_ones_of_its_source() {
        let mut slots = Slots::new(4);
        let progressed = |holder: &u32| *holder == 0;
        for holder in 0..1_000 {
            let evicted = slots.insert(address(1), holder, progressed);
            assert_ne!(evicted, Some(0), "only silent connections are evicted");
        }
        let mut slots = Slots::new(2);
        for holder in 0..2 {
            slots.insert(address(1), holder, |_| true);
        }
        assert_eq!(slots.insert(address(1), 2, |_| true), Some(0), "the oldest of equals");
        let mut slots = Slots::new(2);
        slots.insert(address(1), 0, progressed);
        slots.insert(address(2), 1, progressed);
        assert_eq!(slots.insert(address(3), 2, progressed), Some(1), "the silent one of equal sources");
    }

    #[test]
    fn a_source_is_a_user_an_address_or_a_network_of_64_bits() {
        let source = |remote: &str, user| Source::new(remote.parse().unwrap(), user);
        assert_eq!(source("10.0.0.1", None), source("::ffff:10.0.0.1", None));
        assert_ne!(source("10.0.0.1", None), source("10.0.0.2", None));
        assert_eq!(source("2001:db8:0:1::1", None), source("2001:db8:0:1:ffff::2", None));
        assert_ne!(source("2001:db8:0:1::1", None), source("2001:db8:0:2::1", None));
        assert_eq!(source("127.0.0.1", Some(1000)), source("::1", Some(1000)));
        assert_ne!(source("127.0.0.1", Some(1000)), source("127.0.0.1", Some(0)));
        assert_eq!(source("2001:db8:0:1::1", None).to_string(), "2001:db8:0:1::/64");
        assert_eq!(source("127.0.0.1", Some(1000)).to_string(), "uid 1000 of this host");
    }
}
