%% Attacks on a plugin: clients of its socket that block others, other users of its host, and a
%% daemon that sends answers for another plugin.
-module(hecate_siege_SUITE).

-include_lib("stdlib/include/assert.hrl").
-include_lib("kernel/include/file.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([clients_that_do_nothing_block_no_other/1, the_connection_that_waits_longest_is_closed_first/1,
         a_request_that_the_plugin_answers_is_never_closed_for_others/1,
         requests_beyond_the_limit_are_refused_at_once/1, the_socket_follows_the_directory_of_sockets/1,
         the_socket_is_closed_to_others_before_it_has_its_mode/1, a_socket_that_denies_the_connection_is_not_replaced/1,
         a_registration_for_another_plugin_or_place_is_refused/1]).

%% More connections of each kind than the server holds.
-define(MANY, 300).
%% Most requests that a plugin answers at a time.
-define(ANSWERING, 128).

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [clients_that_do_nothing_block_no_other, the_connection_that_waits_longest_is_closed_first,
     a_request_that_the_plugin_answers_is_never_closed_for_others, requests_beyond_the_limit_are_refused_at_once,
     the_socket_follows_the_directory_of_sockets,
     the_socket_is_closed_to_others_before_it_has_its_mode, a_socket_that_denies_the_connection_is_not_replaced,
     a_registration_for_another_plugin_or_place_is_refused].

init_per_suite(Config) -> [{code, hecate_host:compile_apps([hecate_plugin])} | Config].

end_per_suite(Config) -> hecate_host:remove_apps(proplists:get_value(code, Config)).

init_per_testcase(_, Config) -> [{host, hecate_host:start(Config)} | Config].

end_per_testcase(_, Config) -> hecate_host:stop(host(Config)).

%% ---- Clients of the plugin's socket --------------------------------------------------------------

clients_that_do_nothing_block_no_other(Config) ->
    {_, _, Path} = plugin(Config),
    [hecate_host:eventually(fun() -> answered_beside(Path, Request, IsOpen) end)
     || {Request, IsOpen} <- [{<<>>, fun is_open/1}, {<<"GET / HT">>, fun is_open/1},
                              {<<"GET / HTTP/1.1\r\nX: y\r\n">>, fun is_open/1},
                              {<<"GET /large HTTP/1.1\r\n\r\n">>, fun is_sent_whole/1}]].

%% Returns whether a request was answered while the last connections were still open. Each is open
%% for 5 s. On a busy host the request may be refused while the plugin still answers the others.
answered_beside(Path, Request, IsOpen) ->
    Idle = [open(Path, Request) || _ <- lists:seq(1, ?MANY)],
    Answer = ask(Path, <<"/">>),
    Open = lists:all(IsOpen, lists:nthtail(?MANY - 100, Idle)),
    [gen_tcp:close(Socket) || Socket <- Idle],
    ?assert(lists:member(status(Answer), [200, 503]), Answer),
    Open andalso Answer =:= {200, <<"here">>}.

the_connection_that_waits_longest_is_closed_first(Config) ->
    {_, _, Path} = plugin(Config),
    hecate_host:eventually(fun() ->
                                   Idle = [open(Path, <<>>) || _ <- lists:seq(1, ?MANY)],
                                   {Longest, Others} = lists:split(40, Idle),
                                   [?assertEqual({error, closed}, gen_tcp:recv(Socket, 0, 20000)) || Socket <- Longest],
                                   Open = lists:all(fun is_open/1, lists:nthtail(60, Others)),
                                   [gen_tcp:close(Socket) || Socket <- Idle],
                                   Open
                           end).

a_request_that_the_plugin_answers_is_never_closed_for_others(Config) ->
    {_, Plugin, Path} = plugin(Config),
    Held = open(Path, <<"GET /held HTTP/1.1\r\n\r\n">>),
    Holding = hecate_host:eventually(fun() -> call(Plugin, erlang, whereis, [held]) =/= undefined andalso
                                                  call(Plugin, erlang, whereis, [held]) end),
    Idle = [open(Path, <<>>) || _ <- lists:seq(1, ?MANY)],
    ?assertEqual({error, closed}, gen_tcp:recv(hd(Idle), 0, 20000)),
    call(Plugin, erlang, send, [Holding, go]),
    ?assertMatch({ok, <<"HTTP/1.1 200 ", _/binary>>}, gen_tcp:recv(Held, 0, 20000)).

