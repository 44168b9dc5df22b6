%% Runs the reference plugins hecate-traderd and hecate-marthad and a frontend, from the start to a
%% cluster.
-module(hecate_bootstrap_SUITE).

-include_lib("stdlib/include/assert.hrl").
-include_lib("kernel/include/file.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([the_seven_steps/1, plugins_monitor_each_other/1, data_survives_a_restart/1, a_frontend_needs_only_the_socket_of_its_plugin/1,
         sockets_answer_and_refuse/1, a_server_survives_faulty_handlers/1, a_waiting_application_stops_at_once/1,
         a_home_may_have_any_name/1, a_socket_that_answers_is_never_replaced/1]).

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [the_seven_steps, plugins_monitor_each_other, data_survives_a_restart, a_frontend_needs_only_the_socket_of_its_plugin,
     sockets_answer_and_refuse, a_server_survives_faulty_handlers, a_waiting_application_stops_at_once,
     a_home_may_have_any_name, a_socket_that_answers_is_never_replaced].

init_per_suite(Config) -> [{code, hecate_host:compile_apps([hecate_plugin, hecate_traderd, hecate_marthad])} | Config].

end_per_suite(Config) -> hecate_host:remove_apps(proplists:get_value(code, Config)).

init_per_testcase(a_home_may_have_any_name, Config) ->
    %% The string that this node encodes to UTF-8 bytes.
    Prefix = unicode:characters_to_list(<<"hcté"/utf8>>, file:native_name_encoding()),
    [{host, hecate_host:start_daemon(hecate_host:start([{home, Prefix} | Config]))} | Config];
init_per_testcase(_, Config) -> [{host, hecate_host:start_daemon(hecate_host:start(Config))} | Config].

end_per_testcase(_, Config) -> hecate_host:stop(host(Config)).

