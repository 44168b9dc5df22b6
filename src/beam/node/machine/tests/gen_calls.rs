//! Calls to processes of peers, and links to them.

use super::*;

fn gen_call(token: Token) -> NodeInput {
    NodeInput::GenCall {
        node: "p@h".parse().unwrap(),
        name: Atom::literal("server"),
        request: Term::atom("list"),
        token,
    }
}

/// Begins a call. Returns its reference and the process that waits for the answer.
fn begin(bench: &mut Bench, token: Token) -> (Reference, Pid) {
    match bench.run(gen_call(token)).as_slice() {
        [
            NodeEffect::Signal(_, Control::Monitor { from, to, reference }, None),
            NodeEffect::Signal(_, Control::SendName { from: sender, to: name }, Some(message)),
        ] => {
            assert_eq!((to, name, from), (&Proc::Name(Atom::literal("server")), &Atom::literal("server"), sender));
            let caller = Term::tuple([Term::Pid(from.clone()), Term::Reference(reference.clone())]);
            let call = Term::tuple([Term::atom("$gen_call"), caller, Term::atom("list")]);
            assert_eq!(term(message), call);
            (reference.clone(), from.clone())
        }
        other => panic!("{other:?}"),
    }
}

fn answer(reference: &Reference, value: &'static str) -> Term {
    Term::tuple([Term::Reference(reference.clone()), Term::atom(value)])
}

fn send(to: &Pid) -> Control {
    Control::Send { from: None, to: to.clone() }
}

#[test]
fn the_answer_to_a_gen_call_also_removes_its_monitor() {
    let mut bench = Bench::new();
    assert_eq!(bench.run(gen_call(1)), [NodeEffect::Result(1, Err(CallError::NoConnection))]);
    bench.up(1, "p@h");
    bench.up(2, "q@h");
    let (reference, from) = begin(&mut bench, 2);
    assert_eq!(bench.receive(2, send(&from), Some(&answer(&reference, "x"))), [], "another peer answers");
    let out = bench.receive(1, send(&from), Some(&answer(&reference, "x")));
    let to = Proc::Name(Atom::literal("server"));
    let demonitor = Control::Demonitor { from: from.clone(), to, reference: reference.clone() };
    assert_eq!(out, [NodeEffect::Signal(LinkId(1), demonitor, None), NodeEffect::Result(2, Ok(atom("x")))]);
    assert_eq!(bench.receive(1, send(&from), Some(&answer(&reference, "x"))), [], "the call has ended");
    assert_eq!(bench.machine.next_deadline(), None);

    // A function call is not answered by a message.
    let nodes = Function { module: Atom::literal("erlang"), function: Atom::literal("nodes"), args: vec![] };
    let out = bench.run(NodeInput::Call { node: "p@h".parse().unwrap(), function: nodes, token: Some(3) });
    let [NodeEffect::Signal(_, Control::SpawnRequest { request, .. }, _)] = out.as_slice() else { panic!("{out:?}") };
    assert_eq!(bench.receive(1, send(&from), Some(&answer(request, "x"))), []);
    assert_eq!(bench.machine.pending().calls, 1);
}

#[test]
fn a_gen_call_ends_with_its_process_its_connection_or_a_timeout() {
    let mut bench = Bench::new();
    bench.up(1, "p@h");
    let (reference, from) = begin(&mut bench, 1);
    let down =
        Control::MonitorExit { from: Proc::Name(Atom::literal("server")), to: from, reference, reason: atom("noproc") };
    assert_eq!(bench.receive(1, down, None), [NodeEffect::Result(1, Err(CallError::NoProcess))]);

    begin(&mut bench, 2);
    bench.now.instant += limits::CALL_TIME;
    let out = bench.run(NodeInput::Tick);
    assert!(matches!(signals(&out)[..], [Control::Demonitor { .. }]), "{out:?}");
    assert_eq!(out.last(), Some(&NodeEffect::Result(2, Err(CallError::TimedOut))));

    begin(&mut bench, 3);
    let out = bench.run(NodeInput::LinkDown { link: LinkId(1), reason: "gone".into(), by_peer: false });
    assert_eq!(out, [NodeEffect::Result(3, Err(CallError::NoConnection))]);

    bench.up(2, "p@h");
    for token in 0..limits::CALLS as u64 {
        begin(&mut bench, token);
    }
    assert_eq!(bench.run(gen_call(9)), [NodeEffect::Result(9, Err(CallError::TooMany))]);
}

