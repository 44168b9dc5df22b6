//! Calls from peers, and exit signals to our processes.

use super::net::Net;
use super::*;

const PEER: &str = "p@h";

fn them() -> Pid {
    foreign(PEER, 7)
}

fn up() -> Bench {
    let mut bench = Bench::new();
    bench.up(1, PEER);
    bench
}

fn tuple(elements: &[Term]) -> Term {
    Term::tuple(elements)
}

/// Returns `[{M, F, A, []}]`.
fn stack(mfa: &[Term; 3]) -> Term {
    let [m, f, a] = mfa.clone();
    Term::List(vec![tuple(&[m, f, a, Term::List(vec![])])])
}

fn undef(mfa: &[Term; 3]) -> Term {
    tuple(&[Term::atom("undef"), stack(mfa)])
}

fn mfa(module: &'static str, function: &'static str, args: &[Term]) -> [Term; 3] {
    [Term::atom(module), Term::atom(function), Term::List(args.to_vec())]
}

fn request(mfa: (&'static str, &'static str, u8), options: &[Term]) -> Control {
    let (module, function, arity) = mfa;
    let new = NewProcess {
        group_leader: them(),
        module: Atom::literal(module),
        function: Atom::literal(function),
        arity,
        options: Raw::encode(&Term::List(options.to_vec())),
    };
    Control::SpawnRequest { request: reference(PEER, 3), from: them(), new: new.into() }
}

/// Sends a spawn request. Returns the flags of the answer and the exit reasons by link and monitor.
fn spawn(bench: &mut Bench, control: Control, args: &[Term]) -> (u32, Vec<Raw>) {
    let out = bench.receive(1, control, Some(&Term::List(args.to_vec())));
    ended(&out)
}

fn ended(out: &[NodeEffect]) -> (u32, Vec<Raw>) {
    let mut controls = signals(out).into_iter();
    let Some(Control::SpawnReply { request, to, flags, result: Ok(spawned) }) = controls.next() else {
        panic!("{out:?}");
    };
    assert_eq!((request, to), (&reference(PEER, 3), &them()));
    let reason = |control: &Control| match control {
        Control::MonitorExit { from: Proc::Pid(from), to, reference: r, reason } if from == spawned => {
            assert_eq!((to, r), (&them(), &reference(PEER, 3)));
            reason.clone()
        }
        Control::Exit { from, to, reason } if from == spawned && *to == them() => reason.clone(),
        other => panic!("{other:?}"),
    };
    (*flags, controls.map(reason).collect())
}

fn erpc(bench: &mut Bench, mfa: &[Term; 3]) -> Term {
    let [m, f, a] = mfa.clone();
    let call = request(("erpc", "execute_call", 4), &[Term::atom("monitor")]);
    let (flags, reasons) = spawn(bench, call, &[Term::atom("result"), m, f, a]);
    assert_eq!(flags, 2);
    let [reason] = reasons.as_slice() else { panic!("{reasons:?}") };
    reason.term(&mut Atoms::new()).unwrap()
}

#[test]
fn erpc_returns_the_value_or_error_of_an_erlang_node() {
    let mut bench = up();
    let result = Term::atom("result");
    let value = erpc(&mut bench, &mfa("m", "f", &[Term::Int(5)]));
    assert_eq!(value, tuple(&[result.clone(), Term::atom("return"), Term::Int(5)]));
    for (mfa, error) in [
        (mfa("erlang", "halt", &[]), "undef"),
        (mfa("m", "f", &[]), "undef"),
        (mfa("m", "f", &[Term::atom("bad")]), "badarg"),
    ] {
        let expected = tuple(&[result.clone(), Term::atom("error"), Term::atom(error), stack(&mfa)]);
        assert_eq!(erpc(&mut bench, &mfa), expected);
    }
    let badarg = tuple(&[Term::atom("erpc"), Term::atom("badarg")]);
    let not_a_list = [Term::atom("m"), Term::atom("f"), Term::Int(1)];
    let expected = tuple(&[result, Term::atom("error"), badarg]);
    assert_eq!(erpc(&mut bench, &not_a_list), expected);
    assert_eq!(erpc(&mut bench, &[Term::Int(1), Term::atom("f"), Term::List(vec![])]), expected);
}

