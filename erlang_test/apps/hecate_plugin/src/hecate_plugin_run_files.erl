%% @doc The plugin's `run/daemon.pid' and `run/daemon.state', as the convention has them: a decimal pid, and one word, both
%% without a newline. They are there while the plugin runs, so that finding them later means a crash.
-module(hecate_plugin_run_files).

-export([write/2, remove/1]).
-export_type([state/0]).

-type state() :: running | stopping.

%% @doc Writes both. What is there of a predecessor, or of another state, is replaced as a whole.
-spec write(Run :: file:filename_all(), state()) -> ok | {error, file:posix() | badarg | terminated | system_limit}.
write(Run, State) ->
    case replace(filename:join(Run, "daemon.pid"), os:getpid()) of
        ok -> replace(filename:join(Run, "daemon.state"), atom_to_list(State));
        Error -> Error
    end.

%% @doc Removes both, if they name this process: another may have taken the name over.
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

%% A reader finds the old text or the new one, and never the half of one, as of a disk that is full.
replace(Path, Text) ->
    New = iolist_to_binary([Path, ".new"]),
    case file:write_file(New, Text) of
        ok -> file:rename(New, Path);
        Error ->
            _ = file:delete(New),
            Error
    end.
