%% @doc Supervises the advisor and the server at `api.sock'.
-module(hecate_marthad_sup).
-behaviour(supervisor).

-export([start_link/0]).
-export([init/1]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() -> supervisor:start_link({local, ?MODULE}, ?MODULE, []).

init([]) ->
    {ok, {#{strategy => rest_for_one, intensity => 5, period => 10},
          [#{id => hecate_marthad_advisor, start => {hecate_marthad_advisor, start_link, []}},
           hecate_plugin_api:child_spec("api.sock", fun hecate_marthad_api:answer/1)]}}.
