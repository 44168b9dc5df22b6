//! Applies a message of a peer's scope in steps of bounded size, so that other peers are handled in
//! between.
//!
//! The message is decoded as it is applied. Only two things are copied: the processes and groups of
//! a `leave`, and processes that join after others have left. If a message is malformed, the rest
//! of it is dropped. A malformed full state is dropped as a whole.

use std::collections::BTreeMap;
use std::vec;

use bytes::Bytes;

use super::discard::{self, Discarded};
use super::members::{self, Members};
use super::{Excess, Key, Watched};
use crate::etf::{Atoms, DecodeError, Kind, ListHeader, Pid, Raw, Reader};
use crate::limits;

/// The result of one step.
#[derive(Debug, Default)]
pub struct Step {
    /// Its cost in bytes of a message.
    pub cost: usize,
    /// Whether watched groups changed.
    pub changed: bool,
}

/// Processes that are handled between two checks of the cost.
const CHUNK: usize = 128;

/// The cost of looking up a process: about its size in a message, in bytes.
const LOOKUP: usize = 32;

/// A message that is being applied.
#[derive(Debug)]
pub(super) struct Work {
    message: Raw,
    /// The offset of the next byte to read.
    at: usize,
    stage: Stage,
    /// The part of a full state that was read so far. It replaces the known state at the end.
    all: Option<Members>,
    leave: Leave,
}

#[derive(Debug)]
enum Stage {
    /// A group follows, or the end.
    Groups(Groups),
    Group(Groups, Group),
    LeavePids(ListHeader),
    LeaveGroups(ListHeader),
    Leave,
    /// Frees what the message no longer needs, in steps.
    Discard(Discarded),
    Done,
}

/// The form of the groups in a message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Groups {
    /// `Group, PidOrPids`, if not read yet.
    One(bool),
    /// `[{Group, [Pid]}]`
    List(ListHeader),
    /// `#{Group => [Pid]}`, with the number of pairs.
    Map(u32),
    /// `[{Group, Joined, Left}]`
    Changes(ListHeader),
}

/// A group whose processes are being read.
#[derive(Debug)]
struct Group {
    key: Key,
    /// Its entry if it is watched.
    shown: Option<Option<Bytes>>,
    pids: Pids,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The processes that are read join.
    Join,
    /// They join once the others have left.
    Hold(Vec<Pid>),
    /// The processes that are read leave, and then these join.
    Leave(Vec<Pid>),
    Held(vec::IntoIter<Pid>),
}

/// A list of processes, or one.
#[derive(Debug)]
enum Pids {
    List(ListHeader),
    One(Option<Pid>),
}

/// Processes that leave groups, each with how often it occurs in the message. The groups have
/// members.
#[derive(Debug, Default)]
struct Leave {
    pids: BTreeMap<Pid, usize>,
    groups: BTreeMap<Key, usize>,
    /// The last process that was examined in the first group.
    last: Option<Pid>,
    /// The remaining number of checks that may find a process that is not in the group.
    strangers: usize,
}

/// Why a message is not applied further.
enum StepError {
    Decode,
    Excess(Excess),
}

impl From<DecodeError> for StepError {
    fn from(_: DecodeError) -> Self {
        Self::Decode
    }
}

impl From<Excess> for StepError {
    fn from(excess: Excess) -> Self {
        Self::Excess(excess)
    }
}

impl Work {
    /// Replaces the known groups by these, the full state of the peer.
    pub(super) fn all(message: Raw, at: usize, groups: Groups) -> Self {
        Self { message, at, stage: Stage::Groups(groups), all: Some(Members::default()), leave: Leave::default() }
    }

    /// Changes these groups.
    pub(super) fn changes(message: Raw, at: usize, groups: Groups) -> Self {
        Self { message, at, stage: Stage::Groups(groups), all: None, leave: Leave::default() }
    }

    /// Reads `PidOrPids, Groups` of a `leave`.
    pub(super) fn leave(message: Raw, at: usize, atoms: &mut Atoms) -> Result<Self, DecodeError> {
        let mut r = Reader::resume(&message, at, atoms);
        let mut leave = Leave::default();
        let stage = match Pids::read(&mut r)? {
            Pids::List(list) => Stage::LeavePids(list),
            Pids::One(pid) => {
                leave.add(pid);
                Stage::LeaveGroups(r.list()?)
            }
        };
        let at = r.position();
        Ok(Self { message, at, stage, all: None, leave })
    }

    /// Returns its memory in bytes without the message, approximately.
    pub(super) fn bytes(&self) -> usize {
        let stage = match &self.stage {
            // Processes and groups are copies, with the names and keys in them.
            Stage::LeavePids(_) | Stage::LeaveGroups(_) | Stage::Leave => {
                let Leave { pids, groups, .. } = &self.leave;
                pids.len() * members::PROCESS + groups.len() * members::GROUP + self.message.bytes().len()
            }
            Stage::Group(_, group) => size_of::<Pid>() * group.held(),
            Stage::Discard(discarded) => discarded.len() * members::PROCESS,
            Stage::Groups(_) | Stage::Done => 0,
        };
        stage + self.all.as_ref().map_or(0, Members::bytes)
    }