requests_beyond_the_limit_are_refused_at_once(Config) ->
    {_, Plugin, Path} = plugin(Config),
    Gate = hecate_host:eval(Plugin, "fun() -> Gate = spawn(fun() -> receive never -> ok end end), register(gate, Gate), Gate end.", []),
    Slow = hecate_host:eventually(fun() -> refused_beside_slow(Path) end),
    call(Plugin, erlang, exit, [Gate, kill]),
    [?assertMatch({ok, <<"HTTP/1.1 200 ", _/binary>>}, gen_tcp:recv(Socket, 0, 20000)) || Socket <- Slow],
    hecate_host:eventually(fun() -> ask(Path, <<"/">>) =:= {200, <<"here">>} end).

%% Returns the slow requests, if they waited for the plugin until others were refused.
refused_beside_slow(Path) ->
    Slow = [open(Path, <<"GET /gated HTTP/1.1\r\n\r\n">>) || _ <- lists:seq(1, ?ANSWERING)],
    hecate_host:eventually(fun() -> status(ask(Path, <<"/">>)) =:= 503 end),
    %% Clients that send no request, or do not read their refusal, do not delay others.
    Idle = [open(Path, Request) || Request <- [<<>>, <<"GET / HTTP/1.1\r\n\r\n">>], _ <- lists:seq(1, ?MANY)],
    Refused = [status(ask(Path, Target)) || Target <- [<<"/">>, <<"/gated">>]],
    [gen_tcp:close(Socket) || Socket <- Idle],
    lists:all(fun is_open/1, Slow) andalso begin ?assertEqual([503, 503], Refused), Slow end.

%% ---- Other users ---------------------------------------------------------------------------------

