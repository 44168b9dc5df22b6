%% @doc A second reference plugin, with an additional directory in its namespace. See also
%% `hecate_traderd_app'.
-module(hecate_marthad_app).
-behaviour(application).

-export([start/2, prep_stop/1, stop/1]).

start(_, _) -> hecate_marthad_sup:start_link().

prep_stop(State) ->
    hecate_plugin:stopping(),
    State.

stop(_) -> ok.
