//! The members of one peer's groups.
//!
//! A process may be in a group several times. Every operation takes `log n` time, so that a large
//! message can be applied in small steps.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};

use bytes::Bytes;

use super::discard::Discarded;
use super::{Excess, Key};
use crate::etf::{Atom, Pid};
use crate::limits;

/// Memory of a process in a tree in bytes, without the name of its node: 48 bytes, in blocks that
/// may be half empty.
pub(super) const PROCESS: usize = 96;

/// Memory of a group in bytes, without its key: its entries in two trees.
pub(super) const GROUP: usize = 256;

/// Identifies a group while it has members.
type GroupId = u64;

/// Groups and their members.
#[derive(Debug, Default)]
pub(super) struct Members {
    groups: BTreeMap<Key, Group>,
    /// How often each process is in a group.
    pids: BTreeMap<(GroupId, Pid), usize>,
    shown: Shown,
    last_id: GroupId,
    /// Number of members, over all groups.
    size: usize,
    /// Total weight: each member counts as one, and so do each 64 bytes of a group's key.
    weight: usize,
    /// Memory of all entries in bytes.
    bytes: usize,
}

/// The watched groups that have members.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    /// The binary of each `{Tag, Binary}`, at most [`limits::PG_ANNOUNCED`]. A group beyond the
    /// limit is shown only if it appears again while there are fewer.
    pub(super) names: BTreeMap<Key, Bytes>,
    /// The watched group that has a name.
    pub(super) named: Option<Key>,
}

impl Shown {
    /// Returns whether the group is shown.
    fn insert(&mut self, key: &Key, name: Option<&Bytes>) -> bool {
        match name {
            None => self.named = Some(key.clone()),
            Some(_) if self.names.len() >= limits::PG_ANNOUNCED => return false,
            Some(name) => drop(self.names.insert(key.clone(), name.clone())),
        }
        true
    }

    /// Returns whether the group was shown.
    fn remove(&mut self, key: &Key) -> bool {
        self.names.remove(key).is_some() || self.named.take_if(|named| named == key).is_some()
    }

    /// Returns whether no group is shown.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.named.is_none()
    }
}

#[derive(Debug)]
struct Group {
    id: GroupId,
    /// Number of processes in it, each counted once.
    processes: usize,
}

/// See [`Members::among`].
pub(super) struct Among {
    /// The processes, each with how often it occurs in `pids`.
    pub(super) pids: Vec<(Pid, usize)>,
    /// The number of entries that were examined.
    pub(super) examined: usize,
    /// The last entry that was examined; none at the end.
    pub(super) last: Option<Pid>,
}

/// Returns the memory of a process in a group in bytes.
fn of_process(pid: &Pid) -> usize {
    PROCESS + pid.node.as_str().len()
}

/// Returns the memory of a group in bytes, for a key and a copy of the name in it.
fn of_group(key: &Key) -> usize {
    GROUP + 2 * key.len()
}

fn weight(key: &Key) -> usize {
    key.len() / 64
}

impl Members {
    pub(super) fn shown(&self) -> &Shown {
        &self.shown
    }

