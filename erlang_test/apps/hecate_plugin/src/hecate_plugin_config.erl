%% @doc Reads and checks the settings of the application once, when it starts.
-module(hecate_plugin_config).

-export([read/0, socket/0]).
-export_type([config/0, error/0]).

-type config() :: #{name := binary(), version := binary() | undefined, description := binary() | undefined,
                    scope := atom()}.

%% Old versions of OTP add `included_applications' to each environment.
-define(SETTINGS, [name, version, description, scope, included_applications]).

-type error() :: {bad_config, Key :: atom(), Found :: term(), Advice :: string()}.

%% @doc Reads the application's environment, and logs a warning for each unknown setting. Does not
%% check the rules for names: the daemon does.
-spec read() -> {ok, config()} | {error, error()}.
read() ->
    [logger:warning("hecate_plugin: unknown setting '~ts', which is ignored; the settings are name, version, description "
                    "and scope", [Key])
     || {Key, _} <- application:get_all_env(hecate_plugin), not lists:member(Key, ?SETTINGS)],
    try
        {ok, #{name => text(name, required), version => text(version, optional),
               description => text(description, optional), scope => scope()}}
    catch
        throw:{?MODULE, Error} -> {error, Error}
    end.

%% @doc Returns the path of the daemon's socket: `HECATE_SOCKET_PATH', else below `HECATE_HOME',
%% else below `~/.hecate'. The result is a binary, because `gen_tcp' encodes strings as UTF-8, but
%% the environment may have another encoding.
-spec socket() -> binary().
socket() -> unicode:characters_to_binary(find_socket(), unicode, file:native_name_encoding()).

find_socket() ->
    case {environment("HECATE_SOCKET_PATH"), environment("HECATE_HOME"), environment("HOME")} of
        {false, false, false} -> below("/");
        {false, false, Home} -> below(filename:join(Home, ".hecate"));
        {false, Home, _} -> below(expand(Home));
        {Socket, _, _} -> expand(Socket)
    end.

below(Home) -> filename:join([Home, "hecate-daemon", "sockets", "api.sock"]).

%% An empty variable counts as unset.
environment(Name) ->
    case os:getenv(Name) of
        "" -> false;
        Value -> Value
    end.

%% Expands `~/', because no shell expands the values in units and manifests.
expand("~/" ++ Rest) -> filename:join(os:getenv("HOME", "/"), Rest);
expand(Path) -> Path.

text(Key, Need) ->
    case {application:get_env(hecate_plugin, Key), Need} of
        {undefined, optional} -> undefined;
        {{ok, undefined}, optional} -> undefined;
        {{ok, Value}, _} when is_binary(Value); is_list(Value), Value =/= [] ->
            try unicode:characters_to_binary(Value) of
                Text when is_binary(Text) -> Text;
                _ -> bad(Key, Value)
            catch
                error:badarg -> bad(Key, Value)
            end;
        {undefined, required} -> bad(Key, undefined);
        {{ok, Value}, _} -> bad(Key, Value)
    end.

scope() ->
    case application:get_env(hecate_plugin, scope, pg) of
        Scope when is_atom(Scope), Scope =/= undefined -> Scope;
        Other -> bad(scope, Other)
    end.

-spec bad(atom(), term()) -> no_return().
bad(Key, Found) -> throw({?MODULE, {bad_config, Key, Found, advice(Key)}}).

advice(name) -> "set the plugin's name, as a binary or a string: {hecate_plugin, [{name, <<\"hecate-traderd\">>}]}";
advice(scope) -> "set an atom: the name of a pg scope in the daemon's HECATE_PG_SCOPES";
advice(_) -> "set a binary or a string in UTF-8, or leave it out".