#[test]
fn nodes_lists_the_visible_peers_in_order() {
    let mut bench = up();
    bench.up(2, "a@h");
    let hidden = Established { published: false, ..peer("q@h") };
    bench.run(NodeInput::LinkUp { link: LinkId(3), peer: hidden, origin: Origin::Accepted });
    let nodes = Term::List(["a@h", PEER].map(|name| Term::Atom(Atom::literal(name))).to_vec());
    let returned = |value| tuple(&[Term::atom("result"), Term::atom("return"), value]);
    assert_eq!(erpc(&mut bench, &mfa("erlang", "nodes", &[])), returned(nodes));
}

#[test]
fn a_spawned_process_ends_as_on_an_erlang_node() {
    let mut bench = up();
    let (link, monitor) = (Term::atom("link"), Term::tuple([Term::atom("monitor"), Term::List(vec![])]));
    let halt = mfa("erlang", "halt", &[]);
    let undef = Raw::encode(&undef(&halt));
    let spawned = |bench: &mut Bench, options: &[Term]| spawn(bench, request(("erlang", "halt", 0), options), &[]);
    assert_eq!(spawned(&mut bench, &[]), (0, vec![]));
    assert_eq!(spawned(&mut bench, std::slice::from_ref(&link)), (1, vec![undef.clone()]));
    assert_eq!(spawned(&mut bench, &[monitor.clone(), link.clone()]), (3, vec![undef.clone(), undef]));
    let normal = spawn(&mut bench, request(("m", "f", 1), &[link]), &[Term::Int(1)]);
    assert_eq!(normal, (1, vec![atom("normal")]));
    let [m, f, a] = mfa("m", "f", &[Term::Int(1)]);
    let cast = spawn(&mut bench, request(("erpc", "execute_cast", 3), &[]), &[m, f, a]);
    assert_eq!(cast, (0, vec![]));
}

#[test]
fn a_spawn_request_that_cannot_be_read_is_refused() {
    let mut bench = up();
    let refused = |out: &[NodeEffect]| {
        let (request, to) = (reference(PEER, 3), them());
        let notsup = Control::SpawnReply { request, to, flags: 0, result: Err(Atom::literal("notsup")) };
        assert_eq!(signals(out), [&notsup]);
    };
    let call = || request(("erpc", "execute_call", 4), &[Term::atom("monitor")]);
    refused(&bench.run(NodeInput::Messages(LinkId(1), vec![(call(), Some(Bytes::from_static(b"not a term")))])));
    refused(&bench.run(NodeInput::Messages(LinkId(1), vec![(call(), Some(Bytes::from_static(&[80, 0, 0, 0, 1])))])));
    refused(&bench.receive(1, call(), Some(&Term::List(vec![Term::atom("result")]))));
    refused(&bench.receive(1, call(), Some(&Term::atom("none"))));
    assert!(bench.machine.view().peers[PEER].is_up());
}

