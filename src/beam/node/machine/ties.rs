//! The monitors and links between the processes of one peer and ours, and their memory. Pure.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use crate::etf::{Pid, Reference};

/// Memory of a monitor or link in bytes, without the names in it: its entries here and in the
/// process. The tables may be less than half full.
const TIE: usize = 512;

/// The monitors and links of a peer.
#[derive(Debug, Default)]
pub(super) struct Ties {
    monitors: HashMap<Reference, Monitor>,
    /// Each with our process first.
    links: HashSet<(Pid, Pid)>,
    bytes: usize,
}

#[derive(Debug)]
struct Monitor {
    /// Our process.
    pid: Pid,
    /// Its memory in bytes.
    bytes: usize,
}

impl Ties {
    /// Returns their number.
    pub(super) fn len(&self) -> usize {
        self.monitors.len() + self.links.len()
    }

    /// Returns their memory in bytes, approximately.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a monitor of `ours` by `theirs`. Returns the process that `reference` monitored before.
    pub(super) fn monitor(&mut self, reference: Reference, theirs: &Pid, ours: Pid) -> Option<Pid> {
        let bytes = TIE + theirs.node.as_str().len() + reference.node.as_str().len();
        self.bytes += bytes;
        let before = self.monitors.insert(reference, Monitor { pid: ours, bytes })?;
        self.bytes -= before.bytes;
        Some(before.pid)
    }

    /// Removes a monitor, and returns the process that it monitored.
    pub(super) fn demonitor(&mut self, reference: Reference) -> Option<Pid> {
        let Entry::Occupied(entry) = self.monitors.entry(reference) else { return None };
        let Monitor { pid, bytes } = entry.remove();
        self.bytes -= bytes;
        Some(pid)
    }

    /// Adds a link.
    pub(super) fn link(&mut self, ours: Pid, theirs: Pid) {
        let bytes = link_bytes(&theirs);
        if self.links.insert((ours, theirs)) {
            self.bytes += bytes;
        }
    }

    /// Removes a link. Returns whether there was one.
    pub(super) fn unlink(&mut self, ours: Pid, theirs: Pid) -> bool {
        let bytes = link_bytes(&theirs);
        let removed = self.links.remove(&(ours, theirs));
        if removed {
            self.bytes -= bytes;
        }
        removed
    }

    /// Returns the monitors, each with our process, and the links, each with our process first.
    pub(super) fn into_parts(self) -> (impl Iterator<Item = (Reference, Pid)>, impl Iterator<Item = (Pid, Pid)>) {
        (self.monitors.into_iter().map(|(reference, monitor)| (reference, monitor.pid)), self.links.into_iter())
    }
}

fn link_bytes(theirs: &Pid) -> usize {
    TIE + theirs.node.as_str().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etf::Atom;

    fn pid(node: &'static str, id: u32) -> Pid {
        Pid { node: Atom::literal(node), id, serial: 0, creation: 1 }
    }

    fn reference(node: &'static str) -> Reference {
        Reference { node: Atom::literal(node), creation: 1, ids: [7, 0, 0].into() }
    }

    #[test]
    fn each_monitor_and_link_counts_once_until_it_ends() {
        let (ours, mut ties) = (pid("us@h", 1), Ties::default());
        assert_eq!(ties.monitor(reference("r@h"), &pid("peer@h", 1), ours.clone()), None);
        assert_eq!(ties.monitor(reference("r@h"), &pid("p@h", 1), pid("us@h", 2)), Some(ours.clone()));
        assert_eq!((ties.len(), ties.bytes()), (1, TIE + 3 + 3));
        for _ in 0..2 {
            ties.link(ours.clone(), pid("p@h", 1));
        }
        assert_eq!((ties.len(), ties.bytes()), (2, 2 * TIE + 3 + 3 + 3));
        for _ in 0..2 {
            ties.unlink(ours.clone(), pid("p@h", 1));
        }
        assert_eq!(ties.demonitor(reference("r@h")), Some(pid("us@h", 2)));
        assert_eq!(ties.demonitor(reference("r@h")), None);
        assert_eq!((ties.len(), ties.bytes()), (0, 0));
    }
}
