//! Tests of one machine: connections, signals and calls. Only tests advance the time. The
//! submodules reuse the machine and its helpers.

use std::time::Duration;

mod backlog;
mod bounds;
mod cost;
mod gen_calls;
mod leftovers;
mod net;
mod pairs;
mod served;
mod sessions;
mod tools;

use super::*;
use crate::dist::flags;
use crate::name::node;

struct Echo;

impl Behaviour for Echo {
    /// Answers `later` later, and other requests at once.
    fn call(&mut self, request: &Raw, _caller: &Caller, atoms: &mut Atoms) -> Answer {
        match request.term(atoms).expect("a term") {
            later if later == Term::atom("later") => Answer::Later,
            request => Answer::Now(Term::tuple([Term::atom("got"), request])),
        }
    }

    fn state(&self) -> Term {
        Term::atom("state")
    }
}

/// Has `m:f/1`, which returns its argument, and `m:later/0`, which is answered later.
struct OneModule;

impl Functions for OneModule {
    fn call(&mut self, module: &Atom, function: &Atom, args: &[Term], _: &Caller) -> Option<Result<Answer, BadArg>> {
        match (module.as_str(), function.as_str(), args) {
            ("m", "f", [Term::Atom(bad)]) if *bad == "bad" => Some(Err(BadArg)),
            ("m", "f", [arg]) => Some(Ok(Answer::Now(arg.clone()))),
            ("m", "later", []) => Some(Ok(Answer::Later)),
            _ => None,
        }
    }
}

const MEMORY: u64 = 512;
const PROGRAM: Program = Program { name: "tested", version: "1.2" };

fn machine(name: &str) -> Machine {
    Machine::new(Parts {
        name: node(name),
        creation: 1,
        scopes: vec![Atom::literal("pg")],
        watched: Watched { tag: Atom::literal("tag"), group: Atom::literal("group") },
        functions: Box::new(OneModule),
        tick_time: Duration::from_secs(60),
        memory: || Some(MEMORY),
        program: PROGRAM,
        hidden: false,
    })
}

fn now() -> Now {
    Now { instant: Instant::now(), wall: SystemTime::UNIX_EPOCH }
}

fn peer(name: &str) -> Established {
    Established { name: node(name), creation: 1, flags: flags::ours(false), published: true }
}

/// A machine whose effects are returned to the test.
struct Bench {
    machine: Machine,
    now: Now,
}

impl Bench {
    fn new() -> Self {
        Self { machine: machine("m@h"), now: now() }
    }

    fn run(&mut self, input: NodeInput) -> Vec<NodeEffect> {
        let mut out = Vec::new();
        self.machine.handle(self.now, input, &mut out);
        out
    }

    fn up(&mut self, link: u64, name: &str) -> Vec<NodeEffect> {
        self.run(NodeInput::LinkUp { link: LinkId(link), peer: peer(name), origin: Origin::Accepted })
    }

    fn receive(&mut self, link: u64, control: Control, message: Option<&Term>) -> Vec<NodeEffect> {
        let payload = message.map(|message| Raw::encode(message).bytes().clone());
        self.run(NodeInput::Messages(LinkId(link), vec![(control, payload)]))
    }

    fn spawn(&mut self, groups: Vec<Term>) -> Pid {
        let out = self.run(NodeInput::Spawn { name: None, behaviour: Box::new(Echo), groups, token: 1 });
        match out.last() {
            Some(NodeEffect::Spawned(1, id)) => self.machine.processes.pid(*id).expect("the process is alive").clone(),
            other => panic!("{other:?}"),
        }
    }

    fn exit(&mut self, pid: &Pid) -> Vec<NodeEffect> {
        let id = self.machine.processes.get(&Proc::Pid(pid.clone())).expect("the process is alive").id;
        self.run(NodeInput::Exit(id, "shutdown"))
    }
}

fn foreign(node: &str, id: u32) -> Pid {
    Pid { node: Atom::new(node).unwrap(), id, serial: 0, creation: 1 }
}

fn reference(node: &str, id: u32) -> Reference {
    Reference { node: Atom::new(node).unwrap(), creation: 1, ids: [id, 0, 0].into() }
}

fn monitor(to: Proc, id: u32) -> Control {
    Control::Monitor { from: foreign("p@h", 7), to, reference: reference("p@h", id) }
}

fn atom(text: &'static str) -> Raw {
    Raw::encode(&Term::atom(text))
}

