//! One batch of queued changes: a single blocking call decides them, creates directories and stores
//! the events.
//!
//! A batch works on a copy of the state. If the batch is stored, the copy becomes the state of the
//! registry; if not, it is dropped. A change sees the effects of earlier ones in the same batch,
//! such as a name that became free. Nothing is created on disk for a registration that is refused.
//! The task sends the answers and publishes the view.

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

/// Compares the file at the path of the API's socket with the bound socket, and reports a
/// difference to the owner of the socket. A difference does not make the commit fail.
pub type SocketCheck = Arc<dyn Fn() + Send + Sync>;

/// An answer, with the channel to send it on.
pub(super) type Answer = (Reply<Arc<Plugin>>, Result<Arc<Plugin>, Refusal>);

/// A batch and its results.
pub(super) struct Batch {
    now: Now,
    layout: Arc<Layout>,
    check_socket: SocketCheck,
    pub state: State,
    pub effects: Vec<RegistryEffect>,
    /// The answers, to be sent once the batch is stored.
    pub answers: Vec<Answer>,
    /// The observations of the batch, which are tried again if it cannot be stored.
    pub observations: Vec<RegistryInput>,
}

impl Batch {
    pub(super) fn new(now: Now, state: State, layout: Arc<Layout>, check_socket: SocketCheck) -> Self {
        Self { now, layout, check_socket, state, effects: Vec::new(), answers: Vec::new(), observations: Vec::new() }
    }

    /// Decides and stores all changes. Returns the stored events.
    pub(super) fn run(
        mut self,
        store: &mut Store,
        observations: Vec<RegistryInput>,
        changes: Vec<Change>,
    ) -> (Self, Result<Vec<Event>, CommitError>) {
        // Checked before directories are created.
        let prepared = prepare(&self.layout);
        for change in observations.into_iter().map(Change::Observation).chain(changes) {
            match &prepared {
                Ok(()) => self.apply(change),
                Err(error) => self.defer(change, error),
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

    /// Keeps an observation for later, and refuses a request, when nothing can be stored.
    fn defer(&mut self, change: Change, error: &CommitError) {
        match change {
            Change::Observation(observation) => self.observations.push(observation),
            Change::Deregister { reply, .. } | Change::Register { reply, .. } => {
                self.answers.push((reply, Err(error.clone().into())));
            }
        }
    }

    fn apply(&mut self, change: Change) {
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

    /// Creates the directories for a registration that will be accepted. Returns the process that
    /// sent it.
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

/// Checks that home exists and that the daemon's namespace is still locked, so that events can be
/// stored.
pub(super) fn prepare(layout: &Layout) -> Result<(), CommitError> {
    layout.check_home().map_err(|loss| CommitError::Vanished(loss.explain(layout.home().root()).into()))?;
    if layout.is_locked() {
        return Ok(());
    }
    let text = format!(
        "the directory {} was removed or replaced while the daemon used it; nothing is saved until the daemon has locked \
         the new directory",
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

/// Stores events, if there are any. Before it returns, it checks that the daemon's own files are
/// still the opened ones.
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
        limited!(limit::DISK, error, %error, changes = events.len(), "cannot save changes of the registry");
    })
}
