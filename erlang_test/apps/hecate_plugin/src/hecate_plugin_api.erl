%% @doc The plugin's own `api.sock': a small HTTP server for its frontend, hecate-web and probes.
%%
%% To be started, by {@link child_spec/2}, under the plugin's own supervisor. The socket is there only while somebody answers behind
%% it, as probes expect that look no further: it is bound under another name, renamed when it listens, and removed at the end.
%% One that still answers is never taken over. It answers GET and HEAD, a request a connection. Who takes longer than 5 s to ask, or
%% to read the answer, or asks with a line longer than 8 KiB, is cut off; so is a request that takes the plugin longer than 10 s.
-module(hecate_plugin_api).
-behaviour(gen_server).

-include_lib("kernel/include/file.hrl").

-export([child_spec/2, start_link/2]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
-export_type([handler/0, answer/0]).

%% So many are served at the same time; others wait in the backlog.
-define(SERVERS, 8).
-define(TIMEOUT, 5000).
%% For the plugin to find an answer.
-define(PATIENCE, 10000).
%% Between two tries to bind it.
-define(BIND_PAUSE, 1000).
%% Longest line of a request, and most of them.
-define(LINE_SIZE, 8192).
-define(LINES, 64).

-type answer() :: {Status :: 200..599, ContentType :: binary(), Body :: iodata()} | not_found.

-type handler() :: fun((Path :: binary()) -> answer()).
%% Runs in the process that serves the connection, which is killed if it takes too long. If it raises, or gives what is no answer,
%% that is a 500, and logged. Best
%% is one with its module's name, `fun ?MODULE:answer/1': any other is that of the code that was loaded when the supervisor began,
%% and fails for good once that is purged.

-record(state, {name :: file:name_all(), handler :: handler(), path :: binary() | undefined,
                inode :: non_neg_integer() | undefined, listener :: gen_tcp:socket() | undefined}).

%% @doc Of a server at `sockets/Name', which begins once the plugin is registered.
-spec child_spec(Name :: file:name_all(), handler()) -> supervisor:child_spec().
child_spec(Name, Handler) -> #{id => {?MODULE, Name}, start => {?MODULE, start_link, [Name, Handler]}}.

-spec start_link(Name :: file:name_all(), handler()) -> {ok, pid()} | {error, term()}.
start_link(Name, Handler) -> gen_server:start_link(?MODULE, {Name, Handler}, []).

%% ---- gen_server ----------------------------------------------------------------------------------

init({Name, Handler}) -> {ok, #state{name = Name, handler = Handler}, {continue, await}}.

handle_continue(await, #state{name = Name} = State) ->
    {ok, _} = hecate_plugin:await(infinity),
    %% In bytes: what is a string is UTF-8 for gen_tcp, whatever it is for files.
    Path = hecate_paths:socket_path(unicode:characters_to_binary(Name)),
    {noreply, State#state{path = Path}, {continue, {bind, first}}};
handle_continue({bind, Try}, #state{path = Path} = State) ->
    case bind(Path) of
        {ok, Listener, Inode} ->
            %% From now on there is something to remove at the end.
            process_flag(trap_exit, true),
            Listening = State#state{inode = Inode, listener = Listener},
            [start_server(Listening) || _ <- lists:seq(1, ?SERVERS)],
            {noreply, Listening};
        {error, Reason} ->
            %% A predecessor on its way out, or a full disk: it may pass, and the plugin can do its work meanwhile.
            Try =:= first andalso logger:warning("~ts cannot be bound yet: ~p", [Path, Reason], #{domain => [hecate_plugin]}),
            erlang:send_after(?BIND_PAUSE, self(), bind),
            {noreply, State}
    end.

handle_call(_, _, State) -> {reply, {error, not_supported}, State}.

handle_cast(_, State) -> {noreply, State}.

handle_info(bind, State) -> {noreply, State, {continue, {bind, again}}};
handle_info({'EXIT', Listener, Reason}, #state{listener = Listener} = State) -> {stop, Reason, State};
%% One that serves has ended, as by a request that took too long, or by new code of this module.
handle_info({'EXIT', Pid, _}, State) when is_pid(Pid) ->
    start_server(State),
    {noreply, State};
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
        %% Its backlog is full: it lives.
        {error, eagain} -> {error, eaddrinuse};
        {error, _} -> bind_at(filename:join(filename:dirname(Path), temporary(filename:basename(Path))), Path)
    end.

%% Each socket's own, since several are bound at the same moment, and shorter than `api.sock': it fits wherever that does.
temporary(Name) -> [$. | integer_to_list(erlang:phash2(Name), 36)].

bind_at(New, Path) ->
    _ = file:delete(New),
    Options = [{ifaddr, {local, New}}, binary, {packet, http_bin}, {packet_size, ?LINE_SIZE}, {active, false},
               {backlog, 128}, {send_timeout, ?TIMEOUT}, {send_timeout_close, true}],
    case gen_tcp:listen(0, Options) of
        {ok, Listener} ->
            rename(Listener, New, Path);
        Error -> Error
    end.

rename(Listener, New, Path) ->
    Renamed = case file:change_mode(New, 8#600) of
                  ok -> file:rename(New, Path);
                  Error -> Error
              end,
    case {Renamed, inode(Path)} of
        {ok, {ok, Inode}} -> {ok, Listener, Inode};
        {ok, Failed} -> Failed;
        {Failed, _} ->
            _ = file:delete(New),
            gen_tcp:close(Listener),
            Failed
    end.

inode(Path) ->
    case file:read_link_info(Path) of
        {ok, #file_info{inode = Inode}} -> {ok, Inode};
        Error -> Error
    end.

%% ---- A connection --------------------------------------------------------------------------------

start_server(#state{listener = Listener, handler = Handler}) -> spawn_link(fun() -> serve(Listener, Handler) end).

serve(Listener, Handler) ->
    case gen_tcp:accept(Listener) of
        {ok, Socket} ->
            _ = answer(Socket, Handler),
            gen_tcp:close(Socket),
            serve(Listener, Handler);
        {error, closed} ->
            exit(normal);
        %% No descriptors, or none of memory: it may pass.
        {error, _} ->
            receive after 100 -> serve(Listener, Handler) end
    end.

answer(Socket, Handler) ->
    Deadline = erlang:monotonic_time(millisecond) + ?TIMEOUT,
    case receive_line(Socket, Deadline) of
        {ok, {http_request, Method, {abs_path, Target}, _}} ->
            case read_headers(Socket, Deadline, ?LINES) of
                ok -> reply(Socket, Method, handled(Method, Target, Handler));
                error -> reply(Socket, Method, refusal(400, <<"the request can't be read">>))
            end;
        {ok, _} -> reply(Socket, 'GET', refusal(400, <<"the request can't be read">>));
        {error, _} -> ok
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
    {ok, Patience} = timer:kill_after(?PATIENCE),
    try
        answered(Handler(Path))
    catch
        Class:Reason:Stack ->
            logger:error("~ts could not be answered: ~p", [Path, {Class, Reason, Stack}], #{domain => [hecate_plugin]}),
            refusal(500, <<"an error of the plugin: see its log">>)
    after
        timer:cancel(Patience)
    end;
handled(_, _, _) -> refusal(405, <<"only GET and HEAD are served">>).

answered(not_found) -> refusal(404, <<"there is no such thing here">>);
answered({Status, Type, Body}) when is_integer(Status), is_binary(Type) -> {Status, Type, iolist_to_binary(Body)}.

%% The house style of errors.
refusal(Status, Detail) ->
    {Status, <<"application/json">>, hecate_plugin_json:encode(#{ok => false, error => Detail})}.

reply(Socket, Method, {Status, Type, Body}) ->
    Length = integer_to_binary(iolist_size(Body)),
    Allow = case Status of 405 -> <<"Allow: GET, HEAD\r\n">>; _ -> <<>> end,
    Head = [<<"HTTP/1.1 ">>, integer_to_binary(Status), <<" \r\nContent-Type: ">>, Type, <<"\r\nContent-Length: ">>, Length,
            <<"\r\nConnection: close\r\n">>, Allow, <<"\r\n">>],
    gen_tcp:send(Socket, case Method of 'HEAD' -> Head; _ -> [Head, Body] end).
