//! Which connections are admitted, limited and evicted when each limit is reached.

use super::*;
use crate::api::bounds::Limits;

thread_local! {
    /// Comparisons of [`Moment`]s.
    pub(super) static COMPARED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

const CAPACITY: Capacity = Capacity { places: 4, share: 3, user_share: 2, limited: 2, streams: 3, stream_share: 2 };
const ONE: Owner = Owner::Process(1);
const TWO: Owner = Owner::Process(2);

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
    assert_eq!(places.works(ids[1]), Turn::Probes, "its request is not served");
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
fn admitting_costs_little_more_with_many_connections() {
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
fn a_process_at_its_share_evicts_only_its_own_connections() {
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

    let mut places = Places::new(Limits::default().capacity());
    places.admit(TWO, 0);
    for n in 1..=192 {
        assert_eq!(places.admit(user, n).evicted, None, "{n}");
    }
    assert_eq!(places.admit(user, 193).evicted, Some(1), "192 of one user are served");
}

#[test]
fn a_connection_whose_request_is_handled_is_never_evicted() {
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
    assert!(limited.limited, "its process has reached its share");
    assert_eq!(places.admit(TWO, "e"), served(5, None), "another process is not affected");
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

    let mut places = Places::new(Limits::default().capacity());
    let mut admit = |n: i32| {
        let admitted = places.admit(Owner::Process(n), n);
        places.works(admitted.id);
        admitted
    };
    let served = (1..=1024).find(|n| admit(*n).limited).expect("a limit");
    for n in served + 1..served + 256 {
        assert_eq!(admit(n).evicted, None, "{n}");
    }
    assert_eq!(admit(served + 256).evicted, Some(served), "256 are limited");
}

#[test]
fn streams_have_separate_limits_and_free_their_places() {
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
fn no_state_remains_of_removed_connections() {
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
fn only_a_waiting_connection_is_taken() {
    let mut places = places();
    let ids = ["a", "b", "c"].map(|name| places.admit(ONE, name).id);
    places.works(ids[0]);
    assert_eq!([places.take_one(), places.take_one(), places.take_one()], [Some("b"), Some("c"), None]);
}
