//! One batch of what was queued: decided, its directories made, and stored, all of it in one call that blocks.
//!
//! It works on a copy of the state, which is the registry afterwards if the batch is stored, and else is forgotten. What
//! comes first in a batch counts for what follows: it may free a name, and nothing is made on disk for a registration that
//! is refused. Never answers or publishes: see `task`.

use std::sync::Arc;
use std::time::Instant;

use beam::limited;

use super::Registrant;
use super::effect::{Now, RegistryEffect, RegistryInput};
use super::handle::Reply;
use super::refusal::Refusal;
use super::state::State;
use crate::layout::{Layout, Owner, Process};
use crate::log::limit;
use crate::metrics;
use crate::plugin::{Event, Plugin, PluginName, Registration};
use crate::store::{CommitError, Store};

/// What was queued and changes something, in the order of its arrival.
pub(super) enum BatchItem {
    Observation(RegistryInput),
    Deregister { name: PluginName, reply: Reply<Arc<Plugin>> },
    Register { registration: Registration, registrant: Option<Registrant>, reply: Reply<Arc<Plugin>> },
}

/// Compares the file at the socket's path with the one that was bound, and reports a difference to
/// the owner of the socket. A difference does not make the commit fail.
pub type SocketCheck = Arc<dyn Fn() + Send + Sync>;

/// A batch, and what came of it.
pub(super) struct Batch {
    now: Now,
    layout: Arc<Layout>,
    check_socket: SocketCheck,
    pub state: State,
    pub effects: Vec<RegistryEffect>,
    /// Where the answers go, each at the place of its ticket.
    pub replies: Vec<Reply<Arc<Plugin>>>,
    /// Those that it took, for another try.
    pub observations: Vec<RegistryInput>,
}

impl Batch {
    pub(super) fn new(now: Now, state: State, layout: Arc<Layout>, check_socket: SocketCheck) -> Self {
        Self { now, layout, check_socket, state, effects: Vec::new(), replies: Vec::new(), observations: Vec::new() }
    }

    /// Does all of it. Gives the events that are stored now.
    pub(super) fn carry_out(
        mut self,
        store: &mut Store,
        observations: Vec<RegistryInput>,
        requests: Vec<BatchItem>,
    ) -> (Self, Result<Vec<Event>, CommitError>) {
        // Before directories are made.
        let prepared = prepare(&self.layout);
        for request in observations.into_iter().map(BatchItem::Observation).chain(requests) {
            match prepared {
                Ok(()) => self.take(request),
                Err(_) => self.put_off(request),
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

    /// Nothing can be stored now: observations are kept, and all other requests are refused with the
    /// batch.
    fn put_off(&mut self, request: BatchItem) {
        match request {
            BatchItem::Observation(observation) => self.observations.push(observation),
            BatchItem::Deregister { reply, .. } | BatchItem::Register { reply, .. } => self.replies.push(reply),
        }
    }

    fn take(&mut self, request: BatchItem) {
        let ticket = self.replies.len();
        let input = match request {
            BatchItem::Observation(observation) => {
                self.observations.push(observation.clone());
                observation
            }
            BatchItem::Deregister { name, reply } => {
                self.replies.push(reply);
                RegistryInput::Deregister { name, ticket }
            }
            BatchItem::Register { registration, registrant, reply } => {
                self.replies.push(reply);
                match self.admit(&registration, registrant) {
                    Ok(process) => RegistryInput::Register { registration, process, ticket },
                    Err(refusal) => return self.effects.push(RegistryEffect::Answer { ticket, result: Err(refusal) }),
                }
            }
        };
        self.state.handle(self.now, input, &mut self.effects);
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