fn term(message: &Iovec) -> Term {
    let bytes: Vec<u8> =
        message.pieces().flat_map(|(small, large)| [small, large.map_or(&[], |l| l)].concat()).collect();
    Reader::new(&bytes.into(), &mut Atoms::new()).term().unwrap()
}

/// Returns the message in the only effect, which sends it to process 7 of `p@h`.
fn message(effects: &[NodeEffect]) -> Term {
    match effects {
        [NodeEffect::Signal(_, Control::Send { to, .. }, Some(message))] if *to == foreign("p@h", 7) => term(message),
        other => panic!("{other:?}"),
    }
}

fn signals(effects: &[NodeEffect]) -> Vec<&Control> {
    let mut controls = Vec::new();
    for effect in effects {
        if let NodeEffect::Signal(_, control, _) = effect {
            controls.push(control);
        }
    }
    controls
}

fn closes(effects: &[NodeEffect], link: u64) -> bool {
    effects.iter().any(|effect| matches!(effect, NodeEffect::Close(id, _) if *id == LinkId(link)))
}

impl From<&str> for PeerReason {
    fn from(detail: &str) -> Self {
        Self::new("closed_by_us", detail)
    }
}

#[test]
fn both_sides_continue_the_same_attempt_when_two_cross() {
    let mut bench = Bench::new();
    assert_eq!(bench.machine.accept_status(&node("a@h")), Status::Ok);
    assert_eq!(bench.machine.accept_status(&node("m@h")), Status::NotAllowed, "our own name");
    for name in ["a@h", "z@h"] {
        assert_eq!(bench.run(NodeInput::Connect(node(name))), [NodeEffect::Dial(node(name))]);
        assert_eq!(bench.run(NodeInput::Connect(node(name))), [], "an attempt is under way");
    }
    // The attempt of the greater name continues: ours rather than a's, and z's rather than ours.
    assert_eq!(bench.machine.accept_status(&node("a@h")), Status::Nok);
    assert_eq!(bench.machine.accept_status(&node("z@h")), Status::OkSimultaneous);
    assert!(bench.machine.still_wanted(&node("a@h")));
    bench.up(1, "a@h");
    assert_eq!(bench.machine.accept_status(&node("a@h")), Status::Alive);
    assert!(!bench.machine.still_wanted(&node("a@h")), "the peer is connected");
    bench.run(NodeInput::DialEnded("z@h".parse().unwrap()));
    assert_eq!(bench.machine.accept_status(&node("z@h")), Status::Ok);
}

#[test]
fn a_newer_connection_replaces_the_older_one_of_the_same_name() {
    let mut bench = Bench::new();
    bench.up(1, "p@h");
    let pid = bench.spawn(vec![]);
    bench.receive(1, monitor(Proc::Pid(pid.clone()), 1), None);
    assert!(closes(&bench.up(2, "p@h"), 1));
    assert_eq!(bench.machine.view().peers["p@h"].connection, 2);
    let out = bench.run(NodeInput::LinkDown { link: LinkId(1), reason: "late".into(), by_peer: false });
    assert_eq!(out, [], "the end of the replaced connection changes nothing");
    assert!(bench.machine.view().peers["p@h"].is_up());
    let out = bench.exit(&pid);
    assert!(
        !signals(&out).iter().any(|c| matches!(c, Control::MonitorExit { .. })),
        "the monitor ended with its connection"
    );
}

