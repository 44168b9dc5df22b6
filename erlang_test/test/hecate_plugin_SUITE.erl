%% Runs plugins with hecate_plugin beside the built daemon, and makes either fail. Each case then
%% checks the HTTP API, pg on every node, and the files.
-module(hecate_plugin_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([the_daemon_starts_first/1, the_plugin_starts_first/1, the_daemon_is_killed_and_loses_its_database/1,
         the_daemon_stops_and_comes_back/1, a_plugin_is_killed/1, both_are_killed_at_once/1, a_name_is_taken/1,
         a_name_is_refused/1, the_disk_is_full/1, run_files_wait_for_free_space/1, the_cluster_is_split_and_healed/1,
         ten_plugins_start_at_the_same_time/1, a_plugin_is_deregistered_only_on_request/1, a_stop_cleans_up_quickly/1,
         the_host_application_owns_the_scope/1, the_scope_is_killed_repeatedly/1, a_node_without_a_name/1,
         processes_of_the_library_are_killed/1, a_waiting_process_survives_the_registrar/1, a_node_gets_its_name_later/1,
         another_client_deregisters_the_plugin/1, plugins_are_found_and_watched/1, paths_equal_those_of_shared_paths/1,
         the_default_handler_logs_the_lines_of_the_library/1]).

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [the_daemon_starts_first, the_plugin_starts_first, the_daemon_is_killed_and_loses_its_database,
     the_daemon_stops_and_comes_back, a_plugin_is_killed, both_are_killed_at_once, a_name_is_taken, a_name_is_refused,
     the_disk_is_full, run_files_wait_for_free_space, the_cluster_is_split_and_healed, ten_plugins_start_at_the_same_time,
     a_plugin_is_deregistered_only_on_request, a_stop_cleans_up_quickly, the_host_application_owns_the_scope,
     the_scope_is_killed_repeatedly, a_node_without_a_name, a_node_gets_its_name_later, processes_of_the_library_are_killed,
     a_waiting_process_survives_the_registrar, another_client_deregisters_the_plugin, plugins_are_found_and_watched,
     paths_equal_those_of_shared_paths, the_default_handler_logs_the_lines_of_the_library].

init_per_suite(Config) -> [{code, hecate_host:compile_apps([hecate_plugin])} | Config].

end_per_suite(Config) -> hecate_host:remove_apps(proplists:get_value(code, Config)).

init_per_testcase(the_disk_is_full, Config) ->
    [{host, hecate_host:start([{disk, small} | Config])} | Config];
init_per_testcase(_, Config) ->
    [{host, hecate_host:start(Config)} | Config].

end_per_testcase(_, Config) -> hecate_host:stop(proplists:get_value(host, Config)).

%% ---- Start order ---------------------------------------------------------------------------------

the_daemon_starts_first(Config) ->
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

the_plugin_starts_first(Config) ->
    Host = host(Config),
    Trader = hecate_host:start_plugin(Host, hecate_traderd, "hecate-traderd"),
    ?assertEqual({error, timeout}, call(Trader, hecate_plugin, await, [300])),
    ?assertMatch({waiting, {failed, {unreachable, enoent}}}, call(Trader, hecate_plugin, state, [])),
    ?assertEqual({error, not_registered}, call(Trader, hecate_plugin, registration, [])),
    ?assertEqual([], members(Trader, {hecate_plugin, <<"hecate-traderd">>})),
    Up = daemon(Host),
    ?assertMatch({ok, _}, call(Trader, hecate_plugin, await, [10000])),
    runs(Up, "hecate-traderd", Trader, [Trader]),
    %% A plugin with another cookie is registered too.
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

the_daemon_is_killed_and_loses_its_database(Config) ->
    Host = daemon(Config),
    [Trader, Martha] = both(Host),
    Log = subscribe(Trader),
    {_, Killed} = hecate_host:kill_daemon(Host),
    [hecate_host:eventually(fun() -> members(Node, hecate_plugins) =:= [] end) || Node <- [Trader, Martha]],
    %% Only the daemon's proxies are gone. The plugins still see each other.
    ?assertEqual(own(Martha), call(Trader, hecate_plugin, whereis, ["hecate-marthad"])),
    ok = file:del_dir_r(hecate_host:path(Killed, "hecate-daemon/sqlite")),
    Back = daemon(Killed),
    runs(Back, "hecate-traderd", Trader, [Trader, Martha]),
    runs(Back, "hecate-marthad", Martha, [Trader, Martha]),
    Own = own(Martha),
    ?assertEqual([], [Pid || {leave, <<"hecate-marthad">>, Pid} <- received(Trader, Log), Pid =:= Own]),
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
                                   Left = [Pid || {leave, <<"hecate-traderd">>, Pid} <- received(Martha, Log)],
                                   lists:sort(Left) =:= lists:sort([Own, Proxy])
                           end),
    no_run_files(Host, "hecate-traderd"),
    %% Changes of pg and events of the daemon may arrive in any order.
    hecate_host:eventually(fun() -> lists:member({status, <<"hecate-traderd">>, stopped}, received(Martha, Log)) end),
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

