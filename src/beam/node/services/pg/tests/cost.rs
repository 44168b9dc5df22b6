//! The cost of messages of a peer's scope, and their limits.

use super::*;
use crate::etf::{Map, work};

/// Returns the watched group with this number.
fn group(number: usize) -> Term {
    Term::tuple([Term::atom(TAG), Term::binary(number.to_string())])
}

fn pids(n: usize) -> Vec<Term> {
    (0..n).map(|id| pid(u32::try_from(id).unwrap())).collect()
}

fn update(changes: Vec<(Term, Vec<Term>, Vec<Term>)>) -> Term {
    let change = |(group, joined, left)| Term::tuple([group, Term::List(joined), Term::List(left)]);
    let changes = changes.into_iter().map(change).collect();
    Term::tuple([Term::atom("update"), pid(1), Term::List(changes)])
}

fn local_data(groups: Vec<(Term, Term)>) -> Term {
    let local_data = [Term::atom("local_data"), pid(1), Term::Int(1), Term::Map(Map::new(groups).unwrap())];
    Term::tuple([Term::atom("$gen_cast"), Term::tuple(local_data)])
}

/// Returns the number of operations for a message to a scope that has applied the messages
/// `before`.
fn cost(before: &[Term], message: &Term) -> u64 {
    let mut bench = Bench::new();
    bench.receive(&discover());
    for message in before {
        bench.receive(message);
    }
    let message = Raw::encode(message);
    work::of(|| drop(bench.receive_raw(message)))
}

#[test]
fn the_cost_of_every_message_is_n_log_n() {
    let one_group = |n| join(group(0), Term::List(pids(n)));
    let all_groups = |n| sync((0..n).map(|i| (group(i), vec![pid(5)])).collect());
    let each = |n: usize, pids: Vec<Term>| (0..n).map(|i| (group(i), Term::List(pids.clone()))).collect::<Vec<_>>();
    let kinds: [(&str, &dyn Fn(usize) -> u64); 15] = [
        ("join, one group", &|n| cost(&[], &one_group(n))),
        ("join, one process many times", &|n| cost(&[], &join(group(0), Term::List(vec![pid(5); n])))),
        ("sync, many groups", &|n| cost(&[], &all_groups(n))),
        ("sync, one group many times", &|n| cost(&[], &sync(vec![(group(0), pids(1)); n]))),
        ("sync, known groups", &|n| cost(&[all_groups(n)], &all_groups(n))),
        ("local_data", &|n| cost(&[], &local_data(each(n, pids(1))))),
        ("leave, many of one group", &|n| cost(&[one_group(n)], &leave(Term::List(pids(n)), vec![group(0)]))),
        ("leave, in the other order", &|n| {
            let reversed = pids(n).into_iter().rev().collect();
            cost(&[one_group(n)], &leave(Term::List(reversed), vec![group(0)]))
        }),
        ("leave, one of many groups", &|n| cost(&[all_groups(n)], &leave(pid(5), (0..n).map(group).collect()))),
        ("leave, many of many unknown groups", &|n| {
            cost(&[one_group(1)], &leave(Term::List(pids(n)), (1..=n).map(group).collect()))
        }),
        ("leave, many of many groups", &|n| {
            cost(&[all_groups(n)], &leave(Term::List(pids(n)), (0..n).map(group).collect()))
        }),
        ("leave, many of one group, which is named many times", &|n| {
            cost(&[one_group(n)], &leave(Term::List(pids(n)), vec![group(0); n]))
        }),
        ("leave, strangers from one group, which is named many times", &|n| {
            let strangers = pids(2 * n).split_off(n);
            cost(&[one_group(n)], &leave(Term::List(strangers), vec![group(0); n]))
        }),
        ("update, many join and leave", &|n| cost(&[one_group(n)], &update(vec![(group(0), pids(n), pids(n))]))),
        ("update, many groups", &|n| cost(&[all_groups(n)], &update(vec![(group(0), pids(1), pids(1)); n]))),
    ];
    for (kind, cost) in kinds {
        work::assert_n_log_n(kind, 400, cost);
    }
}