#[test]
fn large_arguments_are_not_decoded() {
    let mut bench = up();
    let pid = bench.spawn(vec![]);
    // `[X]` is six bytes longer than a binary `X`, which is five bytes longer than its content.
    let fits = Term::binary(vec![7; limits::CALL_ARGUMENTS - 11]);
    let large = Term::binary(vec![7; limits::CALL_ARGUMENTS - 10]);
    let returned = tuple(&[Term::atom("result"), Term::atom("return"), fits.clone()]);
    assert_eq!(erpc(&mut bench, &mfa("m", "f", &[fits])), returned);
    let call = mfa("m", "f", std::slice::from_ref(&large));
    let expected = tuple(&[Term::atom("result"), Term::atom("error"), Term::atom("undef"), stack(&call)]);
    assert_eq!(erpc(&mut bench, &call), expected);
    let [m, f, a] = call.clone();
    let (to, message) =
        gen_call(Proc::Name(Atom::literal("rex")), tuple(&[Term::atom("call"), m, f, a, Term::Pid(them())]));
    let badrpc = tuple(&[Term::atom("badrpc"), tuple(&[Term::atom("EXIT"), undef(&call)])]);
    assert_eq!(answer(&bench.receive(1, to, Some(&message))), badrpc);
    let very_large = Term::binary(vec![7; limits::CALL_ARGUMENTS]);
    for (label, to) in [
        ("$gen_call", Proc::Pid(pid.clone())),
        ("$gen_call", Proc::Name(Atom::literal("net_kernel"))),
        ("system", Proc::Pid(pid.clone())),
    ] {
        let (to, message) = labelled(label, to, very_large.clone());
        let Term::Tuple(refused) = answer(&bench.receive(1, to, Some(&message))) else { panic!("not a tuple") };
        let Term::Tuple(why) = &refused[1] else { panic!("{refused:?}") };
        assert_eq!((&refused[0], &why[0]), (&Term::atom("error"), &Term::atom("too_large")), "{label}");
    }
    // The answer repeats a tag of any size.
    let from = tuple(&[Term::Pid(them()), very_large.clone()]);
    let message = tuple(&[Term::atom("$gen_call"), from, Term::Int(1)]);
    let out = bench.receive(1, Control::Send { from: None, to: pid }, Some(&message));
    let [NodeEffect::Signal(_, _, Some(reply))] = out.as_slice() else { panic!("{out:?}") };
    assert_eq!(term(reply), tuple(&[very_large.clone(), tuple(&[Term::atom("got"), Term::Int(1)])]));
    let options = request(("m", "f", 1), &[Term::atom("monitor"), very_large]);
    let out = bench.receive(1, options, Some(&Term::List(vec![Term::Int(1)])));
    assert!(matches!(signals(&out).as_slice(), [Control::SpawnReply { result: Err(why), .. }] if *why == "badopt"));
}

#[test]
fn a_later_answer_is_sent_unless_its_connection_has_ended() {
    let mut bench = up();
    let [m, f, a] = mfa("m", "later", &[]);
    let args = Term::List(vec![Term::atom("result"), m, f, a]);
    let call = || request(("erpc", "execute_call", 4), &[Term::atom("monitor")]);
    let mut out = bench.receive(1, call(), Some(&args));
    assert_eq!(ended(&out), (2, vec![]), "the process runs");
    out.extend(bench.run(NodeInput::Answer(CallId(bench.machine.last_served), Term::atom("done"))));
    let done = tuple(&[Term::atom("result"), Term::atom("return"), Term::atom("done")]);
    assert_eq!(ended(&out), (2, vec![Raw::encode(&done)]));
    assert_eq!(
        bench.run(NodeInput::Answer(CallId(bench.machine.last_served), Term::atom("done"))),
        [],
        "a second answer"
    );

    let pid = bench.spawn(vec![]);
    let (to, message) = gen_call(Proc::Pid(pid), Term::atom("later"));
    assert_eq!(bench.receive(1, to, Some(&message)), []);
    let out = bench.run(NodeInput::Answer(CallId(bench.machine.last_served), Term::atom("done")));
    assert_eq!(answer(&out), Term::atom("done"));

    bench.receive(1, call(), Some(&args));
    bench.run(NodeInput::LinkDown { link: LinkId(1), reason: "gone".into(), by_peer: false });
    bench.up(2, PEER);
    let late = bench.run(NodeInput::Answer(CallId(bench.machine.last_served), Term::atom("done")));
    assert_eq!(late, [], "the answer does not go to another connection");
}

#[test]
fn waiting_calls_of_peers_are_bounded() {
    let mut bench = up();
    let pid = bench.spawn(vec![]);
    for _ in 0..limits::SERVED {
        let (to, message) = gen_call(Proc::Pid(pid.clone()), Term::atom("later"));
        assert_eq!(bench.receive(1, to, Some(&message)), []);
    }
    let (to, message) = gen_call(Proc::Pid(pid), Term::atom("later"));
    let Term::Tuple(refused) = answer(&bench.receive(1, to, Some(&message))) else { panic!("not a tuple") };
    assert_eq!(refused[0], Term::atom("error"));
    let error = tuple(&[Term::atom("erpc"), Term::atom("system_limit")]);
    let expected = tuple(&[Term::atom("result"), Term::atom("error"), error]);
    assert_eq!(erpc(&mut bench, &mfa("m", "later", &[])), expected);
}

