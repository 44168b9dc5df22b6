%% A hecate-daemon instead of a node that a case starts. It answers the requests of `peer` to the
%% process of such a node.
-module(hecate_suites_daemon).
-behaviour(gen_server).

-export([start/2, start_for/3, started/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(START_WAIT, 10000).
-define(STOP_WAIT, 5000).

%% Starts a daemon with the options of a `peer`, and connects to it as `peer` does.
start_for(Opts, Name, Scopes) when is_list(Opts) ->
    start_for(#{args => Opts}, Name, Scopes);
start_for(Opts, Name, Scopes) ->
    {ok, Pid, Node} = start(maps:merge(#{name => Name}, Opts), Scopes),
    case Opts of
        #{connection := _} -> ok;
        _ -> true = net_kernel:connect_node(Node)
    end,
    {ok, Pid, Node}.

start(Opts, Scopes) ->
    {ok, Pid} = gen_server:start_link(?MODULE, {Opts, Scopes}, []),
    {ok, Pid, gen_server:call(Pid, node, infinity)}.

%% The names of all daemons that were started.
started() ->
    persistent_term:get(?MODULE, []).

init({Opts, Scopes}) ->
    process_flag(trap_exit, true),
    Name = atom_or_text(maps:get(name, Opts)),
    [_, Host] = string:split(atom_to_list(node()), "@"),
    Args = maps:get(args, Opts, []),
    %% The path of a socket must be short.
    Home = filename:join(os:getenv("HECATE_SUITES_RUN"), integer_to_list(erlang:unique_integer([positive]))),
    Env = [{"HECATE_HOME", Home}, {"HECATE_NODE_NAME", Name}, {"HECATE_EPMD_NAMES", "none"},
           {"HECATE_PG_SCOPES", lists:flatten(lists:join(",", Scopes))},
           {"HECATE_ERLANG_COOKIE", after_flag("-setcookie", Args, atom_to_list(erlang:get_cookie()))},
           {"HECATE_HIDDEN", atom_to_list(lists:member("-hidden", Args))}],
    Port = open_port({spawn_executable, os:getenv("HECATE_SUITES_DAEMON")},
                     [{line, 4096}, binary, exit_status, stderr_to_stdout, {env, Env}]),
    {os_pid, Pid} = erlang:port_info(Port, os_pid),
    case is_ready(Port) of
        true ->
            Node = list_to_atom(Name ++ "@" ++ Host),
            persistent_term:put(?MODULE, [Node | started()]),
            {ok, #{port => Port, pid => Pid, node => Node}};
        false ->
            {stop, not_ready}
    end.

atom_or_text(Name) when is_atom(Name) -> atom_to_list(Name);
atom_or_text(Name) -> lists:flatten(Name).

after_flag(Flag, Args, Default) ->
    case lists:dropwhile(fun(Arg) -> Arg =/= Flag end, Args) of
        [Flag, Value | _] -> Value;
        _ -> Default
    end.

is_ready(Port) ->
    receive
        {Port, {data, {_, Line}}} ->
            io:format(user, "~ts~n", [Line]),
            string:find(Line, "is ready") =/= nomatch orelse is_ready(Port);
        {Port, {exit_status, _}} ->
            false
    after ?START_WAIT ->
        false
    end.

handle_call(node, _, #{node := Node} = State) ->
    {reply, Node, State};
%% The daemon takes part in all scopes from its start.
handle_call({call, pg, start, [_]}, _, State) ->
    {reply, {ok, {ok, self()}}, State};
%% peer:call/4: the daemon has no code, so this is a remote call, which it refuses.
handle_call({call, Module, Function, Args}, _, #{node := Node} = State) ->
    try {reply, {ok, erpc:call(Node, Module, Function, Args)}, State}
    catch Class:Reason:Stack -> {reply, {Class, {Reason, Stack}}, State}
    end;
handle_call(get_node, _, #{node := Node} = State) ->
    {reply, Node, State};
handle_call(get_state, _, State) ->
    {reply, running, State}.

handle_cast(_, State) ->
    {noreply, State}.

handle_info({Port, {data, {_, Line}}}, #{port := Port} = State) ->
    io:format(user, "~ts~n", [Line]),
    {noreply, State};
handle_info({Port, {exit_status, _}}, #{port := Port} = State) ->
    {stop, normal, State#{port := none}};
handle_info({'EXIT', _, _}, State) ->
    {stop, normal, State};
handle_info(_, State) ->
    {noreply, State}.

terminate(_, #{port := none}) ->
    ok;
terminate(_, #{port := Port, pid := Pid}) ->
    os:cmd("kill -TERM " ++ integer_to_list(Pid)),
    await_exit(Port).

await_exit(Port) ->
    receive
        {Port, {exit_status, _}} -> ok;
        {Port, _} -> await_exit(Port)
    after ?STOP_WAIT ->
        ok
    end.
