%% @doc The plugin's own `api.sock': a small HTTP server for its frontend, hecate-web and probes.
%%
%% Start it by {@link child_spec/2} under the plugin's own supervisor. The socket exists only while
%% a server listens, because some probes check nothing else. It is bound in a private directory,
%% gets its group and mode there, is renamed into place, and is removed at the end. The server never
%% replaces a socket that still answers or that denies the connection. If the group of `sockets/'
%% may write there, as in a home that several users share, the socket gets that group and mode 0660.
%% Otherwise its mode is 0600.
%%
%% The server answers one GET or HEAD per connection. It closes a connection in three cases: the
%% client needs longer than 5 s to send its request or to read the answer, a line is longer than 8
%% KiB, or the plugin needs longer than 10 s to answer. At 256 connections it closes the connection
%% that has waited longest for its client, so idle clients and clients that do not read never block
%% others. While the plugin is answering 128 requests, the server answers others with 503 at once.
-module(hecate_plugin_api).
-behaviour(gen_server).

-include_lib("kernel/include/file.hrl").

-export([child_spec/2, start_link/2]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
-export_type([handler/0, answer/0]).

%% Most connections at a time, including the one that is accepted next.
-define(CONNECTIONS, 256).
%% Most requests that the plugin is answering at a time; others are refused. Fewer than
%% `CONNECTIONS', so that a connection that waits for its client can always be closed for a new one.
-define(ANSWERING, 128).
%% Connections that the system queues until they are accepted. Beyond that, a non-blocking `connect'
%% fails.
-define(BACKLOG, 1024).
%% Time for the client to send its request, and to read the answer, in ms.
-define(TIMEOUT, 5000).
%% Time for the plugin to answer, in ms.
-define(PATIENCE, 10000).
%% Pause between two attempts to bind the socket, in ms.
-define(BIND_PAUSE, 1000).
%% Longest line of a request in bytes, and most lines.
-define(LINE_SIZE, 8192).
-define(LINES, 64).

-type answer() :: {Status :: 200..599, ContentType :: binary(), Body :: iodata()} | not_found.

-type handler() :: fun((Path :: binary()) -> answer()).
%% Runs in the process that serves the connection, which is killed after 10 s. If the handler raises
%% an exception or returns an invalid answer, the client gets 500 and the error is logged. Pass `fun
%% ?MODULE:answer/1': a fun without a module name keeps the code that was loaded when the supervisor
%% started, and fails when that code is purged.

