//! Tests of the protocol. Outgoing messages must equal the messages of a real scope.
//!
//! The bytes of version 0 are from OTP 25, and the bytes of version 1 are from OTP 29. They were
//! captured with `src/beam/node/services/pg/capture.escript`, which documents its use. The script
//! prints the messages that a scope sends to a process that has sent `discover`.

use super::*;
use crate::etf::{Reader, Term};
use crate::node::services::gen_server;

const SYNC_NOTHING: &str =
    "83680277092467656E5F636173746803770473796E6358770D636170406C6F63616C686F737400000056000000006B0EEFFE6A";
const DISCOVER: &str = "8368027708646973636F76657258770D636170406C6F63616C686F737400000056000000006B0EEFFE";
const JOIN: &str = "83680477046A6F696E58770D636170406C6F63616C686F737400000056000000006B0EEFFE77016758770D636170406C6F63616C686F737400000057000000006B0EEFFE";
const JOIN_TUPLE: &str = "83680477046A6F696E58770D636170406C6F63616C686F737400000056000000006B0EEFFE680277067461676765646D00000003612D6458770D636170406C6F63616C686F737400000057000000006B0EEFFE";
const SYNC_TWO: &str = "83680277092467656E5F636173746803770473796E6358770D636170406C6F63616C686F737400000056000000006B0EEFFE6C0000000268027701676C0000000158770D636170406C6F63616C686F737400000057000000006B0EEFFE6A6802680277067461676765646D00000003612D646C0000000158770D636170406C6F63616C686F737400000057000000006B0EEFFE6A6A";
const LEAVE: &str = "83680477056C6561766558770D636170406C6F63616C686F737400000056000000006B0EEFFE58770D636170406C6F63616C686F737400000057000000006B0EEFFE6C000000017701676A";
const LEAVE_TUPLE: &str = "83680477056C6561766558770D636170406C6F63616C686F737400000056000000006B0EEFFE58770D636170406C6F63616C686F737400000057000000006B0EEFFE6C00000001680277067461676765646D00000003612D646A";

/// The scope of the real node, and the process that joined.
fn real() -> (Pid, Pid) {
    let pid = |id| Pid { node: Atom::literal("cap@localhost"), id, serial: 0, creation: 0x6B0E_EFFE };
    (pid(0x56), pid(0x57))
}

fn term(hex: &str) -> Raw {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    let bytes = digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap());
    let bytes = Bytes::from_iter(bytes);
    let mut atoms = Atoms::new();
    let mut reader = Reader::with_version(&bytes, &mut atoms).unwrap();
    reader.raw().unwrap()
}

/// The tag of the group in the captured messages.
const TAG: &str = "tagged";

fn tagged_group() -> Raw {
    Raw::encode(&Term::tuple([Term::atom(TAG), Term::binary("a-d")]))
}

mod cost;

/// One of our scopes, which receives messages from a peer's scope.
struct Bench {
    scope: Scope,
    references: u32,
}

const LINK: LinkId = LinkId(1);

impl Bench {
    /// Our scope has the pid of the real one, so that its messages can be compared.
    fn new() -> Self {
        Self { scope: Scope::new(real().0, watched()), references: 0 }
    }

    fn receive(&mut self, message: &Term) -> (bool, Signals) {
        self.receive_raw(Raw::encode(message)).expect("within bounds")
    }

    /// Applies the whole message.
    fn receive_raw(&mut self, message: Raw) -> Result<(bool, Signals), Excess> {
        let mut out = Signals::new();
        let references = &mut self.references;
        let mut new_reference = || {
            *references += 1;
            Reference { node: Atom::literal("us@h"), creation: 1, ids: [*references, 0, 0].into() }
        };
        let mut atoms = Atoms::new();
        let message = gen_server::parse(message, &mut atoms);
        let peer = Atom::literal("them@h");
        let mut changed = self.scope.message(LINK, &peer, message, &mut new_reference, &mut atoms, &mut out)?;
        while self.scope.is_working(LINK) {
            changed |= self.scope.step(LINK, &mut atoms)?.changed;
        }
        Ok((changed, out))
    }

