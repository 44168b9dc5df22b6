%% What an Erlang node does in the bench of the wire. Compiled, since whatever an evaluator runs is slow.
-module(bench).

-export([start/0, send/3, ended/0, drain/3, round_trips/3, calls/2, trips_beside/4]).
-export([watch/1, join_many/2, leave_all/0, joined/0]).

%% The server `bench`, in a group of the scope `wire` that is named like the node, so that it alone is in it. Whoever evaluates is told, under the name `boss`.
start() ->
    true = register(boss, self()),
    {ok, _} = pg:start(wire),
    Server = spawn(fun() -> serve() end),
    true = register(bench, Server),
    ok = pg:join(wire, node(), Server),
    Server.

%% What has come is told of with the last message, which names the time of the first.
serve() ->
    receive
        {'$gen_call', {Pid, Tag}, _} -> Pid ! {Tag, yes};
        {done, Begun} -> boss ! {done, os:system_time(nanosecond) - Begun};
        _ -> ok
    end,
    serve().

%% To here: nanoseconds from the first to the last.
ended() ->
    receive {done, Took} -> Took after 25000 -> exit(never_ended) end.

message(Size) ->
    {bench, binary:copy(<<7>>, Size)}.

%% From here, one way, the receiver tells its own side.
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

%% From here, until the other side has answered that it had it all: nanoseconds. A socket that only reads knows no calls, but
%% the bytes with which this one ends, and answers by `drained`.
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

%% There and back: nanoseconds for each, the requests as small as a ping's.
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

%% The same as programs do it, with a monitor.
calls(To, Count) ->
    Begun = erlang:monotonic_time(nanosecond),
    [gen_server:call(To, {is_auth, node()}, infinity) || _ <- lists:seq(1, Count)],
    (erlang:monotonic_time(nanosecond) - Begun) div Count.

%% Round trips while another process here sends so large messages to nobody on the same node, one after the other.
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

%% Tells of groups `{last, _}` that somebody has joined, with the time.
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

%% In groups of its own each, by whoever evaluates. The time before the first.
join_many(Name, Count) ->
    Begun = os:system_time(nanosecond),
    [ok = pg:join(wire, {more, Name, I}, self()) || I <- lists:seq(2, Count)],
    ok = pg:join(wire, {last, Name}, self()),
    Begun.

leave_all() ->
    [ok = pg:leave(wire, Group, self()) || Group <- pg:which_groups(wire), not is_atom(Group)],
    ok.
