%% The convention's bootstrap, with two plugin daemons that are real applications, hecate-traderd and hecate-marthad, and a frontend.
-module(hecate_bootstrap_SUITE).

-include_lib("stdlib/include/assert.hrl").
-include_lib("kernel/include/file.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([the_seven_steps/1, they_monitor_each_other/1, its_data_outlives_it/1, a_frontend_gets_what_is_promised_and_no_more/1,
         their_sockets_serve_and_refuse/1, their_sockets_withstand_what_serves_them/1, it_ends_while_it_waits/1,
         a_home_may_have_any_name/1, a_living_socket_is_never_taken_over/1]).

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [the_seven_steps, they_monitor_each_other, its_data_outlives_it, a_frontend_gets_what_is_promised_and_no_more,
     their_sockets_serve_and_refuse, their_sockets_withstand_what_serves_them, it_ends_while_it_waits,
     a_home_may_have_any_name, a_living_socket_is_never_taken_over].

init_per_suite(Config) -> [{code, hecate_host:compile_apps([hecate_plugin, hecate_traderd, hecate_marthad])} | Config].

end_per_suite(Config) -> hecate_host:remove_apps(proplists:get_value(code, Config)).

init_per_testcase(a_home_may_have_any_name, Config) ->
    %% As this node has to say it, so that it is UTF-8.
    Prefix = unicode:characters_to_list(<<"hcté"/utf8>>, file:native_name_encoding()),
    [{host, hecate_host:start_daemon(hecate_host:start([{home, Prefix} | Config]))} | Config];
init_per_testcase(_, Config) -> [{host, hecate_host:start_daemon(hecate_host:start(Config))} | Config].

end_per_testcase(_, Config) -> hecate_host:stop(host(Config)).

