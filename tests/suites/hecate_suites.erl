%% Runs suites of OTP with or without a hecate-daemon, for tests/suites/run.sh:
%%
%%   alone       no daemon runs
%%   bystander   a daemon connects to each node that the run's EPMD names
%%   peer        the first node that a case starts is a daemon
%%
%% It is the entry point, the Common Test hook, and what the adapted suites call. It also runs on
%% the nodes that a case starts.
-module(hecate_suites).

-export([run/1]).
-export([start_peer/3, start_node/3, others/0, others/1, without/1, remote/0, is_daemon/1, epmd/0, stop_epmd/0, without_daemon/1]).
-export([id/1, init/2, pre_init_per_testcase/4]).

%% How long a case waits for the bystander, which connects to new names in EPMD within 0.5 s.
-define(BYSTANDER_WAIT, 2000).
%% How long a case then waits for the bystander to introduce the node to others. The introduction
%% takes up to 1 s.
-define(SETTLE, 1500).
-define(GLANCE, 20).

%% Runs one suite, all of it or a part: SUITE, RESULTS, then GROUP (`none` without one) and CASE. A
%% case of a group runs with the others of the group, which may run at the same time.
run([Suite, Results]) ->
    run(Suite, Results, []);
run([Suite, Results, none, Case]) ->
    run(Suite, Results, [{testcase, Case}]);
run([Suite, Results, Group, _]) ->
    run(Suite, Results, [{group, [[Group]]}]).

run(Suite, Results, Cases) ->
    Dir = filename:dirname(code:which(?MODULE)),
    Logs = filename:join(filename:dirname(atom_to_list(Results)), "logs"),
    ok = filelib:ensure_dir(filename:join(Logs, "x")),
    await_bystander(node()),
    mode() =/= "bystander" orelse is_connected(node()) orelse fail("the bystander is not connected"),
    Options = [{dir, Dir}, {suite, Suite}, {logdir, Logs}, {auto_compile, false}, {abort_if_missing_suites, true},
               {event_handler, {hecate_suites_results, [Results]}}, {ct_hooks, [?MODULE]} | Cases],
    case ct:run_test(Options) of
        {_Passed, _Failed, _Skipped} -> halt(0);
        Error -> fail(Error)
    end.

fail(Reason) ->
    io:format("~p~n", [Reason]),
    halt(1).

mode() ->
    os:getenv("HECATE_SUITES_MODE", "alone").

%% The bystander's name.
daemon() ->
    [_, Host] = string:split(atom_to_list(node()), "@"),
    list_to_atom("hecate@" ++ Host).

%% The nodes that this node sees, except the bystander.
others() ->
    others(visible).

others(Which) ->
    without(nodes(Which)).

without(Nodes) ->
    case mode() of
        "bystander" -> Nodes -- [daemon()];
        _ -> Nodes
    end.

%% Returns the node that a C program connects to; in the role of peer, a daemon.
remote() ->
    case mode() of
        "peer" ->
            {ok, _, Node} = hecate_suites_daemon:start(#{name => test_server:peer_name(?MODULE, remote)}, ["pg"]),
            Node;
        _ ->
            node()
    end.

%% Whether the node of the case is a daemon.
is_daemon(Node) ->
    lists:member(Node, hecate_suites_daemon:started()).

%% The EPMD under test.
epmd() ->
    os:getenv("HECATE_SUITES_EPMD", os:find_executable("epmd")).

%% Ends the daemon that is the EPMD under test, and waits until it has ended.
stop_epmd() ->
    case file:read_file(filename:join(os:getenv("HECATE_SUITES_RUN"), "epmd.pid")) of
        {ok, Text} ->
            Pid = string:trim(binary_to_list(Text)),
            os:cmd("kill -KILL " ++ Pid),
            await_end(filename:join("/proc", Pid));
        {error, enoent} ->
            ok
    end.

await_end(Process) ->
    case filelib:is_dir(Process) of
        true -> timer:sleep(?GLANCE), await_end(Process);
        false -> ok
    end.

%% The names in the EPMD under test, without its own.
without_daemon({ok, Names}) ->
    {ok, [Entry || {Name, _} = Entry <- Names, Name =/= "hecate"]};
without_daemon(Other) ->
    Other.

%% Starts a node like test_server.
start_peer(Opts, Module, Case) ->
    case mode() =:= "peer" andalso is_first() of
        true ->
            hecate_suites_daemon:start_for(Opts, test_server:peer_name(Module, Case), scopes(Module));
        false ->
            Started = test_server:start_peer(Opts, Module, Case),
            case Started of
                {ok, _, Node} -> settle(Node);
                _ -> none
            end,
            Started
    end.

%% The cases of pg's suite use scopes with the names of the cases.
scopes(Module) ->
    ["pg" | [atom_to_list(Function) || {Function, 1} <- Module:module_info(exports), Module =:= pg_SUITE]].

start_node(Name, How, Opts) ->
    Started = test_server:start_node(Name, How, Opts),
    case Started of
        {ok, Node} -> settle(Node);
        _ -> none
    end,
    Started.

%% Whether to start a daemon: for the first node of the case, from the case's own process.
is_first() ->
    undefined =:= put({?MODULE, started}, true).

%% Waits until the bystander has connected to a new node and introduced it.
settle(Node) ->
    await_bystander(Node),
    mode() =:= "bystander" andalso timer:sleep(?SETTLE).

%% Waits until the bystander is connected to the node, and continues after BYSTANDER_WAIT, because a
%% case may refuse the bystander.
await_bystander(Node) ->
    case mode() of
        "bystander" -> await_bystander(Node, ?BYSTANDER_WAIT div ?GLANCE);
        _ -> ok
    end.

await_bystander(Node, 0) ->
    io:format("the bystander is not connected to ~s~n", [Node]);
await_bystander(Node, Left) ->
    case is_connected(Node) of
        true -> ok;
        false -> timer:sleep(?GLANCE), await_bystander(Node, Left - 1)
    end.

is_connected(Node) when Node =:= node() ->
    lists:member(daemon(), nodes());
is_connected(Node) ->
    lists:member(daemon(), nodes()) andalso
        case catch erpc:call(daemon(), erlang, nodes, [], 1000) of
            Nodes when is_list(Nodes) -> lists:member(Node, Nodes);
            _ -> false
        end.

%% The hook: each case begins with the bystander connected, and only some run with a daemon as peer.

id(_) ->
    ?MODULE.

init(_, _) ->
    {ok, none}.

pre_init_per_testcase(Suite, Case, Config, State) ->
    is_alive() andalso await_bystander(node()),
    case mode() =/= "peer" orelse lists:member([Suite, group(Config), Case], peer_cases()) of
        true -> {Config, State};
        false -> {{skip, "not as peer"}, State}
    end.

group(Config) ->
    proplists:get_value(name, proplists:get_value(tc_group_properties, Config, []), '-').

%% The lines of peer.cases: suite, group or `-`, case.
peer_cases() ->
    {ok, Text} = file:read_file(filename:join(filename:dirname(code:which(?MODULE)), "peer.cases")),
    [[binary_to_atom(Word) || Word <- binary:split(Line, <<" ">>, [global])]
     || Line <- binary:split(Text, <<"\n">>, [global]), Line =/= <<>>, binary:first(Line) =/= $#].
