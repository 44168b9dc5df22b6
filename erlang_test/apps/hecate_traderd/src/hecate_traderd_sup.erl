%% @doc Supervises the journal, the desk that writes to it, and the server at `api.sock'.
-module(hecate_traderd_sup).
-behaviour(supervisor).

-export([start_link/0]).
-export([init/1]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() -> supervisor:start_link({local, ?MODULE}, ?MODULE, []).

init([]) ->
    Worker = fun(Module) -> #{id => Module, start => {Module, start_link, []}} end,
    {ok, {#{strategy => rest_for_one, intensity => 5, period => 10},
          [Worker(hecate_traderd_journal),
           Worker(hecate_traderd_desk),
           hecate_plugin_api:child_spec("api.sock", fun hecate_traderd_api:answer/1)]}}.
