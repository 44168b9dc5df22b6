//! Messages that need more than one step. Other connections are handled between the steps, and the
//! messages of a connection stay in order.

use super::*;

pub(super) const STEP: usize = limits::NODE_TURN + limits::CALL_ARGUMENTS;

pub(super) fn up() -> Bench {
    let mut bench = Bench::new();
    bench.up(1, "p@h");
    bench.up(2, "q@h");
    bench
}

pub(super) fn to_pg() -> Control {
    Control::SendName { from: foreign("p@h", 1), to: Atom::literal("pg") }
}

/// Returns a `sync` of `pg` with `members` members in one group.
pub(super) fn sync(group: &'static str, members: u32) -> Term {
    let members = (0..members).map(|id| Term::Pid(foreign("p@h", id))).collect();
    let groups = Term::List(vec![Term::tuple([Term::atom(group), Term::List(members)])]);
    let sync = Term::tuple([Term::atom("sync"), Term::Pid(foreign("p@h", 1)), groups]);
    Term::tuple([Term::atom("$gen_cast"), sync])
}

fn join(group: &'static str) -> Term {
    let scope = Term::Pid(foreign("p@h", 1));
    Term::tuple([Term::atom("join"), scope, Term::atom(group), Term::Pid(foreign("p@h", 5))])
}

/// Sends a ping from `q@h` over its connection.
pub(super) fn ping(bench: &mut Bench) -> Vec<NodeEffect> {
    let from = Term::tuple([Term::Pid(foreign("q@h", 7)), Term::atom("tag")]);
    let is_auth = Term::tuple([Term::atom("is_auth"), Term::atom("q@h")]);
    let ping = Term::tuple([Term::atom("$gen_call"), from, is_auth]);
    let control = Control::SendName { from: foreign("q@h", 7), to: Atom::literal("net_kernel") };
    bench.receive(2, control, Some(&ping))
}

pub(super) fn is_pong(out: &[NodeEffect]) -> bool {
    matches!(out, [NodeEffect::Signal(LinkId(2), Control::Send { .. }, Some(message))]
        if term(message) == Term::tuple([Term::atom("tag"), Term::atom("yes")]))
}

fn members(bench: &Bench, group: &'static str) -> usize {
    bench.machine.scopes[&Atom::literal("pg")].remote_members(&Term::atom(group).canonical()).count()
}

impl Bench {
    pub(super) fn step(&mut self) -> Option<(Option<LinkId>, usize)> {
        self.machine.step(self.now, &mut Vec::new())
    }

    pub(super) fn steps(&mut self) -> usize {
        std::iter::from_fn(|| self.step()).count()
    }
}

#[test]
fn a_large_sync_delays_a_ping_by_one_step() {
    let mut bench = up();
    // `intake` passes a large message in this form.
    let members_sent = 250_000_u32;
    let control = to_pg();
    let content = read(&control, Raw::encode(&sync("g", members_sent)).bytes().clone(), &mut Atoms::new());
    bench.run(NodeInput::Read(LinkId(1), Box::new((control, content))));
    let (mut most, mut steps) = (0, 0);
    while bench.machine.has_backlog() {
        assert!(is_pong(&ping(&mut bench)));
        let mut cost = 0;
        most = most.max(crate::etf::work::of(|| cost = bench.step().unwrap().1));
        assert!(cost <= STEP, "{cost}");
        steps += 1;
    }
    assert_eq!(members(&bench, "g"), usize::try_from(members_sent).unwrap());
    assert!(steps > 20, "{steps} steps");
    // A whole sync costs about 60 counted operations per member.
    assert!(most < 1_000_000, "{most} operations in one step");
}

#[test]
fn later_messages_of_a_link_wait_for_a_large_one_and_keep_their_order() {
    let mut bench = up();
    let leave = Term::tuple([
        Term::atom("leave"),
        Term::Pid(foreign("p@h", 1)),
        Term::Pid(foreign("p@h", 5)),
        Term::List(vec![Term::atom("late")]),
    ]);
    let payload = |term: &Term| Some(Raw::encode(term).bytes().clone());
    let batch = [sync("g", 50_000), join("late"), leave, join("later")];
    bench.run(NodeInput::Messages(LinkId(1), batch.iter().map(|term| (to_pg(), payload(term))).collect()));
    bench.receive(1, to_pg(), Some(&join("latest")));
    assert!(bench.machine.has_waiting(LinkId(1)) && !bench.machine.has_waiting(LinkId(2)));
    assert_eq!(["g", "late", "later", "latest"].map(|group| members(&bench, group)), [0; 4]);
    assert!(bench.steps() > 4);
    assert_eq!(["g", "late", "later", "latest"].map(|group| members(&bench, group)), [50_000, 0, 1, 1]);
    assert!(!bench.machine.has_backlog());
}

