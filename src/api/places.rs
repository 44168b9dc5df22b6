//! Decides which connections the API serves, and which it closes for new ones. Pure, without a
//! clock.
//!
//! A connection that waits for its client (for a head, for a body, or for an answer to be read) may
//! be evicted at any time. The owner with the most waiting connections loses the connection that
//! has waited longest. So a client with many connections displaces its own first. A connection that
//! waits for the daemon is never evicted, and neither is an event stream. If no place is free and
//! no connection may be evicted, a new connection is limited. It may call only the probes, unless a
//! place is free when its request head arrives. Each operation costs O(log n) in the number of
//! connections.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};

/// The owner of a connection: the process, or the user if the kernel does not show the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Process(i32),
    User(u32),
}

/// How many connections there may be of each kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    /// Connections that are served.
    pub places: usize,
    /// Served connections of one process.
    pub share: usize,
    /// Served connections of all processes of one user that the kernel does not show.
    pub user_share: usize,
    /// Limited connections.
    pub limited: usize,
    /// Event streams.
    pub streams: usize,
    /// Streams of one owner.
    pub stream_share: usize,
}

/// The number of a new connection, and the connection to close for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Admitted<T> {
    pub id: u64,
    pub limited: bool,
    pub evicted: Option<T>,
}

/// The endpoints that a request may call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn<T> {
    /// All endpoints. `evicted` must be closed.
    Serve { evicted: Option<T> },
    /// Only the probes: the connection is limited or was evicted.
    Probes,
}

/// Why a stream may not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoStream {
    /// Too many streams are open.
    Full,
    /// The owner has too many streams.
    Share,
}

/// All connections. A value of type `T` closes a connection.
#[derive(Debug)]
pub(super) struct Places<T> {
    capacity: Capacity,
    connections: BTreeMap<Moment, Connection<T>>,
    owners: BTreeMap<Owner, Held>,
    /// The owners of connections that wait for their clients. The last owner loses the next
    /// connection.
    crowds: BTreeSet<Crowd>,
    /// The oldest first.
    limited: BTreeSet<Moment>,
    held: usize,
    streams: usize,
    /// The number of the latest change.
    last: u64,
}

#[derive(Debug)]
struct Connection<T> {
    owner: Owner,
    state: State,
    close: T,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Waits for its client since this moment.
    Waits(Moment),
    /// The daemon handles its request.
    Works,
    Streams,
    Limited,
}

/// The connections of one owner.
#[derive(Debug, Default)]
struct Held {
    places: usize,
    streams: usize,
    limited: usize,
    /// The connections that wait for their client, by the moment since when they wait.
    waiting: BTreeMap<Moment, Moment>,
}

/// The number of connections of an owner that wait for their clients, and since when the first one
/// waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Crowd {
    waiting: usize,
    since: Reverse<Moment>,
    owner: Owner,
}

impl Held {
    fn crowd(&self, owner: Owner) -> Option<Crowd> {
        let (since, _) = self.waiting.first_key_value()?;
        Some(Crowd { waiting: self.waiting.len(), since: Reverse(*since), owner })
    }
}

