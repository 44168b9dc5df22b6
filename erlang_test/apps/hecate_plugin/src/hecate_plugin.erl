%% @doc Makes an OTP application a plugin daemon: registers it with hecate-daemon, provides its
%% paths and its process group, and finds other plugins.
%%
%% Set its environment, as of any application, and start it before your own application:
%%
%% ```
%% [{hecate_plugin, [{name, <<"hecate-traderd">>},
%%                   {version, <<"0.1.0">>},
%%                   {description, <<"Trades">>}]}].
%% '''
%%
%% The application starts at once, whether or not the daemon runs. {@link await/1} waits for the
%% registration and returns the plugin's paths. Only {@link deregister/0} deregisters the plugin: a
%% plugin that stops or crashes stays registered.
%%
%% <h3>Discovery</h3>
%% The processes of a plugin are the members of the pg group `{hecate_plugin, Name}'. On each host,
%% the proxy of the plugin in hecate-daemon is a member, and so is one process of this application
%% in each instance of the plugin. The functions below read pg on this node. {@link plugins/0} and
%% {@link info/1} also call the members, for at most 2 s.
-module(hecate_plugin).

-export([await/1, registration/0, state/0, register/0, deregister/0, stopping/0]).
-export([plugins/0, whereis/1, info/1, subscribe/0, unsubscribe/1]).
-export_type([name/0, info/0, event/0]).

%% Time for the answers of all members, in ms.
-define(PATIENCE, 2000).

-type name() :: binary() | string() | atom().
%% A plugin's name, such as `<<"hecate-traderd">>'. In events and maps it is a binary.

-type info() :: hecate_plugin_registrar:info().

-type event() :: {join | leave, Name :: binary(), pid()}
               | {status, Name :: binary(), running | stopped | deregistered, Plugin :: map()}.
%% A change that subscribers receive. `Plugin' is the map of {@link info/1} with `revision', `at'
%% (ms) and `reason'.

%% ---- This plugin ---------------------------------------------------------------------------------

%% @doc Waits until this plugin is registered, and returns its paths. Call it in `handle_continue/2'
%% of a process that needs the paths.
-spec await(timeout()) -> {ok, hecate_plugin_daemon:registration()} | {error, timeout}.
await(Timeout) -> hecate_plugin_registrar:await(Timeout).

%% @doc Returns the paths of the last registration, also while the daemon does not run.
-spec registration() -> {ok, hecate_plugin_daemon:registration()} | {error, not_registered}.
registration() -> hecate_plugin_registrar:registration().

%% @doc Returns whether this plugin is registered, and if not, why.
-spec state() -> hecate_plugin_registrar:state().
state() -> hecate_plugin_registrar:state().

%% @doc Registers this plugin at once. Call it after {@link deregister/0}, or after another client
%% has deregistered the plugin.
-spec register() -> ok.
register() -> hecate_plugin_registrar:register().

%% @doc Deregisters this plugin. Its data stays. Its run files also stay, because the plugin still
%% runs. After an error, the plugin stays registered.
-spec deregister() -> ok | {error, hecate_plugin_daemon:failure() | crashed}.
deregister() -> hecate_plugin_registrar:deregister().

%% @doc Writes `stopping' to `run/daemon.state'. Call it in `prep_stop/1' of the plugin's
%% application.
-spec stopping() -> ok.
stopping() -> hecate_plugin_registrar:stopping().

%% ---- All plugins ---------------------------------------------------------------------------------

%% @doc Returns all running plugins of the cluster in name order, including this one. A plugin that
%% runs on two hosts is in the list twice.
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

%% @doc Returns a process of a plugin, to monitor: one of an instance on this node, else on another
%% node, else a proxy.
-spec whereis(name()) -> pid() | undefined.
whereis(Name) ->
    case best(name(Name)) of
        [Pid | _] -> Pid;
        [] -> undefined
    end.

%% @doc Returns the description of a plugin, from the first of its processes that answers, in the
%% order of {@link whereis/1}.
-spec info(name()) -> {ok, info()} | {error, not_found}.
info(Name) ->
    case ask(best(name(Name))) of
        [Info | _] -> {ok, Info};
        [] -> {error, not_found}
    end.

%% @doc Subscribes the calling process to messages `{hecate_plugin, Ref, event()}'. They report when
%% a process joins or leaves a plugin's group anywhere in the cluster, and when a plugin's status
%% changes. Returns the present members. Each later change is sent once. The subscription ends with
%% the process, with {@link unsubscribe/1}, or with `hecate_plugin_watcher', which you can monitor.
-spec subscribe() -> {reference(), #{Name :: binary() => [pid()]}}.
subscribe() -> hecate_plugin_watcher:subscribe().

%% @doc Ends a subscription. Messages that were sent before may still be in the mailbox.
-spec unsubscribe(reference()) -> ok.
unsubscribe(Ref) -> hecate_plugin_watcher:unsubscribe(Ref).

%% ---- Helpers -------------------------------------------------------------------------------------

scope() -> application:get_env(hecate_plugin, scope, pg).

members(Group) -> hecate_plugin_scope:members(scope(), Group).

plugin(Name) -> members({hecate_plugin, Name}).

name(Name) when is_atom(Name) -> atom_to_binary(Name);
name(Name) -> unicode:characters_to_binary(Name).

best(Name) ->
    Proxies = members(hecate_plugins),
    Rank = fun(Pid) -> {lists:member(Pid, Proxies), node(Pid) =/= node(), Pid} end,
    [Pid || {_, Pid} <- lists:sort([{Rank(Pid), Pid} || Pid <- plugin(Name)])].

%% Calls all members at once. Leaves out those that do not answer in time, or with another term.
ask(Members) ->
    Until = erlang:monotonic_time(millisecond) + ?PATIENCE,
    Requests = [gen_server:send_request(Pid, info) || Pid <- Members],
    Answers = [gen_server:receive_response(Request, {abs, Until}) || Request <- Requests],
    [Info || {reply, #{name := Name, host := Host} = Info} <- Answers, is_binary(Name), is_binary(Host)].