#[test]
fn large_messages_of_a_link_are_handled_one_per_turn() {
    let mut bench = up();
    let control = Control::SendName { from: foreign("p@h", 7), to: Atom::literal("net_kernel") };
    let from = Term::tuple([Term::Pid(foreign("p@h", 7)), Term::atom("tag")]);
    let large = Term::binary(vec![7; limits::NODE_TURN]);
    let call = Raw::encode(&Term::tuple([Term::atom("$gen_call"), from, large]));
    for _ in 0..3 {
        let content = read(&control, call.bytes().clone(), &mut Atoms::new());
        assert_eq!(bench.run(NodeInput::Read(LinkId(1), Box::new((control.clone(), content)))), []);
    }
    for _ in 0..3 {
        assert!(is_pong(&ping(&mut bench)));
        let mut out = Vec::new();
        let (_, cost) = bench.machine.step(bench.now, &mut out).unwrap();
        assert_eq!(out.len(), 1);
        assert!(cost >= limits::NODE_TURN, "{cost}");
    }
    assert!(!bench.machine.has_backlog());
}

#[test]
fn short_requests_with_long_answers_delay_a_ping_by_one_step() {
    let mut bench = up();
    bench.spawn((0..4000).map(Term::Int).collect());
    let discover = Term::tuple([Term::atom("discover"), Term::Pid(foreign("p@h", 1))]);
    let discover = || (to_pg(), Some(Raw::encode(&discover).bytes().clone()));
    let answer = bench.receive(1, to_pg(), Some(&Term::tuple([Term::atom("discover"), Term::Pid(foreign("p@h", 1))])));
    let size = |out: &[NodeEffect]| -> usize {
        let sizes = out.iter().map(|effect| match effect {
            NodeEffect::Signal(LinkId(1), _, Some(payload)) => payload.size(),
            _ => 0,
        });
        sizes.sum()
    };
    let most = limits::NODE_TURN + size(&answer);
    let mut out = bench.run(NodeInput::Messages(LinkId(1), (0..20).map(|_| discover()).collect()));
    let mut answered = 0;
    loop {
        assert!(size(&out) <= most, "{} bytes in one step", size(&out));
        answered += signals(&out).len();
        out.clear();
        assert!(is_pong(&ping(&mut bench)));
        if bench.machine.step(bench.now, &mut out).is_none() {
            break;
        }
    }
    assert_eq!(answered, 20);
}

#[test]
fn links_take_turns() {
    let mut bench = up();
    for link in [1, 2] {
        bench.machine.postpone(LinkId(link), (0..3).map(|_| (to_pg(), Some(Bytes::from_static(&[106])))));
    }
    let turns: Vec<u64> = std::iter::from_fn(|| bench.step()).filter_map(|(link, _)| link).map(|link| link.0).collect();
    assert_eq!(turns, [1, 2, 1, 2, 1, 2]);
}

#[test]
fn waiting_messages_are_dropped_with_their_link_or_scope() {
    let mut bench = up();
    bench.receive(1, to_pg(), Some(&sync("g", 50_000)));
    bench.receive(1, to_pg(), Some(&join("late")));
    bench.run(NodeInput::LinkDown { link: LinkId(1), reason: "gone".into(), by_peer: false });
    assert!(!bench.machine.has_waiting(LinkId(1)));
    bench.machine.postpone(LinkId(1), [(to_pg(), None)]);
    assert!(!bench.machine.has_waiting(LinkId(1)), "the connection has ended");
    bench.steps();
    assert_eq!((members(&bench, "g"), members(&bench, "late")), (0, 0));
    // The scope that applies a message is killed by another peer.
    bench.up(3, "p@h");
    bench.receive(3, to_pg(), Some(&sync("g", 50_000)));
    bench.receive(3, to_pg(), Some(&join("late")));
    let scope = bench.machine.processes.whereis("pg").unwrap().clone();
    bench.receive(2, Control::Exit2 { from: foreign("q@h", 7), to: scope, reason: atom("kill") }, None);
    assert!(bench.steps() > 0);
    assert!(!bench.machine.has_backlog());
    assert_eq!((members(&bench, "g"), members(&bench, "late")), (0, 0));
}
