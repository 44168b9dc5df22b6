%% The Erlang node in the wire bench. It is compiled, because evaluated code is slow.
-module(bench).

-export([start/0, send/3, ended/0, drain/3, round_trips/3, calls/2, trips_beside/4]).
-export([watch/1, join_many/2, leave_all/0, joined/0]).

%% Starts the server `bench`. It joins a group of the scope `wire` that is named after the node and
%% has no other member. Results go to the evaluating process, registered as `boss`.
start() ->
    true = register(boss, self()),
    {ok, _} = pg:start(wire),
    Server = spawn(fun() -> serve() end),
    true = register(bench, Server),
    ok = pg:join(wire, node(), Server),
    Server.

%% Reads all messages. The last one contains the time of the first, and the server then reports the
%% duration.
serve() ->
    receive
        {'$gen_call', {Pid, Tag}, _} -> Pid ! {Tag, yes};
        {done, Begun} -> boss ! {done, os:system_time(nanosecond) - Begun};
        _ -> ok
    end,
    serve().

%% Returns the nanoseconds from the first message to the last, on the receiving node.
ended() ->
    receive {done, Took} -> Took after 25000 -> exit(never_ended) end.

message(Size) ->
    {bench, binary:copy(<<7>>, Size)}.

%% Sends messages in one direction. The receiver measures the time.
send(To, Size, Count) ->
    Begun = os:system_time(nanosecond),
    send_all(To, message(Size), Count),
    To ! {done, Begun},
    ok.

send_all(_, _, 0) ->
    ok;
send_all(To, Message, Count) ->
    To ! Message,
    send_all(To, Message, Count - 1).

%% Sends messages, and returns the nanoseconds until the receiver confirms the last one. A socket
%% that only reads recognizes the bytes at the end of that call, and answers `drained`.
drain(To, Size, Count) ->
    Begun = erlang:monotonic_time(nanosecond),
    send_all(To, message(Size), Count),
    Ref = make_ref(),
    To ! {'$gen_call', {self(), Ref}, <<"end_of_round">>},
    receive
        {Ref, _} -> ok;
        drained -> ok
    after 25000 -> exit(never_answered)
    end,
    erlang:monotonic_time(nanosecond) - Begun.

%% Returns the nanoseconds of a round trip, with requests as small as a ping.
round_trips(To, Request, Count) ->
    Begun = erlang:monotonic_time(nanosecond),
    trips(To, Request, Count),
    (erlang:monotonic_time(nanosecond) - Begun) div Count.

trips(_, _, 0) ->
    ok;
trips(To, Request, Count) ->
    trip(To, Request),
    trips(To, Request, Count - 1).

trip(To, Request) ->
    Ref = make_ref(),
    To ! {'$gen_call', {self(), Ref}, Request},
    receive {Ref, _} -> ok after 25000 -> exit(never_answered) end.

%% Returns the nanoseconds of a `gen_server:call`, which uses a monitor.
calls(To, Count) ->
    Begun = erlang:monotonic_time(nanosecond),
    [gen_server:call(To, {is_auth, node()}, infinity) || _ <- lists:seq(1, Count)],
    (erlang:monotonic_time(nanosecond) - Begun) div Count.

%% Measures round trips while another process on this node sends large messages to an unknown name
%% on the same node, one after the other.
trips_beside(To, Request, Size, Count) ->
    {_, Node} = To,
    Message = message(Size),
    Large = spawn_link(fun Send() -> erlang:send({nobody, Node}, Message), Send() end),
    trips(To, Request, 5),
    Times = [begin
        Begun = erlang:monotonic_time(nanosecond),
        trip(To, Request),
        erlang:monotonic_time(nanosecond) - Begun
    end || _ <- lists:seq(1, Count)],
    unlink(Large),
    exit(Large, kill),
    trip(To, Request),
    Times.

%% Reports each join of a group `{last, _}` with its time.
watch(Scope) ->
    Boss = self(),
    spawn_link(fun() ->
        {_, _} = pg:monitor_scope(Scope),
        Boss ! watching,
        watched(Boss)
    end),
    receive watching -> ok end.

watched(Boss) ->
    receive
        {_, join, {last, _} = Group, _} -> Boss ! {joined, Group, os:system_time(nanosecond)};
        _ -> ok
    end,
    watched(Boss).

joined() ->
    receive {joined, {last, _}, At} -> At after 25000 -> exit(never_seen) end.

%% Joins this many groups from the evaluating process. Returns the time before the first join.
join_many(Name, Count) ->
    Begun = os:system_time(nanosecond),
    [ok = pg:join(wire, {more, Name, I}, self()) || I <- lists:seq(2, Count)],
    ok = pg:join(wire, {last, Name}, self()),
    Begun.

leave_all() ->
    [ok = pg:leave(wire, Group, self()) || Group <- pg:which_groups(wire), not is_atom(Group)],
    ok.
