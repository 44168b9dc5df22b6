%% A scripted server at the path of the daemon's socket, and hecate_plugin in the same node.
-module(hecate_script).

-export([serve/2, asked/1, whole/3, registered/1, start_plugin/1, stop_plugin/0]).

%% Plays one script per connection, then closes the connection. A script contains bytes to send,
%% `wait' (until the client closes) and `{pause, Ms}'.
serve(Path, Scripts) ->
    _ = file:delete(Path),
    {ok, Listener} = gen_tcp:listen(0, [{ifaddr, {local, Path}}, binary, {active, false}]),
    Server = spawn(fun() -> receive go -> accept(Listener, Scripts, []) end end),
    ok = gen_tcp:controlling_process(Listener, Server),
    Server ! go,
    Server.

accept(Listener, [Script | Scripts], Asked) ->
    case gen_tcp:accept(Listener) of
        {ok, Socket} ->
            Time = erlang:monotonic_time(millisecond),
            Playing = spawn_link(fun() -> receive go -> play(Socket, Script) end end),
            ok = gen_tcp:controlling_process(Socket, Playing),
            Playing ! go,
            accept(Listener, Scripts, [{asked, Time} | Asked])
    end;
accept(_, [], Asked) ->
    receive {asked, From} -> From ! {asked, lists:reverse(Asked)} end,
    accept(none, [], Asked).

asked(Server) ->
    Server ! {asked, self()},
    receive {asked, Asked} -> Asked after 5000 -> error(silent) end.

play(Socket, Script) ->
    {ok, _} = gen_tcp:recv(Socket, 0),
    [case Step of
         wait -> gen_tcp:recv(Socket, 0);
         {pause, Time} -> receive after Time -> ok end;
         Bytes -> gen_tcp:send(Socket, Bytes)
     end || Step <- Script],
    gen_tcp:close(Socket).

%% Returns a complete response.
whole(Status, Header, Body) ->
    ["HTTP/1.1 ", integer_to_list(Status), " X\r\n", Header, "Content-Length: ", integer_to_list(iolist_size(Body)), "\r\n\r\n", Body].

%% Returns the body of the answer to a registration of `hecate-xd'. Each path is the directory of
%% the socket.
registered(Path) ->
    Here = list_to_binary(filename:dirname(Path)),
    hecate_plugin_json:encode(#{name => <<"hecate-xd">>, base_dir => Here,
                                paths => maps:from_keys([sqlite, reckon_db, sockets, run, connectors], Here)}).

start_plugin(Path) ->
    os:putenv("HECATE_SOCKET_PATH", Path),
    ok = application:load(hecate_plugin),
    ok = application:set_env(hecate_plugin, name, "hecate-xd"),
    {ok, _} = application:ensure_all_started(hecate_plugin).

stop_plugin() ->
    ok = application:stop(hecate_plugin),
    ok = application:unload(hecate_plugin),
    os:unsetenv("HECATE_SOCKET_PATH").