the_socket_follows_the_directory_of_sockets(Config) ->
    {Host, Plugin, Path} = plugin(Config),
    Directory = filename:dirname(Path),
    ?assertEqual(8#600, mode(Path)),
    ok = file:change_mode(Directory, 8#2770),
    %% Only root or a member can assign a file to a group; other users keep its current group.
    {ok, #file_info{gid = Own}} = file:read_file_info(Directory),
    Group = case file:change_group(Directory, 61000) of ok -> 61000; {error, eperm} -> Own end,
    ok = file:change_mode(Directory, 8#2770),
    serve(Plugin, "shared.sock"),
    Shared = hecate_host:path(Host, "hecate-traderd/sockets/shared.sock"),
    hecate_host:eventually(fun() -> is_there(Shared) end),
    ?assertMatch({8#660, {ok, #file_info{gid = Group}}}, {mode(Shared), file:read_link_info(Shared)}),
    ok = file:change_mode(Directory, 8#2750),
    serve(Plugin, "read.sock"),
    Read = hecate_host:path(Host, "hecate-traderd/sockets/read.sock"),
    hecate_host:eventually(fun() -> is_there(Read) end),
    ?assertEqual(8#600, mode(Read)),
    %% No temporary files remain.
    {ok, Files} = file:list_dir(Directory),
    ?assertEqual(["api.sock", "read.sock", "shared.sock"], lists:sort(Files)).

%% With umask 0, the system creates a socket with the mode 0777. Another user could connect until
%% the mode is changed.
the_socket_is_closed_to_others_before_it_has_its_mode(Config) ->
    {Host, Plugin, Path} = plugin(Config, "umask 0; "),
    Directory = filename:dirname(Path),
    ok = file:change_mode(Directory, 8#755),
    Test = self(),
    Watcher = spawn_link(fun() -> watch(Directory, Test, []) end),
    Names = ["w" ++ integer_to_list(Number) ++ ".sock" || Number <- lists:seq(1, 50)],
    [serve(Plugin, Name) || Name <- Names],
    [hecate_host:eventually(fun() -> is_there(hecate_host:path(Host, "hecate-traderd/sockets/" ++ Name)) end)
     || Name <- Names],
    Watcher ! stop,
    receive {seen, Seen} -> ?assertEqual([], Seen) end.

%% A socket with another mode is only ever in a directory that is closed to others.
watch(Directory, Test, Seen) ->
    {ok, Files} = file:list_dir(Directory),
    Open = [{File, Mode} || File <- Files,
                            {ok, #file_info{type = other, mode = Mode}} <- [file:read_link_info(filename:join(Directory, File))],
                            Mode band 8#066 =/= 0],
    receive stop -> Test ! {seen, Open ++ Seen} after 0 -> watch(Directory, Test, Open ++ Seen) end.

a_socket_that_denies_the_connection_is_not_replaced(Config) ->
    case {os:cmd("id -u"), os:getenv("HECATE_ERL")} of
        {"0\n", false} -> denied(Config);
        _ -> {skip, "runs erl as another user: needs root, and an erl that others may run"}
    end.

denied(Config) ->
    Host = host(Config),
    Directory = hecate_host:path(Host, "hecate-xd/sockets"),
    Path = filename:join(Directory, "api.sock"),
    ok = filelib:ensure_dir(Path),
    [ok = file:change_mode(Each, 8#755)
     || Each <- [maps:get(home, Host), hecate_host:path(Host, "")
                 | [hecate_host:path(Host, Name) || Name <- ["hecate-xd"]]]],
    ok = file:change_mode(Directory, 8#777),
    {ok, _} = gen_tcp:listen(0, [{ifaddr, {local, Path}}]),
    ok = file:change_mode(Path, 8#600),
    {ok, #file_info{inode = Inode}} = file:read_link_info(Path),
    Daemon = daemon_socket(Host),
    Body = hecate_plugin_json:encode(#{name => <<"hecate-xd">>, base_dir => list_to_binary(hecate_host:path(Host, "hecate-xd")),
                                       paths => maps:from_keys([sqlite, reckon_db, sockets, run, connectors], list_to_binary(Directory))}),
    hecate_script:serve(Daemon, [[hecate_script:whole(404, "", "{}")], [hecate_script:whole(201, "", Body)]]),
    ok = file:change_mode(Daemon, 8#666),
    Plugin = hecate_host:start_node(Host#{as => "exec setpriv --reuid 61000 --regid 61000 --clear-groups "}, undefined,
                                    hecate_host:configured("hecate-xd")),
    {ok, _} = call(Plugin, application, ensure_all_started, [hecate_plugin]),
    {ok, _} = call(Plugin, hecate_plugin, await, [20000]),
    {_, Server} = serve(Plugin, "api.sock"),
    %% The call returns after the server has tried to bind.
    _ = call(Plugin, sys, get_state, [Server]),
    ?assertMatch({ok, #file_info{inode = Inode}}, file:read_link_info(Path)),
    ok = file:delete(Path),
    hecate_host:eventually(fun() -> ask(Path, <<"/">>) =:= {200, <<"here">>} end).

%% ---- A false daemon ------------------------------------------------------------------------------

a_registration_for_another_plugin_or_place_is_refused(Config) ->
    Host = host(Config),
    Daemon = daemon_socket(Host),
    Good = iolist_to_binary(hecate_script:registered(Daemon)),
    Base = list_to_binary(filename:dirname(Daemon)),
    Lies = [binary:replace(Good, <<"hecate-xd">>, <<"hecate-yd">>),
            binary:replace(Good, Base, <<"elsewhere">>, [global]),
            binary:replace(Good, Base, <<Base/binary, "\\u0000">>)],
    Stream = "HTTP/1.1 200 OK\r\n\r\n: hello\n\n",
    hecate_script:serve(Daemon, lists:append([[[Stream, wait], [hecate_script:whole(201, "", Answer)]] || Answer <- Lies ++ [Good]])),
    Plugin = hecate_host:start_plugin(Host, undefined, "hecate-xd"),
    {ok, #{name := Name, base_dir := Base}} = call(Plugin, hecate_plugin, await, [20000]),
    ?assertEqual(<<"hecate-xd">>, Name),
    ?assertNot(filelib:is_file("elsewhere")).

%% ---- Helpers -------------------------------------------------------------------------------------

host(Config) -> proplists:get_value(host, Config).

%% Starts the daemon and a plugin with a server at its api.sock. Returns the host, the plugin's node
%% and the path of the socket.
plugin(Config) -> plugin(Config, "").

plugin(Config, Before) ->
    Host = hecate_host:start_daemon(host(Config)),
    Plugin = hecate_host:start_plugin(Host#{as => Before ++ "exec "}, undefined, "hecate-traderd"),
    serve(Plugin, "api.sock"),
    Path = hecate_host:path(Host, "hecate-traderd/sockets/api.sock"),
    hecate_host:eventually(fun() -> ask(Path, <<"/">>) =:= {200, <<"here">>} end),
    {Host, Plugin, Path}.

%% Starts a server on the plugin's node. Returns the process that owns it, and the server.
serve(Node, Name) ->
    hecate_host:eval(Node,
                     "fun(Name) -> Self = self(), "
                     "  Answer = fun(<<\"/\">>) -> {200, <<\"text/plain\">>, <<\"here\">>}; "
                     "              (<<\"/large\">>) -> {200, <<\"text/plain\">>, binary:copy(<<0>>, 524288)}; "
                     "              (<<\"/gated\">>) -> Gate = monitor(process, gate), "
                     "                receive {'DOWN', Gate, process, _, _} -> {200, <<\"text/plain\">>, <<\"open\">>} end; "
                     "              (<<\"/held\">>) -> register(held, self()), receive go -> {200, <<\"text/plain\">>, <<\"held\">>} end end, "
                     "  Keeper = spawn(fun() -> Self ! {server, hecate_plugin_api:start_link(Name, Answer)}, receive never -> ok end end), "
                     "  receive {server, {ok, Server}} -> {Keeper, Server} end end.",
                     [Name]).

call(Node, Module, Function, Args) -> hecate_host:call(Node, Module, Function, Args).

ask(Path, Target) ->
    case hecate_plugin_http:request(Path, <<"GET">>, Target, none, 20000) of
        {ok, #{status := Status, body := Body}} -> {Status, Body};
        {error, Reason} -> Reason
    end.

status({Status, _}) -> Status;
status(Reason) -> Reason.

%% Opens a connection, sends this part of a request and reads nothing. Waits while the backlog is
%% full, which may show only as a missing peer.
open(Path, Request) ->
    {ok, Socket} = gen_tcp:connect({local, Path}, 0, [binary, {active, false}]),
    case inet:peername(Socket) of
        {ok, _} ->
            _ = gen_tcp:send(Socket, Request),
            Socket;
        {error, enotconn} ->
            gen_tcp:close(Socket),
            receive after 5 -> open(Path, Request) end
    end.

is_open(Socket) -> gen_tcp:recv(Socket, 0, 0) =:= {error, timeout}.

%% The answer is larger than the system's buffers, so the server was still sending it.
is_sent_whole(Socket) -> is_sent_whole(Socket, 524288).

is_sent_whole(_, Left) when Left =< 0 -> true;
is_sent_whole(Socket, Left) ->
    case gen_tcp:recv(Socket, 0, 20000) of
        {ok, More} -> is_sent_whole(Socket, Left - byte_size(More));
        {error, _} -> false
    end.

is_there(Path) -> element(1, file:read_link_info(Path)) =:= ok.

mode(Path) ->
    {ok, #file_info{mode = Mode}} = file:read_link_info(Path),
    Mode band 8#777.

daemon_socket(Host) ->
    Path = hecate_host:path(Host, "hecate-daemon/sockets/api.sock"),
    ok = filelib:ensure_dir(Path),
    Path.