/// The number of a change of [`Places`]. The change that admitted a connection identifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Moment(u64);

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> Ordering {
        #[cfg(test)]
        tests::COMPARED.set(tests::COMPARED.get() + 1);
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Places<T> {
    pub(super) fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            connections: BTreeMap::new(),
            owners: BTreeMap::new(),
            crowds: BTreeSet::new(),
            limited: BTreeSet::new(),
            held: 0,
            streams: 0,
            last: 0,
        }
    }

    /// Adds a connection, which begins to wait for its client.
    pub(super) fn admit(&mut self, owner: Owner, close: T) -> Admitted<T> {
        let id = self.next();
        let place = self.free_place(owner);
        let held = self.owners.entry(owner).or_default();
        let (state, evicted) = match place {
            Ok(evicted) => {
                held.places += 1;
                self.held += 1;
                self.wait(owner, id, id);
                (State::Waits(id), evicted)
            }
            Err(NoPlace) => {
                held.limited += 1;
                let full = self.limited.len() >= self.capacity.limited;
                let oldest = self.limited.first().copied().filter(|_| full);
                self.limited.insert(id);
                (State::Limited, oldest.and_then(|oldest| self.remove(oldest)))
            }
        };
        self.connections.insert(id, Connection { owner, state, close });
        Admitted { id: id.0, limited: state == State::Limited, evicted }
    }

    /// Records that a request has arrived. The daemon handles it until [`Self::waits`].
    pub(super) fn works(&mut self, id: u64) -> Turn<T> {
        let id = Moment(id);
        let Some(connection) = self.connections.get(&id) else { return Turn::Probes };
        let owner = connection.owner;
        match connection.state {
            State::Waits(since) => {
                self.stop_waiting(owner, since);
                self.set(id, State::Works);
                Turn::Serve { evicted: None }
            }
            State::Works | State::Streams => Turn::Serve { evicted: None },
            State::Limited => {
                let Ok(evicted) = self.free_place(owner) else { return Turn::Probes };
                self.limited.remove(&id);
                let held = self.owners.entry(owner).or_default();
                held.limited = held.limited.saturating_sub(1);
                held.places += 1;
                self.held += 1;
                self.set(id, State::Works);
                Turn::Serve { evicted }
            }
        }
    }

    /// Records that the daemon waits for the client to send a head or a body, or to read a
    /// response.
    pub(super) fn waits(&mut self, id: u64) {
        let id = Moment(id);
        let Some(Connection { owner, state: State::Works, .. }) = self.connections.get(&id) else { return };
        let (owner, since) = (*owner, self.next());
        self.wait(owner, since, id);
        self.set(id, State::Waits(since));
    }

    /// Turns the connection into an event stream, which frees its place.
    ///
    /// # Errors
    /// See [`NoStream`].
    pub(super) fn streams(&mut self, id: u64) -> Result<(), NoStream> {
        let id = Moment(id);
        let Some(Connection { owner, state, .. }) = self.connections.get(&id) else { return Err(NoStream::Full) };
        match state {
            State::Streams => return Ok(()),
            State::Works => {}
            State::Waits(_) | State::Limited => return Err(NoStream::Full),
        }
        let held = self.owners.entry(*owner).or_default();
        if self.streams >= self.capacity.streams {
            return Err(NoStream::Full);
        }
        if held.streams >= self.capacity.stream_share {
            return Err(NoStream::Share);
        }
        held.places = held.places.saturating_sub(1);
        held.streams += 1;
        self.held = self.held.saturating_sub(1);
        self.streams += 1;
        self.set(id, State::Streams);
        Ok(())
    }

    /// Removes a connection that has ended or must end. Returns the value that closes it; none if
    /// it was already removed.
    pub(super) fn leave(&mut self, id: u64) -> Option<T> {
        self.remove(Moment(id))
    }

    /// Removes a connection because the system cannot open another: the oldest limited one, or the
    /// next one to evict if no connection is limited.
    pub(super) fn take_one(&mut self) -> Option<T> {
        let id = self.limited.first().copied().or_else(|| self.longest_of(self.crowds.last()?.owner))?;
        self.remove(id)
    }

    fn remove(&mut self, id: Moment) -> Option<T> {
        let Connection { owner, state, close } = self.connections.remove(&id)?;
        if let State::Waits(since) = state {
            self.stop_waiting(owner, since);
        }
        let held = self.owners.entry(owner).or_default();
        match state {
            State::Waits(_) | State::Works => {
                held.places = held.places.saturating_sub(1);
                self.held = self.held.saturating_sub(1);
            }
            State::Streams => {
                held.streams = held.streams.saturating_sub(1);
                self.streams = self.streams.saturating_sub(1);
            }
            State::Limited => {
                held.limited = held.limited.saturating_sub(1);
                self.limited.remove(&id);
            }
        }
        if held.places + held.streams + held.limited == 0 {
            self.owners.remove(&owner);
        }
        Some(close)
    }

    /// Frees a place for one more connection of this owner. The returned connection must be closed.
    fn free_place(&mut self, owner: Owner) -> Result<Option<T>, NoPlace> {
        let share = match owner {
            Owner::Process(_) => self.capacity.share,
            Owner::User(_) => self.capacity.user_share,
        };
        let longest = if self.owners.get(&owner).is_some_and(|held| held.places >= share) {
            self.longest_of(owner)
        } else if self.held >= self.capacity.places {
            self.crowds.last().and_then(|crowd| self.longest_of(crowd.owner))
        } else {
            return Ok(None);
        };
        Ok(self.remove(longest.ok_or(NoPlace)?))
    }

    /// Returns the connection of this owner that has waited longest for its client.
    fn longest_of(&self, owner: Owner) -> Option<Moment> {
        self.owners.get(&owner)?.waiting.values().next().copied()
    }

    /// Records that a connection waits for its client.
    fn wait(&mut self, owner: Owner, since: Moment, id: Moment) {
        self.change_waiting(owner, |waiting| waiting.insert(since, id));
    }

    /// Records that the connection that has waited since then no longer waits.
    fn stop_waiting(&mut self, owner: Owner, since: Moment) {
        self.change_waiting(owner, |waiting| waiting.remove(&since));
    }

    fn change_waiting<R>(&mut self, owner: Owner, change: impl FnOnce(&mut BTreeMap<Moment, Moment>) -> R) {
        let held = self.owners.entry(owner).or_default();
        let before = held.crowd(owner);
        change(&mut held.waiting);
        let after = held.crowd(owner);
        if let Some(before) = before {
            self.crowds.remove(&before);
        }
        self.crowds.extend(after);
    }

    fn set(&mut self, id: Moment, state: State) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.state = state;
        }
    }

    fn next(&mut self) -> Moment {
        self.last += 1;
        Moment(self.last)
    }
}

/// No connection may be evicted.
struct NoPlace;

#[cfg(test)]
mod tests;