    /// Returns whether the message is applied.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// Applies a part of the message that costs about [`limits::NODE_TURN`].
    ///
    /// # Errors
    /// [`Excess`].
    pub(super) fn step(&mut self, members: &mut Members, watched: &Watched, atoms: &mut Atoms) -> Result<Step, Excess> {
        let mut step = Step::default();
        while step.cost < limits::NODE_TURN && !self.is_done() {
            let stage = std::mem::replace(&mut self.stage, Stage::Done);
            let mut r = Reader::resume(&self.message, self.at, atoms);
            // The new state is not visible yet.
            let (aside, changed) = (self.all.is_some(), step.changed);
            let target = self.all.as_mut().unwrap_or(members);
            let mut whole = true;
            match stage.next(&mut r, target, &mut self.leave, watched, &mut step) {
                Ok(stage) => self.stage = stage,
                Err(StepError::Decode) => whole = false,
                Err(StepError::Excess(excess)) => return Err(excess),
            }
            if aside {
                step.changed = changed;
            }
            // Every step costs something.
            step.cost += 1 + r.position() - self.at;
            self.at = r.position();
            if self.is_done() {
                if let Some(all) = self.all.as_mut().filter(|_| whole) {
                    std::mem::swap(members, all);
                    step.changed |= members.shown() != all.shown();
                }
                let mut discarded = Discarded::default();
                self.discard(&mut discarded);
                if !discarded.is_empty() {
                    self.stage = Stage::Discard(discarded);
                }
            }
        }
        Ok(step)
    }

    /// Ends the work, and leaves its memory to be freed in steps.
    pub(super) fn discard(&mut self, discarded: &mut Discarded) {
        if let Stage::Discard(rest) = std::mem::replace(&mut self.stage, Stage::Done) {
            discarded.append(rest);
        }
        if let Some(all) = self.all.take() {
            all.discard(discarded);
        }
        std::mem::take(&mut self.leave).discard(discarded);
    }
}

impl Stage {
    fn next(
        self,
        r: &mut Reader<'_>,
        members: &mut Members,
        leave: &mut Leave,
        watched: &Watched,
        step: &mut Step,
    ) -> Result<Self, StepError> {
        match self {
            Self::Groups(groups) => Group::read(r, groups, watched),
            Self::Group(groups, group) => group.next(r, groups, members, step),
            Self::LeavePids(mut list) => {
                let read = chunk(r, &mut list)?;
                step.cost += read.len() * LOOKUP;
                if read.is_empty() {
                    return Ok(Self::LeaveGroups(r.list()?));
                }
                leave.add(read);
                Ok(Self::LeavePids(list))
            }
            Self::LeaveGroups(mut list) => {
                if !r.more(&mut list)? {
                    return Ok(Self::Leave);
                }
                let group = r.raw()?;
                leave.strangers += limits::PG_STRANGERS;
                if let Some(key) = key(&group, r).filter(|key| members.has(key)) {
                    *leave.groups.entry(key).or_default() += 1;
                }
                Ok(Self::LeaveGroups(list))
            }
            Self::Leave => Ok(if leave.next(members, step)? { Self::Leave } else { Self::Done }),
            Self::Discard(mut discarded) => {
                step.cost += discarded.free(CHUNK) * discard::ENTRY;
                Ok(if discarded.is_empty() { Self::Done } else { Self::Discard(discarded) })
            }
            Self::Done => Ok(Self::Done),
        }
    }
}

impl Group {
    /// Returns the number of processes that are held until others have left.
    fn held(&self) -> usize {
        match &self.phase {
            Phase::Join => 0,
            Phase::Hold(held) | Phase::Leave(held) => held.len(),
            Phase::Held(held) => held.len(),
        }
    }

    /// Reads the head of the next group.
    fn read(r: &mut Reader<'_>, mut groups: Groups, watched: &Watched) -> Result<Stage, StepError> {
        let more = match &mut groups {
            Groups::One(one) => std::mem::take(one),
            Groups::List(list) | Groups::Changes(list) => r.more(list)?,
            Groups::Map(pairs) => {
                let more = *pairs > 0;
                *pairs = pairs.saturating_sub(1);
                more
            }
        };
        if !more {
            return Ok(Stage::Done);
        }
        let phase = match groups {
            Groups::One(_) | Groups::Map(_) => Phase::Join,
            Groups::List(_) => {
                r.expect_tuple(2)?;
                Phase::Join
            }
            Groups::Changes(_) => {
                r.expect_tuple(3)?;
                Phase::Hold(Vec::new())
            }
        };
        let group = r.raw()?;
        let Some(key) = key(&group, r) else {
            let lists = if matches!(phase, Phase::Join) { 1 } else { 2 };
            for _ in 0..lists {
                r.raw()?;
            }
            return Ok(Stage::Groups(groups));
        };
        let shown = shown(&group, watched, r).ok();
        Ok(Stage::Group(groups, Self { key, shown, pids: Pids::read(r)?, phase }))
    }

