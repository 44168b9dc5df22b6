//! One batch of what was queued: decided, its directories made, and stored, all of it in one call that blocks.
//!
//! It works on a copy of the state, which is the registry afterwards if the batch is stored, and else is forgotten. What
//! comes first in a batch counts for what follows: it may free a name, and nothing is made on disk for a registration that
//! is refused. Never answers or publishes: see `task`.

use std::sync::Arc;
use std::time::Instant;

use beam::limited;

use super::Registrant;
use super::command::{Change, Reply};
use super::effect::{Now, RegistryEffect, RegistryInput};
use super::refusal::Refusal;
use super::state::State;
use crate::layout::{Layout, Owner, Process};
use crate::log::limit;
use crate::metrics;
use crate::plugin::{Event, Plugin, Registration};
use crate::store::{CommitError, Store};

/// Compares the file at the socket's path with the one that was bound, and reports a difference to
/// the owner of the socket. A difference does not make the commit fail.
pub type SocketCheck = Arc<dyn Fn() + Send + Sync>;

/// Where an answer goes, and the answer.
pub(super) type Answer = (Reply<Arc<Plugin>>, Result<Arc<Plugin>, Refusal>);

/// A batch, and what came of it.
pub(super) struct Batch {
    now: Now,
    layout: Arc<Layout>,
    check_socket: SocketCheck,
    pub state: State,
    pub effects: Vec<RegistryEffect>,
    /// The answers, which hold once the batch is stored.
    pub answers: Vec<Answer>,
    /// Those that it took, for another try.
    pub observations: Vec<RegistryInput>,
}

impl Batch {
    pub(super) fn new(now: Now, state: State, layout: Arc<Layout>, check_socket: SocketCheck) -> Self {
        Self { now, layout, check_socket, state, effects: Vec::new(), answers: Vec::new(), observations: Vec::new() }
    }

    /// Does all of it. Gives the events that are stored now.
    pub(super) fn carry_out(
        mut self,
        store: &mut Store,
        observations: Vec<RegistryInput>,
        changes: Vec<Change>,
    ) -> (Self, Result<Vec<Event>, CommitError>) {
        // Before directories are made.
        let prepared = prepare(&self.layout);
        for change in observations.into_iter().map(Change::Observation).chain(changes) {
            match &prepared {
                Ok(()) => self.take(change),
                Err(error) => self.put_off(change, error),
            }
        }
        if let Err(error) = prepared {
            return (self, Err(error));
        }
        self.state.handle(self.now, RegistryInput::Tick, &mut self.effects);
        let events: Vec<Event> = self.effects.iter().filter_map(to_store).collect();
        let stored = commit(&self.layout, &*self.check_socket, store, &events).map(|()| events);
        (self, stored)
    }

    /// Nothing can be stored now: observations are kept, and the rest is refused with the batch.
    fn put_off(&mut self, change: Change, error: &CommitError) {
        match change {
            Change::Observation(observation) => self.observations.push(observation),
            Change::Deregister { reply, .. } | Change::Register { reply, .. } => {
                self.answers.push((reply, Err(error.clone().into())));
            }
        }
    }

    fn take(&mut self, change: Change) {
        match change {
            Change::Observation(observation) => {
                self.observations.push(observation.clone());
                self.state.handle(self.now, observation, &mut self.effects);
            }
            Change::Deregister { name, reply } => {
                let result = self.state.deregister(self.now, name, &mut self.effects);
                self.answers.push((reply, result));
            }
            Change::Register { registration, registrant, reply } => {
                let result = self
                    .admit(&registration, registrant)
                    .and_then(|process| self.state.register(self.now, registration, process, &mut self.effects));
                self.answers.push((reply, result));
            }
        }
    }

    /// Makes the directories of a registration that will be taken; gives the process that sent it.
    fn admit(&self, registration: &Registration, registrant: Option<Registrant>) -> Result<Option<Process>, Refusal> {
        self.state.admit(registration)?;
        self.layout.home().namespace(&registration.name).check_api_sock()?;
        let owner = registrant.map(|registrant| Owner { uid: registrant.uid, gid: registrant.gid });
        self.layout.ensure(&registration.name, owner)?;
        Ok(registrant.and_then(|registrant| registrant.pid).and_then(Process::living))
    }
}

pub(super) fn to_store(effect: &RegistryEffect) -> Option<Event> {
    match effect {
        RegistryEffect::Store(event) => Some(event.clone()),
        _ => None,
    }
}

/// Checks that home is there and our namespace is still locked, so that events can be stored.
pub(super) fn prepare(layout: &Layout) -> Result<(), CommitError> {
    layout.check_home().map_err(|loss| CommitError::Vanished(loss.explain(layout.home().root()).into()))?;
    if layout.is_locked() {
        return Ok(());
    }
    let text = format!(
        "the directory {} was removed or replaced while the daemon used it; nothing is saved until the daemon has locked the \
         new one",
        layout.home().own().base().display()
    );
    Err(CommitError::Vanished(text.into()))
}

/// Ensures that the committed events are in the files that the next start will open.
pub(super) fn settle(layout: &Layout, store: &mut Store) -> Result<(), CommitError> {
    prepare(layout)?;
    store.settle()?;
    prepare(layout)
}

/// Stores events, if there are any. Before it returns, all own files are compared with those that
/// were opened.
pub(super) fn commit(
    layout: &Layout,
    check_socket: &dyn Fn(),
    store: &mut Store,
    events: &[Event],
) -> Result<(), CommitError> {
    if events.is_empty() {
        return Ok(());
    }
    check_socket();
    let begun = Instant::now();
    let committed = prepare(layout).and_then(|()| store.commit(events)).and_then(|()| prepare(layout));
    metrics::count_commit(begun.elapsed());
    committed.inspect_err(|error| {
        limited!(limit::DISK, error, %error, changes = events.len(), "the registry stays as it was before");
    })
}
