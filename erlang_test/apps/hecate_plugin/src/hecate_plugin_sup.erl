%% @doc Supervises the three processes of the application, and the pg scope if no other process runs
%% it.
%%
%% Neither the daemon nor the network can make one of these processes crash. A restarted process
%% requests its state from the others by message. The scope is not restarted here: see {@link
%% start_scope/1}.
-module(hecate_plugin_sup).
-behaviour(supervisor).

-export([start_link/1, start_scope/1, start_pg/1]).
-export([init/1]).

-spec start_link(hecate_plugin_config:config()) -> {ok, pid()} | {error, term()}.
start_link(Config) -> supervisor:start_link({local, ?MODULE}, ?MODULE, Config).

%% @doc Starts a pg scope, unless it runs. The supervisor does not restart it: any node can crash a
%% scope repeatedly with a message that the scope does not know, as OTP 29 does to OTP 25. The
%% restarts would then reach the supervisor's limit. {@link hecate_plugin_scope:attach/1} starts the
%% scope again after a pause.
-spec start_scope(atom()) -> ok.
start_scope(Scope) ->
    _ = supervisor:start_child(?MODULE, scope(Scope)),
    ok.

%% @private
-spec start_pg(atom()) -> {ok, pid()} | ignore | {error, term()}.
start_pg(Scope) ->
    case pg:start_link(Scope) of
        {error, {already_started, _}} -> ignore;
        Started -> Started
    end.

scope(Scope) -> #{id => {pg, Scope}, start => {?MODULE, start_pg, [Scope]}, restart => temporary}.

%% The scope starts first, so that it runs when applications start that depend on this one.
init(#{scope := Scope} = Config) ->
    {ok, {#{strategy => one_for_one, intensity => 10, period => 5},
          [scope(Scope) | [#{id => Module, start => {Module, start_link, [Config]}}
                           || Module <- [hecate_plugin_watcher, hecate_plugin_discovery, hecate_plugin_registrar]]]}}.