#[test]
fn the_memory_of_members_counts_until_they_leave() {
    let mut bench = Bench::new();
    bench.receive(&discover());
    let mut before = bench.scope.bytes(LINK);
    assert_eq!(before, 0);
    // A process that joins twice has one entry.
    for (joins, grows) in [
        (join(group(0), Term::List(pids(1000))), true),
        (join(group(0), Term::List(pids(1000))), false),
        (join(group(1), pid(0)), true),
        (join(Term::tuple([Term::atom(TAG), Term::binary(vec![b'x'; 1000])]), pid(0)), true),
    ] {
        bench.receive(&joins);
        assert_eq!(bench.scope.bytes(LINK) > before, grows, "{} after {before}", bench.scope.bytes(LINK));
        before = bench.scope.bytes(LINK);
    }
    assert!(before > 1000 * size_of::<Pid>() + 1000, "{before}");
    let all = sync(vec![(group(2), pids(1000))]);
    bench.receive(&all);
    let replaced = bench.scope.bytes(LINK);
    assert!(replaced < before, "{replaced}");
    bench.receive(&leave(Term::List(pids(1000)), vec![group(2)]));
    assert_eq!(bench.scope.bytes(LINK), 0);
}

#[test]
fn the_memory_of_a_message_counts_while_it_is_applied() {
    let many = 20 * limits::NODE_TURN / 1000;
    for message in [
        sync(vec![(group(0), pids(many))]),
        leave(Term::List(pids(many)), vec![group(0)]),
        update(vec![(group(0), pids(many), pids(1))]),
    ] {
        let mut bench = Bench::new();
        bench.receive(&discover());
        let (mut atoms, mut out) = (Atoms::new(), Signals::new());
        let message = gen_server::parse(Raw::encode(&message), &mut atoms);
        let peer = Atom::literal("them@h");
        let mut new_reference = || unreachable!("the scope is known");
        bench.scope.message(LINK, &peer, message, &mut new_reference, &mut atoms, &mut out).unwrap();
        let mut most = 0;
        while bench.scope.is_working(LINK) {
            most = most.max(bench.scope.bytes(LINK));
            bench.scope.step(LINK, &mut atoms).unwrap();
        }
        assert!(most > many * size_of::<Pid>() / 2, "{most}");
    }
}

#[test]
fn a_leave_removes_each_process_once_for_each_mention() {
    let mut bench = Bench::new();
    bench.receive(&discover());
    bench.receive(&join(group(0), Term::List([pids(10), pids(10), pids(10)].concat())));
    bench.receive(&join(group(1), Term::List(pids(3))));
    bench.receive(&join(group(2), Term::List(pids(1000))));
    // The processes leave group 0 twice, of which four are named twice, and the other groups once.
    let left = [pids(6), pids(4)].concat();
    bench.receive(&leave(Term::List(left), vec![group(0), group(9), group(1), group(0), group(2)]));
    let times = |bench: &Bench, id: u32| {
        bench.scope.remote_members(&group(0).canonical()).filter(|(_, pid)| pid.id == id).count()
    };
    assert_eq!([0, 3, 4, 5, 6, 9].map(|id| times(&bench, id)), [0, 0, 1, 1, 3, 3]);
    assert_eq!((bench.members(&group(1)), bench.members(&group(2))), (0, 994));
    assert_eq!(bench.scope.census().peer_members, 2 + 4 * 3 + 994);
    assert_eq!(bench.scope.census().peer_groups, 2);
}

/// Returns a scope with `n` groups of `n` members each.
fn crowded(n: usize) -> Bench {
    let mut bench = Bench::new();
    bench.receive(&sync((0..n).map(|i| (group(i), pids(n))).collect()));
    bench
}

/// Returns a `leave` of `n` processes that are not in any group.
fn leave_of_strangers(n: usize, groups: Vec<Term>) -> Raw {
    Raw::encode(&leave(Term::List(pids(2 * n).split_off(n)), groups))
}

