%% Plugins that are hecate_plugin, beside the built daemon: whatever happens to the one or the other, each case asks all sides
%% in the end, the HTTP API, pg on every node, and the files.
-module(hecate_plugin_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([the_daemon_is_there_first/1, the_plugin_is_there_first/1, the_daemon_is_killed_and_loses_what_it_knew/1,
         the_daemon_stops_and_comes_back/1, a_plugin_is_killed/1, both_are_killed_at_once/1, a_name_is_taken/1,
         a_name_is_refused/1, the_disk_is_full/1, run_files_wait_for_room/1, the_cluster_is_split_and_healed/1,
         ten_plugins_start_in_the_same_moment/1, it_deregisters_on_request_only/1, it_stops_in_good_order/1,
         the_scope_is_the_host_applications/1, the_scope_ends_again_and_again/1, a_node_without_a_name/1,
         its_own_processes_are_killed/1, who_waits_outlives_the_registrar/1, a_node_gets_its_name_later/1,
         somebody_else_deregisters_it/1, plugins_are_found_and_watched/1, paths_are_those_of_shared_paths/1]).

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [the_daemon_is_there_first, the_plugin_is_there_first, the_daemon_is_killed_and_loses_what_it_knew,
     the_daemon_stops_and_comes_back, a_plugin_is_killed, both_are_killed_at_once, a_name_is_taken, a_name_is_refused,
     the_disk_is_full, run_files_wait_for_room, the_cluster_is_split_and_healed, ten_plugins_start_in_the_same_moment,
     it_deregisters_on_request_only, it_stops_in_good_order, the_scope_is_the_host_applications,
     the_scope_ends_again_and_again, a_node_without_a_name, a_node_gets_its_name_later, its_own_processes_are_killed,
     who_waits_outlives_the_registrar, somebody_else_deregisters_it, plugins_are_found_and_watched,
     paths_are_those_of_shared_paths].

init_per_suite(Config) -> [{code, hecate_host:compile_apps([hecate_plugin])} | Config].

end_per_suite(Config) -> hecate_host:remove_apps(proplists:get_value(code, Config)).

init_per_testcase(the_disk_is_full, Config) ->
    [{host, hecate_host:start([{disk, small} | Config])} | Config];
init_per_testcase(_, Config) ->
    [{host, hecate_host:start(Config)} | Config].

end_per_testcase(_, Config) -> hecate_host:stop(proplists:get_value(host, Config)).

%% ---- In either order -----------------------------------------------------------------------------

the_daemon_is_there_first(Config) ->
    Host = daemon(Config),
    Trader = hecate_host:start_plugin(Host, hecate_traderd, "hecate-traderd"),
    Base = list_to_binary(hecate_host:path(Host, "hecate-traderd")),
    {ok, Registration} = call(Trader, hecate_plugin, await, [10000]),
    ?assertMatch(#{name := <<"hecate-traderd">>, base_dir := Base, paths := #{run := _}}, Registration),
    ?assertEqual({ok, Registration}, call(Trader, hecate_plugin, registration, [])),
    ?assertEqual(registered, call(Trader, hecate_plugin, state, [])),
    runs(Host, "hecate-traderd", Trader, [Trader]),
    {200, Found} = get(Host, "hecate-traderd"),
    ?assertMatch(#{<<"version">> := <<"0.1.0">>, <<"description">> := <<"The plugin hecate-traderd">>}, Found).

the_plugin_is_there_first(Config) ->
    Host = host(Config),
    Trader = hecate_host:start_plugin(Host, hecate_traderd, "hecate-traderd"),
    ?assertEqual({error, timeout}, call(Trader, hecate_plugin, await, [300])),
    ?assertMatch({waiting, {failed, {unreachable, enoent}}}, call(Trader, hecate_plugin, state, [])),
    ?assertEqual({error, not_registered}, call(Trader, hecate_plugin, registration, [])),
    ?assertEqual([], members(Trader, {hecate_plugin, <<"hecate-traderd">>})),
    Up = daemon(Host),
    ?assertMatch({ok, _}, call(Trader, hecate_plugin, await, [10000])),
    runs(Up, "hecate-traderd", Trader, [Trader]),
    %% The plugin can be there before a daemon that is not of its cluster, and is registered all the same.
    ok = hecate_host:kill_node(Trader),
    Stranger = hecate_host:start_plugin(Up, hecate_marthad, "hecate-marthad", ["-setcookie", "another"]),
    ?assertMatch({ok, _}, call(Stranger, hecate_plugin, await, [10000])),
    ?assertEqual([], call(Stranger, erlang, nodes, [])),
    ?assertMatch({200, #{<<"status">> := <<"running">>}}, get(Up, "hecate-marthad")),
    Own = call(Stranger, erlang, whereis, [hecate_plugin_discovery]),
    hecate_host:eventually(fun() -> members(Stranger, {hecate_plugin, <<"hecate-marthad">>}) =:= [Own] end),
    run_files_of(Up, "hecate-marthad", Stranger),
    stop_daemon(Up).

%% ---- The daemon ends -----------------------------------------------------------------------------

the_daemon_is_killed_and_loses_what_it_knew(Config) ->
    Host = daemon(Config),
    [Trader, Martha] = both(Host),
    Log = subscribe(Trader),
    {_, Killed} = hecate_host:kill_daemon(Host),
    [hecate_host:eventually(fun() -> members(Node, hecate_plugins) =:= [] end) || Node <- [Trader, Martha]],
    %% The plugins are still there for each other: it is the daemon's proxies that are gone.
    ?assertEqual(own(Martha), call(Trader, hecate_plugin, whereis, ["hecate-marthad"])),
    ok = file:del_dir_r(hecate_host:path(Killed, "hecate-daemon/sqlite")),
    Back = daemon(Killed),
    runs(Back, "hecate-traderd", Trader, [Trader, Martha]),
    runs(Back, "hecate-marthad", Martha, [Trader, Martha]),
    Own = own(Martha),
    ?assertEqual([], [Pid || {leave, <<"hecate-marthad">>, Pid} <- told(Trader, Log), Pid =:= Own]),
    stop_daemon(Back).

the_daemon_stops_and_comes_back(Config) ->
    Host = daemon(Config),
    [Trader, Martha] = both(Host),
    {0, Stopped} = hecate_host:terminate_daemon(Host),
    hecate_host:eventually(fun() ->
                                   case call(Trader, hecate_plugin, state, []) of
                                       {waiting, {failed, {unreachable, _}}} -> true;
                                       _ -> false
                                   end
                           end),
    ?assertMatch({ok, _}, call(Trader, hecate_plugin, registration, [])),
    Back = daemon(Stopped),
    runs(Back, "hecate-traderd", Trader, [Trader, Martha]),
    runs(Back, "hecate-marthad", Martha, [Trader, Martha]),
    [hecate_host:eventually(fun() -> call(Node, hecate_plugin, state, []) =:= registered end) || Node <- [Trader, Martha]],
    stop_daemon(Back).

%% ---- Plugins end ---------------------------------------------------------------------------------

a_plugin_is_killed(Config) ->
    Host = daemon(Config),
    [Trader, Martha] = both(Host),
    Log = subscribe(Martha),
    Own = own(Trader),
    [Proxy] = proxies(Martha, "hecate-traderd"),
    ok = hecate_host:kill_node(Trader),
    gone(Host, "hecate-traderd", [Martha]),
    ?assertMatch({200, #{<<"status">> := <<"stopped">>}}, get(Host, "hecate-traderd")),
    hecate_host:eventually(fun() ->
                                   Left = [Pid || {leave, <<"hecate-traderd">>, Pid} <- told(Martha, Log)],
                                   lists:sort(Left) =:= lists:sort([Own, Proxy])
                           end),
    no_run_files(Host, "hecate-traderd"),
    %% What it was told by pg and by the daemon's events, in whatever order the two came.
    hecate_host:eventually(fun() -> lists:member({status, <<"hecate-traderd">>, stopped}, told(Martha, Log)) end),
    Again = hecate_host:start_plugin(Host, hecate_traderd, "hecate-traderd"),
    runs(Host, "hecate-traderd", Again, [Again, Martha]),
    runs(Host, "hecate-marthad", Martha, [Again, Martha]).

both_are_killed_at_once(Config) ->
    Host = daemon(Config),
    [Trader, Martha] = both(Host),
    Killed = hecate_host:kill_both(Host, Trader),
    ?assertEqual({ok, list_to_binary(integer_to_list(maps:get(pid, Trader)))},
                 file:read_file(hecate_host:path(Killed, "hecate-traderd/run/daemon.pid"))),
    hecate_host:eventually(fun() -> call(Martha, hecate_plugin, whereis, ["hecate-traderd"]) =:= undefined end),
    Back = daemon(Killed),
    runs(Back, "hecate-marthad", Martha, [Martha]),
    gone(Back, "hecate-traderd", [Martha]),
    Again = hecate_host:start_plugin(Back, hecate_traderd, "hecate-traderd"),
    runs(Back, "hecate-traderd", Again, [Again, Martha]),
    stop_daemon(Back).

it_deregisters_on_request_only(Config) ->
    Host = daemon(Config),
    [Trader, Martha] = both(Host),
    ok = file:write_file(hecate_host:path(Host, "hecate-traderd/sqlite/data"), <<"kept">>),
    %% Also from prep_stop/1, while who manages applications waits for its end.
    ok = call(Trader, sys, suspend, [application_controller]),
    ?assertEqual(ok, call(Trader, hecate_plugin, deregister, [])),
    ok = call(Trader, sys, resume, [application_controller]),
    ?assertEqual(deregistered, call(Trader, hecate_plugin, state, [])),
    gone(Host, "hecate-traderd", [Trader, Martha]),
    ?assertMatch({404, _}, get(Host, "hecate-traderd")),
    run_files_of(Host, "hecate-traderd", Trader),
    ?assertEqual({ok, <<"kept">>}, file:read_file(hecate_host:path(Host, "hecate-traderd/sqlite/data"))),
    %% It stays so: when it is asked again, when the daemon returns, when the registrar begins its next life.
    ?assertEqual(ok, call(Trader, hecate_plugin, deregister, [])),
    {0, Stopped} = hecate_host:terminate_daemon(Host),
    Back = daemon(Stopped),
    killed(Trader, hecate_plugin_registrar),
    ?assertEqual(deregistered, call(Trader, hecate_plugin, state, [])),
    runs(Back, "hecate-marthad", Martha, [Trader, Martha]),
    ?assertMatch({404, _}, get(Back, "hecate-traderd")),
    ?assertEqual(ok, call(Trader, hecate_plugin, register, [])),
    runs(Back, "hecate-traderd", Trader, [Trader, Martha]),
    %% A deregistration that nobody hears did not happen.
    {_, Gone} = hecate_host:kill_daemon(Back),
    ?assertMatch({error, {unreachable, _}}, call(Trader, hecate_plugin, deregister, [])),
    Third = daemon(Gone),
    runs(Third, "hecate-traderd", Trader, [Trader, Martha]),
    stop_daemon(Third).

it_stops_in_good_order(Config) ->
    Host = daemon(Config),
    [Trader, Martha] = both(Host),
    ok = call(Trader, hecate_plugin, stopping, []),
    State = hecate_host:path(Host, "hecate-traderd/run/daemon.state"),
    ?assertEqual({ok, <<"stopping">>}, file:read_file(State)),
    {Time, ok} = call(Trader, timer, tc, [application, stop, [hecate_plugin]]),
    %% Nobody of it waits for the end of a time limit.
    ?assert(Time < 4000000),
    no_run_files(Host, "hecate-traderd"),
    ?assertEqual([], call(Trader, persistent_term, get, [{hecate_plugin, registration}, []])),
    hecate_host:eventually(fun() -> not lists:member(node_of(Trader), [node(Pid) || Pid <- plugin(Martha, "hecate-traderd")]) end),
    ?assertMatch({200, #{<<"name">> := <<"hecate-traderd">>}}, get(Host, "hecate-traderd")),
    {ok, _} = call(Trader, application, ensure_all_started, [hecate_plugin]),
    runs(Host, "hecate-traderd", Trader, [Trader, Martha]),
    %% The same of the whole node.
    ok = call(Trader, init, stop, []),
    gone(Host, "hecate-traderd", [Martha]),
    no_run_files(Host, "hecate-traderd"),
    ?assertMatch({200, #{<<"status">> := <<"stopped">>}}, get(Host, "hecate-traderd")).

%% ---- Refusals ------------------------------------------------------------------------------------

a_name_is_taken(Config) ->
    Host = daemon(Config),
    Trader = hecate_host:start_plugin(Host, hecate_traderd, "hecate-traderd"),
    runs(Host, "hecate-traderd", Trader, [Trader]),
    Second = hecate_host:start_plugin(Host, hecate_otherd, "hecate-traderd"),
    hecate_host:eventually(fun() -> is_refused(Second, node_conflict) end),
    ?assertEqual({error, not_registered}, call(Second, hecate_plugin, registration, [])),
    %% All see the first, and only that.
    hecate_host:eventually(fun() -> lists:member(node_of(Trader), call(Second, erlang, nodes, [])) end),
    runs(Host, "hecate-traderd", Trader, [Trader, Second]),
    %% Not its own to deregister; and it comes back to wait for it.
    ?assertEqual(ok, call(Second, hecate_plugin, deregister, [])),
    ?assertMatch({200, #{<<"status">> := <<"running">>}}, get(Host, "hecate-traderd")),
    ?assertEqual(ok, call(Second, hecate_plugin, register, [])),
    hecate_host:eventually(fun() -> is_refused(Second, node_conflict) end),
    ok = hecate_host:kill_node(Trader),
    ?assertMatch({ok, _}, call(Second, hecate_plugin, await, [15000])),
    runs(Host, "hecate-traderd", Second, [Second]).

a_name_is_refused(Config) ->
    Host = daemon(Config),
    Frontend = hecate_host:start_plugin(Host, hecate_traderw, "hecate-traderw"),
    hecate_host:eventually(fun() -> is_refused(Frontend, name_is_frontend) end),
    %% It goes on running, without a namespace and without a place in the cluster.
    ?assertEqual({ok, []}, call(Frontend, application, ensure_all_started, [hecate_plugin])),
    ?assertMatch({404, _}, get(Host, "hecate-traderw")),
    ?assertEqual([], plugin(Frontend, "hecate-traderw")),
    ?assertEqual({error, enoent}, file:read_file_info(hecate_host:path(Host, "hecate-traderw"))).

the_disk_is_full(Config) ->
    Host = daemon(Config),
    Martha = hecate_host:start_plugin(Host, hecate_marthad, "hecate-marthad"),
    runs(Host, "hecate-marthad", Martha, [Martha]),
    Trader = hecate_host:start_node(Host, hecate_traderd, hecate_host:configured("hecate-traderd")),
    hecate_host:fill_disk(Host, Trader),
    {ok, _} = call(Trader, application, ensure_all_started, [hecate_plugin]),
    hecate_host:eventually(fun() ->
                                   case call(Trader, hecate_plugin, state, []) of
                                       {waiting, {failed, {refused, #{status := Status}}}} -> Status >= 500;
                                       _ -> false
                                   end
                           end),
    ?assertMatch({404, _}, get(Host, "hecate-traderd")),
    ?assertEqual([], members(Martha, {hecate_plugin, <<"hecate-traderd">>})),
    ?assertEqual([], members(Trader, {hecate_plugin, <<"hecate-traderd">>})),
    runs(Host, "hecate-marthad", Martha, [Martha]),
    hecate_host:free_disk(Host, Trader),
    ?assertMatch({ok, _}, call(Trader, hecate_plugin, await, [15000])),
    runs(Host, "hecate-traderd", Trader, [Trader, Martha]).

run_files_wait_for_room(Config) ->
    Host = daemon(Config),
    Trader = hecate_host:start_node(Host, hecate_traderd, hecate_host:configured("hecate-traderd")),
    hecate_host:write_no_more(maps:get(pid, Trader)),
    {ok, _} = call(Trader, application, ensure_all_started, [hecate_plugin]),
    %% It is registered and works; and there is no file with half of what belongs there.
    ?assertMatch({ok, _}, call(Trader, hecate_plugin, await, [10000])),
    ?assertEqual({ok, []}, file:list_dir(hecate_host:path(Host, "hecate-traderd/run"))),
    hecate_host:write_again(maps:get(pid, Trader)),
    runs(Host, "hecate-traderd", Trader, [Trader]).

%% ---- The cluster ---------------------------------------------------------------------------------

the_cluster_is_split_and_healed(Config) ->
    Host = daemon(Config),
    [Trader, Martha] = both(Host),
    Daemon = daemon_node(Trader),
    Log = subscribe(Martha),
    Others = [Daemon, node_of(Martha)],
    ok = cut(Trader, Others),
    ok = cut(Martha, [node_of(Trader)]),
    [true = call(Trader, erlang, disconnect_node, [Node]) || Node <- Others],
    %% For all others it is gone; for itself the others are.
    gone(Host, "hecate-traderd", [Martha]),
    runs(Host, "hecate-marthad", Martha, [Martha]),
    hecate_host:eventually(fun() -> call(Trader, hecate_plugin, whereis, ["hecate-marthad"]) =:= undefined end),
    hecate_host:eventually(fun() -> plugin(Trader, "hecate-traderd") =:= [own(Trader)] end),
    {200, #{<<"status">> := <<"stopped">>, <<"reason">> := Reason}} = get(Host, "hecate-traderd"),
    ?assertMatch({match, _}, re:run(Reason, "left the cluster")),
    %% It lives, so what is on disk stays.
    run_files_of(Host, "hecate-traderd", Trader),
    ?assert(lists:member({leave, <<"hecate-traderd">>, own(Trader)}, told(Martha, Log))),
    [ok = mend(Node, All) || {Node, All} <- [{Trader, Others}, {Martha, [node_of(Trader)]}]],
    ?assertEqual(true, call(Trader, net_kernel, connect_node, [Daemon])),
    runs(Host, "hecate-traderd", Trader, [Trader, Martha]),
    runs(Host, "hecate-marthad", Martha, [Trader, Martha]),
    ?assert(lists:member({join, <<"hecate-traderd">>, own(Trader)}, told(Martha, Log))),
    hecate_host:eventually(fun() -> lists:member({status, <<"hecate-traderd">>, running}, told(Martha, Log)) end).

%% Refused from now on, and not dialled with success.
cut(Node, Others) -> set_cookies(Node, Others, cut).

mend(Node, Others) -> set_cookies(Node, Others, ct_cookie).

set_cookies(Node, Others, Cookie) ->
    [true = call(Node, erlang, set_cookie, [Other, Cookie]) || Other <- Others],
    ok.

ten_plugins_start_in_the_same_moment(Config) ->
    Host = daemon(Config),
    Numbers = lists:seq(1, 10),
    Name = fun(Number) -> lists:flatten(io_lib:format("hecate-plugin~bd", [Number])) end,
    Nodes = [hecate_host:start_node(Host, list_to_atom(lists:flatten(io_lib:format("hecate_plugin~bd", [Number]))),
                                    hecate_host:configured(Name(Number))) || Number <- Numbers],
    %% The nodes take their time to start, so that it is the plugins that do at once.
    Self = self(),
    [spawn_link(fun() -> Self ! call(Node, application, ensure_all_started, [hecate_plugin]) end) || Node <- Nodes],
    [receive {ok, _} -> ok end || _ <- Nodes],
    [?assertMatch({ok, _}, call(Node, hecate_plugin, await, [15000])) || Node <- Nodes],
    [runs(Host, Name(Number), Node, Nodes) || {Number, Node} <- lists:zip(Numbers, Nodes)],
    {200, List} = hecate_host:http(Host, "GET", "/api/plugins"),
    {ok, Plugins} = hecate_plugin_json:decode(List),
    ?assertEqual(10, length([ok || #{<<"status">> := <<"running">>} <- Plugins])),
    ?assertEqual(10, length(call(hd(Nodes), hecate_plugin, plugins, []))).

a_node_without_a_name(Config) ->
    Host = daemon(Config),
    Nameless = hecate_host:start_plugin(Host, undefined, "hecate-traderd"),
    ?assertMatch({ok, _}, call(Nameless, hecate_plugin, await, [10000])),
    ?assertMatch({200, #{<<"status">> := <<"running">>, <<"node">> := null}}, get(Host, "hecate-traderd")),
    run_files_of(Host, "hecate-traderd", Nameless),
    ?assertMatch({ok, #{node := undefined, status := running}}, call(Nameless, hecate_plugin, info, ["hecate-traderd"])).

a_node_gets_its_name_later(Config) ->
    Host = daemon(Config),
    Nameless = hecate_host:start_plugin(Host, undefined, "hecate-traderd"),
    ?assertMatch({ok, _}, call(Nameless, hecate_plugin, await, [10000])),
    %% Nobody can tell by this name whose node it is.
    {ok, _} = call(Nameless, net_kernel, start, [[hecate_late, shortnames]]),
    Trader = Nameless#{node := call(Nameless, erlang, node, [])},
    runs(Host, "hecate-traderd", Trader, [Trader]),
    Node = node_of(Trader),
    ?assertMatch([#{node := Node, status := running}], call(Trader, hecate_plugin, plugins, [])).

%% ---- The host application ------------------------------------------------------------------------

the_scope_is_the_host_applications(Config) ->
    Host = daemon(Config),
    Trader = hecate_host:start_node(Host, hecate_traderd, hecate_host:configured("hecate-traderd")),
    {ok, Scope} = call(Trader, pg, start, [pg]),
    {ok, _} = call(Trader, application, ensure_all_started, [hecate_plugin]),
    runs(Host, "hecate-traderd", Trader, [Trader]),
    ?assertEqual(Scope, call(Trader, erlang, whereis, [pg])),
    %% Its owner restarts it, or nobody does.
    true = call(Trader, erlang, exit, [Scope, kill]),
    hecate_host:eventually(fun() -> call(Trader, erlang, whereis, [pg]) =/= undefined end),
    runs(Host, "hecate-traderd", Trader, [Trader]).

the_scope_ends_again_and_again(Config) ->
    Host = daemon(Config),
    [Trader, Martha] = both(Host),
    Log = subscribe(Trader),
    Sup = call(Trader, erlang, whereis, [hecate_plugin_sup]),
    [killed(Trader, pg) || _ <- lists:seq(1, 12)],
    ?assertEqual(Sup, call(Trader, erlang, whereis, [hecate_plugin_sup])),
    runs(Host, "hecate-traderd", Trader, [Trader, Martha]),
    runs(Host, "hecate-marthad", Martha, [Trader, Martha]),
    %% What was told adds up to what is there.
    hecate_host:eventually(fun() ->
                                   Count = fun(What) -> length([ok || {W, <<"hecate-marthad">>, _} <- told(Trader, Log), W =:= What]) end,
                                   Count(leave) > 0 andalso Count(leave) =:= Count(join)
                           end).

its_own_processes_are_killed(Config) ->
    Host = daemon(Config),
    [Trader, Martha] = both(Host),
    Scope = call(Trader, erlang, whereis, [pg]),
    [killed(Trader, Name) || Name <- [hecate_plugin_discovery, hecate_plugin_watcher, hecate_plugin_registrar, hecate_plugin_discovery]],
    runs(Host, "hecate-traderd", Trader, [Trader, Martha]),
    ?assertEqual(Scope, call(Trader, erlang, whereis, [pg])),
    ?assertMatch([_, _, _, _], call(Trader, supervisor, which_children, [hecate_plugin_sup])).

who_waits_outlives_the_registrar(Config) ->
    Host = host(Config),
    Trader = hecate_host:start_plugin(Host, hecate_traderd, "hecate-traderd"),
    Wait = "fun(Timeout) -> spawn(fun() -> Got = hecate_plugin:await(Timeout), receive {told, From} -> From ! {told, Got} end end) end.",
    Waiters = [hecate_host:eval(Trader, Wait, [Timeout]) || Timeout <- [infinity, 60000]],
    [killed(Trader, hecate_plugin_registrar) || _ <- lists:seq(1, 3)],
    ?assertEqual({error, timeout}, call(Trader, hecate_plugin, await, [0])),
    %% What is no time is the caller's error alone.
    Registrar = call(Trader, erlang, whereis, [hecate_plugin_registrar]),
    [?assertError(_, call(Trader, hecate_plugin, await, [Timeout])) || Timeout <- [-1, 1.5, soon]],
    ?assertEqual(Registrar, call(Trader, erlang, whereis, [hecate_plugin_registrar])),
    Up = daemon(Host),
    [?assertMatch({ok, _}, told(Trader, Waiter)) || Waiter <- Waiters],
    %% With the application ends the waiting.
    ok = call(Trader, application, stop, [hecate_plugin]),
    ?assertExit({noproc, _}, call(Trader, hecate_plugin, await, [infinity])),
    stop_daemon(Up).

somebody_else_deregisters_it(Config) ->
    Host = daemon(Config),
    [Trader, Martha] = both(Host),
    {200, _} = hecate_host:http(Host, "DELETE", "/api/plugins/hecate-traderd"),
    %% Its work goes on, and who knows it finds it.
    hecate_host:eventually(fun() -> proxies(Martha, "hecate-traderd") =:= [] end),
    ?assertEqual(own(Trader), call(Martha, hecate_plugin, whereis, ["hecate-traderd"])),
    ?assertMatch({404, _}, get(Host, "hecate-traderd")),
    ok = call(Trader, hecate_plugin, register, []),
    runs(Host, "hecate-traderd", Trader, [Trader, Martha]).

plugins_are_found_and_watched(Config) ->
    Host = daemon(Config),
    Trader = hecate_host:start_plugin(Host, hecate_traderd, "hecate-traderd"),
    runs(Host, "hecate-traderd", Trader, [Trader]),
    Log = subscribe(Trader),
    ?assertMatch([{there, #{<<"hecate-traderd">> := [_, _]}}], told(Trader, Log)),
    Martha = hecate_host:start_plugin(Host, hecate_marthad, "hecate-marthad"),
    runs(Host, "hecate-marthad", Martha, [Trader, Martha]),
    Own = own(Martha),
    [Proxy] = proxies(Trader, "hecate-marthad"),
    hecate_host:eventually(fun() ->
                                   Joined = [Pid || {join, <<"hecate-marthad">>, Pid} <- told(Trader, Log)],
                                   lists:sort(Joined) =:= lists:sort([Own, Proxy])
                           end),
    hecate_host:eventually(fun() -> lists:member({status, <<"hecate-marthad">>, running}, told(Trader, Log)) end),
    %% The process of the instance itself, by any kind of name. It says what the proxy says, but for
    %% what only the daemon knows: the reason of the status, and the state of the node.
    [?assertEqual(Own, call(Trader, hecate_plugin, whereis, [Name]))
     || Name <- [<<"hecate-marthad">>, "hecate-marthad", 'hecate-marthad']],
    {ok, Info} = call(Trader, hecate_plugin, info, ["hecate-marthad"]),
    Theirs = call(Trader, gen_server, call, [Proxy, info]),
    ?assertEqual(Info, maps:without([since, reason, reason_code, node_state], Theirs)),
    ?assertEqual({error, {not_forwarded, node_of(Martha)}}, call(Trader, gen_server, call, [Own, buy])),
    Names = [Name || #{name := Name} <- call(Trader, hecate_plugin, plugins, [])],
    ?assertEqual([<<"hecate-marthad">>, <<"hecate-traderd">>], Names),
    ?assertEqual(undefined, call(Trader, hecate_plugin, whereis, ["hecate-nobodyd"])),
    ?assertEqual({error, not_found}, call(Trader, hecate_plugin, info, ["hecate-nobodyd"])),
    ok = call(Martha, hecate_plugin, deregister, []),
    hecate_host:eventually(fun() -> lists:member({status, <<"hecate-marthad">>, deregistered}, told(Trader, Log)) end),
    gone(Host, "hecate-marthad", [Trader, Martha]).

paths_are_those_of_shared_paths(Config) ->
    Host = daemon(Config),
    Trader = hecate_host:start_plugin(Host, hecate_traderd, "hecate-traderd"),
    {ok, _} = call(Trader, hecate_plugin, await, [10000]),
    Daemon = daemon_node(Trader),
    Functions = [{base_dir, []}, {connectors_dir, []}, {ensure_layout, []}
                 | [{Function, [Name]} || Function <- [sqlite_path, reckon_path, socket_path, run_path],
                                          Name <- ["x.db", <<"x.db">>, x, "/x", "../x", ""]]],
    [begin
         Theirs = call(Trader, erpc, call, [Daemon, shared_paths, Function, Args]),
         Ours = call(Trader, hecate_paths, Function, Args),
         Here = fun(Path) when is_list(Path) -> string:replace(Path, "hecate-daemon", "hecate-traderd");
                   (Path) when is_binary(Path) -> string:replace(Path, <<"hecate-daemon">>, <<"hecate-traderd">>);
                   (Other) -> Other
                end,
         case Theirs of
             ok -> ?assertEqual(ok, Ours);
             _ when is_list(Theirs) -> ?assertEqual(lists:flatten(Here(Theirs)), Ours);
             _ -> ?assertEqual(iolist_to_binary(Here(Theirs)), Ours)
         end
     end || {Function, Args} <- Functions],
    ok = file:del_dir_r(hecate_host:path(Host, "hecate-traderd/connectors")),
    ?assertEqual(ok, call(Trader, hecate_paths, ensure_layout, [])),
    ?assert(filelib:is_dir(hecate_host:path(Host, "hecate-traderd/connectors"))).

%% ---- All sides -----------------------------------------------------------------------------------

%% The plugin of this name runs on that node, as the API, pg on all nodes, and the disk have it.
runs(Host, Name, Node, Nodes) ->
    Binary = list_to_binary(Name),
    Own = own(Node),
    NodeName = atom_to_binary(node_of(Node)),
    hecate_host:eventually(fun() ->
                                   case get(Host, Name) of
                                       {200, #{<<"status">> := <<"running">>, <<"node">> := NodeName}} -> true;
                                       _ -> false
                                   end
                           end),
    hecate_host:eventually(fun() -> call(Node, hecate_plugin, state, []) =:= registered end),
    [hecate_host:eventually(fun() ->
                                    case [Pid || Pid <- plugin(At, Name), Pid =/= Own] of
                                        [Proxy] ->
                                            lists:prefix("hecate@", atom_to_list(node(Proxy)))
                                                andalso lists:member(Proxy, members(At, hecate_plugins))
                                                andalso length(plugin(At, Name)) =:= 2;
                                        _ -> false
                                    end
                            end) || At <- Nodes],
    [?assertMatch(#{name := Binary, status := running}, call(At, gen_server, call, [Pid, info]))
     || At <- Nodes, Pid <- plugin(At, Name)],
    {ok, Directories} = file:list_dir(hecate_host:path(Host, Name)),
    ?assertEqual([], ["connectors", "reckon-db", "run", "sockets", "sqlite"] -- Directories),
    run_files_of(Host, Name, Node).

%% No plugin of this name runs, as the API and pg on all nodes have it.
gone(Host, Name, Nodes) ->
    hecate_host:eventually(fun() ->
                                   case get(Host, Name) of
                                       {200, #{<<"status">> := <<"stopped">>}} -> true;
                                       {404, _} -> true;
                                       _ -> false
                                   end
                           end),
    [hecate_host:eventually(fun() -> plugin(At, Name) =:= [] end) || At <- Nodes],
    [?assertEqual(undefined, call(At, hecate_plugin, whereis, [Name])) || At <- Nodes].

run_files_of(Host, Name, Node) ->
    Read = fun(File) -> file:read_file(hecate_host:path(Host, filename:join([Name, "run", File]))) end,
    Pid = list_to_binary(integer_to_list(maps:get(pid, Node))),
    hecate_host:eventually(fun() -> {Read("daemon.pid"), Read("daemon.state")} =:= {{ok, Pid}, {ok, <<"running">>}} end).

no_run_files(Host, Name) ->
    hecate_host:eventually(fun() -> file:list_dir(hecate_host:path(Host, filename:join(Name, "run"))) =:= {ok, []} end).

%% ---- What the cases share ------------------------------------------------------------------------

host(Config) -> proplists:get_value(host, Config).

daemon(#{home := _} = Host) -> hecate_host:start_daemon(Host);
daemon(Config) -> daemon(host(Config)).

%% Of a daemon that end_per_testcase/2 knows nothing of.
stop_daemon(Host) -> hecate_host:kill_daemon(Host).

both(Host) ->
    Both = [Trader, Martha] = [hecate_host:start_plugin(Host, hecate_traderd, "hecate-traderd"),
                               hecate_host:start_plugin(Host, hecate_marthad, "hecate-marthad")],
    runs(Host, "hecate-traderd", Trader, Both),
    runs(Host, "hecate-marthad", Martha, Both),
    Both.

call(Node, Module, Function, Args) -> hecate_host:call(Node, Module, Function, Args).

node_of(#{node := Node}) -> Node.

own(Node) -> call(Node, erlang, whereis, [hecate_plugin_discovery]).

get(Host, Name) ->
    {Status, Body} = hecate_host:http(Host, "GET", "/api/plugins/" ++ Name),
    {ok, Answer} = hecate_plugin_json:decode(Body),
    {Status, Answer}.

members(Node, Group) -> call(Node, pg, get_members, [Group]).

plugin(Node, Name) -> members(Node, {hecate_plugin, list_to_binary(Name)}).

proxies(Node, Name) ->
    Proxies = members(Node, hecate_plugins),
    [Pid || Pid <- plugin(Node, Name), lists:member(Pid, Proxies)].

daemon_node(Node) ->
    hecate_host:eventually(fun() ->
                                   case [N || N <- call(Node, erlang, nodes, []), lists:prefix("hecate@", atom_to_list(N))] of
                                       [Daemon] -> Daemon;
                                       [] -> false
                                   end
                           end).

is_refused(Node, Code) ->
    case call(Node, hecate_plugin, state, []) of
        {waiting, {failed, {refused, #{code := Code}}}} -> true;
        _ -> false
    end.

%% Ends a registered process from outside, and waits for the next of that name.
killed(Node, Name) ->
    Pid = hecate_host:eventually(fun() ->
                                         case call(Node, erlang, whereis, [Name]) of
                                             undefined -> false;
                                             There -> There
                                         end
                                 end),
    true = call(Node, erlang, exit, [Pid, kill]),
    hecate_host:eventually(fun() -> not lists:member(call(Node, erlang, whereis, [Name]), [Pid, undefined]) end).

%% A process on the node that subscribes and keeps what it is told: pids of joins and leaves, and what is known of a status.
subscribe(Node) ->
    hecate_host:eval(Node,
                     "fun() -> Self = self(), "
                     "  Pid = spawn(fun() -> "
                     "    {Ref, There} = hecate_plugin:subscribe(), Self ! {subscribed, self()}, "
                     "    (fun Loop(Told) -> receive "
                     "       {hecate_plugin, Ref, {status, Name, Status, _}} -> Loop([{status, Name, Status} | Told]); "
                     "       {hecate_plugin, Ref, Event} -> Loop([Event | Told]); "
                     "       {told, From} -> From ! {told, lists:reverse(Told)}, Loop(Told) end end)([{there, There}]) end), "
                     "  receive {subscribed, Pid} -> Pid end end.", []).

told(Node, Log) ->
    hecate_host:eval(Node, "fun(Pid) -> Pid ! {told, self()}, receive {told, Told} -> Told end end.", [Log]).
