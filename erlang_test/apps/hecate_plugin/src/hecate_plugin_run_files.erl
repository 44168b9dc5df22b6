%% @doc The plugin's `run/daemon.pid' (a decimal pid) and `run/daemon.state' (one word), both
%% without a newline. They exist while the plugin runs, so files without a process mean a crash.
-module(hecate_plugin_run_files).

-export([write/2, remove/1]).
-export_type([state/0]).

-type state() :: running | stopping.

%% @doc Writes both files, and replaces existing ones.
-spec write(Run :: file:filename_all(), state()) -> ok | {error, file:posix() | badarg | terminated | system_limit}.
write(Run, State) ->
    case replace(filename:join(Run, "daemon.pid"), os:getpid()) of
        ok -> replace(filename:join(Run, "daemon.state"), atom_to_list(State));
        Error -> Error
    end.

%% @doc Removes both files if `daemon.pid' names this process. Another process may run as this
%% plugin now.
-spec remove(Run :: file:filename_all()) -> ok.
remove(Run) ->
    Pid = filename:join(Run, "daemon.pid"),
    case file:read_file(Pid) =:= {ok, list_to_binary(os:getpid())} of
        true ->
            _ = file:delete(filename:join(Run, "daemon.state")),
            _ = file:delete(Pid),
            ok;
        false -> ok
    end.

%% Renames a new file, so that readers see the old text or the new text, also when the disk is full.
replace(Path, Text) ->
    New = iolist_to_binary([Path, ".new"]),
    case file:write_file(New, Text) of
        ok -> file:rename(New, Path);
        Error ->
            _ = file:delete(New),
            Error
    end.
