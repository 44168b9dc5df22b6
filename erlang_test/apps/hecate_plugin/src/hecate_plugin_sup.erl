%% @doc Supervises the three processes of the application, and the pg scope where nobody else does.
%%
%% None of them ends by what the daemon or the network does; what one needs of the others to begin anew it asks for by message.
%% The scope does not count: see {@link start_scope/1}.
-module(hecate_plugin_sup).
-behaviour(supervisor).

-export([start_link/1, start_scope/1, start_pg/1]).
-export([init/1]).

-spec start_link(hecate_plugin_config:config()) -> {ok, pid()} | {error, term()}.
start_link(Config) -> supervisor:start_link({local, ?MODULE}, ?MODULE, Config).

%% @doc Starts a pg scope, unless it runs. It is not restarted from here: {@link hecate_plugin_scope:attach/1} asks for
%% another, in its own time. For a scope can be ended again and again from outside, by any node that speaks to it in a way that it
%% does not know, as one of OTP 29 does to one of OTP 25; that must take nobody down.
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

%% The scope comes first, so that it is there for the host application when this one is.
init(#{scope := Scope} = Config) ->
    {ok, {#{strategy => one_for_one, intensity => 10, period => 5},
          [scope(Scope) | [#{id => Module, start => {Module, start_link, [Config]}}
                           || Module <- [hecate_plugin_watcher, hecate_plugin_discovery, hecate_plugin_registrar]]]}}.
