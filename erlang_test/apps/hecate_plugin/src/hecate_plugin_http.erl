%% @doc A client of HTTP/1.1 over a Unix socket (RFC 9112). It opens one connection for each
%% request, and bounds every length and time.
%%
%% It keeps no state between requests and creates no atoms from what it reads. A response may arrive
%% in any pieces, and its body may have a length, be chunked, or end with the connection.
-module(hecate_plugin_http).

-export([request/5, open/3, drain/2]).
-export_type([response/0, reason/0, stream/0]).

%% Longest head of a response in bytes, without interim responses.
-define(HEAD, 16384).
%% Longest body in bytes.
-define(BODY, 1048576).
%% Longest line with a chunk's size, and longest line of a trailer, in bytes.
-define(LONGEST_LINE, 1024).
%% Most lines of a trailer, and most interim responses.
-define(MANY, 64).
%% Pause between two attempts to connect to a socket whose backlog is full, in ms.
-define(BACKLOG_PAUSE, 10).

-type response() :: #{status := 200..999, headers := [{Name :: binary(), Value :: binary()}], body := binary()}.
%% Header names are in lower case.

-type reason() :: timeout | closed | inet:posix() | bad_response | head_too_large | body_too_large | line_too_large
                | socket_path_too_long.

-record(connection, {socket :: gen_tcp:socket(), deadline :: integer()}).

-opaque stream() :: #connection{}.
%% A response without an end.

%% @doc Sends a request and reads the whole response, within `Timeout' ms.
-spec request(Path, Method, Target, Body, Timeout) -> {ok, response()} | {error, reason()} when
      Path :: file:filename_all(), Method :: binary(), Target :: binary(), Body :: none | iodata(),
      Timeout :: pos_integer().
request(Path, Method, Target, Body, Timeout) ->
    connected(Path, Timeout,
              fun(Connection) ->
                      send(Connection, Method, Target, Body, <<"application/json">>),
                      Response = response(Connection, head(Connection, <<>>, ?MANY)),
                      close(Connection),
                      {ok, Response}
              end).

%% @doc Requests a stream. Reads the response to its end if the status is not 200. `Timeout' is the
%% time in ms until the end of the head.
-spec open(Path, Target, Timeout) -> {ok, stream()} | {answered, response()} | {error, reason()} when
      Path :: file:filename_all(), Target :: binary(), Timeout :: pos_integer().
open(Path, Target, Timeout) ->
    connected(Path, Timeout,
              fun(Connection) ->
                      send(Connection, <<"GET">>, Target, none, <<"text/event-stream">>),
                      case head(Connection, <<>>, ?MANY) of
                          {200, _, _} ->
                              {ok, Connection};
                          Head ->
                              Response = response(Connection, Head),
                              close(Connection),
                              {answered, Response}
                      end
              end).

%% @doc Reads and discards a stream until it ends, or until no data arrives for `Silence' ms.
%% Returns why.
-spec drain(stream(), Silence :: pos_integer()) -> closed | timeout | inet:posix().
drain(#connection{socket = Socket} = Stream, Silence) ->
    case gen_tcp:recv(Socket, 0, Silence) of
        {ok, _} ->
            drain(Stream, Silence);
        {error, Reason} ->
            gen_tcp:close(Socket),
            Reason
    end.

%% ---- The request ---------------------------------------------------------------------------------

%% The functions below throw their errors.
connected(Path, Timeout, Do) ->
    try connect(Path, Timeout) of
        Connection ->
            try Do(Connection) catch
                throw:{?MODULE, Reason} ->
                    close(Connection),
                    {error, Reason}
            end
    catch
        throw:{?MODULE, Reason} -> {error, Reason}
    end.

-spec fail(reason()) -> no_return().
fail(Reason) -> throw({?MODULE, Reason}).

connect(Path, Timeout) ->
    %% `sun_path' has 108 bytes, including the terminating zero.
    byte_size(bytes(Path)) > 107 andalso fail(socket_path_too_long),
    Deadline = erlang:monotonic_time(millisecond) + Timeout,
    Options = [binary, {active, false}, {send_timeout, Timeout}, {send_timeout_close, true}],
    #connection{socket = connect_until(Deadline, Path, Options), deadline = Deadline}.

