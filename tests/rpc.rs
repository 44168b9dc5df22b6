//! Calls from real Erlang nodes to ours: `erpc`, `rpc`, `gen_server`, `sys`, and the requests of
//! `hecate_plugins`. None of them waits for a timeout.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use serde_json::json;
use support::daemon::Daemon;
use support::epmd::Epmd;
use support::erl::Erl;
use support::{Host, PATIENCE, wait_for};

/// A host with a daemon, and a node that is connected to it.
struct World {
    host: Host,
    erl: Erl,
    us: String,
    _daemon: Daemon,
    _epmd: Epmd,
}

impl World {
    /// In expressions, `Us` is our node, and `Caught(Fun)` is the result or the exception of a fun.
    fn new() -> Self {
        let (host, epmd, daemon) = Host::running(&[]);
        let mut erl = host.erl("caller");
        let us = host.node("hecate");
        erl.pings(&us);
        Self { host, erl, us, _daemon: daemon, _epmd: epmd }
    }

    fn eval(&mut self, expression: &str) -> String {
        let caught = "Caught = fun(Fun) -> try {gave, Fun()} catch Class:Reason -> {Class, Reason} end end";
        self.erl.eval(&format!("Us = '{}', {caught}, {expression}", self.us))
    }

    /// Returns the proxy of a registered plugin.
    fn proxy(&mut self, name: &str) -> String {
        self.host.register_named(name);
        self.eval("case whereis(pg) of undefined -> pg:start_link(); _ -> started end");
        let members = format!("pg:get_members({{hecate_plugin, <<\"{name}\">>}})");
        self.erl.eval_until(&format!("length({members})"), "1", PATIENCE);
        format!("hd({members})")
    }
}

#[test]
fn shared_paths_returns_the_paths_of_the_convention() {
    let mut world = World::new();
    let base = world.host.namespace("hecate-daemon").display().to_string();
    assert_eq!(world.eval("erpc:call(Us, shared_paths, base_dir, [])"), format!("\"{base}\""));
    assert_eq!(world.eval("erpc:call(Us, erlang, nodes, []) =:= [node()]"), "true", "our connected nodes");
    assert_eq!(world.eval("rpc:call(Us, shared_paths, connectors_dir, [])"), format!("\"{base}/connectors\""));
    for (function, directory) in
        [("sqlite_path", "sqlite"), ("reckon_path", "reckon-db"), ("socket_path", "sockets"), ("run_path", "run")]
    {
        for name in ["\"api.sock\"", "api", "<<\"api.sock\">>", "\"a//b/\"", "[\"a\", $b, c]", "\"naïve\"", "[]"] {
            let same = format!(
                "filename:join([\"{base}\", \"{directory}\", {name}]) =:= erpc:call(Us, shared_paths, {function}, [{name}])"
            );
            assert_eq!(world.eval(&same), "true", "{function} {name}");
        }
    }
    std::fs::remove_dir(format!("{base}/connectors")).unwrap();
    assert_eq!(world.eval("erpc:call(Us, shared_paths, ensure_layout, [])"), "ok");
    assert!(std::path::Path::new(&base).join("connectors").is_dir());
    assert_eq!(world.eval("rpc:block_call(Us, shared_paths, ensure_layout, [])"), "ok");
}

#[test]
fn other_functions_are_undefined_at_once() {
    let mut world = World::new();
    let undef = |mfa: &str| format!("[{{{mfa},[]}}]");
    let halt = undef("erlang,halt,[]");
    let caught = world.eval("Caught(fun() -> erpc:call(Us, erlang, halt, []) end)");
    assert_eq!(caught, format!("{{error,{{exception,undef,{halt}}}}}"));
    let badrpc = format!("{{badrpc,{{'EXIT',{{undef,{halt}}}}}}}");
    assert_eq!(world.eval("rpc:call(Us, erlang, halt, [])"), badrpc);
    assert_eq!(world.eval("rpc:call(Us, erlang, halt, [], 5000)"), badrpc);
    assert_eq!(world.eval("rpc:block_call(Us, erlang, halt, [])"), badrpc);
    assert_eq!(world.eval("rpc:yield(rpc:async_call(Us, erlang, halt, []))"), badrpc);
    // Arguments in an error are unchanged, even terms that other languages lack.
    let echoed = "Args = [self(), make_ref(), 1 bsl 99, -1.5, #{a => <<1:3>>}, fun() -> ok end, [-1|x]], \
                  {error, {exception, undef, [{m, f, Args, []}]}} =:= Caught(fun() -> erpc:call(Us, m, f, Args) end)";
    assert_eq!(world.eval(echoed), "true");
    assert_eq!(
        world.eval("element(1, element(2, Caught(fun() -> erpc:call(Us, fun() -> ok end) end)))"),
        "exception",
        "a fun is applied by erlang:apply/2, which isn't here"
    );
    let wrong = world.eval("Caught(fun() -> erpc:call(Us, shared_paths, run_path, [1]) end)");
    assert_eq!(wrong, "{error,{exception,badarg,[{shared_paths,run_path,[1],[]}]}}");
    let improper = world.eval("Caught(fun() -> erpc:call(Us, shared_paths, run_path, [a|b]) end)");
    assert_eq!(improper, "{error,{erpc,badarg}}");
    let unreadable = "Deep = lists:foldl(fun(_, D) -> {D} end, x, lists:seq(1, 1000)), \
                      Caught(fun() -> erpc:call(Us, m, f, [Deep]) end)";
    assert_eq!(world.eval(unreadable), "{error,{erpc,notsup}}", "an undecodable call gets an error");
}

