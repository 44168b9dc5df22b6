//! Tools of Erlang/OTP on our node, or on all of `nodes()`: remote shells, `c`, `rpc`, `dbg`,
//! `etop`. Each gets a correct answer or a refusal at once, and none hangs or breaks its caller.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use support::daemon::Daemon;
use support::epmd::Epmd;
use support::erl::Erl;
use support::{Host, Process, wait_for};

/// A host with a daemon, and a node that is connected to it unless the daemon hides.
struct World {
    host: Host,
    erl: Erl,
    us: String,
    release: u32,
    _daemon: Daemon,
    _epmd: Epmd,
}

impl World {
    fn new(environment: &[(&str, &str)]) -> Self {
        let (host, epmd, daemon) = Host::running(environment);
        let mut erl = host.erl("caller");
        let us = host.node("hecate");
        erl.pings(&us);
        let release = erl.eval("list_to_integer(erlang:system_info(otp_release))").parse().unwrap();
        Self { host, erl, us, release, _daemon: daemon, _epmd: epmd }
    }

    /// Evaluates an expression in which `Us` is our node.
    fn eval(&mut self, expression: &str) -> String {
        self.erl.eval(&format!("Us = '{}', {expression}", self.us))
    }

    /// Returns the output of an expression, with a group leader that answers `y` to every question.
    fn printed(&mut self, expression: &str) -> String {
        let leader = "Loop = fun Loop(Printed) -> receive \
             {io_request, From, Tag, {put_chars, _, M, F, A}} -> \
                 From ! {io_reply, Tag, ok}, Loop([apply(M, F, A) | Printed]); \
             {io_request, From, Tag, {put_chars, _, Text}} -> From ! {io_reply, Tag, ok}, Loop([Text | Printed]); \
             {io_request, From, Tag, {get_line, _, _}} -> From ! {io_reply, Tag, \"y\\n\"}, Loop(Printed); \
             {io_request, From, Tag, _} -> From ! {io_reply, Tag, {error, enotsup}}, Loop(Printed); \
             {printed, From} -> From ! {printed, unicode:characters_to_binary(lists:reverse(Printed))} end end, \
             Leader = spawn(fun() -> Loop([]) end), Before = group_leader(), group_leader(Leader, self())";
        let collect = "group_leader(Before, self()), Leader ! {printed, self()}, receive {printed, Text} -> Text end";
        self.eval(&format!("{leader}, Result = (catch {expression}), {collect}, {{Result, Text}}"))
    }

    /// Returns whether `dbg` exists. Only the OTP 28 of the tests lacks it, because its package
    /// does not contain `runtime_tools`.
    fn has_runtime_tools(&mut self) -> bool {
        let has = self.has("dbg");
        if !has {
            assert_eq!(self.release, 28, "the release has no dbg: install erlang-runtime-tools");
            eprintln!("dbg: not run: it is in runtime_tools, which the tests' OTP 28 does not have");
        }
        has
    }

    fn has(&mut self, module: &str) -> bool {
        self.eval(&format!("code:which({module})")) != "non_existing"
    }
}

/// An Erlang node whose shell runs on a terminal.
struct Terminal {
    process: Process,
    keys: File,
    screen: Arc<Mutex<String>>,
    read: usize,
}

impl Terminal {
    fn start(host: &Host, name: &str, args: &[&str]) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let path = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        let theirs = || Stdio::from(File::options().read(true).write(true).open(&path).unwrap());
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", "erl", "-start_epmd", "false", "+S", "1", "-sname", name, "-setcookie", &host.cookie])
            .args(args)
            .env("HOME", host.home())
            .env("TERM", "xterm")
            .env("ERL_EPMD_PORT", host.epmd_port.to_string())
            .env("ERL_CRASH_DUMP_SECONDS", "0")
            .stdin(theirs())
            .stdout(theirs())
            .stderr(theirs());
        let process = Process::start(&mut command, "Install util-linux and Erlang/OTP");
        let keys = File::from(ours);
        let screen = Arc::new(Mutex::new(String::new()));
        let (mut output, shown) = (keys.try_clone().unwrap(), screen.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut bytes) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        });
        Self { process, keys, screen, read: 0 }
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Types Enter until the terminal shows `text`, because keys may be lost while the menu ends.
    fn enters_until(&mut self, text: &str) {
        let mut looks = 0;
        wait_for(&format!("the terminal shows {text:?}"), || {
            if looks % 100 == 0 {
                self.types("\r");
            }
            looks += 1;
            self.screen.lock().unwrap()[self.read..].contains(text)
        });
        self.shows(text);
    }

    /// Types Ctrl-G, and Enter for a terminal that sends whole lines, as with the tests' OTP 28.
    fn opens_the_job_menu(&mut self) {
        self.types("\x07\r");
        self.shows("--> ");
    }

    /// Waits until the terminal shows `text` after the texts of the former calls.
    fn shows(&mut self, text: &str) {
        let mut found = None;
        wait_for(&format!("the terminal shows {text:?}"), || {
            found = self.screen.lock().unwrap()[self.read..].find(text);
            found.is_some()
        });
        self.read += found.unwrap() + text.len();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- terminal ----\n{}\n----", self.screen.lock().unwrap());
        }
    }
}

