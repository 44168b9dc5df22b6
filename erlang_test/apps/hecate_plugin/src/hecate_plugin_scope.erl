%% @doc The pg scope, as the two processes that use it do: it may be somebody else's, or nobody's yet, and may end at any moment.
-module(hecate_plugin_scope).

-export([attach/1, attach_later/0, in/1, members/2, names/1]).

%% Whoever has started the scope has this long to start it again before we do.
-define(PAUSE, 500).

%% @doc Sees to it that the scope runs, and monitors it. Where that fails the monitor fires at once.
-spec attach(Scope :: atom()) -> reference().
attach(Scope) ->
    whereis(Scope) =:= undefined andalso hecate_plugin_sup:start_scope(Scope),
    erlang:monitor(process, Scope).

%% @doc To be called when it has ended: sends `attach' to the caller when it is time to.
-spec attach_later() -> ok.
attach_later() ->
    _ = erlang:send_after(?PAUSE, self(), attach),
    ok.

%% @doc Does something with the scope, which may end meanwhile; then its monitor says so.
-spec in(fun(() -> Result)) -> Result | gone.
in(Do) ->
    try Do() catch exit:_ -> gone; error:badarg -> gone end.

%% @doc The members of a group: none while there is no scope.
-spec members(Scope :: atom(), Group :: term()) -> [pid()].
members(Scope, Group) ->
    try pg:get_members(Scope, Group) catch error:badarg -> [] end.

%% @doc The names of all plugins of the cluster that have a member.
-spec names(Scope :: atom()) -> [binary()].
names(Scope) ->
    Groups = try pg:which_groups(Scope) catch error:badarg -> [] end,
    [Name || {hecate_plugin, Name} <- Groups, is_binary(Name)].