%% Waits while the backlog is full, as a blocking `connect(2)' does. The driver treats that error as
%% a connection in progress, so it may show only as a missing peer.
connect_until(Deadline, Path, Options) ->
    Left = max(0, Deadline - erlang:monotonic_time(millisecond)),
    Connected = case gen_tcp:connect({local, Path}, 0, Options, Left) of
                    {ok, Socket} -> {inet:peername(Socket), Socket};
                    Error -> Error
                end,
    case Connected of
        {{ok, _}, Peered} -> Peered;
        {{error, enotconn}, Unpeered} ->
            gen_tcp:close(Unpeered),
            connect_again(Deadline, Path, Options);
        {error, eagain} -> connect_again(Deadline, Path, Options);
        {{error, Reason}, Lost} ->
            gen_tcp:close(Lost),
            fail(Reason);
        {error, Reason} -> fail(Reason)
    end.

connect_again(Deadline, Path, Options) ->
    erlang:monotonic_time(millisecond) < Deadline orelse fail(timeout),
    receive after ?BACKLOG_PAUSE -> connect_until(Deadline, Path, Options) end.

bytes(Path) when is_binary(Path) -> Path;
bytes(Path) -> unicode:characters_to_binary(Path).

close(#connection{socket = Socket}) -> gen_tcp:close(Socket).

send(#connection{socket = Socket}, Method, Target, Body, Accept) ->
    Head = [Method, " ", Target, " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: ", Accept, "\r\n"],
    Rest = case Body of
               none -> "\r\n";
               _ -> ["Content-Type: application/json\r\nContent-Length: ", integer_to_list(iolist_size(Body)),
                     "\r\n\r\n", Body]
           end,
    case gen_tcp:send(Socket, [Head | Rest]) of
        ok -> ok;
        {error, {timeout, _}} -> fail(timeout);
        {error, Reason} -> fail(Reason)
    end.

%% ---- The response --------------------------------------------------------------------------------

receive_more(#connection{socket = Socket, deadline = Deadline}, Buffer) ->
    case gen_tcp:recv(Socket, 0, max(0, Deadline - erlang:monotonic_time(millisecond))) of
        {ok, More} -> <<Buffer/binary, More/binary>>;
        {error, Reason} -> fail(Reason)
    end.

head(Connection, Buffer, Interim) ->
    case binary:split(Buffer, <<"\r\n\r\n">>) of
        [Head, _] when byte_size(Head) > ?HEAD -> fail(head_too_large);
        [Head, Rest] ->
            case parse_head(<<Head/binary, "\r\n\r\n">>) of
                {Status, _} when Status >= 100, Status < 200, Status =/= 101, Interim > 0 ->
                    head(Connection, Rest, Interim - 1);
                {Status, Headers} when Status >= 200 -> {Status, Headers, Rest};
                _ -> fail(bad_response)
            end;
        [_] when byte_size(Buffer) > ?HEAD -> fail(head_too_large);
        [_] -> head(Connection, receive_more(Connection, Buffer), Interim)
    end.

parse_head(Head) ->
    case erlang:decode_packet(http_bin, Head, []) of
        {ok, {http_response, {1, _}, Status, _}, Rest} -> {Status, parse_headers(Rest, [])};
        _ -> fail(bad_response)
    end.

parse_headers(Head, Headers) ->
    case erlang:decode_packet(httph_bin, Head, []) of
        {ok, {http_header, _, Name, _, Value}, Rest} ->
            parse_headers(Rest, [{lowercase(Name), string:trim(Value, trailing, " \t")} | Headers]);
        {ok, http_eoh, <<>>} -> lists:reverse(Headers);
        _ -> fail(bad_response)
    end.

%% `decode_packet' returns known names as atoms and others as binaries, so it creates no atoms.
lowercase(Name) when is_atom(Name) -> lowercase(atom_to_binary(Name));
lowercase(Name) -> << <<(lower(C))>> || <<C>> <= Name >>.

