//! The memory that a peer can use is bounded, and a message that cannot be read closes at most its
//! own connection.

use super::*;

#[test]
fn a_message_that_is_not_a_term_closes_only_its_own_connection() {
    let mut bench = Bench::new();
    bench.up(1, "p@h");
    bench.up(2, "q@h");
    let control = Control::SendName { from: foreign("p@h", 7), to: Atom::literal("rex") };
    let out = bench.run(NodeInput::Messages(LinkId(1), vec![(control, Some(Bytes::from_static(&[255])))]));
    assert!(closes(&out, 1));
    let view = bench.machine.view();
    assert!(!view.peers["p@h"].is_up() && view.peers["q@h"].is_up());
}

#[test]
fn only_a_message_that_exceeds_the_limits_is_dropped() {
    let mut bench = Bench::new();
    bench.up(1, "p@h");
    let mut deep = [104, 1].repeat(limits::TERM_DEPTH + 1);
    deep.push(106);
    let control = Control::SendName { from: foreign("p@h", 7), to: Atom::literal("rex") };
    let mut receive =
        |bytes: Vec<u8>| bench.run(NodeInput::Messages(LinkId(1), vec![(control.clone(), Some(bytes.into()))]));
    let dropped = [NodeEffect::Dropped(LinkId(1), DecodeError::TooDeep)];
    assert_eq!(receive(deep.clone()), dropped);
    // A waiting caller gets an answer.
    let from = Term::tuple([Term::Pid(foreign("p@h", 7)), Term::atom("tag")]);
    let mut labelled = |label: &'static str| {
        let whole = Term::tuple([Term::atom(label), from.clone(), Term::List(Vec::new())]);
        let mut bytes = Raw::encode(&whole).bytes().to_vec();
        bytes.pop();
        bytes.extend(&deep);
        receive(bytes)
    };
    let refused = Term::tuple([Term::atom("error"), Term::atom("notsup")]);
    for label in ["$gen_call", "system"] {
        let out = labelled(label);
        assert_eq!(out[..1], dropped);
        assert_eq!(message(&out[1..]), Term::tuple([Term::atom("tag"), refused.clone()]), "{label}");
    }
    assert_eq!(labelled("other"), dropped);
    assert!(bench.machine.view().peers["p@h"].is_up());
}

#[test]
fn too_many_elements_in_a_message_of_a_scope_close_only_its_own_connection() {
    let mut bench = Bench::new();
    bench.up(1, "p@h");
    bench.up(2, "q@h");
    let groups = u32::try_from(limits::TERM_NODES).expect("small");
    let mut sync = vec![104, 2, 119, 9];
    sync.extend(b"$gen_cast");
    sync.push(108);
    sync.extend(groups.to_be_bytes());
    sync.extend(std::iter::repeat_n(106, limits::TERM_NODES + 1));
    let mut receive = |to: &'static str| {
        let control = Control::SendName { from: foreign("p@h", 7), to: Atom::literal(to) };
        bench.run(NodeInput::Messages(LinkId(1), vec![(control, Some(sync.clone().into()))]))
    };
    assert_eq!(receive("nobody"), [NodeEffect::Dropped(LinkId(1), DecodeError::TooManyNodes)]);
    assert!(closes(&receive("pg"), 1));
    let view = bench.machine.view();
    assert!(!view.peers["p@h"].is_up() && view.peers["q@h"].is_up());
}

#[test]
fn the_oldest_disconnected_node_is_forgotten_beyond_the_limit() {
    let mut bench = Bench::new();
    let reason = || "gone".into();
    for i in 0..=limits::KNOWN_NODES {
        let (link, name) = (i as u64, if i == limits::KNOWN_NODES { "a@h".to_owned() } else { format!("n{i}@h") });
        bench.up(link, &name);
        bench.run(NodeInput::LinkDown { link: LinkId(link), reason: reason(), by_peer: false });
    }
    // Another node that disconnects at the same time must not push out the one before it.
    bench.up(u64::MAX, "z@h");
    bench.run(NodeInput::LinkDown { link: LinkId(u64::MAX), reason: reason(), by_peer: false });
    let peers = bench.machine.view().peers;
    assert_eq!(peers.len(), limits::KNOWN_NODES);
    let remembered = ["n0@h", "n1@h", "n2@h", "a@h", "z@h"].map(|name| peers.contains_key(name));
    assert_eq!(remembered, [false, false, true, true, true]);
}

