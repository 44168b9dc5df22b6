//! Frees large collections in steps, because freeing a million entries at once would delay other
//! peers.

use std::collections::BTreeMap;
use std::fmt::Debug;

/// The cost of freeing an entry, in bytes of a message: less than a message needs to make one.
pub(super) const ENTRY: usize = 16;

/// A collection with fewer entries is freed at once.
const AT_ONCE: usize = 128;

/// Collections that are no longer needed.
#[derive(Debug, Default)]
pub(super) struct Discarded {
    collections: Vec<Box<dyn Entries>>,
    /// Number of their entries.
    len: usize,
}

trait Entries: Debug + Send {
    /// Frees an entry. Returns whether there was one.
    fn free_one(&mut self) -> bool;
}

impl<K: Debug + Ord + Send, V: Debug + Send> Entries for BTreeMap<K, V> {
    fn free_one(&mut self) -> bool {
        self.pop_first().is_some()
    }
}

impl Discarded {
    pub(super) fn push<K, V>(&mut self, map: BTreeMap<K, V>)
    where
        K: Debug + Ord + Send + 'static,
        V: Debug + Send + 'static,
    {
        if map.len() >= AT_ONCE {
            self.len += map.len();
            self.collections.push(Box::new(map));
        }
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.len += other.len;
        self.collections.append(&mut other.collections);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the number of entries.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Frees at most `most` entries, and returns how many it has freed.
    pub(super) fn free(&mut self, most: usize) -> usize {
        let mut freed = 0;
        while freed < most
            && let Some(entries) = self.collections.last_mut()
        {
            if entries.free_one() {
                freed += 1;
            } else {
                self.collections.pop();
            }
        }
        self.len -= freed;
        freed
    }
}