a_plugin_is_deregistered_only_on_request(Config) ->
    Host = daemon(Config),
    [Trader, Martha] = both(Host),
    ok = file:write_file(hecate_host:path(Host, "hecate-traderd/sqlite/data"), <<"kept">>),
    %% Also in prep_stop/1, while the application controller waits for the application.
    ok = call(Trader, sys, suspend, [application_controller]),
    ?assertEqual(ok, call(Trader, hecate_plugin, deregister, [])),
    ok = call(Trader, sys, resume, [application_controller]),
    ?assertEqual(deregistered, call(Trader, hecate_plugin, state, [])),
    gone(Host, "hecate-traderd", [Trader, Martha]),
    ?assertMatch({404, _}, get(Host, "hecate-traderd")),
    run_files_of(Host, "hecate-traderd", Trader),
    ?assertEqual({ok, <<"kept">>}, file:read_file(hecate_host:path(Host, "hecate-traderd/sqlite/data"))),
    %% The plugin stays deregistered after a second call, a restart of the daemon and one of the
    %% registrar.
    ?assertEqual(ok, call(Trader, hecate_plugin, deregister, [])),
    {0, Stopped} = hecate_host:terminate_daemon(Host),
    Back = daemon(Stopped),
    killed(Trader, hecate_plugin_registrar),
    ?assertEqual(deregistered, call(Trader, hecate_plugin, state, [])),
    runs(Back, "hecate-marthad", Martha, [Trader, Martha]),
    ?assertMatch({404, _}, get(Back, "hecate-traderd")),
    ?assertEqual(ok, call(Trader, hecate_plugin, register, [])),
    runs(Back, "hecate-traderd", Trader, [Trader, Martha]),
    %% A deregistration without a daemon fails, and the plugin stays registered.
    {_, Gone} = hecate_host:kill_daemon(Back),
    ?assertMatch({error, {unreachable, _}}, call(Trader, hecate_plugin, deregister, [])),
    Third = daemon(Gone),
    runs(Third, "hecate-traderd", Trader, [Trader, Martha]),
    stop_daemon(Third).

