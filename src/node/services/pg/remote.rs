//! A scope of the same name on a peer: what its processes joined.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::wire::{Change, Version};
use super::{Key, TooManyMembers, Watched};
use crate::etf::{Atoms, DecodeError, Pid, Raw, Reader, Reference};
use crate::limits;

#[derive(Debug)]
pub(super) struct Remote {
    pub(super) pid: Pid,
    pub(super) monitor: Reference,
    /// In which we speak to it.
    pub(super) version: Version,
    members: HashMap<Key, Vec<Pid>>,
    /// The watched groups that have members: the binary of each `{Tag, Binary}`, none for the one with a name.
    watched: BTreeMap<Key, Option<Bytes>>,
    /// How many pids there are in `members`.
    size: usize,
    /// What `members` takes: a pid counts as one, and the key of a group as much again for each 64 bytes.
    weight: usize,
}

fn weight(key: &Key) -> usize {
    key.len() / 64
}

impl Remote {
    pub(super) fn new(pid: Pid, monitor: Reference, version: Version) -> Self {
        Self { pid, monitor, version, members: HashMap::new(), watched: BTreeMap::new(), size: 0, weight: 0 }
    }

    /// The binaries of the watched groups that have members.
    pub(super) fn announced(&self) -> impl Iterator<Item = &Bytes> {
        self.watched.values().flatten()
    }

    /// Whether the watched group with a name has members.
    pub(super) fn is_grouped(&self) -> bool {
        self.watched.values().any(Option::is_none)
    }

    /// Whether any watched group has members.
    pub(super) fn has_watched(&self) -> bool {
        !self.watched.is_empty()
    }

    /// Takes all that it has in place of what was known. Tells whether watched groups changed.
    pub(super) fn replace(
        &mut self,
        groups: Vec<(Raw, Vec<Pid>)>,
        watched: &Watched,
        atoms: &mut Atoms,
    ) -> Result<bool, TooManyMembers> {
        let before = std::mem::take(&mut self.watched);
        self.members.clear();
        (self.size, self.weight) = (0, 0);
        for (group, pids) in groups {
            self.join(&group, pids, watched, atoms)?;
        }
        Ok(before != self.watched)
    }

    /// Tells whether watched groups changed.
    pub(super) fn change(
        &mut self,
        change: Change,
        watched: &Watched,
        atoms: &mut Atoms,
    ) -> Result<bool, TooManyMembers> {
        let left = self.leave(&change.group, &change.left, atoms);
        Ok(self.join(&change.group, change.joined, watched, atoms)? != left)
    }

    fn join(
        &mut self,
        group: &Raw,
        pids: Vec<Pid>,
        watched: &Watched,
        atoms: &mut Atoms,
    ) -> Result<bool, TooManyMembers> {
        let Ok(key) = group.canonical(atoms) else { return Ok(false) };
        if pids.is_empty() {
            return Ok(false);
        }
        self.size += pids.len();
        self.weight += pids.len();
        if !self.members.contains_key(&key) {
            self.weight += weight(&key);
        }
        if self.weight > limits::PG_MEMBERS {
            return Err(TooManyMembers);
        }
        let changed = match shown(group, watched, atoms) {
            Ok(shown) => self.watched.insert(key.clone(), shown).is_none(),
            Err(_) => false,
        };
        self.members.entry(key).or_default().extend(pids);
        Ok(changed)
    }

    /// Each pid leaves once: who joined twice is still a member (`leave_remote/3`).
    fn leave(&mut self, group: &Raw, pids: &[Pid], atoms: &mut Atoms) -> bool {
        if pids.is_empty() {
            return false;
        }
        let Ok(key) = group.canonical(atoms) else { return false };
        let Some(members) = self.members.get_mut(&key) else { return false };
        for pid in pids {
            if let Some(at) = members.iter().position(|member| member == pid) {
                members.swap_remove(at);
                self.size = self.size.saturating_sub(1);
                self.weight = self.weight.saturating_sub(1);
            }
        }
        if !members.is_empty() {
            return false;
        }
        self.members.remove(&key);
        self.weight = self.weight.saturating_sub(weight(&key));
        self.watched.remove(&key).is_some()
    }

    /// How many groups have members.
    pub(super) fn groups(&self) -> usize {
        self.members.len()
    }

    /// How many members there are, over all groups.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The members of a group; who joined twice stands there twice.
    pub(super) fn members(&self, key: &Key) -> &[Pid] {
        self.members.get(key).map_or(&[], Vec::as_slice)
    }
}

/// The binary in `{Tag, Binary}`, in memory of its own; none for the watched group with a name. An error for any other.
fn shown(group: &Raw, watched: &Watched, atoms: &mut Atoms) -> Result<Option<Bytes>, DecodeError> {
    if Reader::new(group.bytes(), atoms).expect_atom(watched.group.as_str()).is_ok() {
        return Ok(None);
    }
    let mut r = Reader::new(group.bytes(), atoms);
    r.expect_tuple(2)?;
    r.expect_atom(watched.tag.as_str())?;
    Ok(Some(Bytes::copy_from_slice(&r.binary()?)))
}
