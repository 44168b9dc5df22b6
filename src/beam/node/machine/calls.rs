//! Our calls to peers that wait for their results. Pure.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use crate::etf::{Atom, Reference};
use crate::node::link_id::LinkId;
use crate::node::machine::Token;

/// A call that waits for its result.
#[derive(Debug)]
pub(super) struct PendingCall {
    pub(super) link: LinkId,
    pub(super) token: Token,
    pub(super) deadline: Instant,
    /// The process that is called and monitored; none for a function call.
    pub(super) server: Option<Atom>,
}

/// The calls, also ordered by deadline.
#[derive(Debug, Default)]
pub(super) struct Calls {
    pending: HashMap<Reference, PendingCall>,
    deadlines: BTreeSet<(Instant, Reference)>,
}

impl Calls {
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn get(&self, reference: &Reference) -> Option<&PendingCall> {
        self.pending.get(reference)
    }

    pub(super) fn insert(&mut self, reference: Reference, call: PendingCall) {
        self.deadlines.insert((call.deadline, reference.clone()));
        self.pending.insert(reference, call);
    }

    pub(super) fn remove(&mut self, reference: &Reference) -> Option<PendingCall> {
        let call = self.pending.remove(reference)?;
        self.deadlines.remove(&(call.deadline, reference.clone()));
        Some(call)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Removes and returns the calls whose deadline has passed.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<(Reference, PendingCall)> {
        let mut expired = Vec::new();
        while let Some((_, reference)) = self.deadlines.first().filter(|(deadline, _)| *deadline <= now).cloned() {
            expired.extend(self.remove(&reference).map(|call| (reference, call)));
        }
        expired
    }

    /// Removes and returns the calls over a connection.
    pub(super) fn take_by_link(&mut self, link: LinkId) -> Vec<PendingCall> {
        let lost = self.pending.iter().filter(|(_, call)| call.link == link);
        let lost: Vec<Reference> = lost.map(|(reference, _)| reference.clone()).collect();
        lost.iter().filter_map(|reference| self.remove(reference)).collect()
    }
}
