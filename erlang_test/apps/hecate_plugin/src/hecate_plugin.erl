%% @doc Makes an OTP application a plugin daemon: it is registered with hecate-daemon for as long as it runs, has its place in
%% the file system and in the cluster, and finds the other plugins.
%%
%% Configured as any application, it begins with `application:ensure_all_started(hecate_plugin)':
%%
%% ```
%% [{hecate_plugin, [{name, <<"hecate-traderd">>}, {version, <<"0.1.0">>}, {description, <<"Trades">>}]}].
%% '''
%%
%% It starts at once, whether or not the daemon is there, and never fails for want of it. {@link await/1} gives the plugin its
%% paths, as soon as there are any. It deregisters only if {@link deregister/0} is called: to stop, or to crash, is not to leave.
%%
%% <h3>Discovery</h3>
%% A plugin is known by its name. In the cluster it has one or more processes in the pg group `{hecate_plugin, Name}': on each host
%% the proxy that its hecate-daemon has for it, and a process of this application in each of its instances. The functions here read
%% pg on this node; {@link plugins/0} and {@link info/1} ask the members, at most 2 s.
-module(hecate_plugin).

-export([await/1, registration/0, state/0, register/0, deregister/0, stopping/0]).
-export([plugins/0, whereis/1, info/1, subscribe/0, unsubscribe/1]).
-export_type([name/0, info/0, event/0]).

%% For all answers together.
-define(PATIENCE, 2000).

-type name() :: binary() | string() | atom().
%% A plugin's name, as `<<"hecate-traderd">>'. Events and maps have it as a binary.

-type info() :: hecate_plugin_registrar:info().

-type event() :: {join | leave, Name :: binary(), pid()}
               | {status, Name :: binary(), running | stopped | deregistered, Plugin :: map()}.
%% What subscribers are told. `Plugin' is the map of {@link info/1} with `revision', `at' (ms) and `reason'.

%% ---- This plugin ---------------------------------------------------------------------------------

%% @doc Waits until this plugin is registered, and gives what it was assigned. A good place is the `handle_continue/2' of a process
%% that needs the paths.
-spec await(timeout()) -> {ok, hecate_plugin_daemon:registration()} | {error, timeout}.
await(Timeout) -> hecate_plugin_registrar:await(Timeout).

%% @doc What this plugin was assigned last. It stays so while the daemon is away.
-spec registration() -> {ok, hecate_plugin_daemon:registration()} | {error, not_registered}.
registration() -> hecate_plugin_registrar:registration().

%% @doc How it stands with the registration, and why there is none.
-spec state() -> hecate_plugin_registrar:state().
state() -> hecate_plugin_registrar:state().

%% @doc Registers at once, or again: the way back from {@link deregister/0}, and from a deregistration that somebody else has
%% asked the daemon for.
-spec register() -> ok.
register() -> hecate_plugin_registrar:register().

%% @doc Deregisters this plugin. Its data stays, its run files too, since it still runs. If it fails, the plugin stays registered.
-spec deregister() -> ok | {error, hecate_plugin_daemon:failure() | crashed}.
deregister() -> hecate_plugin_registrar:deregister().

%% @doc Says in `run/daemon.state' that the plugin is stopping: to be called from `prep_stop/1' of the application that it is.
-spec stopping() -> ok.
stopping() -> hecate_plugin_registrar:stopping().

%% ---- All plugins ---------------------------------------------------------------------------------

%% @doc All plugins of the cluster that run, this one among them, in the order of their names. A plugin that runs on two hosts is
%% there twice.
-spec plugins() -> [info()].
plugins() ->
    Members = lists:usort(members(hecate_plugins) ++
                              lists:append([plugin(Name) || Name <- hecate_plugin_scope:names(scope())])),
    Key = fun(#{name := Name, host := Host} = Info) ->
                  case maps:get(node, Info, undefined) of
                      undefined -> {Name, Host};
                      Node -> {Name, Node}
                  end
          end,
    [Info || {_, Info} <- lists:ukeysort(1, [{Key(Info), Info} || Info <- ask(Members)])].

%% @doc A process that stands for a plugin, to be monitored: of an instance on this node, else on another, else a proxy.
-spec whereis(name()) -> pid() | undefined.
whereis(Name) ->
    case best(name(Name)) of
        [Pid | _] -> Pid;
        [] -> undefined
    end.

%% @doc What is known of a plugin, by whoever stands for it.
-spec info(name()) -> {ok, info()} | {error, not_found}.
info(Name) ->
    case ask(best(name(Name))) of
        [Info | _] -> {ok, Info};
        [] -> {error, not_found}
    end.

%% @doc From now on the calling process gets `{hecate_plugin, Ref, event()}' for each process that joins or leaves a plugin's group
%% anywhere in the cluster, and each change of a plugin's status. The map has those that are there now, so that nothing is missed
%% and nothing is told twice. It ends with the process, with {@link unsubscribe/1}, or with `hecate_plugin_watcher', which may be
%% monitored.
-spec subscribe() -> {reference(), #{Name :: binary() => [pid()]}}.
subscribe() -> hecate_plugin_watcher:subscribe().

%% @doc Ends a subscription. What has been sent before may still be in the mailbox.
-spec unsubscribe(reference()) -> ok.
unsubscribe(Ref) -> hecate_plugin_watcher:unsubscribe(Ref).

%% ---- What they share -----------------------------------------------------------------------------

scope() -> application:get_env(hecate_plugin, scope, pg).

members(Group) -> hecate_plugin_scope:members(scope(), Group).

plugin(Name) -> members({hecate_plugin, Name}).

name(Name) when is_atom(Name) -> atom_to_binary(Name);
name(Name) -> unicode:characters_to_binary(Name).

best(Name) ->
    Proxies = members(hecate_plugins),
    Rank = fun(Pid) -> {lists:member(Pid, Proxies), node(Pid) =/= node(), Pid} end,
    [Pid || {_, Pid} <- lists:sort([{Rank(Pid), Pid} || Pid <- plugin(Name)])].

%% Asks all at once; who is silent, or says something else, is left out.
ask(Members) ->
    Until = erlang:monotonic_time(millisecond) + ?PATIENCE,
    Requests = [gen_server:send_request(Pid, info) || Pid <- Members],
    Answers = [gen_server:receive_response(Request, {abs, Until}) || Request <- Requests],
    [Info || {reply, #{name := Name, host := Host} = Info} <- Answers, is_binary(Name), is_binary(Host)].