%% See "Bootstrap Flow" of the convention, whose numbers these are.
the_seven_steps(Config) ->
    Host = host(Config),
    %% 1. Each starts, and knows of nobody.
    Trader = start(Host, hecate_traderd),
    Martha = start(Host, hecate_marthad),
    %% 2, 3. It connects and registers.
    [?assertMatch({ok, _}, call(Node, hecate_plugin, await, [10000])) || Node <- [Trader, Martha]],
    {200, List} = hecate_host:http(Host, "GET", "/api/plugins"),
    {ok, Listed} = hecate_plugin_json:decode(List),
    ?assertEqual([<<"hecate-marthad">>, <<"hecate-traderd">>], [Name || #{<<"name">> := Name} <- Listed]),
    %% 4, 5. The daemon has made the directories and given their paths.
    [begin
         {ok, #{base_dir := Base, paths := Paths}} = call(Node, hecate_plugin, registration, []),
         ?assertEqual(list_to_binary(hecate_host:path(Host, Name)), Base),
         [?assert(filelib:is_dir(Path)) || Path <- maps:values(Paths)]
     end || {Node, Name} <- [{Trader, "hecate-traderd"}, {Martha, "hecate-marthad"}]],
    %% 6. They use them: sockets, event store, knowledge base, run files.
    [hecate_host:eventually(fun() -> element(1, ask(Host, Name, "/health")) =:= 200 end)
     || Name <- ["hecate-traderd", "hecate-marthad"]],
    ?assertMatch({200, #{<<"name">> := <<"hecate-traderd">>, <<"version">> := <<"0.1.0">>, <<"icon">> := _,
                         <<"description">> := _, <<"tag">> := _}}, ask(Host, "hecate-traderd", "/manifest")),
    ?assertMatch({200, #{<<"name">> := <<"hecate-marthad">>}}, ask(Host, "hecate-marthad", "/manifest")),
    ?assertEqual(true, filelib:is_regular(hecate_host:path(Host, "hecate-traderd/reckon-db/journal.log"))),
    ?assertEqual(true, filelib:is_regular(hecate_host:path(Host, "hecate-marthad/hecate-agents/trading.md"))),
    {200, #{<<"extra_directories">> := Extra}} = plugin(Host, "hecate-marthad"),
    ?assertEqual([<<"hecate-agents">>], Extra),
    ?assertEqual({ok, <<"running">>}, file:read_file(hecate_host:path(Host, "hecate-marthad/run/daemon.state"))),
    %% 7. They join the cluster, find each other, and talk.
    advised(Host, Trader, Martha),
    Names = [Name || #{name := Name} <- call(Martha, hecate_plugin, plugins, [])],
    ?assertEqual([<<"hecate-marthad">>, <<"hecate-traderd">>], Names).

they_monitor_each_other(Config) ->
    Host = host(Config),
    %% In the other order: who gives advice comes first.
    Martha = start(Host, hecate_marthad),
    Trader = start(Host, hecate_traderd),
    advised(Host, Trader, Martha),
    ok = hecate_host:kill_node(Trader),
    hecate_host:eventually(fun() -> ask(Host, "hecate-marthad", "/health", <<"clients">>) =:= [] end),
    %% The journal was cut off in the middle of its life, and goes on.
    Again = start(Host, hecate_traderd),
    advised(Host, Again, Martha),
    ok = hecate_host:kill_node(Martha),
    hecate_host:eventually(fun() -> ask(Host, "hecate-traderd", "/advice") =:= {200, []} end),
    Second = start(Host, hecate_marthad),
    advised(Host, Again, Second),
    %% The end of an advisor alone, as a monitor sees it, and of the scope.
    [begin
         Pid = call(Second, erlang, whereis, [Name]),
         true = call(Second, erlang, exit, [Pid, kill]),
         hecate_host:eventually(fun() -> not lists:member(call(Second, erlang, whereis, [Name]), [Pid, undefined]) end),
         advised(Host, Again, Second)
     end || Name <- [hecate_marthad_advisor, pg]].

its_data_outlives_it(Config) ->
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
    %% What was worked on is not overwritten by what the plugin brings along.
    start(Host, hecate_marthad),
    Again = start(Host, hecate_traderd),
    hecate_host:eventually(fun() -> ask(Host, "hecate-traderd", "/advice", 1) =:= <<"ACME: Sell.">> end),
    ?assertEqual(Before, lists:sublist(call(Again, hecate_traderd_journal, notes, []), length(Before))).

%% "Frontends are stateless": a path by convention, and nothing else.
a_frontend_gets_what_is_promised_and_no_more(Config) ->
    Host = host(Config),
    %% Without its daemon there is nobody to ask.
    ?assertMatch({7, _}, frontend(Host, [])),
    Martha = start(Host, hecate_marthad),
    Trader = start(Host, hecate_traderd),
    advised(Host, Trader, Martha),
    Before = tree(Host),
    {0, Advice} = frontend(Host, []),
    ?assertMatch({ok, [#{<<"advice">> := <<"ACME: Buy low, sell high.">>}]}, hecate_plugin_json:decode(Advice)),
    {0, Manifest} = frontend(Host, ["/manifest"]),
    ?assertMatch({ok, #{<<"name">> := <<"hecate-traderd">>}}, hecate_plugin_json:decode(Manifest)),
    %% It has left nothing: no namespace, no socket, no registration.
    ?assertEqual(Before, tree(Host)),
    ?assertEqual({error, enoent}, file:read_link_info(hecate_host:path(Host, "hecate-traderw"))),
    ?assertMatch({404, _}, plugin(Host, "hecate-traderw")),
    %% And could have none.
    {422, Refusal} = hecate_host:http(Host, "POST", "/api/plugins/register", <<"{\"name\":\"hecate-traderw\"}">>),
    ?assertMatch({ok, #{<<"code">> := <<"name_is_frontend">>}}, hecate_plugin_json:decode(Refusal)),
    ?assertEqual(Before, tree(Host)).

their_sockets_serve_and_refuse(Config) ->
    Host = host(Config),
    start(Host, hecate_traderd),
    hecate_host:eventually(fun() -> element(1, ask(Host, "hecate-traderd", "/health")) =:= 200 end),
    ?assertMatch({404, #{<<"ok">> := false}}, ask(Host, "hecate-traderd", "/nothing")),
    ?assertMatch({200, _}, ask(Host, "hecate-traderd", "/health?verbose=1")),
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
    %% More than are served at once say nothing: they are cut off, and others get their turn.
    Silent = [element(2, gen_tcp:connect({local, Path}, 0, [binary, {active, false}])) || _ <- lists:seq(1, 20)],
    ?assertMatch({ok, #{status := 200}}, hecate_plugin_http:request(Path, <<"GET">>, <<"/health">>, none, 30000)),
    ?assertEqual({error, closed}, gen_tcp:recv(hd(Silent), 0, 10000)).

their_sockets_withstand_what_serves_them(Config) ->
    Host = host(Config),
    Trader = start(Host, hecate_traderd),
    {ok, _} = call(Trader, hecate_plugin, await, [10000]),
    %% Several that are bound at the same moment, each by a process of its own.
    Names = ["s" ++ integer_to_list(Number) ++ ".sock" || Number <- lists:seq(1, 10)],
    Servers = [serve(Trader, Name) || Name <- Names],
    Ask = fun(Name, Path) ->
                  Socket = hecate_host:path(Host, filename:join("hecate-traderd/sockets", Name)),
                  case hecate_plugin_http:request(Socket, <<"GET">>, Path, none, 30000) of
                      {ok, #{status := Status, body := Body}} -> {Status, Body};
                      {error, Reason} -> Reason
                  end
          end,
    Serves = fun(Name) -> Ask(Name, <<"/">>) =:= {200, list_to_binary(Name)} end,
    [hecate_host:eventually(fun() -> Serves(Name) end) || Name <- Names],
    %% What serves is killed; its code is replaced, and once more.
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
    %% The plugin gives what is no answer, and none at all, to as many as are served at once.
    ?assertMatch({500, _}, Ask(Name, <<"/nonsense">>)),
    ?assertMatch({500, _}, Ask(Name, <<"/raise">>)),
    Test = self(),
    [spawn_link(fun() -> Test ! {hung, Ask(Name, <<"/hang">>)} end) || _ <- lists:seq(1, 8)],
    [receive {hung, Said} -> ?assertEqual(closed, Said) end || _ <- lists:seq(1, 8)],
    ?assert(Serves(Name)),
    %% All this time it was the same server.
    ?assert(call(Trader, erlang, is_process_alive, [Server])).

%% Who waits for the daemon has nothing to clean up, and ends when its supervisor says so, not when that gives up.
it_ends_while_it_waits(Config) ->
    {_, Host} = hecate_host:kill_daemon(host(Config)),
    Trader = start(Host, hecate_traderd),
    Stop = "fun() -> "
           "  Children = [Pid || {_, Pid, _, _} <- supervisor:which_children(hecate_traderd_sup)], "
           "  Monitors = [monitor(process, Pid) || Pid <- Children], "
           "  ok = application:stop(hecate_traderd), "
           "  [receive {'DOWN', Monitor, process, _, Why} -> Why end || Monitor <- Monitors] end.",
    ?assertEqual([shutdown, shutdown, shutdown], hecate_host:eval(Trader, Stop, [])).

%% Whatever a node takes file names for: UTF-8, or, as without a locale, Latin-1.
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

a_living_socket_is_never_taken_over(Config) ->
    Host = host(Config),
    Path = hecate_host:path(Host, "hecate-traderd/sockets/api.sock"),
    ok = filelib:ensure_dir(Path),
    {ok, Other} = gen_tcp:listen(0, [{ifaddr, {local, Path}}]),
    {ok, #file_info{inode = Inode}} = file:read_link_info(Path),
    Trader = start(Host, hecate_traderd),
    ?assertMatch({ok, _}, call(Trader, hecate_plugin, await, [10000])),
    %% The plugin looks, and looks again: so it has not taken it after the first time. (The daemon has a look, too.)
    [begin
         {ok, Client} = gen_tcp:accept(Other, 10000),
         gen_tcp:close(Client)
     end || _ <- lists:seq(1, 4)],
    ?assertMatch({ok, #file_info{inode = Inode}}, file:read_link_info(Path)),
    %% Dead, it is in nobody's way.
    gen_tcp:close(Other),
    hecate_host:eventually(fun() ->
                                   case file:read_link_info(Path) of
                                       {ok, #file_info{inode = Inode}} -> false;
                                       {ok, _} -> element(1, ask(Host, "hecate-traderd", "/health")) =:= 200;
                                       {error, enoent} -> false
                                   end
                           end).

%% ---- What the cases share ------------------------------------------------------------------------

host(Config) -> proplists:get_value(host, Config).

%% The plugin's node, with the application that it is.
start(Host, App) -> start(Host, App, []).

start(Host, App, Args) ->
    Name = lists:flatten(string:replace(atom_to_list(App), "_", "-", all)),
    Node = hecate_host:start_node(Host, App, hecate_host:configured(Name) ++ Args),
    {ok, Started} = call(Node, application, ensure_all_started, [App]),
    ?assertEqual([hecate_plugin, App], Started),
    Node.

%% A process on the plugin's node that keeps a server, and the server.
serve(Node, Name) ->
    hecate_host:eval(Node,
                     "fun(Name) -> Self = self(), "
                     "  Answer = fun(<<\"/\">>) -> {200, <<\"text/plain\">>, Name}; "
                     "              (<<\"/nonsense\">>) -> nonsense; "
                     "              (<<\"/hang\">>) -> receive never -> ok end end, "
                     "  Keeper = spawn(fun() -> Self ! {server, hecate_plugin_api:start_link(Name, Answer)}, receive never -> ok end end), "
                     "  receive {server, {ok, Server}} -> {Keeper, Server} end end.",
                     [Name]).

%% The trader has advice of Martha, who knows of the trader, as their own APIs have it.
advised(Host, #{node := Trader}, #{node := Martha}) ->
    From = atom_to_binary(Martha),
    hecate_host:eventually(fun() ->
                                   case ask(Host, "hecate-traderd", "/advice") of
                                       {200, [#{<<"from">> := From, <<"advice">> := <<"ACME: ", _/binary>>}]} -> true;
                                       _ -> false
                                   end
                           end),
    hecate_host:eventually(fun() -> ask(Host, "hecate-marthad", "/health", <<"clients">>) =:= [atom_to_binary(Trader)] end).

call(Node, Module, Function, Args) -> hecate_host:call(Node, Module, Function, Args).

plugin(Host, Name) ->
    {Status, Body} = hecate_host:http(Host, "GET", "/api/plugins/" ++ Name),
    {ok, Answer} = hecate_plugin_json:decode(Body),
    {Status, Answer}.

%% What a plugin answers on its own socket.
ask(Host, Name, Path) ->
    Socket = hecate_host:path(Host, filename:join(Name, "sockets/api.sock")),
    case hecate_plugin_http:request(Socket, <<"GET">>, list_to_binary(Path), none, 10000) of
        {ok, #{status := Status, body := Body}} ->
            {ok, Answer} = hecate_plugin_json:decode(Body),
            {Status, Answer};
        Error -> Error
    end.

ask(Host, Name, Path, Key) ->
    case {ask(Host, Name, Path), Key} of
        {{200, Answer}, Key} when is_map(Answer) -> maps:get(Key, Answer);
        {{200, [#{<<"advice">> := Advice}]}, 1} -> Advice;
        {Other, _} -> Other
    end.

%% The frontend, as a pod would run it.
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

%% Every path below home, but for what the daemon's database does beside it.
tree(Host) ->
    Root = hecate_host:path(Host, ""),
    [Path || Path <- lists:sort(filelib:wildcard(filename:join(Root, "**"))), string:find(Path, "hecate-daemon/sqlite") =:= nomatch].
