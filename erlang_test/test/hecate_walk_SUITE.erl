%% Tests what Erlang nodes see of the daemon: its node, its plugins in pg, and its answers.
-module(hecate_walk_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([registers_and_lists/1, finds_a_plugin_and_shows_it/1, answers_info_and_forwards_nothing/1,
         monitors_see_joins_and_leaves/1, introduces_nodes_to_each_other/1,
         global_does_not_wait_for_the_daemon/1, a_node_that_ends_and_returns_changes_the_status/1, deregistration_keeps_data/1,
         nodes_see_the_daemon_end_and_return/1, a_stop_cleans_up_quickly/1, a_node_with_another_cookie_is_refused/1,
         a_hidden_node_sees_groups/1]).

-define(PLUGIN, {hecate_plugin, <<"hecate-traderd">>}).

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [registers_and_lists, finds_a_plugin_and_shows_it, answers_info_and_forwards_nothing,
     monitors_see_joins_and_leaves, introduces_nodes_to_each_other, global_does_not_wait_for_the_daemon,
     a_node_that_ends_and_returns_changes_the_status, deregistration_keeps_data, nodes_see_the_daemon_end_and_return,
     a_stop_cleans_up_quickly, a_node_with_another_cookie_is_refused, a_hidden_node_sees_groups].

init_per_testcase(_, Config) ->
    [{host, hecate_host:start_daemon(hecate_host:start(Config))} | Config].

end_per_testcase(_, Config) -> hecate_host:stop(host(Config)).

registers_and_lists(Config) ->
    Host = host(Config),
    Base = hecate_host:path(Host, "hecate-traderd"),
    Expected = iolist_to_binary(
                 ["{\"name\":\"hecate-traderd\",\"base_dir\":\"", Base, "\",\"paths\":{",
                  lists:join(",", [["\"", Key, "\":\"", Base, "/", Dir, "\""]
                                   || {Key, Dir} <- [{"sqlite", "sqlite"}, {"reckon_db", "reckon-db"},
                                                     {"sockets", "sockets"}, {"run", "run"},
                                                     {"connectors", "connectors"}]]), "}}\n"]),
    ?assertEqual({201, Expected}, register_trader(Host)),
    {ok, Made} = file:list_dir(Base),
    ?assertEqual(["connectors", "reckon-db", "run", "sockets", "sqlite"], lists:sort(Made)),
    {200, List} = hecate_host:http(Host, "GET", "/api/plugins"),
    ?assertMatch({match, _}, re:run(List, "^\\[{\"name\":\"hecate-traderd\",\"version\":\"0.1.0\",\"socket\":\""
                                          ".*/hecate-traderd/sockets/api.sock\",\"status\":\"running\"")).

finds_a_plugin_and_shows_it(Config) ->
    Host = host(Config),
    register_trader(Host),
    Trader = hecate_host:start_node(Host, hecate_traderd),
    Daemon = connected(Trader),
    ?assertEqual(pong, call(Trader, net_adm, ping, [Daemon])),
    {ok, _} = call(Trader, pg, start, [pg]),
    [Proxy] = members(Trader, hecate_plugins, 1),
    ?assertEqual([Proxy], members(Trader, ?PLUGIN, 1)),
    ?assertEqual(Daemon, node(Proxy)),
    %% A node whose name the daemon does not look for connects itself, and sees the same.
    Other = hecate_host:start_node(Host, visitor),
    ?assertEqual(pong, call(Other, net_adm, ping, [Daemon])),
    {ok, _} = call(Other, pg, start, [pg]),
    ?assertEqual([Proxy], members(Other, hecate_plugins, 1)).

answers_info_and_forwards_nothing(Config) ->
    Host = host(Config),
    register_trader(Host),
    Trader = hecate_host:start_node(Host, hecate_traderd),
    Daemon = connected(Trader),
    {ok, _} = call(Trader, pg, start, [pg]),
    [Proxy] = members(Trader, ?PLUGIN, 1),
    Base = list_to_binary(hecate_host:path(Host, "hecate-traderd")),
    Dir = fun(Name) -> <<Base/binary, $/, Name/binary>> end,
    [_, ThisHost] = string:split(atom_to_list(Daemon), "@"),
    Node = maps:get(node, Trader),
    hecate_host:eventually(fun() ->
                                   Info = call(Trader, gen_server, call, [Proxy, info]),
                                   maps:with([node, node_state], Info) =:= #{node => Node, node_state => connected}
                           end),
    Shown = call(Trader, gen_server, call, [Proxy, info]),
    ?assertMatch(#{since := Since} when is_integer(Since), Shown),
    ?assertEqual(#{name => <<"hecate-traderd">>, version => <<"0.1.0">>,
                   description => <<"Trading daemon for Hecate">>, status => running,
                   reason => <<"its node ", (atom_to_binary(Node))/binary, " is connected">>,
                   reason_code => node_connected,
                   socket => Dir(<<"sockets/api.sock">>), base_dir => Base,
                   paths => #{sqlite => Dir(<<"sqlite">>), reckon_db => Dir(<<"reckon-db">>),
                              sockets => Dir(<<"sockets">>), run => Dir(<<"run">>),
                              connectors => Dir(<<"connectors">>)},
                   node => Node, node_state => connected, host => list_to_binary(ThisHost)},
                 maps:remove(since, Shown)),
    ?assertEqual({error, {not_forwarded, Daemon}}, call(Trader, gen_server, call, [Proxy, buy])),
    ?assertMatch({ok, [#{name := <<"hecate-traderd">>}]},
                 call(Trader, gen_server, call, [{hecate_plugins, Daemon}, list])).

monitors_see_joins_and_leaves(Config) ->
    Host = host(Config),
    Watcher = hecate_host:start_node(Host, hecate_watchd),
    connected(Watcher),
    {ok, _} = call(Watcher, pg, start, [pg]),
    Log = watch(Watcher, ?PLUGIN),
    register_trader(Host),
    hecate_host:eventually(fun() -> length(events(Watcher, Log)) =:= 1 end),
    {200, _} = hecate_host:http(Host, "DELETE", "/api/plugins/hecate-traderd"),
    hecate_host:eventually(fun() -> length(events(Watcher, Log)) =:= 2 end),
    ?assertMatch([{join, ?PLUGIN, [Pid]}, {leave, ?PLUGIN, [Pid]}], events(Watcher, Log)).

introduces_nodes_to_each_other(Config) ->
    Host = host(Config),
    Trader = hecate_host:start_node(Host, hecate_traderd),
    {ok, _} = call(Trader, pg, start, [pg]),
    connected(Trader),
    {ok, Worker} = call(Trader, gen_event, start, []),
    ok = call(Trader, pg, join, [workers, Worker]),
    Martha = hecate_host:start_node(Host, hecate_marthad),
    {ok, _} = call(Martha, pg, start, [pg]),
    connected(Martha),
    Joined = erlang:monotonic_time(millisecond),
    TraderNode = maps:get(node, Trader),
    hecate_host:eventually(fun() -> lists:member(TraderNode, call(Martha, erlang, nodes, [])) end),
    ?assertEqual([Worker], members(Martha, workers, 1)),
    Took = erlang:monotonic_time(millisecond) - Joined,
    ct:log("introduced in ~b ms", [Took]),
    ?assert(Took < 1000).

global_does_not_wait_for_the_daemon(Config) ->
    Host = host(Config),
    Trader = hecate_host:start_node(Host, hecate_traderd),
    connected(Trader),
    Done = fun() ->
                   Pid = call(Trader, erlang, whereis, [kernel_sup]),
                   [call(Trader, global, sync, []),
                    call(Trader, global, register_name, [a_name, Pid]),
                    call(Trader, global, whereis_name, [a_name]) =:= Pid,
                    call(Trader, global, trans, [{a_lock, Pid}, fun erlang:node/0])]
           end,
    %% If global waited for the daemon, peer:call/4 would time out after 5 s.
    ?assertEqual([ok, yes, true, maps:get(node, Trader)], Done()).

a_node_that_ends_and_returns_changes_the_status(Config) ->
    Host = host(Config),
    register_trader(Host),
    Watcher = hecate_host:start_node(Host, hecate_watchd),
    connected(Watcher),
    {ok, _} = call(Watcher, pg, start, [pg]),
    Trader = hecate_host:start_node(Host, hecate_traderd),
    connected(Trader),
    eventually_listed(Host, "\"node\":\"hecate_traderd@"),
    [Proxy] = members(Watcher, ?PLUGIN, 1),
    Log = watch(Watcher, ?PLUGIN),
    Data = hecate_host:path(Host, "hecate-traderd/sqlite/data"),
    ok = file:write_file(Data, <<"kept">>),
    Socket = hecate_host:path(Host, "hecate-traderd/sockets/api.sock"),
    {ok, Bound} = gen_tcp:listen(0, [{ifaddr, {local, Socket}}]),
    ok = gen_tcp:close(Bound),
    ok = hecate_host:kill_node(Trader),
    eventually_listed(Host, "\"status\":\"stopped\".*left the cluster"),
    hecate_host:eventually(fun() -> events(Watcher, Log) =:= [{leave, ?PLUGIN, [Proxy]}] end),
    hecate_host:eventually(fun() -> file:read_link_info(Socket) =:= {error, enoent} end),
    ?assertEqual({ok, <<"kept">>}, file:read_file(Data)),
    Again = hecate_host:start_node(Host, hecate_traderd),
    connected(Again),
    eventually_listed(Host, "\"status\":\"running\""),
    [Another] = members(Watcher, ?PLUGIN, 1),
    ?assertNotEqual(Proxy, Another).

deregistration_keeps_data(Config) ->
    Host = host(Config),
    register_trader(Host),
    Watcher = hecate_host:start_node(Host, hecate_watchd),
    connected(Watcher),
    {ok, _} = call(Watcher, pg, start, [pg]),
    members(Watcher, ?PLUGIN, 1),
    Data = hecate_host:path(Host, "hecate-traderd/sqlite/data"),
    ok = file:write_file(Data, <<"kept">>),
    ?assertEqual({200, <<"{\"ok\":true}\n">>}, hecate_host:http(Host, "DELETE", "/api/plugins/hecate-traderd")),
    members(Watcher, ?PLUGIN, 0),
    members(Watcher, hecate_plugins, 0),
    ?assertEqual({ok, <<"kept">>}, file:read_file(Data)),
    ?assertEqual({200, <<"[]\n">>}, hecate_host:http(Host, "GET", "/api/plugins")),
    ?assertMatch({404, _}, hecate_host:http(Host, "DELETE", "/api/plugins/hecate-traderd")).

nodes_see_the_daemon_end_and_return(Config) ->
    Host = host(Config),
    register_trader(Host),
    Trader = hecate_host:start_node(Host, hecate_traderd),
    {ok, _} = call(Trader, pg, start, [pg]),
    Daemon = connected(Trader),
    [Proxy] = members(Trader, ?PLUGIN, 1),
    %% The daemon does not look for this name. After its restart, only the plugin's node can report
    %% it.
    Other = hecate_host:start_node(Host, visitor),
    ?assertEqual(pong, call(Other, net_adm, ping, [Daemon])),
    TraderNode = maps:get(node, Trader),
    hecate_host:eventually(fun() -> lists:member(TraderNode, call(Other, erlang, nodes, [])) end),
    {_, Killed} = hecate_host:kill_daemon(Host),
    members(Trader, ?PLUGIN, 0),
    Back = hecate_host:start_daemon(Killed),
    try
        [Another] = members(Trader, ?PLUGIN, 1),
        ?assertNotEqual(Proxy, Another),
        eventually_listed(Back, "\"status\":\"running\""),
        hecate_host:eventually(fun() -> lists:member(Daemon, call(Other, erlang, nodes, [])) end)
    after
        hecate_host:kill_daemon(Back)
    end.

a_stop_cleans_up_quickly(Config) ->
    Host = host(Config),
    register_trader(Host),
    Trader = hecate_host:start_node(Host, hecate_traderd),
    {ok, _} = call(Trader, pg, start, [pg]),
    connected(Trader),
    members(Trader, ?PLUGIN, 1),
    Before = erlang:monotonic_time(millisecond),
    {Status, _} = hecate_host:terminate_daemon(Host),
    Took = erlang:monotonic_time(millisecond) - Before,
    ?assertEqual(0, Status),
    ?assert(Took < 1000),
    members(Trader, ?PLUGIN, 0),
    {ok, Names} = call(Trader, erl_epmd, names, []),
    ?assertEqual(["hecate_traderd"], [Name || {Name, _} <- Names]),
    ?assertEqual({ok, []}, file:list_dir(hecate_host:path(Host, "hecate-daemon/sockets"))),
    ?assertEqual({ok, []}, file:list_dir(hecate_host:path(Host, "hecate-daemon/run"))).

a_node_with_another_cookie_is_refused(Config) ->
    Host = host(Config),
    Stranger = hecate_host:start_node(Host, hecate_strangerd, ["-setcookie", "another"]),
    Friend = hecate_host:start_node(Host, hecate_traderd),
    Daemon = connected(Friend),
    ?assertEqual(pang, call(Stranger, net_adm, ping, [Daemon])),
    ?assertEqual([], call(Stranger, erlang, nodes, [])).

a_hidden_node_sees_groups(Config) ->
    Host = host(Config),
    register_trader(Host),
    Hidden = hecate_host:start_node(Host, observer, ["-hidden"]),
    Trader = hecate_host:start_node(Host, hecate_traderd),
    Daemon = connected(Trader),
    ?assertEqual(pong, call(Hidden, net_adm, ping, [Daemon])),
    {ok, Scope} = call(Hidden, pg, start, [pg]),
    %% pg discovers only visible nodes, so the hidden node sends `discover' itself.
    {discover, Scope} = call(Hidden, erlang, send, [{pg, Daemon}, {discover, Scope}]),
    members(Hidden, ?PLUGIN, 1).

%% ---- Helpers -----------------------------------------------------------------------------------

host(Config) -> proplists:get_value(host, Config).

call(Node, Module, Function, Args) -> hecate_host:call(Node, Module, Function, Args).

register_trader(Host) ->
    hecate_host:http(Host, "POST", "/api/plugins/register",
                     <<"{\"name\":\"hecate-traderd\",\"version\":\"0.1.0\","
                       "\"description\":\"Trading daemon for Hecate\"}">>).

%% Waits until the daemon has connected to this node. Returns the daemon's node.
connected(Node) ->
    hecate_host:eventually(fun() ->
                                   case [N || N <- call(Node, erlang, nodes, []),
                                              lists:prefix("hecate@", atom_to_list(N))] of
                                       [Daemon] -> Daemon;
                                       [] -> false
                                   end
                           end).

members(Node, Group, Count) ->
    hecate_host:eventually(fun() ->
                                   case call(Node, pg, get_members, [Group]) of
                                       Pids when length(Pids) =:= Count -> Pids;
                                       _ -> false
                                   end
                           end).

eventually_listed(Host, Pattern) ->
    hecate_host:eventually(fun() ->
                                   {200, List} = hecate_host:http(Host, "GET", "/api/plugins"),
                                   re:run(List, Pattern, [{capture, none}]) =:= match
                           end).

%% Starts a process on the node that monitors a group and collects its changes.
watch(Node, Group) ->
    Source = "fun(Group) -> "
             "  Self = self(), "
             "  Pid = spawn(fun() -> "
             "    {Ref, _} = pg:monitor(Group), Self ! {watching, self()}, "
             "    (fun Loop(Seen) -> receive "
             "       {Ref, What, G, Pids} -> Loop([{What, G, Pids} | Seen]); "
             "       {seen, From} -> From ! {seen, lists:reverse(Seen)}, Loop(Seen) end end)([]) end), "
             "  receive {watching, Pid} -> Pid end end.",
    hecate_host:eval(Node, Source, [Group]).

events(Node, Log) ->
    hecate_host:eval(Node, "fun(Pid) -> Pid ! {seen, self()}, receive {seen, Seen} -> Seen end end.", [Log]).
