%% @doc A process that registers the plugin and then reads the daemon's event stream. The stream
%% ends when the daemon restarts, so the plugin notices that without polling.
%%
%% It sends `{Session, {registered, Registration}}' to its owner, exits with an {@link outcome()},
%% and ends with its owner. All calls that block are made here, so that {@link
%% hecate_plugin_registrar} never blocks.
-module(hecate_plugin_session).

-export([start_register/2, start_deregister/2]).
-export_type([session/0, outcome/0]).

%% Longest time without data, in ms. The daemon sends a heartbeat every 30 s.
-define(SILENCE, 75000).
%% Delay in ms before the plugin registers again, if the daemon refused its event stream with 404 or
%% 503.
-define(WITHOUT_STREAM, 30000).

-type session() :: {pid(), reference()}.
%% A process and the monitor of it.

-type outcome() :: {failed, hecate_plugin_daemon:failure()} | {lost, term()} | deregistered.
%% The exit reason is `{shutdown, outcome()}', unless the process crashes.

%% @doc Starts a session that registers the plugin.
-spec start_register(file:filename_all(), hecate_plugin_config:config()) -> session().
start_register(Socket, Config) ->
    Owner = self(),
    spawn_opt(fun() -> exit({shutdown, stay_registered(Owner, Socket, Config)}) end, [link, monitor]).

%% @doc Starts a session that deregisters the plugin.
-spec start_deregister(file:filename_all(), hecate_plugin_config:config()) -> session().
start_deregister(Socket, #{name := Name}) ->
    spawn_opt(fun() ->
                      exit({shutdown, case hecate_plugin_daemon:deregister(Socket, Name) of
                                          ok -> deregistered;
                                          {error, Failure} -> {failed, Failure}
                                      end})
              end,
              [link, monitor]).

%% Opens the stream first: if it is still open after the registration, the daemon did not restart in
%% between.
stay_registered(Owner, Socket, Config) ->
    case hecate_plugin_daemon:events(Socket) of
        {ok, Stream} ->
            register(Owner, Socket, Config,
                     fun() -> {lost, hecate_plugin_http:drain(Stream, ?SILENCE)} end);
        {error, {refused, #{status := Status}}} when Status =:= 404; Status =:= 503 ->
            register(Owner, Socket, Config,
                     fun() -> receive after ?WITHOUT_STREAM -> {lost, no_stream} end end);
        {error, Failure} ->
            {failed, Failure}
    end.

register(Owner, Socket, Config, Stay) ->
    case hecate_plugin_daemon:register(Socket, Config, node()) of
        {ok, Registration} ->
            Owner ! {self(), {registered, Registration}},
            Stay();
        {error, Failure} ->
            {failed, Failure}
    end.
