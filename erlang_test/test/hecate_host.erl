%% The host of one test case: a home, an EPMD, a cookie, the daemon and nodes.
-module(hecate_host).

-export([start/1, stop/1, start_daemon/1, kill_daemon/1, terminate_daemon/1, start_node/2, start_node/3, kill_node/1,
         kill_both/2,
         http/3, http/4, eventually/1, path/2]).
-export([compile_apps/1, start_plugin/3, start_plugin/4, remove_apps/1, configured/1, call/4, eval/3]).
-export([env/1, fill_disk/2, free_disk/2, write_no_more/1, write_again/1]).

-define(DEADLINE, 20000).

%% Creates a host without a daemon. `{home, Prefix}' sets the prefix of the home's name.
start(Config) ->
    Home = temporary(proplists:get_value(home, Config, "hct")),
    ok = filelib:ensure_dir(filename:join(Home, "x")),
    {Epmd, EpmdPort} = start_epmd(5),
    small_disk(#{home => Home, epmd => Epmd, epmd_port => EpmdPort, config => Config}).

%% Another program may bind the free port first. Then this EPMD ends, and the next gets another
%% port.
start_epmd(Tries) ->
    Port = free_port(),
    Epmd = open_port({spawn_executable, os:find_executable("epmd")}, [{args, ["-port", integer_to_list(Port)]}, exit_status]),
    case eventually(fun() -> has_ended(Epmd) orelse (answers(Port) andalso answering) end) of
        answering -> {Epmd, Port};
        true when Tries > 1 -> start_epmd(Tries - 1)
    end.

has_ended(Epmd) -> receive {Epmd, {exit_status, _}} -> true after 0 -> false end.

%% Mounts a small disk, if this user may mount: see fill_disk/2.
small_disk(#{home := Home, config := Config} = Host) ->
    Root = filename:join(Home, ".hecate"),
    Mount = "mkdir -m 700 " ++ Root ++ " && mount -t tmpfs -o size=4m,mode=700 tmpfs " ++ Root,
    case proplists:get_value(disk, Config) =:= small andalso os:cmd(Mount) of
        "" -> Host#{disk => small};
        _ -> Host
    end.

stop(#{epmd := Epmd, home := Home} = Host) ->
    %% Test cases run one at a time, so all nodes and daemons belong to this one.
    [catch peer:stop(Pid) || Pid <- processes(), proc_lib:translate_initial_call(Pid) =:= {peer, init, 1}],
    Started = {name, os:find_executable("sh")},
    [signal("KILL", os_pid(Port)) || Port <- erlang:ports(), erlang:port_info(Port, name) =:= Started],
    signal("KILL", os_pid(Epmd)),
    is_map_key(disk, Host) andalso os:cmd("umount -l " ++ filename:join(Home, ".hecate")),
    file:del_dir_r(Home).

%% Returns the environment of programs. With `{cookie, home}' they use the cookie in the home.
env(#{home := Home, epmd_port := Port, config := Config}) ->
    Cookie = case proplists:get_value(cookie, Config) of
                 home -> false;
                 undefined -> "ct_cookie"
             end,
    [{"HOME", Home}, {"ERL_EPMD_PORT", integer_to_list(Port)}, {"HECATE_COOKIE", Cookie},
     {"HECATE_HOME", false}, {"HECATE_SOCKET_PATH", false}].

%% Starts a program that ignores SIGXFSZ, so that a file size limit is an error and does not kill
%% it.
surviving(Program) -> surviving("exec ", Program).

surviving(Before, Program) -> {os:find_executable("sh"), ["-c", "trap '' XFSZ; " ++ Before ++ "\"$0\" \"$@\"", Program]}.

%% Starts the daemon, and returns when it is ready.
start_daemon(Host) ->
    Bin = case os:getenv("HECATE_DAEMON_BIN") of
              false -> error("set HECATE_DAEMON_BIN to the built hecate-daemon, as `make ct` does");
              Path -> Path
          end,
    {Program, Args} = surviving(Bin),
    Daemon = open_port({spawn_executable, Program},
                       [{args, Args}, {env, env(Host)}, {line, 4096}, exit_status, binary]),
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

%% Starts a node that is controlled over its standard input, so that the test adds no connections to
%% the cluster. HECATE_ERL is the `erl' that it runs, which may be of another release.
start_node(Host, Name) -> start_node(Host, Name, []).

%% A node named `undefined' has no name. `as' of the host is the shell text before the program, by
%% default `exec'.
start_node(Host, Name, Args) ->
    Options = #{connection => standard_io,
                exec => surviving(maps:get(as, Host, "exec "), erl()),
                args => ["-setcookie", "ct_cookie"] ++ code(Host) ++ Args,
                env => env(Host)},
    {ok, Peer, Node} = peer:start(case Name of
                                      undefined -> Options;
                                      _ -> Options#{name => Name}
                                  end),
    #{peer => Peer, node => Node, pid => list_to_integer(peer:call(Peer, os, getpid, []))}.

code(#{config := Config}) -> lists:append([["-pa", Ebin] || Ebin <- proplists:get_value(code, Config, [])]).

%% Compiles the applications without warnings, with the release of the nodes, or with this one if
%% that has no compiler. Returns the code paths, which are below /tmp because nodes may see no other
%% directory.
compile_apps(Apps) ->
    Root = temporary("hlib"),
    {ok, Peer, _} = peer:start(#{connection => standard_io, exec => erl()}),
    try
        lists:map(fun(App) ->
                          Lib = filename:join(Root, App),
                          Sources = filelib:wildcard(filename:join([code:lib_dir(App), "src", "*.erl"])),
                          true = Sources =/= [],
                          AppFile = filename:join(["ebin", atom_to_list(App) ++ ".app"]),
                          copy(filename:join(code:lib_dir(App), AppFile), filename:join(Lib, AppFile)),
                          [compile_one(Peer, Source, Lib) || Source <- Sources],
                          [copy(File, filename:join([Lib, "priv", "hecate-agents", filename:basename(File)]))
                           || File <- filelib:wildcard(filename:join([code:lib_dir(App), "priv", "hecate-agents", "*"]))],
                          filename:join(Lib, "ebin")
                  end,
                  Apps)
    after
        peer:stop(Peer)
    end.

remove_apps([Ebin | _]) -> file:del_dir_r(filename:dirname(filename:dirname(Ebin))).

compile_one(Peer, Source, Lib) ->
    Copy = filename:join([Lib, "src", filename:basename(Source)]),
    copy(Source, Copy),
    Options = [debug_info, warnings_as_errors, return, {outdir, filename:join(Lib, "ebin")}],
    Compiled = case peer:call(Peer, code, which, [compile]) of
                   non_existing -> compile:file(Copy, Options);
                   _ -> peer:call(Peer, compile, file, [Copy, Options], ?DEADLINE)
               end,
    case Compiled of
        {ok, _, []} -> ok;
        Other -> error({not_compiled, Source, Other})
    end.

copy(From, To) ->
    ok = filelib:ensure_dir(To),
    {ok, _} = file:copy(From, To).

%% Starts a node with the plugin of this name. `code' of the host is the result of compile_apps/1.
start_plugin(Host, Node, Name) -> start_plugin(Host, Node, Name, []).

start_plugin(Host, Node, Name, Args) ->
    Plugin = start_node(Host, Node, configured(Name) ++ Args),
    {ok, _} = call(Plugin, application, ensure_all_started, [hecate_plugin]),
    Plugin.

%% Returns the arguments that configure a plugin, as a sys.config does.
configured(Name) ->
    Text = fun(Value) -> lists:flatten(io_lib:format("~p", [Value])) end,
    ["-hecate_plugin", "name", Text(list_to_binary(Name)), "-hecate_plugin", "version", Text(<<"0.1.0">>),
     "-hecate_plugin", "description", Text(list_to_binary("The plugin " ++ Name)), "-kernel", "logger_level", "critical"].

%% Runs the source text of a fun on a node, which has no modules of the tests.
eval(Node, Source, Args) ->
    {ok, Tokens, _} = erl_scan:string(Source),
    {ok, Parsed} = erl_parse:parse_exprs(Tokens),
    {value, Fun, _} = call(Node, erl_eval, exprs, [Parsed, []]),
    call(Node, erlang, apply, [Fun, Args]).

call(#{peer := Peer}, Module, Function, Args) -> peer:call(Peer, Module, Function, Args, ?DEADLINE).

erl() -> os:getenv("HECATE_ERL", os:find_executable("erl")).

temporary(Prefix) ->
    filename:join("/tmp", Prefix ++ os:getpid() ++ integer_to_list(erlang:unique_integer([positive]))).

kill_node(#{peer := Peer, pid := Pid}) ->
    Ref = erlang:monitor(process, Peer),
    signal("KILL", Pid),
    receive {'DOWN', Ref, process, Peer, _} -> ok after ?DEADLINE -> error(node_still_there) end.

%% Kills both before either can notice the end of the other.
kill_both(#{daemon := Daemon} = Host, #{peer := Peer, pid := Pid}) ->
    Ref = erlang:monitor(process, Peer),
    os:cmd(lists:flatten(io_lib:format("kill -KILL ~b ~b", [os_pid(Daemon), Pid]))),
    receive {'DOWN', Ref, process, Peer, _} -> ok after ?DEADLINE -> error(node_still_there) end,
    receive {Daemon, {exit_status, _}} -> maps:remove(daemon, Host) after ?DEADLINE -> error(daemon_still_there) end.

%% Fills the disk. If start/1 could mount a small one for `{disk, small}', writes fail with
%% `enospc'. Otherwise the file size limit of the daemon and the node is set to 0, and writes fail
%% with `efbig'.
fill_disk(#{disk := small} = Host, _) -> fill(path(Host, "filler"));
fill_disk(#{daemon := Daemon}, #{pid := Pid}) -> [write_no_more(Each) || Each <- [os_pid(Daemon), Pid]].

free_disk(#{disk := small} = Host, _) -> ok = file:delete(path(Host, "filler"));
free_disk(#{daemon := Daemon}, #{pid := Pid}) -> [write_again(Each) || Each <- [os_pid(Daemon), Pid]].

fill(Path) ->
    {ok, File} = file:open(Path, [write, raw]),
    %% Large pieces first, then small ones until the last byte.
    [fill(File, binary:copy(<<0>>, Size)) || Size <- [65536, 4096, 1]],
    file:close(File).

fill(File, Piece) ->
    case file:write(File, Piece) of
        ok -> fill(File, Piece);
        {error, enospc} -> ok
    end.

write_no_more(Pid) -> prlimit(Pid, "0:").

write_again(Pid) -> prlimit(Pid, "unlimited:").

prlimit(Pid, Size) -> "" = os:cmd("prlimit --pid " ++ integer_to_list(Pid) ++ " --fsize=" ++ Size).

path(#{home := Home}, Rest) -> filename:join([Home, ".hecate", Rest]).

http(Host, Method, Path) -> http(Host, Method, Path, <<>>).

%% Sends a request on a new connection. Returns the status and the body.
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

%% Waits until a condition returns something other than `false', and returns that.
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

answers(Port) ->
    case gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}]) of
        {ok, Connection} -> gen_tcp:close(Connection) =:= ok;
        {error, _} -> false
    end.

%% Returns a port outside the range of outgoing connections. A client of EPMD could get a port in
%% that range that is EPMD's own, and connect to itself.
free_port() ->
    Port = 10000 + rand:uniform(20000),
    case gen_tcp:listen(Port, []) of
        {ok, Listener} -> ok = gen_tcp:close(Listener), Port;
        {error, _} -> free_port()
    end.

os_pid(Port) ->
    case erlang:port_info(Port, os_pid) of
        {os_pid, Pid} -> Pid;
        undefined -> undefined
    end.

signal(_, undefined) -> ok;
signal(Signal, Pid) -> os:cmd("kill -" ++ Signal ++ " " ++ integer_to_list(Pid)).
