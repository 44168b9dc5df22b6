%% @doc Access to the pg scope, which another application may own, which may not run yet, and which
%% may end at any time.
-module(hecate_plugin_scope).

-export([attach/1, attach_later/0, in/1, members/2, names/1]).

%% Time in ms for the owner of an ended scope to restart it. After that, this application starts it.
-define(PAUSE, 500).

%% @doc Starts the scope if it does not run, and monitors it. If the start fails, the monitor fires
%% at once.
-spec attach(Scope :: atom()) -> reference().
attach(Scope) ->
    whereis(Scope) =:= undefined andalso hecate_plugin_sup:start_scope(Scope),
    erlang:monitor(process, Scope).

%% @doc Sends `attach' to the caller after a pause. Call this when the scope has ended.
-spec attach_later() -> ok.
attach_later() ->
    _ = erlang:send_after(?PAUSE, self(), attach),
    ok.

%% @doc Runs a function that uses the scope. Returns `gone' if the scope has ended; its monitor then
%% fires.
-spec in(fun(() -> Result)) -> Result | gone.
in(Do) ->
    try Do() catch exit:_ -> gone; error:badarg -> gone end.

%% @doc Returns the members of a group, or none if the scope does not run.
-spec members(Scope :: atom(), Group :: term()) -> [pid()].
members(Scope, Group) ->
    try pg:get_members(Scope, Group) catch error:badarg -> [] end.

%% @doc Returns the names of all plugins in the cluster whose group has a member.
-spec names(Scope :: atom()) -> [binary()].
names(Scope) ->
    Groups = try pg:which_groups(Scope) catch error:badarg -> [] end,
    [Name || {hecate_plugin, Name} <- Groups, is_binary(Name)].
