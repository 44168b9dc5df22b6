%% @doc A second reference plugin daemon: one with a directory of its own beside those that every namespace has. What it has in
%% common with the first is explained in `hecate_traderd_app'.
-module(hecate_marthad_app).
-behaviour(application).

-export([start/2, prep_stop/1, stop/1]).

start(_, _) -> hecate_marthad_sup:start_link().

prep_stop(State) ->
    hecate_plugin:stopping(),
    State.

stop(_) -> ok.