    fn join(&mut self, group: &Raw) -> Signals {
        let mut out = Signals::new();
        let key = group.canonical(&mut Atoms::new()).unwrap();
        self.scope.join(key, group, &real().1, &mut out);
        out
    }

    fn leave(&mut self) -> Signals {
        let mut out = Signals::new();
        self.scope.process_down(&real().1, &mut out);
        out
    }

    fn members(&self, group: &Term) -> usize {
        self.scope.remote_members(&group.canonical()).count()
    }
}

fn watched() -> Watched {
    Watched { tag: Atom::literal(TAG), group: Atom::literal("named") }
}

fn them(id: u32) -> Pid {
    Pid { node: Atom::literal("them@h"), id, serial: 0, creation: 1 }
}

fn pid(id: u32) -> Term {
    Term::Pid(them(id))
}

fn discover() -> Term {
    Term::tuple([Term::atom("discover"), pid(1)])
}

fn sync(groups: Vec<(Term, Vec<Term>)>) -> Term {
    let groups = groups.into_iter().map(|(group, pids)| Term::tuple([group, Term::List(pids)])).collect();
    Term::tuple([Term::atom("$gen_cast"), Term::tuple([Term::atom("sync"), pid(1), Term::List(groups)])])
}

fn join(group: Term, pids: Term) -> Term {
    Term::tuple([Term::atom("join"), pid(1), group, pids])
}

fn leave(pids: Term, groups: Vec<Term>) -> Term {
    Term::tuple([Term::atom("leave"), pid(1), pids, Term::List(groups)])
}

fn messages(signals: &Signals) -> Vec<Raw> {
    signals.iter().filter_map(|(_, _, message)| message.clone()).collect()
}