#[test]
fn a_leave_of_strangers_from_many_groups_is_refused() {
    let many_of_many = |n| leave_of_strangers(n, (0..n).map(group).collect());
    let n = 100;
    let (mut bench, message) = (crowded(n), many_of_many(n));
    let operations = work::of(|| assert_eq!(bench.receive_raw(message), Err(Excess::Strangers)));
    let pairs = u64::try_from(n * n).unwrap();
    assert!(operations < 2 * pairs, "{operations} operations for {pairs} pairs");
    let few = limits::PG_STRANGERS;
    let mut bench = crowded(few);
    assert!(bench.receive_raw(many_of_many(few)).is_ok());
    // A scope of OTP sends only these two forms.
    let mut bench = crowded(n);
    assert!(bench.receive_raw(leave_of_strangers(n, vec![group(0)])).is_ok());
    bench.receive(&leave(pid(4711), (0..n).map(group).collect()));
    assert_eq!(bench.scope.census().peer_members, n * n);
}

#[test]
fn processes_leave_before_others_join_in_an_update() {
    let mut bench = Bench::new();
    bench.receive(&discover());
    bench.receive(&update(vec![
        (group(0), pids(3), pids(3)),
        (group(1), vec![], pids(3)),
        (group(2), vec![pid(7)], vec![]),
    ]));
    assert_eq!([0, 1, 2].map(|i| bench.members(&group(i))), [3, 0, 1]);
    bench.receive(&update(vec![(group(0), vec![], pids(2))]));
    assert_eq!(bench.members(&group(0)), 1);
}

#[test]
fn a_sync_is_applied_as_a_whole_or_not_at_all() {
    let mut bench = Bench::new();
    bench.receive(&sync(vec![(group(0), pids(2))]));
    let broken = Term::improper(vec![Term::tuple([group(1), Term::List(pids(3))])], Term::atom("x"));
    let broken = Term::tuple([Term::atom("$gen_cast"), Term::tuple([Term::atom("sync"), pid(1), broken])]);
    assert!(!bench.receive(&broken).0);
    assert_eq!((bench.members(&group(0)), bench.members(&group(1))), (2, 0));
    let mut atoms = Atoms::new();
    let large = Raw::encode(&sync(vec![(group(1), pids(20_000)), (group(2), pids(1))]));
    let message = gen_server::parse(large, &mut atoms);
    let peer = Atom::literal("them@h");
    let mut new_reference = || Reference { node: Atom::literal("us@h"), creation: 1, ids: [9, 0, 0].into() };
    bench.scope.message(LINK, &peer, message, &mut new_reference, &mut atoms, &mut Signals::new()).unwrap();
    let mut steps = 0;
    while bench.members(&group(1)) == 0 {
        assert!(bench.scope.is_working(LINK));
        assert_eq!(bench.members(&group(0)), 2, "the old state is visible until the end");
        bench.scope.step(LINK, &mut atoms).unwrap();
        steps += 1;
    }
    assert!(steps > 1, "{steps}");
    assert_eq!([0, 1, 2].map(|i| bench.members(&group(i))), [0, 20_000, 1]);
}

#[test]
fn too_many_members_are_refused() {
    let mut bench = Bench::new();
    bench.receive(&discover());
    let many = Raw::encode(&join(group(0), Term::List(vec![pid(5); limits::PG_MEMBERS / 2])));
    assert!(bench.receive_raw(many.clone()).is_ok());
    assert!(bench.receive_raw(many).is_ok());
    assert_eq!(bench.receive_raw(Raw::encode(&join(group(0), pid(6)))), Err(Excess::Members));
}

#[test]
fn members_that_have_left_do_not_count_towards_the_limit() {
    let mut bench = Bench::new();
    bench.receive(&discover());
    // The key of this group counts as much as 512 members.
    let group = Term::binary([7; 32 * 1024]);
    for _ in 0..limits::PG_MEMBERS / 256 {
        for change in [(vec![pid(5)], vec![]), (vec![pid(6)], vec![pid(5)]), (vec![], vec![pid(6)])] {
            bench.receive(&update(vec![(group.clone(), change.0, change.1)]));
        }
    }
    assert_eq!(bench.scope.census().peer_members, 0);
}

