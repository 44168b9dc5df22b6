#!/usr/bin/env escript
%%! -sname cap@localhost -hidden
%% Captures the golden bytes of `node::services::pg::tests`: the messages that a real scope sends to a
%% process that has sent `discover`. Prints messages of version 1 if the release supports it (OTP 29),
%% otherwise those of version 0.
%%
%%     ERL_EPMD_PORT=4399 epmd & ERL_EPMD_PORT=4399 escript src/beam/node/services/pg/capture.escript; kill $!
%%
%% For another release, as root: copy this file to /tmp, and add `ESCRIPT_EMULATOR=$(tests/releases.sh sid)/erl`.
-mode(compile).
-define(TAGGED, {tagged, <<"a-d">>}).

main([]) ->
    io:format("// OTP ~s~n", [erlang:system_info(otp_release)]),
    {ok, Scope} = pg:start(golden),
    A = spawn(fun() -> receive stop -> ok end end),
    B = spawn(fun() -> receive stop -> ok end end),
    case list_to_integer(erlang:system_info(otp_release)) of
        Release when Release >= 29 -> version_1(Scope, A, B);
        _ -> version_0(Scope, A)
    end.

version_0(Scope, A) ->
    Join = fun(Group) -> ok = pg:join(golden, Group, A) end,
    Discover = fun() -> Scope ! {discover, self()} end,
    show(["SYNC_NOTHING", "DISCOVER"], Scope, Discover),
    show(["JOIN"], Scope, fun() -> Join(g) end),
    show(["JOIN_TUPLE"], Scope, fun() -> Join(?TAGGED) end),
    show(["SYNC_TWO"], Scope, Discover),
    show(["LEAVE"], Scope, fun() -> pg:leave(golden, g, A) end),
    show(["LEAVE_TUPLE"], Scope, fun() -> ended(A) end).

version_1(Scope, A, B) ->
    Join = fun(Group, Pid) -> ok = pg:join(golden, Group, Pid) end,
    Discover = fun() -> Scope ! {discover, self(), 1} end,
    show(["LOCAL_NOTHING", "DISCOVER_ONE"], Scope, Discover),
    show(["UPDATE_JOIN"], Scope, fun() -> Join(g, A) end),
    show(["UPDATE_LEAVE"], Scope, fun() -> pg:leave(golden, g, A) end),
    [Join(Group, Pid) || {Group, Pid} <- [{g, A}, {g, A}, {?TAGGED, B}, {?TAGGED, A}]],
    messages(Scope),
    show(["LOCAL_TWO"], Scope, Discover),
    pg:leave(golden, g, A),
    messages(Scope),
    show(["UPDATE_LEAVE_TWO"], Scope, fun() -> ended(A) end).

%% The scope has monitored the process for longer, so its monitor fires before ours.
ended(Pid) ->
    Monitor = monitor(process, Pid),
    Pid ! stop,
    receive {'DOWN', Monitor, _, _, _} -> ok end.

%% Returns all messages from the scope, in order. The scope answers `sys:get_state/1` only after it has
%% handled all earlier messages.
messages(Scope) ->
    _ = sys:get_state(Scope),
    all().

all() ->
    receive Message -> [Message | all()] after 200 -> [] end.

show(Names, Scope, Do) ->
    Do(),
    Hex = fun(Term) -> [io_lib:format("~2.16.0B", [Byte]) || <<Byte>> <= term_to_binary(Term, [{minor_version, 2}])] end,
    [io:format("const ~s: &str = \"~s\";~n", [Name, Hex(Term)]) || {Name, Term} <- lists:zip(Names, messages(Scope))].
