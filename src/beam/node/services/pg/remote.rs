//! A peer's scope of the same name, and the groups of the peer's processes.

use bytes::Bytes;

use super::discard::Discarded;
use super::members::Members;
use super::wire::Version;
use super::work::{Step, Work};
use super::{Excess, Key, Watched};
use crate::etf::{Atoms, Pid, Reference};

#[derive(Debug)]
pub(super) struct Remote {
    pub(super) pid: Pid,
    pub(super) monitor: Reference,
    /// The version of the messages that we send to it.
    pub(super) version: Version,
    /// Whether we have sent it all our groups. `pg` of OTP 25 exits if a process leaves a group
    /// that it does not know, so joins and leaves are sent only after that.
    pub(super) is_synced: bool,
    pub(super) members: Members,
    /// The message that is being applied. The next one is read afterwards.
    work: Option<Work>,
}

impl Remote {
    pub(super) fn new(pid: Pid, monitor: Reference, version: Version) -> Self {
        Self { pid, monitor, version, is_synced: false, members: Members::default(), work: None }
    }

    /// Returns the binaries of the watched groups `{Tag, Binary}` that have members.
    pub(super) fn announced(&self) -> impl ExactSizeIterator<Item = &Bytes> {
        self.members.shown().names.values()
    }

    /// Returns whether the watched group with a name has members.
    pub(super) fn is_grouped(&self) -> bool {
        self.members.shown().named.is_some()
    }

    /// Returns whether any watched group has members.
    pub(super) fn has_watched(&self) -> bool {
        !self.members.shown().is_empty()
    }

    /// Returns its memory in bytes, approximately.
    pub(super) fn bytes(&self) -> usize {
        self.members.bytes() + self.work.as_ref().map_or(0, Work::bytes)
    }

    /// Sets the message that [`Self::step`] applies.
    pub(super) fn begin(&mut self, work: Work) {
        self.work = Some(work);
    }

    /// Returns whether a message is being applied.
    pub(super) fn is_working(&self) -> bool {
        self.work.is_some()
    }

    /// Applies the next part of a message.
    pub(super) fn step(&mut self, watched: &Watched, atoms: &mut Atoms) -> Result<Step, Excess> {
        let Some(work) = &mut self.work else { return Ok(Step::default()) };
        let step = work.step(&mut self.members, watched, atoms)?;
        if work.is_done() {
            self.work = None;
        }
        Ok(step)
    }

    /// Returns the members of a group; a process that joined twice occurs twice.
    #[cfg(test)]
    pub(super) fn members(&self, key: &Key) -> impl Iterator<Item = &Pid> {
        self.members.of(key)
    }

    /// Returns the processes of a group in order, each once.
    pub(super) fn processes(&self, key: &Key) -> impl Iterator<Item = &Pid> {
        self.members.processes(key).map(|(pid, _)| pid)
    }

    /// Leaves the members of the scope to be freed in steps.
    pub(super) fn discard(self, discarded: &mut Discarded) {
        self.members.discard(discarded);
        if let Some(mut work) = self.work {
            work.discard(discarded);
        }
    }
}
