%% @private
-module(hecate_plugin_app).
-behaviour(application).

-export([start/2, stop/1]).

start(_, _) ->
    case hecate_plugin_config:read() of
        {ok, Config} ->
            hecate_plugin_registrar:forget(),
            hecate_plugin_sup:start_link(Config);
        {error, _} = Error ->
            Error
    end.

stop(_) -> hecate_plugin_registrar:forget().
