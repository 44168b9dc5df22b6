//! Which connections the API serves, and which one it closes for another: pure, without a clock.
//!
//! A connection that waits for its client (for a head, for a body, or for an answer to be read) may
//! be evicted at any time. The owner with the most waiting connections loses the one that has
//! waited longest, so that a crowd displaces its own connections first. A connection that waits for
//! the daemon is never evicted, and neither is a stream of events. If no place is free and no
//! connection may be evicted, a new connection is limited: it may call only the probes, unless a
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
    /// Streams of events.
    pub streams: usize,
    /// Streams of one owner.
    pub stream_share: usize,
}

/// A new connection's number, and the connection to close for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Admitted<T> {
    pub id: u64,
    pub limited: bool,
    pub evicted: Option<T>,
}

/// The endpoints that a request may call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn<T> {
    /// All endpoints; `evicted` must be closed for it.
    Serve { evicted: Option<T> },
    /// Probes: the connection is limited, or was evicted.
    Probes,
}

/// Why a stream may not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoStream {
    /// The limit of streams is reached.
    Full,
    /// The owner's share is reached.
    Share,
}

/// All connections. `T` is what closes one.
#[derive(Debug)]
pub(super) struct Places<T> {
    capacity: Capacity,
    connections: BTreeMap<Moment, Connection<T>>,
    owners: BTreeMap<Owner, Held>,
    /// The owners of connections that wait for their clients. The last one loses a connection
    /// first.
    crowds: BTreeSet<Crowd>,
    /// The oldest first.
    limited: BTreeSet<Moment>,
    held: usize,
    streams: usize,
    /// Counts changes, to order them.
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
    /// Waits for its client, since that moment.
    Waits(Moment),
    /// The daemon is handling its request.
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
    /// The connections that wait for their client, by when they began to.
    waiting: BTreeMap<Moment, Moment>,
}