#[test]
fn a_remote_shell_ends_with_a_message() {
    let world = World::new(&[]);
    let mut terminal = Terminal::start(&world.host, "admin", &["-remsh", &world.us]);
    if world.release >= 26 {
        terminal.shows("Could not load");
        assert_eq!(terminal.process.ended("erl ends").code(), Some(1));
    } else {
        // That release prints nothing else when the remote shell fails to start, and offers a local
        // shell.
        terminal.shows("*** ERROR: Shell process terminated! (^G to start new job) ***");
        terminal.opens_the_job_menu();
        terminal.types("s\r");
        terminal.shows("--> ");
        terminal.types("c\r");
        terminal.shows("1> ");
    }
    assert!(!terminal.screen.lock().unwrap().contains("REPORT"), "a process has crashed");
}

#[test]
fn the_job_menu_returns_and_the_local_shell_keeps_running() {
    let world = World::new(&[]);
    let mut terminal = Terminal::start(&world.host, "admin", &[]);
    terminal.shows("1> ");
    terminal.types("Kept = 40 + 1.\r");
    terminal.shows("2> ");
    terminal.opens_the_job_menu();
    terminal.types(&format!("r '{}'\r", world.us));
    terminal.shows("--> ");
    terminal.types("c\r");
    terminal.shows("Shell process terminated!");
    terminal.opens_the_job_menu();
    terminal.types("c 1\r");
    terminal.enters_until("2> ");
    terminal.types("Kept + 1.\r");
    terminal.shows("42");
    assert!(!terminal.screen.lock().unwrap().contains("REPORT"), "a process has crashed");
}

#[test]
fn lists_of_all_processes_and_names_include_ours() {
    let mut world = World::new(&[]);
    for (list, names) in [
        ("c:ni()", ["net_kernel:init/1", "hecate_plugins"]),
        ("c:nregs()", ["** Registered procs on node hecate@", "rex"]),
    ] {
        let printed = world.printed(list);
        assert!(printed.starts_with("{ok,"), "{list}: {printed}");
        for name in names {
            assert!(printed.contains(name), "{list}: {printed}");
        }
    }
    let same =
        "lists:sort(erpc:call(Us, erlang, registered, [])) =:= [global_group, hecate_plugins, net_kernel, pg, rex]";
    assert_eq!(world.eval(same), "true");
    let each = "lists:all(fun(Name) -> lists:member(erpc:call(Us, erlang, whereis, [Name]), \
                erpc:call(Us, erlang, processes, [])) end, erpc:call(Us, erlang, registered, []))";
    assert_eq!(world.eval(each), "true");
}

#[test]
fn calls_that_describe_a_node_succeed_on_all_nodes() {
    let mut world = World::new(&[]);
    for (module, function, args) in [
        ("erlang", "node", "[]"),
        ("erlang", "memory", "[]"),
        ("erlang", "registered", "[]"),
        ("erlang", "processes", "[]"),
        ("erlang", "system_info", "[process_count]"),
        ("erlang", "system_info", "[otp_release]"),
        ("net_kernel", "get_net_ticktime", "[]"),
        ("application", "which_applications", "[]"),
        ("code", "ensure_loaded", "[lists]"),
    ] {
        let multicall = format!(
            "{{[A, B], []}} = rpc:multicall({module}, {function}, {args}), [badrpc || {{badrpc, _}} <- [A, B]]"
        );
        assert_eq!(world.eval(&multicall), "[]", "{module}:{function}");
    }
    assert_eq!(world.eval("proplists:get_value(total, erpc:call(Us, erlang, memory, [])) > 1000000"), "true");
    assert_eq!(world.eval("erpc:call(Us, net_kernel, get_net_ticktime, [])"), "60");
    let unknown = "try erpc:call(Us, erlang, system_info, [nonsense]) catch error:{exception, Why, _} -> Why end";
    assert_eq!(world.eval(unknown), "badarg");
}