#[test]
fn multicalls_include_our_node() {
    let mut world = World::new();
    let base = world.host.namespace("hecate-daemon").display().to_string();
    let multicall = world.eval("erpc:multicall(nodes(), shared_paths, base_dir, [])");
    assert_eq!(multicall, format!("[{{ok,\"{base}\"}}]"));
    assert_eq!(world.eval("rpc:multicall(nodes(), shared_paths, base_dir, [])"), format!("{{[\"{base}\"],[]}}"));
    assert_eq!(world.eval("element(2, rpc:multicall(erlang, node, []))"), "[]", "no node is a bad node");
    assert_eq!(world.eval("erpc:cast(Us, shared_paths, base_dir, []), erpc:cast(Us, m, f, [])"), "ok");
    assert_eq!(world.eval("rpc:cast(Us, shared_paths, base_dir, [])"), "true");
    assert_eq!(world.eval("rpc:eval_everywhere(nodes(), m, f, [])"), "abcast");
    assert_eq!(world.eval("rpc:abcast(nodes(), hecate_plugins, hello)"), "abcast");
    let us = &world.us.clone();
    assert_eq!(world.eval("rpc:sbcast([Us], hecate_plugins, hello)"), format!("{{['{us}'],[]}}").replace('\'', ""));
    assert_eq!(world.eval("{[], [Us]} =:= rpc:sbcast([Us], nobody, hello)"), "true");
    // The directories that a cast creates appear on disk.
    std::fs::remove_dir(format!("{base}/connectors")).unwrap();
    world.eval("erpc:cast(Us, shared_paths, ensure_layout, [])");
    wait_for("the directory exists again", || std::path::Path::new(&base).join("connectors").is_dir());
}

#[test]
fn spawned_processes_end_with_the_result_of_their_function() {
    let mut world = World::new();
    let down = |options: &str| {
        format!(
            "{{Pid, Ref}} = spawn_opt(Us, m, f, [x], [{options}]), \
             receive {{'DOWN', Ref, process, Pid, Reason}} -> {{node(Pid) =:= Us, Reason}} end"
        )
    };
    assert_eq!(world.eval(&down("monitor")), "{true,{undef,[{m,f,[x],[]}]}}");
    let linked = "process_flag(trap_exit, true), Pid = spawn_link(Us, m, f, [x]), \
                  receive {'EXIT', Pid, Reason} -> Reason end";
    assert_eq!(world.eval(linked), "{undef,[{m,f,[x],[]}]}");
    let normal = "{_, Ref} = spawn_monitor(Us, shared_paths, base_dir, []), \
                  receive {'DOWN', Ref, process, _, Reason} -> Reason end";
    assert_eq!(world.eval(normal), "normal");
}