/// How many connections of an owner wait for their clients, and since when the first one waits.
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

    /// Adds a connection, which waits for its client from now on.
    pub(super) fn admit(&mut self, owner: Owner, close: T) -> Admitted<T> {
        let id = self.next();
        let room = self.make_room(owner);
        let held = self.owners.entry(owner).or_default();
        let (state, evicted) = match room {
            Ok(evicted) => {
                held.places += 1;
                self.held += 1;
                self.wait(owner, id, id);
                (State::Waits(id), evicted)
            }
            Err(NoRoom) => {
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

    /// A request has arrived: the daemon handles it until [`Self::waits`].
    pub(super) fn works(&mut self, id: u64) -> Turn<T> {
        let id = Moment(id);
        let Some(connection) = self.connections.get(&id) else { return Turn::Probes };
        let owner = connection.owner;
        match connection.state {
            State::Waits(since) => {
                self.wait_no_more(owner, since);
                self.set(id, State::Works);
                Turn::Serve { evicted: None }
            }
            State::Works | State::Streams => Turn::Serve { evicted: None },
            State::Limited => {
                let Ok(evicted) = self.make_room(owner) else { return Turn::Probes };
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

    /// The daemon waits for the client: for the next head, for a body, or for its answer to be
    /// read.
    pub(super) fn waits(&mut self, id: u64) {
        let id = Moment(id);
        let Some(Connection { owner, state: State::Works, .. }) = self.connections.get(&id) else { return };
        let (owner, since) = (*owner, self.next());
        self.wait(owner, since, id);
        self.set(id, State::Waits(since));
    }

    /// The connection becomes a stream of events, and its place is free again.
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

    /// The connection has ended, or is to end: returns what closes it, if it is still here.
    pub(super) fn leave(&mut self, id: u64) -> Option<T> {
        self.remove(Moment(id))
    }

    /// Removes the oldest limited connection, else the one that is evicted next, because the system
    /// has no room for another.
    pub(super) fn spare(&mut self) -> Option<T> {
        let id = self.limited.first().copied().or_else(|| self.longest_of(self.crowds.last()?.owner))?;
        self.remove(id)
    }

    fn remove(&mut self, id: Moment) -> Option<T> {
        let Connection { owner, state, close } = self.connections.remove(&id)?;
        if let State::Waits(since) = state {
            self.wait_no_more(owner, since);
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

    /// Makes room for one more connection of this owner. The returned connection must be closed.
    fn make_room(&mut self, owner: Owner) -> Result<Option<T>, NoRoom> {
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
        Ok(self.remove(longest.ok_or(NoRoom)?))
    }

    /// Returns the connection of this owner that has waited longest for its client.
    fn longest_of(&self, owner: Owner) -> Option<Moment> {
        self.owners.get(&owner)?.waiting.values().next().copied()
    }

    /// Notes that a connection waits for its client.
    fn wait(&mut self, owner: Owner, since: Moment, id: Moment) {
        self.change_waiting(owner, |waiting| waiting.insert(since, id));
    }

    /// Notes that the connection that has waited since then no longer waits.
    fn wait_no_more(&mut self, owner: Owner, since: Moment) {
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

/// Nothing may be evicted.
struct NoRoom;

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        /// Comparisons of [`Moment`]s.
        pub(super) static COMPARED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }

    const CAPACITY: Capacity = Capacity { places: 4, share: 3, user_share: 2, limited: 2, streams: 3, stream_share: 2 };
    const ONE: Owner = Owner::Process(1);
    const TWO: Owner = Owner::Process(2);

    /// Each connection is closed by its name.
    fn places() -> Places<&'static str> {
        Places::new(CAPACITY)
    }

    fn served(id: u64, evicted: Option<&'static str>) -> Admitted<&'static str> {
        Admitted { id, limited: false, evicted }
    }

    const SERVE: Turn<&str> = Turn::Serve { evicted: None };

    #[test]
    fn the_connection_that_has_waited_longest_is_evicted() {
        let mut places = places();
        let ids = [(ONE, "a"), (ONE, "b"), (TWO, "c"), (TWO, "d")].map(|(owner, name)| places.admit(owner, name).id);
        // The first has sent a request since, and waits again.
        assert_eq!(places.works(ids[0]), SERVE);
        places.waits(ids[0]);
        assert_eq!(places.admit(Owner::Process(3), "e").evicted, Some("b"));
        assert_eq!(places.works(ids[1]), Turn::Probes, "its request is not begun");
        assert_eq!(places.admit(Owner::Process(4), "f").evicted, Some("c"));
        assert_eq!(places.admit(Owner::Process(5), "g").evicted, Some("d"));
        assert_eq!(places.admit(Owner::Process(6), "h").evicted, Some("a"));
    }

    #[test]
    fn a_crowd_displaces_its_own_connections_first() {
        let mut places = places();
        let fresh = places.admit(TWO, "fresh").id;
        for name in ["a", "b", "c"] {
            assert_eq!(places.admit(ONE, name).evicted, None);
        }
        // Connections of new processes displace the crowd until each process has only one.
        for (n, evicted) in (3..).zip(["a", "b", "fresh"]) {
            assert_eq!(places.admit(Owner::Process(n), "x").evicted, Some(evicted), "{n}");
        }
        assert_eq!(places.works(fresh), Turn::Probes, "it is evicted once no process has more than one");
    }

    #[test]
    fn an_admission_costs_little_more_among_many() {
        let cost = |places: usize, owners: usize| {
            let mut crowd = Places::new(Capacity { places, share: places, ..CAPACITY });
            let mut admit = |n: usize| {
                let owner = Owner::Process(i32::try_from(n % owners).unwrap());
                let id = crowd.admit(owner, ()).id;
                crowd.works(id);
                crowd.waits(id);
            };
            (0..places).for_each(&mut admit);
            let before = COMPARED.get();
            (0..places).for_each(&mut admit);
            (COMPARED.get() - before) / u64::try_from(places).unwrap()
        };
        let few_owners = [256, 1024, 4096].map(|places| cost(places, 4));
        let many_owners = [256, 1024, 4096].map(|places| cost(places, places / 4));
        for costs in [few_owners, many_owners] {
            assert!(costs[0] > 0 && costs.windows(2).all(|pair| pair[1] * 2 <= pair[0] * 3), "{costs:?}");
        }
    }

    #[test]
    fn a_process_at_its_share_evicts_only_its_own() {
        let mut places = places();
        places.admit(TWO, "other");
        for name in ["a", "b", "c"] {
            assert_eq!(places.admit(ONE, name).evicted, None);
        }
        assert_eq!(places.admit(ONE, "d").evicted, Some("a"), "though the other has waited longer");
        let user = Owner::User(1000);
        assert_eq!(places.admit(user, "u").evicted, Some("b"));
        assert_eq!(places.admit(user, "v").evicted, Some("c"));
        assert_eq!(places.admit(user, "w").evicted, Some("u"), "a user has a separate share");
    }

    #[test]
    fn a_connection_that_is_worked_for_is_never_evicted() {
        let mut places = places();
        for (owner, name) in [(ONE, "a"), (ONE, "b"), (TWO, "c"), (TWO, "d")] {
            let id = places.admit(owner, name).id;
            assert_eq!(places.works(id), SERVE);
        }
        let newcomer = places.admit(Owner::Process(3), "e");
        assert_eq!(newcomer, Admitted { id: 5, limited: true, evicted: None });
        assert_eq!(places.works(newcomer.id), Turn::Probes);
        // One that waits for its client again, such as for a body, may be evicted.
        places.waits(2);
        assert_eq!(places.works(newcomer.id), Turn::Serve { evicted: Some("b") });
        assert_eq!(places.works(2), Turn::Probes);
    }

    #[test]
    fn a_limited_connection_is_served_once_there_is_a_place() {
        let mut places = places();
        let ids: Vec<u64> = ["a", "b", "c"].map(|name| places.admit(ONE, name).id).into();
        for id in &ids {
            places.works(*id);
        }
        let limited = places.admit(ONE, "d");
        assert!(limited.limited, "its process has its share");
        assert_eq!(places.admit(TWO, "e"), served(5, None), "which is nothing to another process");
        assert_eq!(places.works(limited.id), Turn::Probes);
        assert_eq!(places.leave(ids[0]), Some("a"));
        assert_eq!(places.works(limited.id), SERVE);
    }

    #[test]
    fn limited_connections_are_bounded_and_the_oldest_is_closed() {
        let mut places = places();
        for name in ["a", "b", "c"] {
            let id = places.admit(ONE, name).id;
            places.works(id);
        }
        let evicted = ["d", "e", "f", "g"].map(|name| places.admit(ONE, name).evicted);
        assert_eq!(evicted, [None, None, Some("d"), Some("e")]);
    }

    #[test]
    fn streams_have_limits_of_their_own_and_free_their_places() {
        let mut places = places();
        let stream = |places: &mut Places<&'static str>, owner| {
            let id = places.admit(owner, "stream").id;
            assert_eq!(places.works(id), SERVE);
            (id, places.streams(id))
        };
        let (first, begun) = stream(&mut places, ONE);
        assert_eq!(begun, Ok(()));
        assert_eq!(stream(&mut places, ONE).1, Ok(()));
        assert_eq!(stream(&mut places, ONE).1, Err(NoStream::Share));
        assert_eq!(stream(&mut places, TWO).1, Ok(()));
        assert_eq!(stream(&mut places, TWO).1, Err(NoStream::Full));
        places.waits(first);
        for n in 0..10 {
            let evicted = places.admit(Owner::Process(10 + n), "idle").evicted;
            assert_ne!(evicted, Some("stream"));
        }
        assert_eq!(places.leave(first), Some("stream"));
        assert_eq!(stream(&mut places, ONE).1, Ok(()));
    }

    #[test]
    fn nothing_is_kept_of_connections_that_have_left() {
        let mut places = places();
        for round in 0..100 {
            let owner = if round % 3 == 0 { Owner::User(round) } else { Owner::Process(i32::try_from(round).unwrap()) };
            let admitted = places.admit(owner, "x");
            if round % 2 == 0 {
                places.works(admitted.id);
            }
            if round % 4 == 0 {
                let _ = places.streams(admitted.id);
            }
            if round % 5 == 0 {
                places.waits(admitted.id);
            }
        }
        let ids: Vec<u64> = places.connections.keys().map(|id| id.0).collect();
        for id in ids {
            places.leave(id);
            assert_eq!(places.leave(id), None);
        }
        assert!(places.connections.is_empty() && places.owners.is_empty() && places.crowds.is_empty());
        assert!(places.limited.is_empty());
        assert_eq!((places.held, places.streams), (0, 0));
    }

    #[test]
    fn only_connections_that_may_be_evicted_are_spared() {
        let mut places = places();
        let ids = ["a", "b", "c"].map(|name| places.admit(ONE, name).id);
        places.works(ids[0]);
        assert_eq!([places.spare(), places.spare(), places.spare()], [Some("b"), Some("c"), None]);
    }
}
