%% @doc Where this plugin keeps what: the functions of the daemon's own `shared_paths', for the paths that were assigned to this
%% plugin. Each fails with `not_registered' before the first registration; see {@link hecate_plugin:await/1}.
%%
%% Results are strings where names are, and binaries where names are binaries, as of `filename:join/2'.
-module(hecate_paths).

-export([base_dir/0, sqlite_path/1, reckon_path/1, socket_path/1, run_path/1, connectors_dir/0, ensure_layout/0]).

%% @doc The plugin's namespace.
-spec base_dir() -> file:filename().
base_dir() ->
    {ok, #{base_dir := Base}} = registration(),
    native(Base).

%% @doc The path of a SQLite read model.
-spec sqlite_path(file:name_all()) -> file:filename_all().
sqlite_path(Name) -> filename:join(directory(sqlite), Name).

%% @doc The path of an event store's data.
-spec reckon_path(file:name_all()) -> file:filename_all().
reckon_path(Name) -> filename:join(directory(reckon_db), Name).

%% @doc The path of a socket; the plugin's own API is at `socket_path("api.sock")'.
-spec socket_path(file:name_all()) -> file:filename_all().
socket_path(Name) -> filename:join(directory(sockets), Name).

%% @doc The path of a pid or state file.
-spec run_path(file:name_all()) -> file:filename_all().
run_path(Name) -> filename:join(directory(run), Name).

%% @doc Where the sockets of connectors are.
-spec connectors_dir() -> file:filename().
connectors_dir() -> directory(connectors).

%% @doc Makes the directories, as the daemon has done: for whoever has removed one.
-spec ensure_layout() -> ok.
ensure_layout() ->
    {ok, #{paths := Paths}} = registration(),
    lists:foreach(fun(Path) -> ok = filelib:ensure_path(Path) end, maps:values(Paths)).

directory(Key) ->
    {ok, #{paths := #{Key := Path}}} = registration(),
    native(Path).

%% The name that the runtime turns back into these bytes: without a locale, as under systemd, it takes them for Latin-1.
native(Path) -> unicode:characters_to_list(Path, file:native_name_encoding()).

registration() ->
    case hecate_plugin_registrar:registration() of
        {ok, Registration} -> {ok, Registration};
        {error, not_registered} -> error(not_registered)
    end.
