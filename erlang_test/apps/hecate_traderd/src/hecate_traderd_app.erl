%% @doc A small and complete reference plugin. The application `hecate_plugin', which starts before
%% it, connects to the daemon, registers and gets the paths. This application uses the paths and the
%% cluster.
-module(hecate_traderd_app).
-behaviour(application).

-export([start/2, prep_stop/1, stop/1]).

start(_, _) -> hecate_traderd_sup:start_link().

prep_stop(State) ->
    hecate_plugin:stopping(),
    State.

stop(_) -> ok.
