%% @doc One life of the daemon, as the plugin sees it: a process that registers and then stays with the daemon's stream of
%% events, whose end is how a restart of the daemon is noticed without asking again and again.
%%
%% It tells its owner `{Session, {registered, Registration}}', ends with a reason that says why it is over, and ends with its
%% owner. All that blocks is done here, so that {@link hecate_plugin_registrar} never does.
-module(hecate_plugin_session).

-export([start_register/2, start_deregister/2]).
-export_type([session/0, outcome/0]).

%% The stream has a heartbeat every 30 s; without any for this long its other end is taken for dead.
-define(SILENCE, 75000).
%% Without a stream, as where the daemon serves too many, registering again from time to time does as well.
-define(WITHOUT_STREAM, 30000).

-type session() :: {pid(), reference()}.
%% A process and the monitor on it.

-type outcome() :: {failed, hecate_plugin_daemon:failure()} | {lost, term()} | deregistered.
%% It ends with `{shutdown, outcome()}', or crashes.

%% @doc Begins a session that registers.
-spec start_register(file:filename_all(), hecate_plugin_config:config()) -> session().
start_register(Socket, Config) ->
    Owner = self(),
    spawn_opt(fun() -> exit({shutdown, stay_registered(Owner, Socket, Config)}) end, [link, monitor]).

%% @doc Begins one that deregisters.
-spec start_deregister(file:filename_all(), hecate_plugin_config:config()) -> session().
start_deregister(Socket, #{name := Name}) ->
    spawn_opt(fun() ->
                      exit({shutdown, case hecate_plugin_daemon:deregister(Socket, Name) of
                                          ok -> deregistered;
                                          {error, Failure} -> {failed, Failure}
                                      end})
              end,
              [link, monitor]).

%% The stream comes first: if it is still there after the answer, that came from the same life of the daemon.
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