#[test]
fn our_servers_answer_every_call_and_every_system_message() {
    let mut world = World::new();
    let proxy = world.proxy("hecate-traderd");
    let us = world.us.clone();
    for server in ["{net_kernel, Us}", "{rex, Us}", "{global_group, Us}", "{pg, Us}"] {
        let refused = world.eval(&format!("gen_server:call({server}, nonsense, infinity)"));
        assert_eq!(refused, "{error,notsup}", "{server}");
    }
    let not_forwarded = format!("{{error,{{not_forwarded,{us}}}}}");
    assert_eq!(world.eval(&format!("gen_server:call({proxy}, buy, infinity)")), not_forwarded);
    assert_eq!(world.eval("gen_server:call({net_kernel, Us}, ticktime, infinity)"), "60000");
    assert_eq!(world.eval("gen_server:call({net_kernel, Us}, nodename, infinity) =:= Us"), "true");
    let multi = "{[{Us, {ok, [_]}}], []} = gen_server:multi_call([Us], hecate_plugins, list), fine";
    assert_eq!(world.eval(multi), "fine");
    let multi = "{[{Us, {error, notsup}}], []} = gen_server:multi_call([Us], pg, nonsense, 20000), fine";
    assert_eq!(world.eval(multi), "fine");
    let request = "gen_server:wait_response(gen_server:send_request({hecate_plugins, Us}, list), infinity)";
    assert_eq!(world.eval(&format!("element(1, element(2, {request}))")), "ok");
    // Requests in the protocol of another kind of process get an error too.
    for server in ["{hecate_plugins, Us}", "{net_kernel, Us}", "{rex, Us}", "{pg, Us}", &proxy] {
        assert_eq!(world.eval(&format!("gen_event:which_handlers({server})")), "{error,notsup}", "{server}");
    }
    assert_eq!(world.eval(&format!("file:read({proxy}, 1)")), "{error,enotsup}");
    assert_eq!(world.eval(&format!("io:get_line({proxy}, '')")), "{error,enotsup}");
    assert_eq!(world.eval("global_group:registered_names({node, Us})"), "[]");
    assert_eq!(world.eval("global_group:whereis_name({node, Us}, market)"), "undefined");
    assert_eq!(world.eval("global_group:send({node, Us}, market, order)"), "{badarg,{market,order}}");
    // A request that exceeds our limits is refused, not only dropped.
    for server in ["{hecate_plugins, Us}", "{net_kernel, Us}", "{rex, Us}", "{pg, Us}", &proxy] {
        let refused = |beyond: &str| format!("gen_server:call({server}, {beyond}, infinity)");
        let deep = world.eval(&refused("lists:foldl(fun(_, D) -> {D} end, x, lists:seq(1, 1000))"));
        assert_eq!(deep, "{error,notsup}", "{server}");
        let long = world.eval(&format!("{{error, {{Why, _}}}} = {}, Why", refused("lists:seq(1, 1 bsl 20)")));
        assert_eq!(long, "too_large", "{server}");
    }

    for server in ["{hecate_plugins, Us}", "{net_kernel, Us}", "{rex, Us}", "{pg, Us}", &proxy] {
        let status = format!(
            "{{status, Pid, {{module, _}}, [_, running, _, _, _]}} = sys:get_status({server}), node(Pid) =:= Us"
        );
        assert_eq!(world.eval(&status), "true", "{server}");
        assert_eq!(world.eval(&format!("sys:log({server}, get)")), "{ok,[]}", "{server}");
        assert_eq!(world.eval(&format!("sys:no_debug({server})")), "ok", "{server}");
        let suspended = world.eval(&format!("sys:suspend({server})"));
        assert_eq!(suspended, "{error,{unknown_system_msg,suspend}}", "{server}");
    }
    // Releases differ in what `sys:get_state/1` expects.
    let state = |server: &str| format!("case sys:get_state({server}) of {{ok, State}} -> State; State -> State end");
    assert_eq!(world.eval(&state("{hecate_plugins, Us}")), "[<<\"hecate-traderd\">>]");
    assert_eq!(world.eval(&state(&proxy)), "<<\"hecate-traderd\">>");
}

#[test]
fn plugins_register_and_deregister_over_beam_as_over_http() {
    let mut world = World::new();
    let call = |request: &str| format!("gen_server:call({{hecate_plugins, Us}}, {request}, infinity)");
    let register = "{register, #{name => <<\"hecate-traderd\">>, version => \"0.1.0\", other => key}}";
    let registered =
        world.eval(&format!("{{ok, Info}} = {}, {{maps:get(node, Info) =:= node(), Info}}", call(register)));
    assert!(registered.starts_with("{true,#{"), "{registered}");
    let base = world.host.namespace("hecate-traderd");
    assert!(registered.contains(&format!("base_dir => <<\"{}\">>", base.display())), "{registered}");
    for directory in ["sqlite", "reckon-db", "sockets", "run", "connectors"] {
        assert!(base.join(directory).is_dir(), "{directory}");
    }
    let plugin = world.host.plugin("hecate-traderd");
    assert_eq!((&plugin["version"], &plugin["node"]), (&json!("0.1.0"), &json!(world.host.node("caller"))));
    let same = format!("{} =:= {}", call("{info, 'hecate-traderd'}"), call("{info, \"hecate-traderd\"}"));
    assert_eq!(world.eval(&same), "true");
    let cleared = "{register, #{name => 'hecate-traderd', version => undefined}}";
    world.eval(&call(cleared));
    assert_eq!(world.host.plugin("hecate-traderd")["version"], json!(null));

    let code = |request: &str| format!("{{error, {{Code, Detail}}}} = {}, {{Code, is_binary(Detail)}}", call(request));
    assert_eq!(world.eval(&code("{register, #{name => <<\"hecate-traderw\">>}}")), "{name_is_frontend,true}");
    assert_eq!(world.eval(&code("{register, []}")), "{not_an_object,true}");
    assert_eq!(world.eval(&code("{deregister, <<\"hecate-marthad\">>}")), "{not_found,true}");
    assert_eq!(world.eval(&code("purge")), "{bad_request,true}");
    // A registration from another node while the plugin's node is connected is refused, as over
    // HTTP.
    let conflict = "{register, #{name => <<\"hecate-traderd\">>, node => 'another@elsewhere'}}";
    assert_eq!(world.eval(&code(conflict)), "{node_conflict,true}");

    assert_eq!(world.eval(&format!("element(1, {})", call("{deregister, <<\"hecate-traderd\">>}"))), "ok");
    assert_eq!(world.host.ask("GET", "/api/plugins/hecate-traderd").status, 404);
    assert!(base.is_dir(), "the data was deleted");
}