%% The numbers are those of "Bootstrap Flow" in the convention of the ecosystem.
the_seven_steps(Config) ->
    Host = host(Config),
    %% 1. The plugins start.
    Trader = start(Host, hecate_traderd),
    Martha = start(Host, hecate_marthad),
    %% 2, 3. They connect to the daemon and register.
    [?assertMatch({ok, _}, call(Node, hecate_plugin, await, [10000])) || Node <- [Trader, Martha]],
    {200, List} = hecate_host:http(Host, "GET", "/api/plugins"),
    {ok, Listed} = hecate_plugin_json:decode(List),
    ?assertEqual([<<"hecate-marthad">>, <<"hecate-traderd">>], [Name || #{<<"name">> := Name} <- Listed]),
    %% 4, 5. The daemon creates the directories and returns their paths.
    [begin
         {ok, #{base_dir := Base, paths := Paths}} = call(Node, hecate_plugin, registration, []),
         ?assertEqual(list_to_binary(hecate_host:path(Host, Name)), Base),
         [?assert(filelib:is_dir(Path)) || Path <- maps:values(Paths)]
     end || {Node, Name} <- [{Trader, "hecate-traderd"}, {Martha, "hecate-marthad"}]],
    %% 6. They use the paths: sockets, event store, knowledge base, run files.
    [hecate_host:eventually(fun() -> element(1, request(Host, Name, "/health")) =:= 200 end)
     || Name <- ["hecate-traderd", "hecate-marthad"]],
    ?assertMatch({200, #{<<"name">> := <<"hecate-traderd">>, <<"version">> := <<"0.1.0">>, <<"icon">> := _,
                         <<"description">> := _, <<"tag">> := _}}, request(Host, "hecate-traderd", "/manifest")),
    ?assertMatch({200, #{<<"name">> := <<"hecate-marthad">>}}, request(Host, "hecate-marthad", "/manifest")),
    ?assertEqual(true, filelib:is_regular(hecate_host:path(Host, "hecate-traderd/reckon-db/journal.log"))),
    ?assertEqual(true, filelib:is_regular(hecate_host:path(Host, "hecate-marthad/hecate-agents/trading.md"))),
    {200, #{<<"extra_directories">> := Extra}} = plugin(Host, "hecate-marthad"),
    ?assertEqual([<<"hecate-agents">>], Extra),
    ?assertEqual({ok, <<"running">>}, file:read_file(hecate_host:path(Host, "hecate-marthad/run/daemon.state"))),
    %% 7. They join the cluster, find each other, and exchange messages.
    advised(Host, Trader, Martha),
    Names = [Name || #{name := Name} <- call(Martha, hecate_plugin, plugins, [])],
    ?assertEqual([<<"hecate-marthad">>, <<"hecate-traderd">>], Names).

plugins_monitor_each_other(Config) ->
    Host = host(Config),
    %% In the other order: the advisor starts first.
    Martha = start(Host, hecate_marthad),
    Trader = start(Host, hecate_traderd),
    advised(Host, Trader, Martha),
    ok = hecate_host:kill_node(Trader),
    hecate_host:eventually(fun() -> request(Host, "hecate-marthad", "/health", <<"clients">>) =:= [] end),
    %% The journal was not closed, and is repaired.
    Again = start(Host, hecate_traderd),
    advised(Host, Again, Martha),
    ok = hecate_host:kill_node(Martha),
    hecate_host:eventually(fun() -> request(Host, "hecate-traderd", "/advice") =:= {200, []} end),
    Second = start(Host, hecate_marthad),
    advised(Host, Again, Second),
    %% Only the advisor ends, then only the scope.
    [begin
         Pid = call(Second, erlang, whereis, [Name]),
         true = call(Second, erlang, exit, [Pid, kill]),
         hecate_host:eventually(fun() -> not lists:member(call(Second, erlang, whereis, [Name]), [Pid, undefined]) end),
         advised(Host, Again, Second)
     end || Name <- [hecate_marthad_advisor, pg]].

data_survives_a_restart(Config) ->
    Host = host(Config),
    Martha = start(Host, hecate_marthad),
    Trader = start(Host, hecate_traderd),
    advised(Host, Trader, Martha),
    Before = call(Trader, hecate_traderd_journal, notes, []),
    ?assertMatch([{advice, _, _, <<"ACME: Buy low, sell high.">>} | _], Before),
    ok = file:write_file(hecate_host:path(Host, "hecate-marthad/hecate-agents/trading.md"), <<"Sell.\n">>),
    [ok = call(Node, init, stop, []) || Node <- [Trader, Martha]],
    Gone = fun(Name) -> file:list_dir(hecate_host:path(Host, filename:join(Name, "sockets"))) =:= {ok, []}
                            andalso file:list_dir(hecate_host:path(Host, filename:join(Name, "run"))) =:= {ok, []} end,
    [hecate_host:eventually(fun() -> Gone(Name) end) || Name <- ["hecate-traderd", "hecate-marthad"]],
    [hecate_host:eventually(fun() -> {200, #{<<"status">> := Status}} = plugin(Host, Name), Status =:= <<"stopped">> end)
     || Name <- ["hecate-traderd", "hecate-marthad"]],
    %% The plugin does not overwrite edited files.
    start(Host, hecate_marthad),
    Again = start(Host, hecate_traderd),
    hecate_host:eventually(fun() -> request(Host, "hecate-traderd", "/advice", 1) =:= <<"ACME: Sell.">> end),
    ?assertEqual(Before, lists:sublist(call(Again, hecate_traderd_journal, notes, []), length(Before))).

%% Frontends are stateless: they need only the path of the socket.
a_frontend_needs_only_the_socket_of_its_plugin(Config) ->
    Host = host(Config),
    %% Without its plugin the frontend fails.
    ?assertMatch({7, _}, frontend(Host, [])),
    Martha = start(Host, hecate_marthad),
    Trader = start(Host, hecate_traderd),
    advised(Host, Trader, Martha),
    Before = tree(Host),
    {0, Advice} = frontend(Host, []),
    ?assertMatch({ok, [#{<<"advice">> := <<"ACME: Buy low, sell high.">>}]}, hecate_plugin_json:decode(Advice)),
    {0, Manifest} = frontend(Host, ["/manifest"]),
    ?assertMatch({ok, #{<<"name">> := <<"hecate-traderd">>}}, hecate_plugin_json:decode(Manifest)),
    %% The frontend leaves no directory, no socket and no registration.
    ?assertEqual(Before, tree(Host)),
    ?assertEqual({error, enoent}, file:read_link_info(hecate_host:path(Host, "hecate-traderw"))),
    ?assertMatch({404, _}, plugin(Host, "hecate-traderw")),
    %% The daemon refuses to register a frontend.
    {422, Refusal} = hecate_host:http(Host, "POST", "/api/plugins/register", <<"{\"name\":\"hecate-traderw\"}">>),
    ?assertMatch({ok, #{<<"code">> := <<"name_is_frontend">>}}, hecate_plugin_json:decode(Refusal)),
    ?assertEqual(Before, tree(Host)).

sockets_answer_and_refuse(Config) ->
    Host = host(Config),
    start(Host, hecate_traderd),
    hecate_host:eventually(fun() -> element(1, request(Host, "hecate-traderd", "/health")) =:= 200 end),
    ?assertMatch({404, #{<<"ok">> := false}}, request(Host, "hecate-traderd", "/nothing")),
    ?assertMatch({200, _}, request(Host, "hecate-traderd", "/health?verbose=1")),
    Path = hecate_host:path(Host, "hecate-traderd/sockets/api.sock"),
    {ok, #file_info{mode = Mode}} = file:read_link_info(Path),
    ?assertEqual(8#600, Mode band 8#777),
    {ok, #{status := 405, headers := Headers}} = hecate_plugin_http:request(Path, <<"POST">>, <<"/health">>, <<"{}">>, 5000),
    ?assertEqual({<<"allow">>, <<"GET, HEAD">>}, lists:keyfind(<<"allow">>, 1, Headers)),
    Raw = fun(Bytes) ->
                  {ok, Socket} = gen_tcp:connect({local, Path}, 0, [binary, {active, false}]),
                  ok = gen_tcp:send(Socket, Bytes),
                  {ok, <<"HTTP/1.1 ", Status:3/binary, _/binary>> = Answer} = gen_tcp:recv(Socket, 0, 10000),
                  gen_tcp:close(Socket),
                  {binary_to_integer(Status), lists:last(binary:split(Answer, <<"\r\n\r\n">>))}
          end,
    ?assertEqual({200, <<>>}, Raw(<<"HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n">>)),
    ?assertMatch({400, _}, Raw(<<"what?\r\n\r\n">>)),
    ?assertMatch({400, _}, Raw(["GET /health HTTP/1.1\r\n", lists:duplicate(100, "X: y\r\n"), "\r\n"])),
    %% Silent clients are closed, and other clients are answered.
    Silent = [element(2, gen_tcp:connect({local, Path}, 0, [binary, {active, false}])) || _ <- lists:seq(1, 20)],
    ?assertMatch({ok, #{status := 200}}, hecate_plugin_http:request(Path, <<"GET">>, <<"/health">>, none, 30000)),
    ?assertEqual({error, closed}, gen_tcp:recv(hd(Silent), 0, 10000)).

a_server_survives_faulty_handlers(Config) ->
    Host = host(Config),
    Trader = start(Host, hecate_traderd),
    {ok, _} = call(Trader, hecate_plugin, await, [10000]),
    %% Several sockets, bound at the same time by different processes.
    Names = ["s" ++ integer_to_list(Number) ++ ".sock" || Number <- lists:seq(1, 10)],
    Servers = [serve(Trader, Name) || Name <- Names],
    Request = fun(Name, Path) ->
                  Socket = hecate_host:path(Host, filename:join("hecate-traderd/sockets", Name)),
                  case hecate_plugin_http:request(Socket, <<"GET">>, Path, none, 30000) of
                      {ok, #{status := Status, body := Body}} -> {Status, Body};
                      {error, Reason} -> Reason
                  end
          end,
    Serves = fun(Name) -> Request(Name, <<"/">>) =:= {200, list_to_binary(Name)} end,
    [hecate_host:eventually(fun() -> Serves(Name) end) || Name <- Names],
    %% The acceptor is killed, and the code is replaced twice.
    [Name | _] = Names,
    [{Keeper, Server} | _] = Servers,
    {links, Links} = call(Trader, erlang, process_info, [Server, links]),
    [true = call(Trader, erlang, exit, [Pid, kill]) || Pid <- Links, is_pid(Pid), Pid =/= Keeper],
    ?assert(Serves(Name)),
    [begin
         call(Trader, code, purge, [hecate_plugin_api]),
         {module, _} = call(Trader, code, load_file, [hecate_plugin_api])
     end || _ <- lists:seq(1, 3)],
    ?assert(Serves(Name)),
    %% The handler returns nonsense, raises, and never returns.
    ?assertMatch({500, _}, Request(Name, <<"/nonsense">>)),
    ?assertMatch({500, _}, Request(Name, <<"/raise">>)),
    Test = self(),
    [spawn_link(fun() -> Test ! {hung, Request(Name, <<"/hang">>)} end) || _ <- lists:seq(1, 8)],
    [receive {hung, Result} -> ?assertEqual(closed, Result) end || _ <- lists:seq(1, 8)],
    ?assert(Serves(Name)),
    %% The same server has survived all of this.
    ?assert(call(Trader, erlang, is_process_alive, [Server])).

%% Processes that wait for the daemon end at the supervisor's exit signal, before its shutdown
%% timeout.
a_waiting_application_stops_at_once(Config) ->
    {_, Host} = hecate_host:kill_daemon(host(Config)),
    Trader = start(Host, hecate_traderd),
    Stop = "fun() -> "
           "  Children = [Pid || {_, Pid, _, _} <- supervisor:which_children(hecate_traderd_sup)], "
           "  Monitors = [monitor(process, Pid) || Pid <- Children], "
           "  ok = application:stop(hecate_traderd), "
           "  [receive {'DOWN', Monitor, process, _, Why} -> Why end || Monitor <- Monitors] end.",
    ?assertEqual([shutdown, shutdown, shutdown], hecate_host:eval(Trader, Stop, [])).

%% With both encodings of file names: UTF-8, and Latin-1, as without a locale.
a_home_may_have_any_name(Config) ->
    Host = host(Config),
    [begin
         Trader = start(Host, hecate_traderd, [Flag]),
         ?assertMatch({ok, _}, call(Trader, hecate_plugin, await, [10000])),
         Socket = unicode:characters_to_binary(hecate_host:path(Host, "hecate-traderd/sockets/api.sock"), unicode, file:native_name_encoding()),
         hecate_host:eventually(fun() ->
                                        {Kind, _} = hecate_plugin_http:request(Socket, <<"GET">>, <<"/health">>, none, 10000),
                                        Kind =:= ok
                                end),
         [hecate_host:eventually(fun() -> filelib:is_regular(hecate_host:path(Host, File)) end)
          || File <- ["hecate-traderd/reckon-db/journal.log", "hecate-traderd/run/daemon.pid"]],
         ok = hecate_host:kill_node(Trader)
     end || Flag <- ["+fnl", "+fnu"]].

a_socket_that_answers_is_never_replaced(Config) ->
    Host = host(Config),
    Path = hecate_host:path(Host, "hecate-traderd/sockets/api.sock"),
    ok = filelib:ensure_dir(Path),
    {ok, Other} = gen_tcp:listen(0, [{ifaddr, {local, Path}}]),
    {ok, #file_info{inode = Inode}} = file:read_link_info(Path),
    Trader = start(Host, hecate_traderd),
    ?assertMatch({ok, _}, call(Trader, hecate_plugin, await, [10000])),
    %% The plugin connects repeatedly, so it did not replace the socket after the first time. The
    %% daemon connects too.
    [begin
         {ok, Client} = gen_tcp:accept(Other, 10000),
         gen_tcp:close(Client)
     end || _ <- lists:seq(1, 4)],
    ?assertMatch({ok, #file_info{inode = Inode}}, file:read_link_info(Path)),
    %% A dead socket is replaced.
    gen_tcp:close(Other),
    hecate_host:eventually(fun() ->
                                   case file:read_link_info(Path) of
                                       {ok, #file_info{inode = Inode}} -> false;
                                       {ok, _} -> element(1, request(Host, "hecate-traderd", "/health")) =:= 200;
                                       {error, enoent} -> false
                                   end
                           end).

%% ---- Helpers -------------------------------------------------------------------------------------

host(Config) -> proplists:get_value(host, Config).

%% Starts a node with the plugin's application.
start(Host, App) -> start(Host, App, []).

start(Host, App, Args) ->
    Name = lists:flatten(string:replace(atom_to_list(App), "_", "-", all)),
    Node = hecate_host:start_node(Host, App, hecate_host:configured(Name) ++ Args),
    {ok, Started} = call(Node, application, ensure_all_started, [App]),
    ?assertEqual([hecate_plugin, App], Started),
    Node.

%% Starts a server on the plugin's node. Returns the process that owns it, and the server.
serve(Node, Name) ->
    hecate_host:eval(Node,
                     "fun(Name) -> Self = self(), "
                     "  Answer = fun(<<\"/\">>) -> {200, <<\"text/plain\">>, Name}; "
                     "              (<<\"/nonsense\">>) -> nonsense; "
                     "              (<<\"/hang\">>) -> receive never -> ok end end, "
                     "  Keeper = spawn(fun() -> Self ! {server, hecate_plugin_api:start_link(Name, Answer)}, receive never -> ok end end), "
                     "  receive {server, {ok, Server}} -> {Keeper, Server} end end.",
                     [Name]).

%% Waits until the trader's API shows Martha's advice, and Martha's API shows the trader as a
%% client.
advised(Host, #{node := Trader}, #{node := Martha}) ->
    From = atom_to_binary(Martha),
    hecate_host:eventually(fun() ->
                                   case request(Host, "hecate-traderd", "/advice") of
                                       {200, [#{<<"from">> := From, <<"advice">> := <<"ACME: ", _/binary>>}]} -> true;
                                       _ -> false
                                   end
                           end),
    hecate_host:eventually(fun() -> request(Host, "hecate-marthad", "/health", <<"clients">>) =:= [atom_to_binary(Trader)] end).

call(Node, Module, Function, Args) -> hecate_host:call(Node, Module, Function, Args).

plugin(Host, Name) ->
    {Status, Body} = hecate_host:http(Host, "GET", "/api/plugins/" ++ Name),
    {ok, Answer} = hecate_plugin_json:decode(Body),
    {Status, Answer}.

%% Returns the status and decoded body of a request to a plugin's socket.
request(Host, Name, Path) ->
    Socket = hecate_host:path(Host, filename:join(Name, "sockets/api.sock")),
    case hecate_plugin_http:request(Socket, <<"GET">>, list_to_binary(Path), none, 10000) of
        {ok, #{status := Status, body := Body}} ->
            {ok, Answer} = hecate_plugin_json:decode(Body),
            {Status, Answer};
        Error -> Error
    end.

request(Host, Name, Path, Key) ->
    case {request(Host, Name, Path), Key} of
        {{200, Answer}, Key} when is_map(Answer) -> maps:get(Key, Answer);
        {{200, [#{<<"advice">> := Advice}]}, 1} -> Advice;
        {Other, _} -> Other
    end.

%% Runs the frontend as a pod does.
frontend(#{home := Home}, Args) ->
    Script = filename:join([code:lib_dir(hecate_traderd), "src", "..", "..", "hecate_traderw", "hecate-traderw"]),
    Port = open_port({spawn_executable, Script}, [{args, Args}, {env, [{"HOME", Home}, {"HECATE_HOME", false}]}, exit_status, binary]),
    output(Port, <<>>).

output(Port, Read) ->
    receive
        {Port, {data, More}} -> output(Port, <<Read/binary, More/binary>>);
        {Port, {exit_status, Status}} -> {Status, Read}
    after 20000 -> error(still_running)
    end.

%% Returns every path below the home, without the daemon's database.
tree(Host) ->
    Root = hecate_host:path(Host, ""),
    [Path || Path <- lists:sort(filelib:wildcard(filename:join(Root, "**"))), string:find(Path, "hecate-daemon/sqlite") =:= nomatch].
