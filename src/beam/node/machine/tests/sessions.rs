//! Sessions that a peer's `global` begins with this node.

use super::*;

/// Returns the message with which a peer's `global` begins a session and lists the nodes it knows.
fn init(known: Term) -> Term {
    let version = Term::tuple([Term::Int(8), Term::Int(1)]);
    let locker = Term::tuple([Term::atom("locker"), Term::atom("no_longer_a_pid"), known, Term::atom("pid")]);
    let request = Term::tuple([Term::atom("init_connect"), version, Term::atom("p@h"), locker]);
    Term::tuple([Term::atom("$gen_cast"), request])
}

fn to_global() -> Control {
    Control::SendName { from: foreign("p@h", 7), to: Atom::literal("global_name_server") }
}

#[test]
fn the_nodes_that_peers_know_are_bounded() {
    let known = |bench: &Bench| bench.machine.view().known.iter().map(ToString::to_string).collect::<Vec<_>>();

    let mut bench = Bench::new();
    bench.up(1, "p@h");
    let pending = Term::tuple([Term::atom("pending"), Term::atom("c@h")]);
    let map = crate::etf::Map::new(vec![
        (Term::atom("a@h"), Term::Int(8)),
        (pending, Term::Int(8)),
        (Term::atom("m@h"), Term::Int(8)),
    ]);
    let out = bench.receive(1, to_global(), Some(&init(Term::Map(map.unwrap()))));
    assert_eq!(known(&bench), ["a@h"], "neither this node nor a pending one");
    assert_eq!(signals(&out).len(), 1, "the session gets in_sync again");
    bench.receive(1, to_global(), Some(&init(Term::List(vec![Term::atom("b@h")]))));
    assert_eq!(known(&bench), ["b@h"], "a new list replaces the old one");
    bench.up(2, "q@h");
    bench.receive(2, to_global(), Some(&init(Term::List(vec![Term::atom("c@h")]))));
    assert_eq!(known(&bench), ["b@h", "c@h"]);

    let many = (0..limits::KNOWN_NODES + 5).map(|i| Term::Atom(Atom::new(&format!("n{i}@h")).unwrap())).collect();
    bench.receive(1, to_global(), Some(&init(Term::List(many))));
    assert_eq!(known(&bench).len(), limits::KNOWN_NODES, "the limit is for all peers together");
    bench.run(NodeInput::LinkDown { link: LinkId(1), reason: "gone".into(), by_peer: false });
    assert_eq!(known(&bench), ["c@h"], "the list of a lost peer is removed");
}

#[test]
fn a_peer_is_introducible_after_init_connect_on_this_connection() {
    let mut bench = Bench::new();
    let mut links = 0;
    let mut up = |bench: &mut Bench, origin, creation| {
        links += 1;
        let peer = Established { creation, ..peer("p@h") };
        bench.run(NodeInput::LinkUp { link: LinkId(links), peer, origin });
        assert!(bench.machine.view().introducible.is_empty(), "connection {links}");
        bench.receive(links, to_global(), Some(&init(Term::List(vec![]))));
        let introducible = bench.machine.view().introducible == BTreeSet::from(["p@h".parse().unwrap()]);
        (LinkId(links), introducible)
    };
    let down = |bench: &mut Bench, link, by_peer| {
        bench.run(NodeInput::LinkDown { link, reason: "gone".into(), by_peer });
        assert!(bench.machine.view().introducible.is_empty());
        assert_eq!(bench.machine.view().peers["p@h"].has_left(), by_peer);
    };
    // Each connection is checked after a different end of the one before it.
    let (link, introducible) = up(&mut bench, Origin::Dialled, 1);
    assert!(introducible);
    down(&mut bench, link, false);
    let (link, introducible) = up(&mut bench, Origin::Dialled, 1);
    assert!(introducible, "the last connection was lost");
    down(&mut bench, link, true);
    let (link, introducible) = up(&mut bench, Origin::Dialled, 1);
    assert!(!introducible, "the peer has left, and we dialled");
    down(&mut bench, link, true);
    let (link, introducible) = up(&mut bench, Origin::Accepted, 1);
    assert!(introducible, "the peer has left, and dialled us");
    down(&mut bench, link, true);
    let (_, introducible) = up(&mut bench, Origin::Dialled, 2);
    assert!(introducible, "another incarnation of the peer");
    // A connection that replaces another one does not count as dialling a node that has left.
    let (_, introducible) = up(&mut bench, Origin::Replacing, 2);
    assert!(introducible);
}