-record(state, {name :: file:name_all(), handler :: handler(), path :: binary() | undefined,
                inode :: non_neg_integer() | undefined, listener :: gen_tcp:socket() | undefined,
                %% Accepts the next connection, then serves it.
                acceptor :: pid() | undefined,
                %% Each process serves one connection, which waits for its client or for the
                %% plugin's answer.
                connections = #{} :: #{pid() => {waiting, Since :: integer()} | answering}}).

%% @doc Returns the child specification of a server at `sockets/Name'. It serves once the plugin is
%% registered.
-spec child_spec(Name :: file:name_all(), handler()) -> supervisor:child_spec().
child_spec(Name, Handler) -> #{id => {?MODULE, Name}, start => {?MODULE, start_link, [Name, Handler]}}.

-spec start_link(Name :: file:name_all(), handler()) -> {ok, pid()} | {error, term()}.
start_link(Name, Handler) -> gen_server:start_link(?MODULE, {Name, Handler}, []).

%% ---- gen_server ----------------------------------------------------------------------------------

init({Name, Handler}) -> {ok, #state{name = Name, handler = Handler}, {continue, await}}.

handle_continue(await, #state{name = Name} = State) ->
    {ok, _} = hecate_plugin:await(infinity),
    %% A binary, because gen_tcp encodes strings as UTF-8, but file names may have another encoding.
    Path = hecate_paths:socket_path(unicode:characters_to_binary(Name)),
    {noreply, State#state{path = Path}, {continue, {bind, first}}};
handle_continue({bind, Try}, #state{path = Path} = State) ->
    case bind(Path) of
        {ok, Listener, Inode} ->
            %% So that `terminate/2' removes the socket.
            process_flag(trap_exit, true),
            {noreply, accept_next(State#state{inode = Inode, listener = Listener})};
        {error, Reason} ->
            %% The cause may pass, such as a predecessor that is stopping or a full disk. The plugin
            %% can work meanwhile.
            Try =:= first andalso warn("cannot bind ~ts, retrying every second: ~ts", [Path, explain(Reason, Path)]),
            erlang:send_after(?BIND_PAUSE, self(), bind),
            {noreply, State}
    end.

handle_call(_, _, State) -> {reply, {error, not_supported}, State}.

handle_cast(_, State) -> {noreply, State}.

handle_info(bind, State) -> {noreply, State, {continue, {bind, again}}};
handle_info({'EXIT', Listener, Reason}, #state{listener = Listener} = State) -> {stop, Reason, State};
handle_info({accepted, Pid}, #state{acceptor = Pid} = State) ->
    {noreply, accept_next(waits(Pid, State#state{acceptor = undefined}))};
handle_info({received, Pid}, #state{connections = Connections} = State) when is_map_key(Pid, Connections) ->
    case map_size(Connections) - length(waiting(Connections)) of
        Answering when Answering < ?ANSWERING ->
            Pid ! answer,
            {noreply, State#state{connections = Connections#{Pid := answering}}};
        _ ->
            Pid ! refuse,
            {noreply, State}
    end;
handle_info({sending, Pid}, #state{connections = Connections} = State) when is_map_key(Pid, Connections) ->
    {noreply, waits(Pid, State)};
%% An acceptor also ends when its code is purged.
handle_info({'EXIT', Pid, _}, #state{acceptor = Pid} = State) ->
    {noreply, accept_next(State#state{acceptor = undefined})};
handle_info({'EXIT', Pid, _}, #state{connections = Connections} = State) when is_pid(Pid) ->
    {noreply, State#state{connections = maps:remove(Pid, Connections)}};
handle_info(_, State) -> {noreply, State}.

terminate(_, #state{listener = undefined}) -> ok;
terminate(_, #state{path = Path, inode = Inode, listener = Listener}) ->
    inode(Path) =:= {ok, Inode} andalso file:delete(Path),
    gen_tcp:close(Listener).

%% ---- The socket ----------------------------------------------------------------------------------

bind(Path) ->
    case gen_tcp:connect({local, Path}, 0, [], ?TIMEOUT) of
        {ok, Other} ->
            gen_tcp:close(Other),
            {error, eaddrinuse};
        %% The backlog is full, so a process serves the socket.
        {error, eagain} -> {error, eaddrinuse};
        %% A process may serve the socket.
        {error, Reason} when Reason =:= eacces; Reason =:= eperm -> {error, {denied, Reason}};
        {error, _} -> bind_privately(Path)
    end.

%% Only this user can reach the socket until it has its group and mode, whatever the umask is.
bind_privately(Path) ->
    Directory = filename:join(filename:dirname(Path), temporary(filename:basename(Path))),
    _ = file:del_dir_r(Directory),
    Made = case file:make_dir(Directory) of
               ok -> file:change_mode(Directory, 8#700);
               Error -> Error
           end,
    Bound = case Made of
                ok -> bind_at(filename:join(Directory, <<"s">>), Path);
                Failed -> Failed
            end,
    _ = file:del_dir_r(Directory),
    Bound.

%% Each socket has a separate directory, because several sockets may be bound at the same moment.
%% The directory's name is so short that the socket's path fits if the path of `api.sock' fits.
temporary(Name) -> [$. | integer_to_list(erlang:phash2(Name, 36 * 36 * 36), 36)].

bind_at(New, Path) ->
    Options = [{ifaddr, {local, New}}, binary, {packet, http_bin}, {packet_size, ?LINE_SIZE}, {active, false},
               {backlog, ?BACKLOG}, {send_timeout, ?TIMEOUT}, {send_timeout_close, true}],
    case gen_tcp:listen(0, Options) of
        {ok, Listener} ->
            case publish(New, Path) of
                {ok, Inode} -> {ok, Listener, Inode};
                Error ->
                    gen_tcp:close(Listener),
                    Error
            end;
        Error -> Error
    end.

publish(New, Path) ->
    Permitted = permit(New, Path),
    case Permitted =:= ok andalso file:rename(New, Path) of
        false -> Permitted;
        ok -> inode(Path);
        Error -> Error
    end.

%% The daemon, hecate-web and the frontend connect as members of the group that the namespace is
%% shared with.
permit(New, Path) ->
    case file:read_file_info(filename:dirname(Path)) of
        {ok, #file_info{mode = Mode, gid = Group}} when Mode band 8#020 =/= 0 ->
            case file:change_group(New, Group) of
                ok -> file:change_mode(New, 8#660);
                {error, Reason} ->
                    warn("the group of ~ts cannot be set to ~b (~p), so other users get `permission denied`; run "
                         "`chgrp ~b ~ts` and `chmod 0660 ~ts`", [Path, Group, Reason, Group, Path, Path]),
                    file:change_mode(New, 8#600)
            end;
        {ok, _} -> file:change_mode(New, 8#600);
        Error -> Error
    end.

explain({denied, Reason}, Path) ->
    io_lib:format("~p on connect, so another process may serve it; stop that process and remove the file, or run "
                  "`chmod 0660 ~ts`", [Reason, Path]);
explain(Reason, _) -> io_lib:format("~p", [Reason]).

warn(Format, Args) -> logger:warning(Format, Args).

inode(Path) ->
    case file:read_link_info(Path) of
        {ok, #file_info{inode = Inode}} -> {ok, Inode};
        Error -> Error
    end.

%% ---- The connections -----------------------------------------------------------------------------

waits(Pid, #state{connections = Connections} = State) ->
    State#state{connections = Connections#{Pid => {waiting, erlang:monotonic_time()}}}.

accept_next(#state{acceptor = undefined, connections = Connections, listener = Listener, handler = Handler} = State) ->
    Server = self(),
    State#state{acceptor = spawn_link(fun() -> accept(Server, Listener, Handler) end), connections = make_room(Connections)}.

%% Closes the connection that has waited longest for its client, if there are too many.
make_room(Connections) when map_size(Connections) < ?CONNECTIONS -> Connections;
make_room(Connections) ->
    {_, Longest} = lists:min(waiting(Connections)),
    exit(Longest, kill),
    maps:remove(Longest, Connections).

waiting(Connections) -> [{Since, Pid} || {Pid, {waiting, Since}} <- maps:to_list(Connections)].

%% ---- A connection --------------------------------------------------------------------------------

accept(Server, Listener, Handler) ->
    case gen_tcp:accept(Listener) of
        {ok, Socket} ->
            Server ! {accepted, self()},
            _ = serve(Server, Socket, Handler),
            gen_tcp:close(Socket);
        {error, closed} ->
            exit(normal);
        %% There are no file descriptors or no memory. Retries, because that may pass.
        {error, _} ->
            receive after 100 -> accept(Server, Listener, Handler) end
    end.

serve(Server, Socket, Handler) ->
    Deadline = erlang:monotonic_time(millisecond) + ?TIMEOUT,
    case receive_line(Socket, Deadline) of
        {ok, {http_request, Method, {abs_path, Target}, _}} ->
            case read_headers(Socket, Deadline, ?LINES) of
                ok -> reply(Socket, Method, admitted(Server, fun() -> handled(Method, Target, Handler) end));
                error -> reply(Socket, Method, refusal(400, <<"malformed request">>))
            end;
        {ok, _} -> reply(Socket, 'GET', refusal(400, <<"malformed request">>));
        {error, _} -> ok
    end.

%% Returns the answer of the plugin, or 503 if the plugin is answering too many requests.
admitted(Server, Work) ->
    Server ! {received, self()},
    receive
        answer ->
            Answer = Work(),
            Server ! {sending, self()},
            Answer;
        refuse -> refusal(503, <<"the plugin is answering too many other requests: retry later">>)
    end.

receive_line(Socket, Deadline) -> gen_tcp:recv(Socket, 0, max(0, Deadline - erlang:monotonic_time(millisecond))).

read_headers(_, _, 0) -> error;
read_headers(Socket, Deadline, Lines) ->
    case receive_line(Socket, Deadline) of
        {ok, http_eoh} -> ok;
        {ok, {http_header, _, _, _, _}} -> read_headers(Socket, Deadline, Lines - 1);
        _ -> error
    end.

handled(Method, Target, Handler) when Method =:= 'GET'; Method =:= 'HEAD' ->
    [Path | _Query] = binary:split(Target, <<"?">>),
    try
        answered(within(?PATIENCE, fun() -> Handler(Path) end))
    catch
        Class:Reason:Stack ->
            logger:error("the handler of ~ts failed: ~p", [Path, {Class, Reason, Stack}]),
            refusal(500, <<"internal error: see the log of the plugin">>)
    end;
handled(_, _, _) -> refusal(405, <<"method not allowed: use GET or HEAD">>).

answered(not_found) -> refusal(404, <<"not found">>);
answered({Status, Type, Body}) when is_integer(Status), is_binary(Type) -> {Status, Type, iolist_to_binary(Body)}.

%% Errors have the same two keys as the daemon's.
refusal(Status, Detail) ->
    {Status, <<"application/json">>, hecate_plugin_json:encode(#{ok => false, error => Detail})}.

reply(Socket, Method, {Status, Type, Body}) ->
    Length = integer_to_binary(iolist_size(Body)),
    Allow = case Status of 405 -> <<"Allow: GET, HEAD\r\n">>; _ -> <<>> end,
    Head = [<<"HTTP/1.1 ">>, integer_to_binary(Status), <<" \r\nContent-Type: ">>, Type, <<"\r\nContent-Length: ">>, Length,
            <<"\r\nConnection: close\r\n">>, Allow, <<"\r\n">>],
    %% A client that reads slowly could block `send' and `close'.
    within(?TIMEOUT, fun() ->
                             _ = gen_tcp:send(Socket, case Method of 'HEAD' -> Head; _ -> [Head, Body] end),
                             gen_tcp:close(Socket)
                     end).

%% Kills this process, and so closes the connection, if the work takes longer.
within(Timeout, Work) ->
    {ok, Timer} = timer:kill_after(Timeout),
    try Work() after timer:cancel(Timer) end.