#[test]
fn only_published_peers_get_in_sync_and_discover() {
    let mut bench = Bench::new();
    let sent = bench.up(1, "p@h");
    let names: Vec<&str> = signals(&sent)
        .into_iter()
        .map(|control| match control {
            Control::SendName { to, .. } => to.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names, ["global_name_server", "pg"]);
    let hidden = Established { published: false, ..peer("q@h") };
    assert_eq!(bench.run(NodeInput::LinkUp { link: LinkId(2), peer: hidden, origin: Origin::Accepted }), []);
}

#[test]
fn a_hidden_node_discovers_unknown_scopes_again() {
    let mut bench = Bench::new();
    bench.machine.hidden = true;
    let discovers = |effects: &[NodeEffect]| -> usize {
        let to_scope = |c: &&Control| matches!(c, Control::SendName { to, .. } if *to == "pg");
        assert!(signals(effects).iter().all(to_scope), "global gets no message");
        effects.len()
    };
    assert_eq!(discovers(&bench.up(1, "p@h")), 1);
    assert_eq!(discovers(&bench.up(2, "q@h")), 1);
    assert_eq!(bench.machine.next_deadline(), Some(bench.now.instant + limits::PG_POLL));
    let discover = Term::tuple([Term::atom("discover"), Term::Pid(foreign("p@h", 7))]);
    let to = Control::SendName { from: foreign("p@h", 7), to: Atom::literal("pg") };
    bench.receive(1, to, Some(&discover));
    bench.now.instant += limits::PG_POLL;
    let out = bench.run(NodeInput::Tick);
    assert!(
        matches!(out.as_slice(), [NodeEffect::Signal(LinkId(2), ..)]),
        "only the unknown scope is discovered: {out:?}"
    );
    assert_eq!(discovers(&bench.run(NodeInput::Tick)), 0, "not before the deadline");
    for link in [1, 2] {
        bench.run(NodeInput::LinkDown { link: LinkId(link), reason: "gone".into(), by_peer: false });
    }
    bench.now.instant += limits::PG_POLL;
    assert_eq!(bench.run(NodeInput::Tick), []);
    assert_eq!(bench.machine.next_deadline(), None);
}

#[test]
fn a_monitor_fires_at_once_without_a_process_and_otherwise_with_its_exit_reason() {
    let mut bench = Bench::new();
    bench.up(1, "p@h");
    let absent = Proc::Name(Atom::literal("global_name_server"));
    let out = bench.receive(1, monitor(absent.clone(), 1), None);
    let down = |from: Proc, id, reason| Control::MonitorExit {
        from,
        to: foreign("p@h", 7),
        reference: reference("p@h", id),
        reason: atom(reason),
    };
    assert_eq!(signals(&out), [&down(absent, 1, "noproc")]);

    let pid = bench.spawn(vec![]);
    let earlier = Pid { creation: 9, ..pid.clone() };
    let out = bench.receive(1, monitor(Proc::Pid(earlier.clone()), 2), None);
    assert_eq!(signals(&out), [&down(Proc::Pid(earlier), 2, "noproc")], "a pid of another incarnation");

    assert_eq!(bench.receive(1, monitor(Proc::Pid(pid.clone()), 3), None), []);
    assert_eq!(bench.receive(1, monitor(Proc::Pid(pid.clone()), 4), None), []);
    let demonitor =
        Control::Demonitor { from: foreign("p@h", 7), to: Proc::Pid(pid.clone()), reference: reference("p@h", 3) };
    assert_eq!(bench.receive(1, demonitor, None), []);
    let out = bench.exit(&pid);
    assert_eq!(signals(&out), [&down(Proc::Pid(pid), 4, "shutdown")]);
}

#[test]
fn a_monitor_by_name_is_removed_when_another_process_has_the_name() {
    let mut bench = Bench::new();
    bench.up(1, "p@h");
    let name = || Atom::literal("name");
    for _ in 0..2 {
        let behaviour = Box::new(Echo);
        bench.run(NodeInput::Spawn { name: Some(name()), behaviour, groups: vec![], token: 1 });
        if bench.machine.pending().ties == 0 {
            assert_eq!(bench.receive(1, monitor(Proc::Name(name()), 1), None), []);
        }
    }
    assert_eq!(bench.machine.pending(), Pending { ties: 1, ..Pending::default() });
    let (from, to) = (foreign("p@h", 7), Proc::Name(name()));
    bench.receive(1, Control::Demonitor { from, to, reference: reference("p@h", 1) }, None);
    assert_eq!(bench.machine.pending(), Pending::default());
    assert_eq!(signals(&bench.run(NodeInput::Stop)), [] as [&Control; 0], "no monitor fires");
}

#[test]
fn links_send_exit_signals_and_unlinks_are_acknowledged() {
    let mut bench = Bench::new();
    bench.up(1, "p@h");
    let (us, them) = (bench.spawn(vec![]), foreign("p@h", 7));
    let link = Control::Link { from: them.clone(), to: us.clone() };
    assert_eq!(bench.receive(1, link.clone(), None), []);
    let id = Raw::encode(&Term::Int(5));
    let unlink = Control::Unlink { id: Some(id.clone()), from: them.clone(), to: us.clone() };
    let ack = Control::UnlinkAck { id, from: us.clone(), to: them.clone() };
    assert_eq!(signals(&bench.receive(1, unlink, None)), [&ack]);
    bench.receive(1, link.clone(), None);
    let exit = |reason| Control::Exit { from: us.clone(), to: them.clone(), reason: atom(reason) };
    let out = bench.exit(&us);
    assert_eq!(signals(&out), [&exit("shutdown")]);
    assert_eq!(signals(&bench.receive(1, link, None)), [&exit("noproc")], "the process has ended");
}

#[test]
fn the_answer_to_a_call_goes_to_its_alias_and_a_cast_gets_none() {
    let mut bench = Bench::new();
    bench.up(1, "p@h");
    let pid = bench.spawn(vec![]);
    let alias = reference("p@h", 3);
    let tag = Term::improper(vec![Term::atom("alias")], Term::Reference(alias.clone()));
    let from = Term::tuple([Term::Pid(foreign("p@h", 7)), tag.clone()]);
    let call = Term::tuple([Term::atom("$gen_call"), from, Term::atom("hello")]);
    let out = bench.receive(1, Control::Send { from: None, to: pid.clone() }, Some(&call));
    let answer = Term::tuple([tag, Term::tuple([Term::atom("got"), Term::atom("hello")])]);
    let control = Control::SendAlias { from: pid.clone(), to: alias };
    assert_eq!(out, [NodeEffect::Signal(LinkId(1), control, Some(Iovec::encode(&answer)))]);
    let cast = Term::tuple([Term::atom("$gen_cast"), Term::atom("hello")]);
    assert_eq!(bench.receive(1, Control::Send { from: None, to: pid }, Some(&cast)), []);
}

#[test]
fn pings_and_feature_requests_are_answered() {
    let mut bench = Bench::new();
    bench.up(1, "p@h");
    let (from, tag) = (Term::Pid(foreign("p@h", 7)), Term::Reference(reference("p@h", 3)));
    let is_auth = Term::tuple([Term::atom("is_auth"), Term::Atom(Atom::literal("p@h"))]);
    let call = Term::tuple([Term::atom("$gen_call"), Term::tuple([from.clone(), tag.clone()]), is_auth]);
    let to = |name| Control::SendName { from: foreign("p@h", 7), to: Atom::literal(name) };
    let out = bench.receive(1, to("net_kernel"), Some(&call));
    assert_eq!(message(&out), Term::tuple([tag, Term::atom("yes")]));
    let features = Term::tuple([from, Term::atom("features_request")]);
    let out = bench.receive(1, to("rex"), Some(&features));
    let ours = Term::Atom(Atom::literal("m@h"));
    let expected = Term::tuple([Term::atom("features_reply"), ours, Term::List(vec![Term::atom("erpc")])]);
    assert_eq!(message(&out), expected);
}

#[test]
fn only_the_called_peer_can_answer_a_call() {
    let mut bench = Bench::new();
    bench.up(1, "p@h");
    bench.up(2, "q@h");
    let nodes = Function { module: Atom::literal("erlang"), function: Atom::literal("nodes"), args: vec![] };
    let out = bench.run(NodeInput::Call { node: "p@h".parse().unwrap(), function: nodes, token: Some(1) });
    let [NodeEffect::Signal(_, Control::SpawnRequest { request, from, .. }, _)] = out.as_slice() else {
        panic!("{out:?}")
    };
    let refused = || Control::SpawnReply {
        request: request.clone(),
        to: from.clone(),
        flags: 0,
        result: Err(Atom::literal("no")),
    };
    assert_eq!(bench.receive(2, refused(), None), []);
    assert_eq!(bench.receive(1, refused(), None).len(), 1);
}

#[test]
fn a_monitor_of_a_peer_fires_once() {
    let mut bench = Bench::new();
    let to = || Address::name("server", "p@h").unwrap();
    let lost = |token| NodeEffect::Down(token, Raw::encode(&Term::atom("noconnection")));
    assert_eq!(bench.run(NodeInput::Monitor { to: to(), token: 1 }), [lost(1)]);
    bench.up(1, "p@h");
    bench.up(2, "other@h");
    let begin = |bench: &mut Bench, token| match bench.run(NodeInput::Monitor { to: to(), token }).as_slice() {
        [NodeEffect::Signal(LinkId(1), Control::Monitor { from, to: Proc::Name(_), reference }, None)] => {
            (from.clone(), reference.clone())
        }
        other => panic!("{other:?}"),
    };
    let (from, reference) = begin(&mut bench, 2);
    let reason = Raw::encode(&Term::atom("oops"));
    let ended = || Control::MonitorExit {
        from: Proc::Name(Atom::literal("server")),
        to: from.clone(),
        reference: reference.clone(),
        reason: reason.clone(),
    };
    assert_eq!(bench.receive(2, ended(), None), [], "another peer cannot end the monitor");
    assert_eq!(bench.receive(1, ended(), None), [NodeEffect::Down(2, reason.clone())]);
    assert_eq!(bench.receive(1, ended(), None), [], "the monitor has fired");
    let (_, removed) = begin(&mut bench, 3);
    match bench.run(NodeInput::Demonitor(3)).as_slice() {
        [NodeEffect::Signal(LinkId(1), Control::Demonitor { reference, .. }, None)] => assert_eq!(*reference, removed),
        other => panic!("{other:?}"),
    }
    begin(&mut bench, 4);
    assert_eq!(bench.machine.pending(), Pending { monitors: 1, ..Pending::default() });
    let down = |link| NodeInput::LinkDown { link: LinkId(link), reason: "".into(), by_peer: false };
    assert_eq!(bench.run(down(2)), []);
    assert_eq!(bench.run(down(1)), [lost(4)]);
    assert_eq!(bench.machine.pending(), Pending::default());
}

#[test]
fn a_call_ends_with_a_result_a_refusal_a_lost_connection_or_a_timeout() {
    let nodes = || Function { module: Atom::literal("erlang"), function: Atom::literal("nodes"), args: vec![] };
    let call = |token| NodeInput::Call { node: "p@h".parse().unwrap(), function: nodes(), token: Some(token) };
    let mut bench = Bench::new();
    assert_eq!(bench.run(call(1)), [NodeEffect::Result(1, Err(CallError::NoConnection))]);
    bench.up(1, "p@h");
    let begin = |bench: &mut Bench, token| match bench.run(call(token)).as_slice() {
        [NodeEffect::Signal(_, Control::SpawnRequest { request, from, .. }, Some(_))] => {
            (request.clone(), from.clone())
        }
        other => panic!("{other:?}"),
    };

    let (request, from) = begin(&mut bench, 2);
    let value = Term::tuple([Term::Reference(request.clone()), Term::atom("return"), Term::List(vec![])]);
    let ended = |reference: Reference, reason: &Term| Control::MonitorExit {
        from: Proc::Pid(foreign("p@h", 9)),
        to: from.clone(),
        reference,
        reason: Raw::encode(reason),
    };
    let result = bench.receive(1, ended(request, &value), None);
    assert_eq!(result, [NodeEffect::Result(2, Ok(Raw::encode(&Term::List(vec![]))))]);

    let (request, _) = begin(&mut bench, 3);
    let out = bench.receive(1, ended(request, &Term::atom("killed")), None);
    assert_eq!(out, [NodeEffect::Result(3, Err(CallError::Failed))]);

    let (request, to) = begin(&mut bench, 4);
    let refusal = Control::SpawnReply { request, to, flags: 0, result: Err(Atom::literal("notsup")) };
    let out = bench.receive(1, refusal, None);
    assert_eq!(out, [NodeEffect::Result(4, Err(CallError::Refused(Atom::literal("notsup"))))]);

    begin(&mut bench, 5);
    assert_eq!(bench.machine.next_deadline(), Some(bench.now.instant + limits::CALL_TIME));
    bench.now.instant += limits::CALL_TIME - Duration::from_millis(1);
    assert_eq!(bench.run(NodeInput::Tick), []);
    bench.now.instant += Duration::from_millis(1);
    assert_eq!(bench.run(NodeInput::Tick), [NodeEffect::Result(5, Err(CallError::TimedOut))]);

    begin(&mut bench, 6);
    let out = bench.run(NodeInput::LinkDown { link: LinkId(1), reason: "gone".into(), by_peer: false });
    assert_eq!(out, [NodeEffect::Result(6, Err(CallError::NoConnection))]);
    assert_eq!(bench.machine.next_deadline(), None);

    bench.up(2, "p@h");
    for token in 0..limits::CALLS as u64 {
        begin(&mut bench, token);
    }
    assert_eq!(bench.run(call(9)), [NodeEffect::Result(9, Err(CallError::TooMany))]);
}
