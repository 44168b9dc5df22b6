%% @doc The plugin's own `api.sock': a small HTTP server for its frontend, hecate-web and probes.
%%
%% To be started, by {@link child_spec/2}, under the plugin's own supervisor. The socket is there only while somebody answers behind
%% it, as probes expect that look no further: it is bound under another name, renamed when it listens, and removed at the end.
%% One that still answers is never taken over. It answers GET and HEAD, a request a connection; what takes longer than 5 s, or
%% more than 16 KiB to ask, is cut off.
-module(hecate_plugin_api).
-behaviour(gen_server).

-include_lib("kernel/include/file.hrl").

-export([child_spec/2, start_link/2]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
-export_type([handler/0, answer/0]).

%% So many are served at the same time; others wait in the backlog.
-define(SERVERS, 8).
-define(TIMEOUT, 5000).
%% Between two tries to bind it.
-define(BIND_PAUSE, 1000).
%% Longest line of a request, and most of them.
-define(LINE_SIZE, 8192).
-define(LINES, 64).

-type answer() :: {Status :: 200..599, ContentType :: binary(), Body :: iodata()} | not_found.

-type handler() :: fun((Path :: binary()) -> answer()).
%% Runs in the process that serves the connection. What it raises is a 500, and logged.

-record(state, {name :: file:name_all(), handler :: handler(), path :: file:filename_all() | undefined,
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
    {noreply, State#state{path = hecate_paths:socket_path(Name)}, {continue, {bind, first}}};
handle_continue({bind, Try}, #state{path = Path, handler = Handler} = State) ->
    case bind(Path) of
        {ok, Listener, Inode} ->
            %% From now on there is something to remove at the end.
            process_flag(trap_exit, true),
            [spawn_link(fun() -> serve(Listener, Handler) end) || _ <- lists:seq(1, ?SERVERS)],
            {noreply, State#state{inode = Inode, listener = Listener}};
        {error, Reason} ->
            %% A predecessor on its way out, or a full disk: it may pass, and the plugin can do its work meanwhile.
            Try =:= first andalso logger:warning("~ts cannot be bound yet: ~p", [Path, Reason], #{domain => [hecate_plugin]}),
            erlang:send_after(?BIND_PAUSE, self(), bind),
            {noreply, State}
    end.

handle_call(_, _, State) -> {reply, {error, not_supported}, State}.

handle_cast(_, State) -> {noreply, State}.

handle_info(bind, State) -> {noreply, State, {continue, {bind, again}}};
%% One that serves has ended: all begin anew.
handle_info({'EXIT', _, Reason}, State) -> {stop, Reason, State};
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
        {error, _} -> bind_at(filename:join(filename:dirname(Path), ".new"), Path)
    end.

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
    try Handler(Path) of
        not_found -> refusal(404, <<"there is no such thing here">>);
        {Status, Type, Body} -> {Status, Type, Body}
    catch
        Class:Reason:Stack ->
            logger:error("~ts could not be answered: ~p", [Path, {Class, Reason, Stack}], #{domain => [hecate_plugin]}),
            refusal(500, <<"an error of the plugin: see its log">>)
    end;
handled(_, _, _) -> refusal(405, <<"only GET and HEAD are served">>).

%% The house style of errors.
refusal(Status, Detail) ->
    {Status, <<"application/json">>, hecate_plugin_json:encode(#{ok => false, error => Detail})}.

reply(Socket, Method, {Status, Type, Body}) ->
    Length = integer_to_binary(iolist_size(Body)),
    Allow = case Status of 405 -> <<"Allow: GET, HEAD\r\n">>; _ -> <<>> end,
    Head = [<<"HTTP/1.1 ">>, integer_to_binary(Status), <<" \r\nContent-Type: ">>, Type, <<"\r\nContent-Length: ">>, Length,
            <<"\r\nConnection: close\r\n">>, Allow, <<"\r\n">>],
    gen_tcp:send(Socket, case Method of 'HEAD' -> Head; _ -> [Head, Body] end).
