//! Messages that need more than one step. Other connections are handled between the steps, and the
//! messages of a connection stay in order.

use super::*;

pub(super) const STEP: usize = limits::NODE_TURN + limits::CALL_ARGUMENTS;

pub(super) fn up() -> Alone {
    let mut alone = Alone::new();
    alone.up(1, "p@h");
    alone.up(2, "q@h");
    alone
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
pub(super) fn ping(alone: &mut Alone) -> Vec<NodeEffect> {
    let from = Term::tuple([Term::Pid(foreign("q@h", 7)), Term::atom("tag")]);
    let is_auth = Term::tuple([Term::atom("is_auth"), Term::atom("q@h")]);
    let ping = Term::tuple([Term::atom("$gen_call"), from, is_auth]);
    let control = Control::SendName { from: foreign("q@h", 7), to: Atom::literal("net_kernel") };
    alone.receive(2, control, Some(&ping))
}

pub(super) fn is_pong(out: &[NodeEffect]) -> bool {
    matches!(out, [NodeEffect::Signal(LinkId(2), Control::Send { .. }, Some(message))]
        if term(message) == Term::tuple([Term::atom("tag"), Term::atom("yes")]))
}

fn members(alone: &Alone, group: &'static str) -> usize {
    alone.machine.scopes[&Atom::literal("pg")].remote_members(&Term::atom(group).canonical()).count()
}

impl Alone {
    pub(super) fn step(&mut self) -> Option<(Option<LinkId>, usize)> {
        self.machine.step(self.now, &mut Vec::new())
    }

    pub(super) fn steps(&mut self) -> usize {
        std::iter::from_fn(|| self.step()).count()
    }
}

#[test]
fn a_large_sync_delays_a_ping_by_one_step() {
    let mut alone = up();
    // `intake` passes a large message in this form.
    let members_sent = 250_000_u32;
    let control = to_pg();
    let content = read(&control, Raw::encode(&sync("g", members_sent)).bytes().clone(), &mut Atoms::new());
    alone.run(NodeInput::Read(LinkId(1), Box::new((control, content))));
    let (mut most, mut steps) = (0, 0);
    while alone.machine.has_backlog() {
        assert!(is_pong(&ping(&mut alone)));
        let mut cost = 0;
        most = most.max(crate::etf::work::of(|| cost = alone.step().unwrap().1));
        assert!(cost <= STEP, "{cost}");
        steps += 1;
    }
    assert_eq!(members(&alone, "g"), usize::try_from(members_sent).unwrap());
    assert!(steps > 20, "{steps} steps");
    // A whole sync costs about 60 counted operations per member.
    assert!(most < 1_000_000, "{most} operations in one step");
}

#[test]
fn later_messages_of_a_link_wait_for_a_large_one_and_keep_their_order() {
    let mut alone = up();
    let leave = Term::tuple([
        Term::atom("leave"),
        Term::Pid(foreign("p@h", 1)),
        Term::Pid(foreign("p@h", 5)),
        Term::List(vec![Term::atom("late")]),
    ]);
    let payload = |term: &Term| Some(Raw::encode(term).bytes().clone());
    let batch = [sync("g", 50_000), join("late"), leave, join("later")];
    alone.run(NodeInput::Messages(LinkId(1), batch.iter().map(|term| (to_pg(), payload(term))).collect()));
    alone.receive(1, to_pg(), Some(&join("latest")));
    assert!(alone.machine.has_waiting(LinkId(1)) && !alone.machine.has_waiting(LinkId(2)));
    assert_eq!(["g", "late", "later", "latest"].map(|group| members(&alone, group)), [0; 4]);
    assert!(alone.steps() > 4);
    assert_eq!(["g", "late", "later", "latest"].map(|group| members(&alone, group)), [50_000, 0, 1, 1]);
    assert!(!alone.machine.has_backlog());
}

#[test]
fn large_messages_of_a_link_are_handled_one_per_turn() {
    let mut alone = up();
    let control = Control::SendName { from: foreign("p@h", 7), to: Atom::literal("net_kernel") };
    let from = Term::tuple([Term::Pid(foreign("p@h", 7)), Term::atom("tag")]);
    let large = Term::binary(vec![7; limits::NODE_TURN]);
    let call = Raw::encode(&Term::tuple([Term::atom("$gen_call"), from, large]));
    for _ in 0..3 {
        let content = read(&control, call.bytes().clone(), &mut Atoms::new());
        assert_eq!(alone.run(NodeInput::Read(LinkId(1), Box::new((control.clone(), content)))), []);
    }
    for _ in 0..3 {
        assert!(is_pong(&ping(&mut alone)));
        let mut out = Vec::new();
        let (_, cost) = alone.machine.step(alone.now, &mut out).unwrap();
        assert_eq!(out.len(), 1);
        assert!(cost >= limits::NODE_TURN, "{cost}");
    }
    assert!(!alone.machine.has_backlog());
}

#[test]
fn short_requests_with_long_answers_delay_a_ping_by_one_step() {
    let mut alone = up();
    alone.spawn((0..4000).map(Term::Int).collect());
    let discover = Term::tuple([Term::atom("discover"), Term::Pid(foreign("p@h", 1))]);
    let discover = || (to_pg(), Some(Raw::encode(&discover).bytes().clone()));
    let answer = alone.receive(1, to_pg(), Some(&Term::tuple([Term::atom("discover"), Term::Pid(foreign("p@h", 1))])));
    let size = |out: &[NodeEffect]| -> usize {
        let sizes = out.iter().map(|effect| match effect {
            NodeEffect::Signal(LinkId(1), _, Some(payload)) => payload.size(),
            _ => 0,
        });
        sizes.sum()
    };
    let most = limits::NODE_TURN + size(&answer);
    let mut out = alone.run(NodeInput::Messages(LinkId(1), (0..20).map(|_| discover()).collect()));
    let mut answered = 0;
    loop {
        assert!(size(&out) <= most, "{} bytes in one step", size(&out));
        answered += signals(&out).len();
        out.clear();
        assert!(is_pong(&ping(&mut alone)));
        if alone.machine.step(alone.now, &mut out).is_none() {
            break;
        }
    }
    assert_eq!(answered, 20);
}

#[test]
fn links_take_turns() {
    let mut alone = up();
    for link in [1, 2] {
        alone.machine.postpone(LinkId(link), (0..3).map(|_| (to_pg(), Some(Bytes::from_static(&[106])))));
    }
    let turns: Vec<u64> = std::iter::from_fn(|| alone.step()).filter_map(|(link, _)| link).map(|link| link.0).collect();
    assert_eq!(turns, [1, 2, 1, 2, 1, 2]);
}

#[test]
fn waiting_messages_are_dropped_with_their_link_or_scope() {
    let mut alone = up();
    alone.receive(1, to_pg(), Some(&sync("g", 50_000)));
    alone.receive(1, to_pg(), Some(&join("late")));
    alone.run(NodeInput::LinkDown { link: LinkId(1), reason: "gone".into(), by_peer: false });
    assert!(!alone.machine.has_waiting(LinkId(1)));
    alone.machine.postpone(LinkId(1), [(to_pg(), None)]);
    assert!(!alone.machine.has_waiting(LinkId(1)), "the connection has ended");
    alone.steps();
    assert_eq!((members(&alone, "g"), members(&alone, "late")), (0, 0));
    // The scope that applies a message is killed by another peer.
    alone.up(3, "p@h");
    alone.receive(3, to_pg(), Some(&sync("g", 50_000)));
    alone.receive(3, to_pg(), Some(&join("late")));
    let scope = alone.machine.processes.whereis("pg").unwrap().clone();
    alone.receive(2, Control::Exit2 { from: foreign("q@h", 7), to: scope, reason: atom("kill") }, None);
    assert!(alone.steps() > 0);
    assert!(!alone.machine.has_backlog());
    assert_eq!((members(&alone, "g"), members(&alone, "late")), (0, 0));
}