fn gen_call(to: Proc, request: Term) -> (Control, Term) {
    labelled("$gen_call", to, request)
}

fn labelled(label: &'static str, to: Proc, request: Term) -> (Control, Term) {
    let control = match to {
        Proc::Pid(to) => Control::Send { from: None, to },
        Proc::Name(to) => Control::SendName { from: them(), to },
    };
    let from = tuple(&[Term::Pid(them()), Term::Reference(reference(PEER, 9))]);
    (control, tuple(&[Term::atom(label), from, request]))
}

/// Returns the answer to [`gen_call`], which is the first signal.
fn answer(out: &[NodeEffect]) -> Term {
    match out.first() {
        Some(NodeEffect::Signal(_, Control::Send { to, .. }, Some(message))) if *to == them() => match term(message) {
            Term::Tuple(reply) => {
                assert_eq!(reply[0], Term::Reference(reference(PEER, 9)));
                reply[1].clone()
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_process_answers_calls() {
    let mut bench = up();
    let notsup = tuple(&[Term::atom("error"), Term::atom("notsup")]);
    for name in ["net_kernel", "rex", "global_group", "pg"] {
        let (to, message) = gen_call(Proc::Name(Atom::literal(name)), Term::atom("unknown"));
        assert_eq!(answer(&bench.receive(1, to, Some(&message))), notsup, "{name}");
        let (to, message) = labelled("system", Proc::Name(Atom::literal(name)), Term::atom("get_state"));
        let state = tuple(&[Term::atom("ok"), Term::atom(name)]);
        assert_eq!(answer(&bench.receive(1, to, Some(&message))), state, "{name}");
    }
    let pid = bench.spawn(vec![]);
    let (to, message) = labelled("system", Proc::Pid(pid.clone()), Term::atom("get_status"));
    let Term::Tuple(status) = answer(&bench.receive(1, to, Some(&message))) else { panic!("not a tuple") };
    assert_eq!((&status[0], &status[1]), (&Term::atom("status"), &Term::Pid(pid)));
}

#[test]
fn rex_applies_functions_and_passes_messages_on() {
    let mut bench = up();
    let rex = || Proc::Name(Atom::literal("rex"));
    let ask = |label: &'static str, mfa: &[Term; 3]| {
        let [m, f, a] = mfa.clone();
        tuple(&[Term::atom(label), m, f, a, Term::Pid(them())])
    };
    let (value, halt) = (mfa("m", "f", &[Term::Int(5)]), mfa("erlang", "halt", &[]));
    for label in ["call", "block_call"] {
        let (to, message) = gen_call(rex(), ask(label, &value));
        assert_eq!(answer(&bench.receive(1, to, Some(&message))), Term::Int(5));
        let (to, message) = gen_call(rex(), ask(label, &halt));
        let exit = tuple(&[Term::atom("EXIT"), undef(&halt)]);
        let badrpc = tuple(&[Term::atom("badrpc"), exit]);
        assert_eq!(answer(&bench.receive(1, to, Some(&message))), badrpc);
    }
    let cast = tuple(&[Term::atom("$gen_cast"), ask("cast", &value)]);
    let to = || Control::SendName { from: them(), to: Atom::literal("rex") };
    assert_eq!(bench.receive(1, to(), Some(&cast)), []);

    let answered = |out: &[NodeEffect]| match out {
        [NodeEffect::Signal(_, Control::Send { to, .. }, Some(message))] if *to == them() => term(message),
        other => panic!("{other:?}"),
    };
    let plain = |request: Term| tuple(&[Term::Pid(them()), request]);
    let out = bench.receive(1, to(), Some(&plain(ask("call", &value))));
    assert_eq!(answered(&out), tuple(&[Term::atom("rex"), Term::Int(5)]));
    let pass = |label, name| plain(tuple(&[Term::atom(label), Term::atom(name), Term::atom("hello")]));
    let node = Term::atom("m@h");
    let nobody = tuple(&[Term::atom("nonexisting_name"), Term::atom("nobody")]);
    let nobody = tuple(&[Term::atom("rex"), node.clone(), nobody]);
    let out = bench.receive(1, to(), Some(&pass("sbcast", "net_kernel")));
    assert_eq!(answered(&out), tuple(&[Term::atom("rex"), node.clone(), node]));
    assert_eq!(answered(&bench.receive(1, to(), Some(&pass("sbcast", "nobody")))), nobody);
    assert_eq!(answered(&bench.receive(1, to(), Some(&pass("send", "nobody")))), nobody);
    assert_eq!(bench.receive(1, to(), Some(&pass("send", "net_kernel"))), []);
}

// ---- Exit signals -------------------------------------------------------------------------------

#[test]
fn a_killed_process_restarts_with_a_new_pid_in_the_same_groups() {
    let mut net = Net::new(&["a@h", "b@h"]);
    net.connect(0, 1);
    net.spawn(0, "x");
    net.settle();
    let (_, id, _) = net.processes[0].clone();
    let pid = |net: &Net| net.machines[0].processes.pid(id).unwrap().clone();
    let first = pid(&net);
    let link = net.link_between(0, 1).unwrap();
    let kill = |to: Pid, reason| Control::Exit2 { from: foreign("b@h", 7), to, reason: atom(reason) };
    let watch =
        Control::Monitor { from: foreign("b@h", 7), to: Proc::Pid(first.clone()), reference: reference("b@h", 99) };
    net.input(0, NodeInput::Messages(link, vec![(watch, None)]));
    net.input(0, NodeInput::Messages(link, vec![(kill(first.clone(), "shutdown"), None)]));
    assert_eq!(pid(&net), first, "the process traps exits");

    let mut out = Vec::new();
    net.machines[0].handle(net.now, NodeInput::Messages(link, vec![(kill(first.clone(), "kill"), None)]), &mut out);
    let down = |control: &&Control| matches!(control, Control::MonitorExit { reason, .. } if *reason == atom("killed"));
    assert!(signals(&out).iter().any(down));
    net.carry_out(0, out);
    net.settle();
    assert_ne!(pid(&net), first);
    assert_eq!(net.announced(1), net.expected(1), "the process is in the same group");
    net.input(0, NodeInput::Exit(id, "shutdown"));
    net.settle();
    assert_eq!(net.announced(1), [], "the id stays the same");
}

#[test]
fn a_killed_scope_discovers_the_others_again() {
    let mut net = Net::new(&["a@h", "b@h"]);
    net.connect(0, 1);
    net.spawn(0, "x");
    net.spawn(1, "y");
    net.settle();
    let link = net.link_between(0, 1).unwrap();
    let scope = |net: &Net| net.machines[0].processes.whereis("pg").unwrap().clone();
    let first = scope(&net);
    let kill = Control::Exit2 { from: foreign("b@h", 7), to: first.clone(), reason: atom("kill") };
    net.input(0, NodeInput::Messages(link, vec![(kill, None)]));
    assert_ne!(scope(&net), first);
    net.settle();
    for node in 0..2 {
        assert_eq!(net.announced(node), net.expected(node));
    }
}

#[test]
fn a_process_can_be_terminated_through_sys() {
    let mut bench = up();
    let pid = bench.spawn(vec![]);
    bench.receive(1, monitor(Proc::Pid(pid.clone()), 1), None);
    let stop = tuple(&[Term::atom("terminate"), Term::atom("normal")]);
    let (to, message) = labelled("system", Proc::Pid(pid.clone()), stop);
    let out = bench.receive(1, to, Some(&message));
    assert_eq!(answer(&out), Term::atom("ok"));
    let reason = atom("normal");
    let from = Proc::Pid(pid);
    let down = Control::MonitorExit { from, to: them(), reference: reference(PEER, 1), reason };
    assert!(signals(&out).contains(&&down));
}