    /// Handles the next processes.
    fn next(
        mut self,
        r: &mut Reader<'_>,
        groups: Groups,
        members: &mut Members,
        step: &mut Step,
    ) -> Result<Stage, StepError> {
        let pids = match (&mut self.phase, &mut self.pids) {
            (Phase::Held(held), _) => held.by_ref().take(CHUNK).collect(),
            (_, Pids::List(list)) => chunk(r, list)?,
            (_, Pids::One(pid)) => Vec::from_iter(pid.take()),
        };
        let end = pids.is_empty();
        step.cost += pids.len() * LOOKUP;
        self.phase = match self.phase {
            Phase::Join if end => return Ok(Stage::Groups(groups)),
            Phase::Held(_) if end => return Ok(Stage::Groups(groups)),
            Phase::Hold(held) if end => {
                self.pids = Pids::read(r)?;
                Phase::Leave(held)
            }
            Phase::Leave(held) if end => Phase::Held(held.into_iter()),
            Phase::Hold(mut held) => {
                held.extend(pids);
                Phase::Hold(held)
            }
            Phase::Leave(held) => {
                step.changed |= members.leave(&self.key, pids.into_iter().map(|pid| (pid, 1)));
                Phase::Leave(held)
            }
            phase @ (Phase::Join | Phase::Held(_)) => {
                step.changed |= members.join(&self.key, self.shown.as_ref(), pids)?;
                phase
            }
        };
        Ok(Stage::Group(groups, self))
    }
}

impl Leave {
    fn add(&mut self, pids: impl IntoIterator<Item = Pid>) {
        for pid in pids {
            *self.pids.entry(pid).or_default() += 1;
            self.strangers += limits::PG_STRANGERS;
        }
    }

    /// Handles the next processes of the first group. Examines its members or the leaving
    /// processes, whichever are fewer. Over all groups, these are at most as many as have joined.
    /// Returns whether there are more.
    ///
    /// # Errors
    /// [`Excess::Strangers`].
    fn next(&mut self, members: &mut Members, step: &mut Step) -> Result<bool, Excess> {
        let Some(group) = self.groups.first_entry() else { return Ok(false) };
        let found = members.among(group.key(), &self.pids, self.last.as_ref(), CHUNK);
        step.cost += (1 + found.examined) * LOOKUP;
        // The cost of the members that are found is bounded by their joins. Others count as
        // strangers.
        let strangers = found.examined - found.pids.len();
        self.strangers = self.strangers.checked_sub(strangers).ok_or(Excess::Strangers)?;
        let often = *group.get();
        let leaving = found.pids.into_iter().map(|(pid, times)| (pid, times.saturating_mul(often)));
        step.changed |= members.leave(group.key(), leaving);
        self.last = found.last;
        if self.last.is_none() {
            group.remove();
        }
        Ok(true)
    }

    fn discard(self, discarded: &mut Discarded) {
        discarded.push(self.pids);
        discarded.push(self.groups);
    }
}

impl Pids {
    /// Reads a pid, or enters a list of pids.
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(if r.peek()? == Kind::Pid { Self::One(Some(r.pid()?)) } else { Self::List(r.list()?) })
    }
}

/// Reads the next processes of a list; empty at its end.
fn chunk(r: &mut Reader<'_>, list: &mut ListHeader) -> Result<Vec<Pid>, DecodeError> {
    let mut pids = Vec::new();
    while pids.len() < CHUNK && r.more(list)? {
        pids.push(r.pid()?);
    }
    Ok(pids)
}

/// Returns the key of a group, or `None` if the group exceeds the limit.
fn key(group: &Raw, r: &mut Reader<'_>) -> Option<Key> {
    (group.bytes().len() <= limits::PG_GROUP).then(|| group.canonical(r.atoms()).ok()).flatten()
}

/// Returns a copy of the binary in `{Tag, Binary}`; none for the watched group with a name. Fails
/// for any other group.
fn shown(group: &Raw, watched: &Watched, r: &mut Reader<'_>) -> Result<Option<Bytes>, DecodeError> {
    if Reader::resume(group, 0, r.atoms()).expect_atom(watched.group.as_str()).is_ok() {
        return Ok(None);
    }
    let mut r = Reader::resume(group, 0, r.atoms());
    r.expect_tuple(2)?;
    r.expect_atom(watched.tag.as_str())?;
    Ok(Some(Bytes::copy_from_slice(&r.binary()?)))
}