    /// Returns the number of groups with members.
    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Returns the number of members, over all groups.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Returns their memory in bytes, approximately.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns whether a group has members.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.groups.contains_key(key)
    }

    /// Returns the members of a group; a process that joined twice occurs twice.
    #[cfg(test)]
    pub(super) fn of(&self, key: &Key) -> impl Iterator<Item = &Pid> {
        self.processes(key).flat_map(|(pid, times)| std::iter::repeat_n(pid, times))
    }

    /// Returns the processes of a group in order, each with how often it joined.
    pub(super) fn processes(&self, key: &Key) -> impl Iterator<Item = (&Pid, usize)> {
        let id = self.groups.get(key).map(|group| group.id);
        id.map(|id| self.after(id, None)).into_iter().flatten()
    }

    /// Returns the processes of a group in order, starting after `last`.
    fn after(&self, id: GroupId, last: Option<&Pid>) -> impl Iterator<Item = (&Pid, usize)> {
        let from = match last {
            Some(last) => Excluded((id, last.clone())),
            // The smallest pid.
            None => Included((id, Pid { node: Atom::literal(""), id: 0, serial: 0, creation: 0 })),
        };
        let range = self.pids.range((from, Unbounded)).take_while(move |((group, _), _)| *group == id);
        range.map(|((_, pid), times)| (pid, *times))
    }

    /// Adds processes to a group. `shown` is its entry if it is watched. Returns whether a shown
    /// group appeared.
    ///
    /// # Errors
    /// [`Excess::Members`].
    pub(super) fn join(
        &mut self,
        key: &Key,
        shown: Option<&Option<Bytes>>,
        pids: impl IntoIterator<Item = Pid>,
    ) -> Result<bool, Excess> {
        let mut pids = pids.into_iter().peekable();
        if pids.peek().is_none() {
            return Ok(false);
        }
        let mut appeared = false;
        let group = match self.groups.get_mut(key) {
            Some(group) => group,
            None => {
                self.weight += weight(key);
                self.bytes += of_group(key);
                self.last_id += 1;
                if let Some(shown) = shown {
                    appeared = self.shown.insert(key, shown.as_ref());
                }
                self.groups.entry(key.clone()).or_insert(Group { id: self.last_id, processes: 0 })
            }
        };
        for pid in pids {
            let bytes = of_process(&pid);
            let times = self.pids.entry((group.id, pid)).or_default();
            if *times == 0 {
                group.processes += 1;
                self.bytes += bytes;
            }
            *times += 1;
            self.size += 1;
            self.weight += 1;
            if self.weight > limits::PG_MEMBERS {
                return Err(Excess::Members);
            }
        }
        Ok(appeared)
    }

    /// Removes processes from a group, each the given number of times. A process that joined more
    /// often is still a member (`leave_remote/3` in `pg.erl`). Returns whether a shown group
    /// disappeared.
    pub(super) fn leave(&mut self, key: &Key, pids: impl IntoIterator<Item = (Pid, usize)>) -> bool {
        let Some(group) = self.groups.get_mut(key) else { return false };
        let mut left = 0;
        for (pid, times) in pids {
            let member = (group.id, pid);
            let Some(joined) = self.pids.get_mut(&member) else { continue };
            if *joined > times {
                *joined -= times;
                left += times;
            } else {
                left += *joined;
                group.processes -= 1;
                self.bytes -= of_process(&member.1);
                self.pids.remove(&member);
            }
        }
        self.size -= left;
        self.weight -= left;
        if group.processes > 0 {
            return false;
        }
        self.groups.remove(key);
        self.weight -= weight(key);
        self.bytes -= of_group(key);
        self.shown.remove(key)
    }

    /// Returns the processes of a group that are among `pids`, in order, after `last`. Examines the
    /// smaller of the two, at most `most` entries.
    pub(super) fn among(&self, key: &Key, pids: &BTreeMap<Pid, usize>, last: Option<&Pid>, most: usize) -> Among {
        let mut found = Among { pids: Vec::new(), examined: 0, last: None };
        let Some(group) = self.groups.get(key) else { return found };
        let mut look = |pid: &Pid, times: Option<usize>| {
            found.examined += 1;
            found.pids.extend(times.map(|times| (pid.clone(), times)));
            if found.examined == most {
                found.last = Some(pid.clone());
            }
        };
        if group.processes <= pids.len() {
            self.after(group.id, last).take(most).for_each(|(pid, _)| look(pid, pids.get(pid).copied()));
        } else {
            let from = last.map_or(Unbounded, Excluded);
            pids.range((from, Unbounded)).take(most).for_each(|(pid, times)| look(pid, Some(*times)));
        }
        found
    }

    /// Leaves all entries to be freed in steps.
    pub(super) fn discard(self, discarded: &mut Discarded) {
        discarded.push(self.pids);
        discarded.push(self.groups);
        discarded.push(self.shown.names);
    }
}