a_stop_cleans_up_quickly(Config) ->
    Host = daemon(Config),
    [Trader, Martha] = both(Host),
    ok = call(Trader, hecate_plugin, stopping, []),
    State = hecate_host:path(Host, "hecate-traderd/run/daemon.state"),
    ?assertEqual({ok, <<"stopping">>}, file:read_file(State)),
    {Time, ok} = call(Trader, timer, tc, [application, stop, [hecate_plugin]]),
    %% No process of the library waits for a timeout.
    ?assert(Time < 4000000),
    no_run_files(Host, "hecate-traderd"),
    ?assertEqual([], call(Trader, persistent_term, get, [{hecate_plugin, registration}, []])),
    hecate_host:eventually(fun() -> not lists:member(node_of(Trader), [node(Pid) || Pid <- plugin(Martha, "hecate-traderd")]) end),
    ?assertMatch({200, #{<<"name">> := <<"hecate-traderd">>}}, get(Host, "hecate-traderd")),
    {ok, _} = call(Trader, application, ensure_all_started, [hecate_plugin]),
    runs(Host, "hecate-traderd", Trader, [Trader, Martha]),
    %% The same when the whole node stops.
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
    %% All nodes see only the first plugin.
    hecate_host:eventually(fun() -> lists:member(node_of(Trader), call(Second, erlang, nodes, [])) end),
    runs(Host, "hecate-traderd", Trader, [Trader, Second]),
    %% The second cannot deregister the first. After register/0 it waits for the name again.
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
    %% The application keeps running, without a directory and without members in groups.
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

run_files_wait_for_free_space(Config) ->
    Host = daemon(Config),
    Trader = hecate_host:start_node(Host, hecate_traderd, hecate_host:configured("hecate-traderd")),
    hecate_host:write_no_more(maps:get(pid, Trader)),
    {ok, _} = call(Trader, application, ensure_all_started, [hecate_plugin]),
    %% The plugin is registered, and there is no partly written file.
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
    %% Each side no longer sees the other.
    gone(Host, "hecate-traderd", [Martha]),
    runs(Host, "hecate-marthad", Martha, [Martha]),
    hecate_host:eventually(fun() -> call(Trader, hecate_plugin, whereis, ["hecate-marthad"]) =:= undefined end),
    hecate_host:eventually(fun() -> plugin(Trader, "hecate-traderd") =:= [own(Trader)] end),
    {200, #{<<"status">> := <<"stopped">>, <<"reason">> := Reason}} = get(Host, "hecate-traderd"),
    ?assertMatch({match, _}, re:run(Reason, "left the cluster")),
    %% The plugin still runs, so its run files stay.
    run_files_of(Host, "hecate-traderd", Trader),
    ?assert(lists:member({leave, <<"hecate-traderd">>, own(Trader)}, received(Martha, Log))),
    [ok = heal(Node, All) || {Node, All} <- [{Trader, Others}, {Martha, [node_of(Trader)]}]],
    ?assertEqual(true, call(Trader, net_kernel, connect_node, [Daemon])),
    runs(Host, "hecate-traderd", Trader, [Trader, Martha]),
    runs(Host, "hecate-marthad", Martha, [Trader, Martha]),
    ?assert(lists:member({join, <<"hecate-traderd">>, own(Trader)}, received(Martha, Log))),
    hecate_host:eventually(fun() -> lists:member({status, <<"hecate-traderd">>, running}, received(Martha, Log)) end).

%% Makes the node refuse the others, and be refused by them.
cut(Node, Others) -> set_cookies(Node, Others, cut).

heal(Node, Others) -> set_cookies(Node, Others, ct_cookie).

set_cookies(Node, Others, Cookie) ->
    [true = call(Node, erlang, set_cookie, [Other, Cookie]) || Other <- Others],
    ok.

ten_plugins_start_at_the_same_time(Config) ->
    Host = daemon(Config),
    Numbers = lists:seq(1, 10),
    Name = fun(Number) -> lists:flatten(io_lib:format("hecate-plugin~bd", [Number])) end,
    Nodes = [hecate_host:start_node(Host, list_to_atom(lists:flatten(io_lib:format("hecate_plugin~bd", [Number]))),
                                    hecate_host:configured(Name(Number))) || Number <- Numbers],
    %% All nodes run first, so that the plugins start at the same time.
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
    %% The node name does not match the plugin name.
    {ok, _} = call(Nameless, net_kernel, start, [[hecate_late, shortnames]]),
    Trader = Nameless#{node := call(Nameless, erlang, node, [])},
    runs(Host, "hecate-traderd", Trader, [Trader]),
    Node = node_of(Trader),
    ?assertMatch([#{node := Node, status := running}], call(Trader, hecate_plugin, plugins, [])).

%% ---- The host application ------------------------------------------------------------------------

the_host_application_owns_the_scope(Config) ->
    Host = daemon(Config),
    Trader = hecate_host:start_node(Host, hecate_traderd, hecate_host:configured("hecate-traderd")),
    {ok, Scope} = call(Trader, pg, start, [pg]),
    {ok, _} = call(Trader, application, ensure_all_started, [hecate_plugin]),
    runs(Host, "hecate-traderd", Trader, [Trader]),
    ?assertEqual(Scope, call(Trader, erlang, whereis, [pg])),
    %% No owner restarts the scope, so the library starts it.
    true = call(Trader, erlang, exit, [Scope, kill]),
    hecate_host:eventually(fun() -> call(Trader, erlang, whereis, [pg]) =/= undefined end),
    runs(Host, "hecate-traderd", Trader, [Trader]).

the_scope_is_killed_repeatedly(Config) ->
    Host = daemon(Config),
    [Trader, Martha] = both(Host),
    Log = subscribe(Trader),
    Sup = call(Trader, erlang, whereis, [hecate_plugin_sup]),
    [killed(Trader, pg) || _ <- lists:seq(1, 12)],
    ?assertEqual(Sup, call(Trader, erlang, whereis, [hecate_plugin_sup])),
    runs(Host, "hecate-traderd", Trader, [Trader, Martha]),
    runs(Host, "hecate-marthad", Martha, [Trader, Martha]),
    %% The received joins and leaves match the present members.
    hecate_host:eventually(fun() ->
                                   Count = fun(What) -> length([ok || {W, <<"hecate-marthad">>, _} <- received(Trader, Log), W =:= What]) end,
                                   Count(leave) > 0 andalso Count(leave) =:= Count(join)
                           end).

processes_of_the_library_are_killed(Config) ->
    Host = daemon(Config),
    [Trader, Martha] = both(Host),
    Scope = call(Trader, erlang, whereis, [pg]),
    [killed(Trader, Name) || Name <- [hecate_plugin_discovery, hecate_plugin_watcher, hecate_plugin_registrar, hecate_plugin_discovery]],
    runs(Host, "hecate-traderd", Trader, [Trader, Martha]),
    ?assertEqual(Scope, call(Trader, erlang, whereis, [pg])),
    ?assertMatch([_, _, _, _], call(Trader, supervisor, which_children, [hecate_plugin_sup])).

a_waiting_process_survives_the_registrar(Config) ->
    Host = host(Config),
    Trader = hecate_host:start_plugin(Host, hecate_traderd, "hecate-traderd"),
    Wait = "fun(Timeout) -> spawn(fun() -> Got = hecate_plugin:await(Timeout), receive {received, From} -> From ! {received, Got} end end) end.",
    Waiters = [hecate_host:eval(Trader, Wait, [Timeout]) || Timeout <- [infinity, 60000]],
    [killed(Trader, hecate_plugin_registrar) || _ <- lists:seq(1, 3)],
    ?assertEqual({error, timeout}, call(Trader, hecate_plugin, await, [0])),
    %% An invalid timeout fails only the caller.
    Registrar = call(Trader, erlang, whereis, [hecate_plugin_registrar]),
    [?assertError(_, call(Trader, hecate_plugin, await, [Timeout])) || Timeout <- [-1, 1.5, soon]],
    ?assertEqual(Registrar, call(Trader, erlang, whereis, [hecate_plugin_registrar])),
    Up = daemon(Host),
    [?assertMatch({ok, _}, received(Trader, Waiter)) || Waiter <- Waiters],
    %% When the application stops, await/1 ends.
    ok = call(Trader, application, stop, [hecate_plugin]),
    ?assertExit({noproc, _}, call(Trader, hecate_plugin, await, [infinity])),
    stop_daemon(Up).

another_client_deregisters_the_plugin(Config) ->
    Host = daemon(Config),
    [Trader, Martha] = both(Host),
    {200, _} = hecate_host:http(Host, "DELETE", "/api/plugins/hecate-traderd"),
    %% The plugin's own group member stays, so others still find it.
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
    ?assertMatch([{there, #{<<"hecate-traderd">> := [_, _]}}], received(Trader, Log)),
    Martha = hecate_host:start_plugin(Host, hecate_marthad, "hecate-marthad"),
    runs(Host, "hecate-marthad", Martha, [Trader, Martha]),
    Own = own(Martha),
    [Proxy] = proxies(Trader, "hecate-marthad"),
    hecate_host:eventually(fun() ->
                                   Joined = [Pid || {join, <<"hecate-marthad">>, Pid} <- received(Trader, Log)],
                                   lists:sort(Joined) =:= lists:sort([Own, Proxy])
                           end),
    hecate_host:eventually(fun() -> lists:member({status, <<"hecate-marthad">>, running}, received(Trader, Log)) end),
    %% whereis/1 returns the process of the instance, for any kind of name. The instance and the
    %% proxy give the same description, except for two facts that only the daemon knows: the reason
    %% of the status, and the state of the node.
    [?assertEqual(Own, call(Trader, hecate_plugin, whereis, [Name]))
     || Name <- [<<"hecate-marthad">>, "hecate-marthad", 'hecate-marthad']],
    {ok, Info} = call(Trader, hecate_plugin, info, ["hecate-marthad"]),
    Theirs = call(Trader, gen_server, call, [Proxy, info]),
    ?assertEqual(Info, maps:without([since, reason, reason_code, node_state], Theirs)),
    ?assertEqual({error, {not_forwarded, node_of(Martha)}}, call(Trader, gen_server, call, [Own, buy])),
    Names = [Name || #{name := Name} <- call(Trader, hecate_plugin, plugins, [])],
    ?assertEqual([<<"hecate-marthad">>, <<"hecate-traderd">>], Names),
    ?assertEqual(undefined, call(Trader, hecate_plugin, whereis, ["hecate-missingd"])),
    ?assertEqual({error, not_found}, call(Trader, hecate_plugin, info, ["hecate-missingd"])),
    ok = call(Martha, hecate_plugin, deregister, []),
    hecate_host:eventually(fun() -> lists:member({status, <<"hecate-marthad">>, deregistered}, received(Trader, Log)) end),
    gone(Host, "hecate-marthad", [Trader, Martha]).

paths_equal_those_of_shared_paths(Config) ->
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

%% ---- Log -----------------------------------------------------------------------------------------

the_default_handler_logs_the_lines_of_the_library(Config) ->
    Host = host(Config),
    File = filename:join(maps:get(home, Host), "node.log"),
    %% The same handler and filters as by default, but with a file.
    Handler = io_lib:format("[{handler, default, logger_std_h, #{config => #{file => ~p}}}]", [File]),
    Trader = hecate_host:start_node(Host, hecate_traderd,
                                    hecate_host:configured("hecate-traderd")
                                        ++ ["-hecate_plugin", "icon", "<<\"0.1.0\">>", "-kernel", "logger", lists:flatten(Handler)]),
    ok = call(Trader, logger, set_primary_config, [level, notice]),
    {ok, _} = call(Trader, application, ensure_all_started, [hecate_plugin]),
    logs(Trader, File, "unknown setting 'icon'"),
    logs(Trader, File, "hecate-traderd: cannot connect to hecate-daemon"),
    Up = daemon(Host),
    logs(Trader, File, "hecate-traderd: registered at "),
    Api = "fun() -> Handler = fun(_) -> error(broken) end, {ok, Pid} = hecate_plugin_api:start_link(\"api.sock\", Handler), unlink(Pid) end.",
    true = hecate_host:eval(Trader, Api, []),
    Socket = hecate_host:path(Host, "hecate-traderd/sockets/api.sock"),
    hecate_host:eventually(fun() -> element(1, file:read_link_info(Socket)) =:= ok end),
    _ = os:cmd("curl -s --unix-socket " ++ Socket ++ " http://localhost/"),
    logs(Trader, File, "the handler of / failed"),
    stop_daemon(Up).

%% Waits until a text is in the log of a node.
logs(Node, File, Text) ->
    hecate_host:eventually(fun() ->
                                   ok = call(Node, logger_std_h, filesync, [default]),
                                   {ok, Log} = file:read_file(File),
                                   string:find(Log, Text) =/= nomatch
                           end).

%% ---- Checks --------------------------------------------------------------------------------------

%% Waits until the API, pg on all nodes and the files show that the plugin runs on this node.
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

%% Waits until the API and pg on all nodes show that the plugin does not run.
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

%% ---- Helpers -------------------------------------------------------------------------------------

host(Config) -> proplists:get_value(host, Config).

daemon(#{home := _} = Host) -> hecate_host:start_daemon(Host);
daemon(Config) -> daemon(host(Config)).

%% For a daemon that was started after the one in Config.
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

%% Kills a registered process, and waits for the next process with that name.
killed(Node, Name) ->
    Pid = hecate_host:eventually(fun() ->
                                         case call(Node, erlang, whereis, [Name]) of
                                             undefined -> false;
                                             There -> There
                                         end
                                 end),
    true = call(Node, erlang, exit, [Pid, kill]),
    hecate_host:eventually(fun() -> not lists:member(call(Node, erlang, whereis, [Name]), [Pid, undefined]) end).

%% Starts a process on the node that subscribes and collects the changes.
subscribe(Node) ->
    hecate_host:eval(Node,
                     "fun() -> Self = self(), "
                     "  Pid = spawn(fun() -> "
                     "    {Ref, There} = hecate_plugin:subscribe(), Self ! {subscribed, self()}, "
                     "    (fun Loop(Received) -> receive "
                     "       {hecate_plugin, Ref, {status, Name, Status, _}} -> Loop([{status, Name, Status} | Received]); "
                     "       {hecate_plugin, Ref, Event} -> Loop([Event | Received]); "
                     "       {received, From} -> From ! {received, lists:reverse(Received)}, Loop(Received) end end)([{there, There}]) end), "
                     "  receive {subscribed, Pid} -> Pid end end.", []).

received(Node, Log) ->
    hecate_host:eval(Node, "fun(Pid) -> Pid ! {received, self()}, receive {received, Received} -> Received end end.", [Log]).
