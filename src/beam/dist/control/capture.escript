#!/usr/bin/env escript
%%! -sname real@localhost -setcookie golden -hidden
%% Prints the golden bytes of `dist::control::tests`: the frames that a real node sends to a node
%% with the flags of this crate. Both nodes run in this Erlang VM: the VM itself is the real node,
%% and one of its processes connects to its distribution port as `fake@localhost` and receives each
%% frame. The pids of the fake node are made by hand.
%%
%%     ERL_EPMD_PORT=4399 epmd & ERL_EPMD_PORT=4399 escript src/beam/dist/control/capture.escript; kill $!
-mode(compile).

%% The flags of `dist::flags::ours(false)` without PUBLISHED, so that `global` is silent, and
%% without headers: bits of `dist.h`.
-define(FLAGS, (16#4 bor 16#8 bor 16#10 bor 16#20 bor 16#80 bor 16#100 bor 16#200 bor 16#400 bor 16#800 bor 16#4000
    bor 16#10000 bor 16#20000 bor 16#40000 bor 16#80000 bor 16#100000 bor 16#400000 bor 16#1000000 bor 16#2000000
    bor (1 bsl 26) bor (1 bsl 32) bor (1 bsl 34) bor (1 bsl 35))).

main([]) ->
    io:format("// OTP ~s~n", [erlang:system_info(otp_release)]),
    control().

%% ---- Signals: one line each, with the name of the operation and the frame without its length.

control() ->
    S = connect(),
    Fake = pid(1),
    true = register(golden, self()),
    frame(S, "LINK", fun() -> link(Fake) end),
    frame(S, "UNLINK_ID", fun() -> unlink(Fake) end),
    frame(S, "MONITOR_P", fun() -> put(m, monitor(process, Fake)) end),
    frame(S, "DEMONITOR_P", fun() -> demonitor(get(m)) end),
    frame(S, "MONITOR_P by name", fun() -> put(m, monitor(process, {name, 'fake@localhost'})) end),
    frame(S, "DEMONITOR_P by name", fun() -> demonitor(get(m)) end),
    frame(S, "SEND_SENDER", fun() -> Fake ! hello end),
    frame(S, "REG_SEND", fun() -> {name, 'fake@localhost'} ! hello end),
    frame(S, "ALIAS_SEND", fun() -> ref(7) ! hello end),
    frame(S, "PAYLOAD_EXIT2", fun() -> exit(Fake, bye) end),
    frame(S, "SPAWN_REQUEST", fun() -> spawn_request('fake@localhost', m, f, [a, 1], [monitor]) end),
    %% {SPAWN_REQUEST, ReqId, From, GroupLeader, {M, F, A}, Opts} from the fake node, refused and
    %% accepted.
    Request = fun(Id, F) -> {29, ref(Id), Fake, Fake, {erlang, F, 0}, []} end,
    frame(S, "SPAWN_REPLY badopt", fun() -> signal(S, setelement(6, Request(8, self), [nonsense]), []) end),
    frame(S, "SPAWN_REPLY", fun() -> signal(S, Request(9, self), []) end),
    Linked = spawn(fun() -> receive after infinity -> ok end end),
    signal(S, {1, Fake, Linked}),
    signal(S, {19, Fake, golden, ref(10)}),
    barrier(S),
    frame(S, "PAYLOAD_EXIT", fun() -> exit(Linked, bye) end),
    Watched = spawn(fun() -> receive stop -> exit({bye, 1}) end end),
    signal(S, {19, Fake, Watched, ref(11)}),
    barrier(S),
    frame(S, "PAYLOAD_MONITOR_P_EXIT", fun() -> Watched ! stop end),
    Named = spawn(fun() -> receive stop -> ok end end),
    register(other, Named),
    signal(S, {19, Fake, other, ref(12)}),
    barrier(S),
    frame(S, "PAYLOAD_MONITOR_P_EXIT by name", fun() -> Named ! stop end),
    unlinked(S, Fake).

%% The acknowledgement of an unlink from the fake node.
unlinked(S, Fake) ->
    P = spawn(fun() -> receive after infinity -> ok end end),
    signal(S, {1, Fake, P}),
    frame(S, "UNLINK_ID_ACK", fun() -> signal(S, {35, 16#FFFFFFFFFF, Fake, P}) end),
    gen_tcp:close(S).

%% ---- The fake node.

pid(Id) -> binary_to_term(<<131, 88, 119, 14, "fake@localhost", Id:32, 0:32, 77:32>>).
ref(Id) -> binary_to_term(<<131, 90, 3:16, 119, 14, "fake@localhost", 77:32, Id:32, 0:32, 0:32>>).

connect() ->
    {port, Port, _} = erl_epmd:port_please("real", {127, 0, 0, 1}),
    {ok, S} = gen_tcp:connect("localhost", Port, [binary, {packet, 2}, {active, false}]),
    Name = <<"fake@localhost">>,
    ok = gen_tcp:send(S, <<"N", ?FLAGS:64, 77:32, (byte_size(Name)):16, Name/binary>>),
    {ok, <<"sok", _/binary>>} = gen_tcp:recv(S, 0),
    {ok, <<"N", _:64, Challenge:32, _/binary>>} = gen_tcp:recv(S, 0),
    Digest = erlang:md5(["golden", integer_to_list(Challenge)]),
    ok = gen_tcp:send(S, <<"r", 1:32, Digest/binary>>),
    {ok, <<"a", _/binary>>} = gen_tcp:recv(S, 0),
    ok = inet:setopts(S, [{packet, 4}]),
    drain(S),
    S.

signal(S, Control) -> ok = gen_tcp:send(S, [112, term_to_binary(Control)]).
signal(S, Control, Payload) -> ok = gen_tcp:send(S, [112, term_to_binary(Control), term_to_binary(Payload)]).

%% Waits until the real node has handled all earlier signals: it then answers a monitor of a process
%% that does not exist.
barrier(S) ->
    signal(S, {19, pid(1), nobody, ref(99)}),
    until(S).

until(S) ->
    Frame = next(S),
    case binary:match(Frame, <<"noproc">>) of nomatch -> until(S); _ -> ok end.

next(S) ->
    case gen_tcp:recv(S, 0, 2000) of
        {ok, <<>>} -> next(S);
        {ok, Frame} -> Frame
    end.

drain(S) ->
    case gen_tcp:recv(S, 0, 300) of {ok, _} -> drain(S); {error, timeout} -> ok end.

frame(S, Name, Do) ->
    Do(),
    io:format("(~p, \"~s\"),~n", [Name, hex(next(S))]).

hex(Bytes) -> [io_lib:format("~2.16.0b", [B]) || <<B>> <= Bytes].