struct Recorder(std::sync::mpsc::Sender<(Term, Source)>);

impl Behaviour for Recorder {
    fn call(&mut self, _: &Raw, _: &Caller, _: &mut Atoms) -> Answer {
        Answer::Now(Term::atom("ok"))
    }

    fn message(&mut self, message: &Raw, from: &Source, atoms: &mut Atoms) {
        self.0.send((message.term(atoms).unwrap(), from.clone())).unwrap();
    }

    fn state(&self) -> Term {
        Term::atom("state")
    }
}

#[test]
fn a_link_sends_one_exit_signal() {
    let (sender, received) = std::sync::mpsc::channel();
    let mut bench = Bench::new();
    let (name, behaviour) = (Some(Atom::literal("recorder")), Box::new(Recorder(sender)));
    let out = bench.run(NodeInput::Spawn { name, behaviour, groups: vec![], token: 1 });
    let [NodeEffect::Spawned(1, process)] = out.as_slice() else { panic!("{out:?}") };
    let ours = bench.machine.processes.pid(*process).unwrap().clone();
    let theirs = |id| foreign("p@h", id);
    let link = |bench: &mut Bench, id| bench.run(NodeInput::LinkTo { process: *process, to: theirs(id) });
    let exits = |id, reason, connection| {
        let exit = Term::tuple([Term::atom("EXIT"), Term::Pid(theirs(id)), reason]);
        assert_eq!(received.try_recv(), Ok((exit, Source { node: Atom::literal("p@h"), connection })));
        assert!(received.try_recv().is_err());
    };
    assert_eq!(link(&mut bench, 8), []);
    exits(8, Term::atom("noconnection"), 0);
    bench.up(7, "p@h");
    for id in [8, 9] {
        let sent = Control::Link { from: ours.clone(), to: theirs(id) };
        assert_eq!(link(&mut bench, id), [NodeEffect::Signal(LinkId(7), sent, None)]);
    }
    let exit = |id, reason: &Term| Control::Exit { from: theirs(id), to: ours.clone(), reason: Raw::encode(reason) };
    bench.receive(7, exit(8, &Term::atom("oops")), None);
    exits(8, Term::atom("oops"), 7);
    bench.receive(7, exit(8, &Term::atom("oops")), None);
    assert!(received.try_recv().is_err(), "the link has ended already");
    bench.run(NodeInput::LinkDown { link: LinkId(7), reason: "".into(), by_peer: false });
    exits(9, Term::atom("noconnection"), 7);
    assert_eq!(bench.machine.pending(), Pending::default());
    bench.up(7, "p@h");
    link(&mut bench, 8);
    bench.receive(7, exit(8, &Term::binary(vec![0; limits::CALL_ARGUMENTS])), None);
    exits(8, Term::atom("too_large"), 7);
    link(&mut bench, 8);
    let out = bench.run(NodeInput::Exit(*process, "enough"));
    let sent = Control::Exit { from: ours.clone(), to: theirs(8), reason: Raw::encode(&Term::atom("enough")) };
    assert_eq!(out, [NodeEffect::Signal(LinkId(7), sent, None)], "our process ends");
}

#[test]
fn a_process_receives_messages_and_their_source() {
    let (sender, received) = std::sync::mpsc::channel();
    let mut bench = Bench::new();
    bench.up(7, "p@h");
    let name = Atom::literal("recorder");
    bench.run(NodeInput::Spawn {
        name: Some(name.clone()),
        behaviour: Box::new(Recorder(sender)),
        groups: vec![],
        token: 1,
    });
    let message = Term::tuple([Term::atom("event"), Term::Int(1)]);
    bench.receive(7, Control::SendName { from: foreign("q@h", 1), to: name }, Some(&message));
    let from = Source { node: Atom::literal("p@h"), connection: 7 };
    assert_eq!(
        received.try_recv(),
        Ok((message, from)),
        "the source is the node of the connection, not of the pid in the signal"
    );
}