lower(C) when C >= $A, C =< $Z -> C + ($a - $A);
lower(C) -> C.

response(Connection, {Status, Headers, Rest}) ->
    #{status => Status, headers => Headers, body => body(Connection, Status, Headers, Rest)}.

%% RFC 9112, 6.3: no body, a chunked body, a length, or a body that ends with the connection.
body(_, Status, _, _) when Status =:= 204; Status =:= 304 -> <<>>;
body(Connection, _, Headers, Rest) ->
    Values = fun(Name) -> lists:usort([Value || {Key, Value} <- Headers, Key =:= Name]) end,
    case {Values(<<"transfer-encoding">>), Values(<<"content-length">>)} of
        {[], []} -> up_to_end(Connection, Rest);
        {[], [Length]} -> element(1, take(Connection, number(Length, 10), Rest));
        {[Coding], []} ->
            lowercase(Coding) =:= <<"chunked">> orelse fail(bad_response),
            iolist_to_binary(chunks(Connection, Rest, ?BODY));
        %% Two lengths, or a length and chunks, have no single meaning: such responses are an
        %% attack.
        _ -> fail(bad_response)
    end.

number(Text, Base) ->
    Digits = case Base of 10 -> "^[0-9]{1,9}$"; 16 -> "^[0-9A-Fa-f]{1,7}$" end,
    case re:run(Text, Digits, [{capture, none}, dollar_endonly]) of
        match -> binary_to_integer(Text, Base);
        nomatch when byte_size(Text) > 7 -> fail(body_too_large);
        nomatch -> fail(bad_response)
    end.

take(_, Length, _) when Length > ?BODY -> fail(body_too_large);
take(Connection, Length, Buffer) ->
    case Buffer of
        <<Taken:Length/binary, Rest/binary>> -> {Taken, Rest};
        _ -> take(Connection, Length, receive_more(Connection, Buffer))
    end.

up_to_end(_, Buffer) when byte_size(Buffer) > ?BODY -> fail(body_too_large);
up_to_end(Connection, Buffer) ->
    More = try receive_more(Connection, Buffer) catch throw:{?MODULE, closed} -> closed end,
    case More of
        closed -> Buffer;
        _ -> up_to_end(Connection, More)
    end.

%% `Left' is the number of bytes that may still come.
chunks(Connection, Buffer, Left) ->
    {Line, Rest} = line(Connection, Buffer),
    [Size | _Extensions] = binary:split(Line, [<<";">>, <<" ">>]),
    case number(Size, 16) of
        0 ->
            trailer(Connection, Rest, ?MANY),
            [];
        Length when Length > Left ->
            fail(body_too_large);
        Length ->
            {Chunk, AfterChunk} = take(Connection, Length, Rest),
            {End, Next} = line(Connection, AfterChunk),
            End =:= <<>> orelse fail(bad_response),
            [Chunk | chunks(Connection, Next, Left - Length)]
    end.

trailer(_, _, 0) -> fail(bad_response);
trailer(Connection, Buffer, Lines) ->
    case line(Connection, Buffer) of
        {<<>>, _} -> ok;
        {_, Rest} -> trailer(Connection, Rest, Lines - 1)
    end.

line(Connection, Buffer) ->
    case binary:split(Buffer, <<"\r\n">>) of
        [Line, _] when byte_size(Line) > ?LONGEST_LINE -> fail(line_too_large);
        [Line, Rest] -> {Line, Rest};
        [_] when byte_size(Buffer) > ?LONGEST_LINE -> fail(line_too_large);
        [_] -> line(Connection, receive_more(Connection, Buffer))
    end.