#[test]
fn groups_over_the_size_limit_are_ignored() {
    let mut bench = Bench::new();
    bench.receive(&discover());
    // The tag and the length take five bytes.
    let [fits, too_large] = [limits::PG_GROUP - 5, limits::PG_GROUP - 4].map(|bytes| Term::binary(vec![7; bytes]));
    let change = |group: &Term| (group.clone(), pids(1), vec![]);
    bench.receive(&update(vec![change(&too_large), change(&fits), change(&group(0))]));
    assert_eq!([&too_large, &fits, &group(0)].map(|group| bench.members(group)), [0, 1, 1]);
}

#[test]
fn the_announced_groups_of_a_peer_are_bounded() {
    let mut bench = Bench::new();
    let all = |groups: std::ops::Range<usize>| sync(groups.map(|number| (group(number), vec![pid(5)])).collect());
    assert!(bench.receive(&all(0..limits::PG_ANNOUNCED)).0);
    let one_more = limits::PG_ANNOUNCED;
    assert!(!bench.receive(&join(group(one_more), pid(5))).0, "the group is not shown");
    assert_eq!(bench.scope.announced().len(), limits::PG_ANNOUNCED);
    assert_eq!(bench.members(&group(one_more)), 1, "the members are kept");
    assert!(!bench.receive(&leave(pid(5), vec![group(one_more)])).0, "the group was not shown");
    let named = Term::atom("named");
    assert!(bench.receive(&join(named, pid(5))).0, "the group with a name is always shown");
    assert!(bench.receive(&leave(pid(5), vec![group(0)])).0);
    assert!(bench.receive(&join(group(one_more), pid(5))).0, "fewer groups are shown now");
    assert_eq!(bench.scope.announced().len(), limits::PG_ANNOUNCED);
    assert!(bench.receive(&all(0..0)).0);
    assert!(bench.scope.announced().is_empty() && bench.scope.grouped().is_empty());
}

#[test]
fn peers_that_announce_many_groups_do_not_hide_the_groups_of_others() {
    let mut bench = Bench::new();
    let node = |link: u64| Atom::new(&format!("n{link}@h")).unwrap();
    let mut announce = |link: u64, names: usize| {
        let from = Pid { node: node(link), id: 1, serial: 0, creation: 1 };
        let member = Term::List(vec![Term::Pid(Pid { id: 2, ..from.clone() })]);
        let groups = (0..names).map(|number| Term::tuple([group(number), member.clone()])).collect();
        let sync = Term::tuple([Term::atom("sync"), Term::Pid(from), Term::List(groups)]);
        let message = Raw::encode(&Term::tuple([Term::atom("$gen_cast"), sync]));
        let (mut atoms, mut out) = (Atoms::new(), Signals::new());
        let mut new_reference = || Reference { node: Atom::literal("us@h"), creation: 1, ids: [9, 0, 0].into() };
        let message = gen_server::parse(message, &mut atoms);
        let link = LinkId(link);
        bench.scope.message(link, &node(link.0), message, &mut new_reference, &mut atoms, &mut out).unwrap();
        while bench.scope.is_working(link) {
            bench.scope.step(link, &mut atoms).unwrap();
        }
    };
    let peers = [limits::PG_ANNOUNCED, 3, limits::PG_ANNOUNCED, 10, limits::PG_ANNOUNCED];
    for (link, names) in (0..).zip(peers) {
        announce(link, names);
    }
    let announced = bench.scope.announced();
    assert_eq!(announced.len(), limits::PG_ANNOUNCED_BY_ALL);
    let of = |link| announced.iter().filter(|(_, of)| *of == node(link)).count();
    let left = limits::PG_ANNOUNCED_BY_ALL - limits::PG_ANNOUNCED - 13;
    assert_eq!([0, 1, 2, 3, 4].map(of), [limits::PG_ANNOUNCED, 3, left, 10, 0]);
}
