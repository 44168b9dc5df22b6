%% @doc A reference plugin daemon, small and complete. Steps 2 to 5 of the convention's bootstrap, from connecting to the assigned
%% paths, are those of the application `hecate_plugin', which starts before this one; what is left is to use the paths (6) and the
%% cluster (7).
-module(hecate_traderd_app).
-behaviour(application).

-export([start/2, prep_stop/1, stop/1]).

start(_, _) -> hecate_traderd_sup:start_link().

prep_stop(State) ->
    hecate_plugin:stopping(),
    State.

stop(_) -> ok.