#[test]
fn each_message_is_byte_for_byte_what_a_real_scope_sends() {
    let mut bench = Bench::new();
    assert_eq!(messages(&bench.receive(&discover()).1), [term(SYNC_NOTHING), term(DISCOVER)]);
    let group = Raw::encode(&Term::atom("g"));
    assert_eq!(messages(&bench.join(&group)), [term(JOIN)]);
    assert_eq!(messages(&bench.join(&group)), [], "the process is already in the group");
    assert_eq!(messages(&bench.join(&tagged_group())), [term(JOIN_TUPLE)]);
    let [exchanged] = messages(&bench.receive(&discover()).1).try_into().expect("a known scope gets no discover");
    let groups = |sync: &Raw| match sync.term(&mut Atoms::new()).unwrap() {
        Term::Tuple(cast) => match &cast[1] {
            Term::Tuple(sync) => match &sync[2] {
                Term::List(groups) => groups.iter().map(Term::canonical).collect::<std::collections::BTreeSet<_>>(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    // The order of groups does not matter.
    assert_eq!(exchanged.bytes().len(), term(SYNC_TWO).bytes().len());
    assert_eq!(groups(&exchanged), groups(&term(SYNC_TWO)));
}

#[test]
fn one_process_leaves_all_its_groups_in_one_message() {
    for (group, golden) in [(Raw::encode(&Term::atom("g")), LEAVE), (tagged_group(), LEAVE_TUPLE)] {
        let mut bench = Bench::new();
        bench.receive(&discover());
        bench.join(&group);
        assert_eq!(messages(&bench.leave()), [term(golden)]);
        assert_eq!(messages(&bench.leave()), [], "the process has left");
        assert_eq!(messages(&bench.receive(&discover()).1), [term(SYNC_NOTHING)], "no empty group is sent");
    }
}

#[test]
fn joins_and_leaves_are_sent_only_to_scopes_that_have_our_groups() {
    let mut bench = Bench::new();
    let group = Raw::encode(&Term::atom("g"));
    bench.join(&group);
    bench.receive(&sync(vec![]));
    // The peer's scope has not received our groups, and would exit on this leave.
    assert_eq!(messages(&bench.leave()), []);
    assert_eq!(messages(&bench.join(&group)), []);
    let (_, out) = bench.receive(&discover());
    assert_eq!(messages(&out).len(), 1, "our groups answer the peer's discover");
    assert_eq!(messages(&bench.leave()).len(), 1);
}

#[test]
fn the_census_counts_the_current_members() {
    let mut scope = Scope::new(real().0, watched());
    let mut own = |change: &dyn Fn(&mut Scope)| {
        change(&mut scope);
        let census = scope.census();
        (census.own_groups, census.own_members)
    };
    let join = |group: &'static str, id: u32| {
        move |scope: &mut Scope| {
            let group = Term::atom(group);
            scope.join(group.canonical(), &Raw::encode(&group), &them(id), &mut Signals::new());
        }
    };
    let ends = |id: u32| move |scope: &mut Scope| scope.process_down(&them(id), &mut Signals::new());
    assert_eq!(own(&join("a", 1)), (1, 1));
    assert_eq!(own(&join("a", 1)), (1, 1), "a process is in a group once");
    assert_eq!(own(&join("a", 2)), (1, 2));
    assert_eq!(own(&join("b", 1)), (2, 3));
    assert_eq!(own(&ends(3)), (2, 3), "the process was in no group");
    assert_eq!(own(&ends(1)), (1, 1));
    assert_eq!(own(&ends(2)), (0, 0));
}

#[test]
fn a_scope_is_monitored_once_and_removed_when_its_monitor_fires_or_its_link_ends() {
    let mut bench = Bench::new();
    let monitors = |signals: &Signals| signals.iter().filter(|(_, c, _)| matches!(c, Control::Monitor { .. })).count();
    assert_eq!(monitors(&bench.receive(&discover()).1), 1);
    assert_eq!(monitors(&bench.receive(&discover()).1), 0, "a second discover");
    assert_eq!(monitors(&bench.receive(&sync(vec![(Term::atom("g"), vec![pid(5)])])).1), 0);
    assert_eq!(bench.members(&Term::atom("g")), 1);
    let monitor = Reference { node: Atom::literal("us@h"), creation: 1, ids: [1, 0, 0].into() };
    assert!(!bench.scope.monitor_down(LinkId(9), &monitor), "a signal from another peer");
    assert_eq!(bench.members(&Term::atom("g")), 1);
    bench.scope.monitor_down(LINK, &monitor);
    assert_eq!(bench.members(&Term::atom("g")), 0, "the scope has ended");
    // The scope restarts, and its `sync` arrives first.
    assert_eq!(monitors(&bench.receive(&sync(vec![(Term::atom("g"), vec![pid(5)])])).1), 1);
    assert_eq!(bench.members(&Term::atom("g")), 1);
    // Another process replaces the scope before the monitor fires.
    let another = Term::tuple([Term::atom("discover"), pid(2)]);
    assert_eq!(monitors(&bench.receive(&another).1), 1);
    assert_eq!(bench.members(&Term::atom("g")), 0);
    bench.receive(&sync(vec![(Term::atom("g"), vec![pid(5)])]));
    assert_eq!(bench.members(&Term::atom("g")), 1);
    assert_eq!(bench.scope.remotes.len(), 1, "one scope for each peer");
    bench.scope.node_down(LINK);
    assert_eq!(bench.members(&Term::atom("g")), 0);
}

#[test]
fn each_join_needs_its_own_leave() {
    let mut bench = Bench::new();
    let group = || Term::tuple([Term::atom(TAG), Term::binary("a-d")]);
    assert!(!bench.receive(&join(group(), pid(5))).0, "the scope has not exchanged its groups with ours");
    assert_eq!(bench.members(&group()), 0);
    bench.receive(&discover());
    assert!(bench.receive(&join(group(), pid(5))).0, "a watched group has changed");
    assert!(!bench.receive(&join(group(), Term::List(vec![pid(5), pid(6)]))).0);
    assert_eq!(bench.members(&group()), 3);
    bench.receive(&leave(pid(5), vec![group()]));
    assert_eq!(bench.members(&group()), 2, "the process joined twice");
    assert_eq!(bench.scope.announced().len(), 1);
    assert!(bench.receive(&leave(Term::List(vec![pid(5), pid(6)]), vec![Term::atom("other"), group()])).0);
    assert_eq!(bench.scope.announced().len(), 0);
}

#[test]
fn the_watched_group_with_a_name_is_shown_as_nodes() {
    let mut bench = Bench::new();
    let group = || Term::atom("named");
    bench.receive(&discover());
    assert!(bench.receive(&join(group(), pid(5))).0);
    assert_eq!(bench.scope.grouped(), BTreeSet::from([Atom::literal("them@h")]));
    assert!(bench.scope.announced().is_empty());
    assert!(bench.receive(&leave(pid(5), vec![group()])).0);
    assert!(bench.scope.grouped().is_empty());
}

#[test]
fn a_sync_replaces_all_known_groups() {
    let mut bench = Bench::new();
    let watched = |name: &'static str| Term::tuple([Term::atom(TAG), Term::binary(name)]);
    assert!(bench.receive(&sync(vec![(watched("a-d"), vec![pid(5)]), (Term::atom("g"), vec![pid(5)])])).0);
    assert!(bench.receive(&sync(vec![(watched("b-d"), vec![pid(5)])])).0);
    assert!(!bench.receive(&sync(vec![(watched("b-d"), vec![pid(6)])])).0, "the watched groups are the same");
    assert_eq!(bench.members(&watched("a-d")) + bench.members(&Term::atom("g")), 0);
    let announced: Vec<_> = bench.scope.announced().into_iter().collect();
    assert_eq!(announced, [(Bytes::from_static(b"b-d"), Atom::literal("them@h"))]);
}

#[test]
fn messages_for_other_nodes_and_malformed_messages_are_dropped() {
    let mut bench = Bench::new();
    let other = Term::Pid(Pid { node: Atom::literal("other@h"), ..them(1) });
    let foreign = Term::tuple([Term::atom("discover"), other]);
    let dropped = [
        foreign,
        Term::atom("discover"),
        Term::tuple([Term::atom("discover"), Term::atom("pid")]),
        Term::tuple([Term::atom("unknown"), pid(1)]),
        join(Term::atom("g"), Term::atom("not_a_pid")),
        Term::tuple([Term::atom("$gen_cast"), Term::tuple([Term::atom("sync"), pid(1), Term::atom("not_a_list")])]),
        Term::tuple([Term::atom("$gen_call"), Term::tuple([pid(1), Term::atom("tag")]), Term::atom("which_groups")]),
    ];
    for message in dropped {
        assert_eq!(bench.receive(&message), (false, Vec::new()), "{message:?}");
    }
}

// ---- Version 1 ----------------------------------------------------------------------------------

/// From OTP 29.
const LOCAL_NOTHING: &str = "83680277092467656E5F636173746804770A6C6F63616C5F6461746158770D636170406C6F63616C686F73740000005A000000006B0EEFFF61017400000000";
const DISCOVER_ONE: &str = "8368037708646973636F76657258770D636170406C6F63616C686F73740000005A000000006B0EEFFF6101";
const UPDATE_JOIN: &str = "836803770675706461746558770D636170406C6F63616C686F73740000005A000000006B0EEFFF6C0000000168037701676C0000000158770D636170406C6F63616C686F73740000005B000000006B0EEFFF6A6A6A";
const UPDATE_LEAVE: &str = "836803770675706461746558770D636170406C6F63616C686F73740000005A000000006B0EEFFF6C0000000168037701676A6C0000000158770D636170406C6F63616C686F73740000005B000000006B0EEFFF6A6A";
const UPDATE_LEAVE_TWO: &str = "836803770675706461746558770D636170406C6F63616C686F73740000005A000000006B0EEFFF6C000000026803680277067461676765646D00000003612D646A6C0000000158770D636170406C6F63616C686F73740000005B000000006B0EEFFF6A68037701676A6C0000000158770D636170406C6F63616C686F73740000005B000000006B0EEFFF6A6A";
const LOCAL_TWO: &str = "83680277092467656E5F636173746804770A6C6F63616C5F6461746158770D636170406C6F63616C686F73740000005A000000006B0EEFFF610174000000027701676C0000000258770D636170406C6F63616C686F73740000005B000000006B0EEFFF58770D636170406C6F63616C686F73740000005B000000006B0EEFFF6A680277067461676765646D00000003612D646C0000000258770D636170406C6F63616C686F73740000005B000000006B0EEFFF58770D636170406C6F63616C686F73740000005C000000006B0EEFFF6A";

/// The scope of the real node of OTP 29 (0), and the processes that joined (1 and 2).
fn real_one(n: u32) -> Pid {
    Pid { node: Atom::literal("cap@localhost"), id: 0x5A + n, serial: 0, creation: 0x6B0E_EFFF }
}

fn discover_one() -> Term {
    Term::tuple([Term::atom("discover"), pid(1), Term::Int(1)])
}

#[test]
fn a_peer_that_sends_version_1_receives_version_1() {
    let mut bench = Bench { scope: Scope::new(real_one(0), watched()), references: 0 };
    assert_eq!(messages(&bench.receive(&discover_one()).1), [term(LOCAL_NOTHING), term(DISCOVER_ONE)]);
    let mut out = Signals::new();
    let group = Raw::encode(&Term::atom("g"));
    let key = |group: &Raw| group.canonical(&mut Atoms::new()).unwrap();
    bench.scope.join(key(&group), &group, &real_one(1), &mut out);
    assert_eq!(messages(&out), [term(UPDATE_JOIN)]);
    bench.scope.join(key(&tagged_group()), &tagged_group(), &real_one(1), &mut out);
    let [local_data] = messages(&bench.receive(&discover_one()).1).try_into().expect("a known scope gets no discover");
    let Term::Tuple(cast) = local_data.term(&mut Atoms::new()).unwrap() else { panic!("not a cast") };
    let Term::Tuple(local_data) = &cast[1] else { panic!("not local_data") };
    let Term::Map(groups) = &local_data[3] else { panic!("not a map") };
    assert_eq!(groups.len(), 2);
    out.clear();
    bench.scope.process_down(&real_one(1), &mut out);
    let [leave] = messages(&out).try_into().expect("one message");
    assert_eq!(leave.bytes().len(), term(UPDATE_LEAVE_TWO).bytes().len(), "only the order of groups differs");
    out.clear();
    bench.scope.join(key(&group), &group, &real_one(1), &mut Signals::new());
    bench.scope.process_down(&real_one(1), &mut out);
    assert_eq!(messages(&out), [term(UPDATE_LEAVE)]);
    // The peer's scope restarts with an older release, which would exit on messages of version 1.
    let older = Term::tuple([Term::atom("discover"), pid(2)]);
    let answers: Vec<Term> =
        messages(&bench.receive(&older).1).iter().map(|m| m.term(&mut Atoms::new()).unwrap()).collect();
    let scope = Term::Pid(real_one(0));
    let sync = Term::tuple([Term::atom("sync"), scope.clone(), Term::List(vec![])]);
    let sync = Term::tuple([Term::atom("$gen_cast"), sync]);
    assert_eq!(answers, [sync, Term::tuple([Term::atom("discover"), scope])]);
}

#[test]
fn messages_of_version_1_are_applied_whichever_version_we_send() {
    let mut bench = Bench::new();
    let receive = |bench: &mut Bench, golden: &str| {
        let mut out = Signals::new();
        let mut new_reference = || Reference { node: Atom::literal("us@h"), creation: 1, ids: [7, 0, 0].into() };
        let message = gen_server::parse(term(golden), &mut Atoms::new());
        let peer = Atom::literal("cap@localhost");
        bench.scope.message(LINK, &peer, message, &mut new_reference, &mut Atoms::new(), &mut out).unwrap()
    };
    let of = |bench: &Bench, group: &Term| {
        let key = group.canonical();
        bench.scope.remote_members(&key).count()
    };
    let (g, tagged) = (Term::atom("g"), Term::tuple([Term::atom(TAG), Term::binary("a-d")]));
    assert!(!receive(&mut bench, UPDATE_JOIN), "the scope has not exchanged its groups with ours");
    assert_eq!(of(&bench, &g), 0);
    assert!(receive(&mut bench, LOCAL_TWO), "a watched group has appeared");
    assert_eq!((of(&bench, &g), of(&bench, &tagged)), (2, 2));
    receive(&mut bench, UPDATE_JOIN);
    assert_eq!(of(&bench, &g), 3);
    receive(&mut bench, UPDATE_LEAVE_TWO);
    assert_eq!((of(&bench, &g), of(&bench, &tagged)), (2, 1));
    receive(&mut bench, LOCAL_NOTHING);
    assert_eq!((of(&bench, &g), of(&bench, &tagged)), (0, 0));
}

// ---- Groups and monitors ------------------------------------------------------------------------

#[test]
fn equal_groups_with_different_encodings_are_one_group() {
    let mut bench = Bench::new();
    bench.receive(&discover());
    let map = |pairs: Vec<(Term, Term)>| Term::Map(crate::etf::Map::new(pairs).unwrap());
    let groups = [
        map(vec![(Term::atom("b"), Term::Int(2)), (Term::atom("a"), Term::Int(1))]),
        Term::List(vec![Term::Int(-1), Term::Int(2)]),
        Term::Int(i64::MIN),
        Term::Atom(Atom::new("\u{e4}").unwrap()),
        Term::List(vec![]),
    ];
    for group in groups {
        bench.receive(&join(group.clone(), pid(5)));
        assert_eq!(bench.members(&group), 1, "{group:?}");
    }
    // The same map, encoded with its keys in the other order.
    let other_order = map(vec![(Term::atom("a"), Term::Int(1)), (Term::atom("b"), Term::Int(2))]);
    bench.receive(&leave(pid(5), vec![other_order.clone()]));
    assert_eq!(bench.members(&other_order), 0);
    // A Latin-1 atom is the same atom as its UTF-8 form.
    assert_eq!(term("836400 01E4").canonical(&mut Atoms::new()), term("837702C3A4").canonical(&mut Atoms::new()));
}

#[test]
fn a_scope_that_restarts_removes_its_monitors() {
    let mut bench = Bench::new();
    let (_, received) = bench.receive(&discover());
    let monitors: Vec<_> =
        received.iter().filter(|(_, control, _)| matches!(control, Control::Monitor { .. })).collect();
    let [(_, Control::Monitor { from, to, reference }, _)] = monitors.as_slice() else { panic!("{received:?}") };
    let (mut out, next) = (Signals::new(), Pid { id: 4711, ..real().0 });
    bench.scope.restart(next.clone(), &Atom::literal("pg"), [LINK].into_iter(), &mut out);
    let demonitor = Control::Demonitor { from: from.clone(), to: to.clone(), reference: reference.clone() };
    let [(LINK, first, None), (LINK, Control::SendName { from: discovers, .. }, Some(_))] = out.as_slice() else {
        panic!("{out:?}")
    };
    assert_eq!((first, discovers), (&demonitor, &next));
}
