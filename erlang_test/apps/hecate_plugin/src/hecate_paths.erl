%% @doc The paths of this plugin's files: the functions of the daemon's `shared_paths', for the
%% directories that the daemon assigned. Before the first registration, each raises
%% `not_registered'; see {@link hecate_plugin:await/1}.
%%
%% As with `filename:join/2', the result is a binary if the name is one, else a string.
-module(hecate_paths).

-export([base_dir/0, sqlite_path/1, reckon_path/1, socket_path/1, run_path/1, connectors_dir/0, ensure_layout/0]).

%% @doc Returns the plugin's directory.
-spec base_dir() -> file:filename().
base_dir() ->
    {ok, #{base_dir := Base}} = registration(),
    native(Base).

%% @doc Returns the path of a SQLite read model.
-spec sqlite_path(file:name_all()) -> file:filename_all().
sqlite_path(Name) -> filename:join(directory(sqlite), Name).

%% @doc Returns the path of an event store's data.
-spec reckon_path(file:name_all()) -> file:filename_all().
reckon_path(Name) -> filename:join(directory(reckon_db), Name).

%% @doc Returns the path of a socket. The plugin's own API is at `socket_path("api.sock")'.
-spec socket_path(file:name_all()) -> file:filename_all().
socket_path(Name) -> filename:join(directory(sockets), Name).

%% @doc Returns the path of a pid or state file.
-spec run_path(file:name_all()) -> file:filename_all().
run_path(Name) -> filename:join(directory(run), Name).

%% @doc Returns the directory of the connectors' sockets.
-spec connectors_dir() -> file:filename().
connectors_dir() -> directory(connectors).

%% @doc Creates the directories that are missing. The daemon created them at the registration.
-spec ensure_layout() -> ok.
ensure_layout() ->
    {ok, #{paths := Paths}} = registration(),
    lists:foreach(fun(Path) -> ok = filelib:ensure_path(Path) end, maps:values(Paths)).

directory(Key) ->
    {ok, #{paths := #{Key := Path}}} = registration(),
    native(Path).

%% Returns the name that the runtime encodes to these bytes. Without a locale, as under systemd, its
%% encoding is Latin-1.
native(Path) -> unicode:characters_to_list(Path, file:native_name_encoding()).

registration() ->
    case hecate_plugin_registrar:registration() of
        {ok, Registration} -> {ok, Registration};
        {error, not_registered} -> error(not_registered)
    end.
