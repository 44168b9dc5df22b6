//! Messages of a peer's `global` to ours, and their effects.

use super::*;

/// The request with which the `global` of a node begins a session, and the nodes that it knows.
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
fn the_nodes_that_a_peer_knows_are_remembered_up_to_a_bound() {
    let known = |alone: &Alone| alone.machine.view().known.iter().map(ToString::to_string).collect::<Vec<_>>();

    let mut alone = Alone::new();
    alone.up(1, "p@h");
    let pending = Term::tuple([Term::atom("pending"), Term::atom("c@h")]);
    let map = crate::etf::Map::new(vec![
        (Term::atom("a@h"), Term::Int(8)),
        (pending, Term::Int(8)),
        (Term::atom("m@h"), Term::Int(8)),
    ]);
    let out = alone.tell(1, to_global(), Some(&init(Term::Map(map.unwrap()))));
    assert_eq!(known(&alone), ["a@h"], "neither ourselves nor who is pending");
    assert_eq!(signals(&out).len(), 1, "the session is greeted again");
    alone.tell(1, to_global(), Some(&init(Term::List(vec![Term::atom("b@h")]))));
    assert_eq!(known(&alone), ["b@h"], "what it says last");
    alone.up(2, "q@h");
    alone.tell(2, to_global(), Some(&init(Term::List(vec![Term::atom("c@h")]))));
    assert_eq!(known(&alone), ["b@h", "c@h"]);

    let many = (0..limits::KNOWN_NODES + 5).map(|i| Term::Atom(Atom::new(&format!("n{i}@h")).unwrap())).collect();
    alone.tell(1, to_global(), Some(&init(Term::List(many))));
    assert_eq!(known(&alone).len(), limits::KNOWN_NODES, "of all peers together");
    alone.run(NodeInput::LinkDown { link: LinkId(1), reason: "gone".into(), by_peer: false });
    assert_eq!(known(&alone), ["c@h"], "it knows nothing any more");
}

#[test]
fn a_peer_may_be_introduced_once_its_global_has_greeted_ours_on_this_connection() {
    let mut alone = Alone::new();
    let mut links = 0;
    let mut up = |alone: &mut Alone, origin, creation| {
        links += 1;
        let peer = Established { creation, ..peer("p@h") };
        alone.run(NodeInput::LinkUp { link: LinkId(links), peer, origin });
        assert!(alone.machine.view().introducible.is_empty(), "of connection {links}");
        alone.tell(links, to_global(), Some(&init(Term::List(vec![]))));
        let is = alone.machine.view().introducible == BTreeSet::from(["p@h".parse().unwrap()]);
        (LinkId(links), is)
    };
    let down = |alone: &mut Alone, link, by_peer| {
        alone.run(NodeInput::LinkDown { link, reason: "gone".into(), by_peer });
        assert!(alone.machine.view().introducible.is_empty());
        assert_eq!(alone.machine.view().peers["p@h"].has_left(), by_peer);
    };
    // For each connection, this is how the one before it ended.
    let (link, is) = up(&mut alone, Origin::Dialled, 1);
    assert!(is);
    down(&mut alone, link, false);
    let (link, is) = up(&mut alone, Origin::Dialled, 1);
    assert!(is, "a connection was lost");
    down(&mut alone, link, true);
    let (link, is) = up(&mut alone, Origin::Dialled, 1);
    assert!(!is, "it has left us, and we dialled");
    down(&mut alone, link, true);
    let (link, is) = up(&mut alone, Origin::Accepted, 1);
    assert!(is, "it has left us, and came back");
    down(&mut alone, link, true);
    let (_, is) = up(&mut alone, Origin::Dialled, 2);
    assert!(is, "its next life");
    // A connection that replaces another one does not count as dialling a node that has left.
    let (_, is) = up(&mut alone, Origin::Replacing, 2);
    assert!(is);
}
