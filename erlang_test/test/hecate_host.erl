%% A host of its own for one test case: a home, an EPMD, a cookie, the daemon, and nodes beside it.
-module(hecate_host).

-export([start/1, stop/1, start_daemon/1, kill_daemon/1, terminate_daemon/1, start_node/2, start_node/3, kill_node/1,
         http/3, http/4, eventually/1, path/2]).

-define(DEADLINE, 20000).

%% A host without a daemon yet.
start(Config) ->
    Home = filename:join("/tmp", "hct" ++ os:getpid() ++ integer_to_list(erlang:unique_integer([positive]))),
    ok = filelib:ensure_dir(filename:join(Home, "x")),
    EpmdPort = free_port(),
    Epmd = open_port({spawn_executable, os:find_executable("epmd")},
                     [{args, ["-port", integer_to_list(EpmdPort)]}, exit_status]),
    Host = #{home => Home, epmd => Epmd, epmd_port => EpmdPort, config => Config},
    eventually(fun() -> names(Host) =/= error end),
    Host.

stop(#{epmd := Epmd, home := Home} = Host) ->
    case Host of
        #{daemon := Daemon} -> signal("KILL", os_pid(Daemon));
        #{} -> ok
    end,
    signal("KILL", os_pid(Epmd)),
    file:del_dir_r(Home).

env(#{home := Home, epmd_port := Port}) ->
    [{"HOME", Home}, {"ERL_EPMD_PORT", integer_to_list(Port)}, {"HECATE_COOKIE", "ct_cookie"}].

%% Returns when the daemon says that it is ready.
start_daemon(Host) ->
    Bin = case os:getenv("HECATE_DAEMON_BIN") of
              false -> error("set HECATE_DAEMON_BIN to the built hecate-daemon, as `make ct` does");
              Path -> Path
          end,
    Daemon = open_port({spawn_executable, Bin}, [{env, env(Host)}, {line, 4096}, exit_status, binary]),
    receive
        {Daemon, {data, {eol, <<"hecate-daemon is ready: ", _/binary>>}}} -> Host#{daemon => Daemon};
        {Daemon, {exit_status, Status}} -> error({daemon_ended, Status})
    after ?DEADLINE -> error(daemon_not_ready)
    end.

kill_daemon(Host) -> end_daemon("KILL", Host).

terminate_daemon(Host) -> end_daemon("TERM", Host).

end_daemon(Signal, #{daemon := Daemon} = Host) ->
    signal(Signal, os_pid(Daemon)),
    receive
        {Daemon, {exit_status, Status}} -> {Status, maps:remove(daemon, Host)}
    after ?DEADLINE -> error(daemon_still_there)
    end.

%% A node of its own, driven over its standard input: what it does in the cluster is its own doing. HECATE_ERL is the erl
%% that it runs, which may be of another release than ours.
start_node(Host, Name) -> start_node(Host, Name, []).

start_node(Host, Name, Args) ->
    {ok, Peer, Node} = peer:start(#{name => Name,
                                    connection => standard_io,
                                    exec => os:getenv("HECATE_ERL", os:find_executable("erl")),
                                    args => ["-setcookie", "ct_cookie" | Args],
                                    env => env(Host)}),
    #{peer => Peer, node => Node}.

kill_node(#{peer := Peer}) ->
    Ref = erlang:monitor(process, Peer),
    signal("KILL", list_to_integer(peer:call(Peer, os, getpid, []))),
    receive {'DOWN', Ref, process, Peer, _} -> ok after ?DEADLINE -> error(node_still_there) end.

path(#{home := Home}, Rest) -> filename:join([Home, ".hecate", Rest]).

http(Host, Method, Path) -> http(Host, Method, Path, <<>>).

%% One request a connection; the status and the body.
http(Host, Method, Path, Body) ->
    Socket = path(Host, "hecate-daemon/sockets/api.sock"),
    {ok, Connection} = gen_tcp:connect({local, Socket}, 0, [local, binary, {active, false}], ?DEADLINE),
    ok = gen_tcp:send(Connection,
                      [Method, " ", Path, " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                       "Content-Type: application/json\r\nContent-Length: ", integer_to_list(iolist_size(Body)),
                       "\r\n\r\n", Body]),
    Answer = read(Connection, <<>>),
    ok = gen_tcp:close(Connection),
    [<<"HTTP/1.1 ", Status:3/binary, _/binary>>, Content] = binary:split(Answer, <<"\r\n\r\n">>),
    {binary_to_integer(Status), Content}.

read(Connection, Read) ->
    case gen_tcp:recv(Connection, 0, ?DEADLINE) of
        {ok, More} -> read(Connection, <<Read/binary, More/binary>>);
        {error, closed} -> Read
    end.

%% Waits until a condition holds, and gives what it gave.
eventually(Condition) -> eventually(Condition, erlang:monotonic_time(millisecond) + ?DEADLINE).

eventually(Condition, Deadline) ->
    case Condition() of
        false ->
            case erlang:monotonic_time(millisecond) > Deadline of
                true -> error({never, Condition});
                false -> receive after 20 -> eventually(Condition, Deadline) end
            end;
        Value -> Value
    end.

names(#{epmd_port := Port}) ->
    case gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}]) of
        {ok, Connection} -> gen_tcp:close(Connection);
        {error, _} -> error
    end.

free_port() ->
    {ok, Listener} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    ok = gen_tcp:close(Listener),
    Port.

os_pid(Port) ->
    case erlang:port_info(Port, os_pid) of
        {os_pid, Pid} -> Pid;
        undefined -> undefined
    end.

signal(_, undefined) -> ok;
signal(Signal, Pid) -> os:cmd("kill -" ++ Signal ++ " " ++ integer_to_list(Pid)).
