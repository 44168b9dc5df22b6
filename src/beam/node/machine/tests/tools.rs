//! The functions that Erlang/OTP's tools call on every node, called through `rex`.

use super::*;

const PEER: &str = "p@h";

fn up() -> Bench {
    let mut bench = Bench::new();
    bench.up(1, PEER);
    bench
}

fn list(terms: &[Term]) -> Term {
    Term::List(terms.to_vec())
}

/// Returns the result of `rpc:call(Us, Module, Function, Args)`, or the error in its `badrpc`.
fn call(bench: &mut Bench, (module, function): (&'static str, &'static str), args: &[Term]) -> Term {
    let call = [Term::atom("call"), Term::atom(module), Term::atom(function), list(args), Term::atom("user")];
    let from = Term::tuple([Term::Pid(foreign(PEER, 7)), Term::Reference(reference(PEER, 1))]);
    let request = Term::tuple([Term::atom("$gen_call"), from, Term::tuple(call)]);
    let control = Control::SendName { from: foreign(PEER, 7), to: Atom::literal("rex") };
    let Term::Tuple(answer) = message(&bench.receive(1, control, Some(&request))) else { panic!("no answer") };
    match &answer[1] {
        Term::Tuple(badrpc) if badrpc[0] == Term::atom("badrpc") => match &badrpc[1] {
            Term::Tuple(exit) => match &exit[1] {
                Term::Tuple(error) => error[0].clone(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        },
        value => value.clone(),
    }
}

fn erlang(bench: &mut Bench, function: &'static str, args: &[Term]) -> Term {
    call(bench, ("erlang", function), args)
}

fn is_exported(bench: &mut Bench, (module, function): (&'static str, &'static str), arity: i64) -> bool {
    let args = [Term::atom(module), Term::atom(function), Term::Int(arity)];
    let exported = erlang(bench, "function_exported", &args);
    assert!(["true", "false"].map(Term::atom).contains(&exported), "{exported:?}");
    exported == Term::atom("true")
}

fn badarg() -> Term {
    Term::atom("badarg")
}

fn named(bench: &mut Bench, name: &'static str) -> Term {
    erlang(bench, "whereis", &[Term::atom(name)])
}

#[test]
fn the_processes_and_their_names_are_listed() {
    let mut bench = up();
    let names = ["global_group", "net_kernel", "pg", "rex"].map(Term::atom);
    assert_eq!(erlang(&mut bench, "registered", &[]), list(&names));
    let proxy = Term::Pid(bench.spawn(vec![]));
    let Term::List(processes) = erlang(&mut bench, "processes", &[]) else { panic!("not a list") };
    assert_eq!(processes.len(), names.len() + 1);
    assert!(processes.contains(&proxy), "{processes:?}");
    let count = erlang(&mut bench, "system_info", &[Term::atom("process_count")]);
    assert_eq!(count, Term::Int(5));
    assert!(processes.contains(&named(&mut bench, "rex")));
    assert_eq!(named(&mut bench, "shell"), Term::atom("undefined"));
    assert_eq!(erlang(&mut bench, "whereis", &[Term::Int(1)]), badarg());
    assert_eq!(erlang(&mut bench, "node", &[]), Term::atom("m@h"));
}

#[test]
fn only_our_own_processes_are_described_and_those_that_ended_are_undefined() {
    let mut bench = up();
    let proxy = bench.spawn(vec![]);
    let info = |bench: &mut Bench, items: &[Term]| {
        let args = [&[Term::Pid(proxy.clone())], items].concat();
        erlang(bench, "process_info", &args)
    };
    let alive = |bench: &mut Bench, pid: Term| erlang(bench, "is_process_alive", &[pid]);
    let Term::List(all) = info(&mut bench, &[]) else { panic!("not a list") };
    assert_eq!(all.len(), 16, "the process has no registered name: {all:?}");
    let rex = named(&mut bench, "rex");
    let Term::List(all) = erlang(&mut bench, "process_info", std::slice::from_ref(&rex)) else { panic!("not a list") };
    assert_eq!(all[0], Term::tuple([Term::atom("registered_name"), Term::atom("rex")]));
    assert_eq!(all.len(), 17);
    let name = Term::atom("registered_name");
    let pair = |key: &Term, value: Term| Term::tuple([key.clone(), value]);
    assert_eq!(info(&mut bench, std::slice::from_ref(&name)), list(&[]));
    let status = Term::atom("status");
    let both = list(&[pair(&status, Term::atom("waiting")), pair(&name, list(&[]))]);
    assert_eq!(info(&mut bench, &[list(&[status.clone(), name.clone()])]), both);
    let label = Term::tuple([Term::atom("dictionary"), Term::atom("$process_label")]);
    assert_eq!(info(&mut bench, std::slice::from_ref(&label)), pair(&label, Term::atom("undefined")));
    for unknown in [Term::atom("unknown"), Term::Int(1), list(&[Term::atom("unknown")]), Term::tuple([status.clone()])]
    {
        assert_eq!(info(&mut bench, std::slice::from_ref(&unknown)), badarg(), "{unknown:?}");
    }
    for other in [Term::Pid(foreign(PEER, 7)), Term::atom("rex")] {
        assert_eq!(erlang(&mut bench, "process_info", std::slice::from_ref(&other)), badarg(), "{other:?}");
        assert_eq!(alive(&mut bench, other), badarg());
    }
    assert_eq!(alive(&mut bench, Term::Pid(proxy.clone())), Term::atom("true"));
    bench.exit(&proxy);
    assert_eq!(alive(&mut bench, Term::Pid(proxy.clone())), Term::atom("false"));
    for items in [&[][..], std::slice::from_ref(&status), &[list(std::slice::from_ref(&status))]] {
        assert_eq!(info(&mut bench, items), Term::atom("undefined"));
    }
}

#[test]
fn shown_links_and_monitors_are_bounded() {
    let mut bench = up();
    let rex = bench.machine.processes.whereis("rex").unwrap().clone();
    let shown = |bench: &mut Bench, item: &'static str| {
        let answer = erlang(bench, "process_info", &[Term::Pid(rex.clone()), Term::atom(item)]);
        match answer {
            Term::Tuple(pair) => match &pair[1] {
                Term::List(pids) => pids.len(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    };
    let limit = u32::try_from(limits::PROCESS_TIES).unwrap();
    for tie in 1..=limit + 1 {
        bench.receive(1, Control::Link { from: foreign(PEER, tie), to: rex.clone() }, None);
        bench.receive(1, monitor(Proc::Pid(rex.clone()), tie), None);
        if tie == 2 {
            assert_eq!((shown(&mut bench, "links"), shown(&mut bench, "monitored_by")), (2, 2));
        }
    }
    let limit = limits::PROCESS_TIES;
    assert_eq!((shown(&mut bench, "links"), shown(&mut bench, "monitored_by")), (limit, limit));
}

#[test]
fn requested_items_are_bounded() {
    let mut bench = up();
    let rex = named(&mut bench, "rex");
    let mut ask = |items: usize| {
        erlang(&mut bench, "process_info", &[rex.clone(), Term::List(vec![Term::atom("status"); items])])
    };
    assert!(matches!(ask(limits::PROCESS_ITEMS), Term::List(items) if items.len() == limits::PROCESS_ITEMS));
    assert_eq!(ask(limits::PROCESS_ITEMS + 1), badarg());
}

#[test]
fn the_system_is_described_and_unknown_items_are_refused() {
    let mut bench = up();
    let system = |bench: &mut Bench, item: &'static str| erlang(bench, "system_info", &[Term::atom(item)]);
    assert_eq!(system(&mut bench, "otp_release"), Term::string("25"));
    assert_eq!(system(&mut bench, "machine"), Term::string("tested"));
    assert_eq!(system(&mut bench, "system_version"), Term::string("tested 1.2, which runs no Erlang code\n"));
    assert_eq!(system(&mut bench, "port_count"), Term::Int(0));
    assert_eq!(system(&mut bench, "scheduler_bindings"), badarg());
    assert_eq!(erlang(&mut bench, "system_info", &[Term::Int(1)]), badarg());
    let Term::List(memory) = erlang(&mut bench, "memory", &[]) else { panic!("not a list") };
    let total = Term::Int(i64::try_from(MEMORY).unwrap());
    assert_eq!(memory[0], Term::tuple([Term::atom("total"), total]));
    bench.machine.memory = || None;
    assert_eq!(erlang(&mut bench, "memory", &[]), Term::atom("notsup"));
    let tick_time = call(&mut bench, ("net_kernel", "get_net_ticktime"), &[]);
    assert_eq!(tick_time, Term::Int(60));
}

#[test]
fn the_node_has_no_code_and_no_applications() {
    let mut bench = up();
    let code = |bench: &mut Bench, module: Term| call(bench, ("code", "ensure_loaded"), &[module]);
    assert_eq!(code(&mut bench, Term::atom("shell")), Term::tuple([Term::atom("error"), Term::atom("nofile")]));
    assert_eq!(code(&mut bench, Term::Int(1)), badarg());
    assert_eq!(call(&mut bench, ("observer_backend", "vsn"), &[]), Term::atom("notsup"));
    let shell = call(&mut bench, ("shell", "start"), &[]);
    assert_eq!(shell, Term::tuple([Term::atom("shutdown"), Term::atom("nofile")]));
    let env = [Term::atom("stdlib"), Term::atom("shell_slogan"), Term::string("none")];
    assert_eq!(call(&mut bench, ("application", "get_env"), &env), Term::string("none"));
    assert_eq!(call(&mut bench, ("application", "get_env"), &env[..2]), Term::atom("undefined"));
    assert_eq!(call(&mut bench, ("application", "which_applications"), &[]), list(&[]));
    for (module, function) in [("shell", "start_interactive"), ("erlang", "get_cookie")] {
        assert_eq!(call(&mut bench, (module, function), &[]), Term::atom("undef"), "{module}:{function}");
    }
}

#[test]
fn the_lists_of_ports_and_sockets_are_exported_and_empty() {
    let mut bench = up();
    for function in ["get_port_list", "get_socket_list", "socket_info"] {
        assert!(is_exported(&mut bench, ("observer_backend", function), 0), "{function}");
        assert_eq!(call(&mut bench, ("observer_backend", function), &[]), list(&[]), "{function}");
    }
}

#[test]
fn a_function_is_exported_if_the_node_answers_it() {
    let mut bench = up();
    for (module, function, arity) in [
        ("erlang", "node", 0),
        ("erlang", "process_info", 2),
        ("erlang", "function_exported", 3),
        ("code", "ensure_loaded", 1),
        ("application", "get_env", 3),
    ] {
        assert!(is_exported(&mut bench, (module, function), arity), "{module}:{function}/{arity}");
    }
    for (module, function, arity) in [
        ("erlang", "node", 1),
        ("erlang", "halt", 0),
        ("observer_backend", "vsn", 0),
        ("observer_backend", "get_port_list", 1),
        ("application", "get_env", 4),
        ("application", "get_env", i64::MAX),
    ] {
        assert!(!is_exported(&mut bench, (module, function), arity), "{module}:{function}/{arity}");
    }
    let [module, function] = ["erlang", "node"].map(Term::atom);
    for args in [
        [module.clone(), function.clone(), Term::Int(-1)],
        [module.clone(), Term::Int(0), Term::Int(0)],
        [Term::Int(0), function, Term::Int(0)],
    ] {
        assert_eq!(erlang(&mut bench, "function_exported", &args), badarg(), "{args:?}");
    }
}

#[test]
fn the_relay_of_dbg_is_refused_and_no_process_starts() {
    let mut bench = up();
    for arity in [2, 3] {
        let args = Term::List(vec![Term::atom("dbg"); usize::from(arity)]);
        let new = NewProcess {
            group_leader: foreign(PEER, 7),
            module: Atom::literal("dbg"),
            function: Atom::literal("do_relay"),
            arity,
            options: Raw::encode(&list(&[Term::atom("link")])),
        };
        let request = Control::SpawnRequest { request: reference(PEER, 3), from: foreign(PEER, 7), new: new.into() };
        let out = bench.receive(1, request, Some(&args));
        let [NodeEffect::Signal(_, Control::SpawnReply { flags: 0, result: Err(why), .. }, None)] = out.as_slice()
        else {
            panic!("{out:?}");
        };
        assert_eq!(*why, "undef");
    }
}