#[test]
fn a_disconnected_node_is_shown_until_it_is_forgotten() {
    let mut bench = Bench::new();
    bench.up(1, "p@h");
    bench.up(2, "d1f@h");
    bench.run(NodeInput::LinkDown { link: LinkId(2), reason: "gone".into(), by_peer: false });
    let shown = |bench: &Bench| bench.machine.view().peers.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown(&bench), ["d1f@h", "p@h"]);
    bench.machine.take_changed();
    bench.run(NodeInput::Forget(vec!["d1f@h".parse().unwrap(), "p@h".parse().unwrap(), "unknown@h".parse().unwrap()]));
    assert_eq!(shown(&bench), ["p@h"], "a connected node stays");
    assert!(bench.machine.take_changed() && !bench.machine.has_met(&node("d1f@h")));
    bench.run(NodeInput::Forget(vec!["d1f@h".parse().unwrap()]));
    assert!(!bench.machine.take_changed());
}

#[test]
fn monitors_and_links_of_a_peer_are_bounded() {
    let mut bench = Bench::new();
    bench.up(1, "p@h");
    let pid = Proc::Pid(bench.spawn(vec![]));
    let mut monitors = |range: std::ops::Range<usize>| {
        let each = |id| (monitor(pid.clone(), u32::try_from(id).unwrap()), None);
        let mut out = bench.run(NodeInput::Messages(LinkId(1), range.map(each).collect()));
        while bench.machine.step(bench.now, &mut out).is_some() {}
        closes(&out, 1)
    };
    assert!(!monitors(0..limits::TIES));
    assert!(monitors(limits::TIES..limits::TIES + 1));
    assert!(!bench.machine.view().peers["p@h"].is_up());
}

#[test]
fn the_memory_of_monitors_and_links_counts_until_they_end() {
    let mut bench = Bench::new();
    bench.up(1, "p@h");
    bench.up(2, "q@h");
    let pid = bench.spawn(vec![]);
    bench.receive(1, monitor(Proc::Pid(pid.clone()), 1), None);
    let monitored = bench.machine.kept(LinkId(1));
    bench.receive(1, Control::Link { from: foreign("p@h", 7), to: pid.clone() }, None);
    let linked = bench.machine.kept(LinkId(1));
    assert!(0 < monitored && monitored < linked, "{monitored}, {linked}");
    assert_eq!(bench.machine.kept(LinkId(2)), 0);
    bench.exit(&pid);
    assert_eq!(bench.machine.kept(LinkId(1)), 0);
    let pid = bench.spawn(vec![]);
    bench.receive(1, monitor(Proc::Pid(pid.clone()), 1), None);
    bench.receive(1, Control::Link { from: foreign("p@h", 7), to: pid.clone() }, None);
    assert_eq!(bench.machine.kept(LinkId(1)), linked);
    bench.receive(
        1,
        Control::Demonitor { from: foreign("p@h", 7), to: Proc::Pid(pid), reference: reference("p@h", 1) },
        None,
    );
    assert!(bench.machine.kept(LinkId(1)) < linked);
    bench.run(NodeInput::LinkDown { link: LinkId(1), reason: "".into(), by_peer: false });
    assert_eq!(bench.machine.kept(LinkId(1)), 0);
}

#[test]
fn the_number_of_peers_is_bounded() {
    let mut bench = Bench::new();
    for i in 0..limits::PEERS {
        bench.up(i as u64, &format!("n{i}@h"));
    }
    assert_eq!(bench.machine.accept_status(&node("another@h")), Status::NotAllowed);
    assert_eq!(bench.machine.accept_status(&node("n0@h")), Status::Alive);
}