#[test]
fn tools_that_need_code_on_our_node_are_refused_at_once_and_continue() {
    let mut world = World::new(&[]);
    // `dbg:n/1` does this, and would wait for a message of the process.
    let relay = "try spawn_link(Us, dbg, do_relay, [self(), self()]) catch error:Why -> Why end";
    assert_eq!(world.eval(relay), "undef");
    // `etop`, `ttb` and `observer` do this.
    assert_eq!(world.eval("rpc:call(Us, observer_backend, vsn, [])"), "{badrpc,notsup}");
    if world.has_runtime_tools() {
        let tracer = "{ok, _} = dbg:tracer(process, {fun(_, State) -> State end, none}), {error, _} = dbg:n(Us)";
        assert!(world.eval(tracer).starts_with("{error,{undef,"));
        assert!(world.eval("{ok, Matched} = dbg:p(self(), call), Matched").starts_with("[{matched,"));
        let stopped = if world.release >= 27 { "dbg:stop()" } else { "dbg:stop_clear()" };
        assert_eq!(world.eval(stopped), "ok");
    }
    if world.has("etop") {
        let etop = "try etop:start([{node, Us}, {output, text}]) catch exit:Why -> Why end";
        assert_eq!(world.eval(etop), "\"Faulty version of runtime_tools on remote node\"");
    } else {
        eprintln!("etop: not run: it is in observer, which this OTP {} does not have", world.release);
    }
    assert_eq!(world.eval("global:sync()"), "ok");
}

/// The tabs "Ports" and "Sockets" of `observer` end it without these results.
#[test]
fn observer_finds_no_ports_and_no_sockets() {
    let mut world = World::new(&[]);
    for function in ["get_port_list", "get_socket_list", "socket_info"] {
        let exported = format!("rpc:call(Us, erlang, function_exported, [observer_backend, {function}, 0])");
        assert_eq!(world.eval(&exported), "true", "{function}");
        assert_eq!(world.eval(&format!("rpc:call(Us, observer_backend, {function}, [])")), "[]", "{function}");
    }
    assert_eq!(world.eval("rpc:call(Us, erlang, function_exported, [observer_backend, vsn, 0])"), "false");
}

/// Without these results, "Table Viewer" shows an error every 10 s, "System" disconnects the node,
/// and "Add Trace Pattern" ends `observer`.
#[test]
fn observer_finds_no_tables_and_no_modules_and_reads_the_system_info() {
    let mut world = World::new(&[]);
    let tables = |kind| format!("rpc:call(Us, observer_backend, get_table_list, [{kind}, [{{sys_hidden, true}}]])");
    assert_eq!(world.eval(&tables("ets")), "[]");
    let mnesia =
        format!("{{error, Text}} = {}, Text =:= \"Mnesia is not running on: \" ++ atom_to_list(Us)", tables("mnesia"));
    assert_eq!(world.eval(&mnesia), "true");
    assert_eq!(world.eval("rpc:call(Us, code, all_loaded, [])"), "[]");
    let info = "Info = rpc:call(Us, observer_backend, sys_info, []), \
        {proplists:get_value(otp_release, Info), proplists:get_value(ets_count, Info), \
        proplists:get_value(total, Info) > 1000000, \
        lists:all(fun({_, Sizes}) -> Sizes =:= false end, [_ | _] = proplists:get_value(alloc_info, Info))}";
    assert_eq!(world.eval(info), "{\"25\",0,true,true}");
}

#[test]
fn work_for_all_nodes_fails_unless_our_node_is_hidden() {
    let work = "{How, _} = try {gave, rpc:pmap({lists, reverse}, [], [[a], [b], [c]])} \
                catch Class:Why -> {Class, Why} end, How";
    let mut world = World::new(&[]);
    assert_eq!(world.eval(work), "exit", "at once");
    let mut world = World::new(&[("HECATE_HIDDEN", "true")]);
    assert_eq!(world.eval("nodes()"), "[]");
    assert_eq!(world.eval(work), "gave");
    assert_eq!(world.eval("rpc:parallel_eval([{lists, max, [[1, 2]]}, {lists, max, [[3]]}])"), "[2,3]");
}
