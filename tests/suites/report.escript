#!/usr/bin/env escript
%% Compares and shows the results of run.sh, which are in RESULTS/RELEASE/MODE/SUITE.tsv:
%%
%%   report.escript differences RESULTS HERE   prints the cases that do not pass with the daemon,
%%                                             except known cases, and cases that are skipped alone
%%   report.escript table RESULTS HERE FILE    writes all results to FILE
%%   report.escript verdict RESULTS HERE       exits 1 if a difference shows in all reruns, or if no
%%                                             case of a run passed
%%
%% HERE is the directory with known.cases and suites.md.in. `differences` prints fields separated by
%% spaces.
-mode(compile).

-define(MODES, ["alone", "bystander", "peer"]).
%% The reason of cases that peer.cases leaves out.
-define(NOT_PEER, "not as peer").

main(["differences", Dir, Here]) ->
    Known = known(Here),
    [io:put_chars([lists:join($\s, Key), $\n])
     || [_ | Case] = Key <- differences(results(Dir)), not maps:is_key(Case, Known)];
main(["table", Dir, Here, File]) ->
    ok = filelib:ensure_dir(File),
    {ok, Head} = file:read_file(filename:join(Here, "suites.md.in")),
    ok = file:write_file(File, [Head, tables(results(Dir), reruns(Dir), known(Here))]);
main(["verdict", Dir, Here]) ->
    Known = known(Here),
    Differences = differences(results(Dir)),
    [io:format("known difference: ~s~n", [lists:join(" ", Key)]) || [_ | Case] = Key <- Differences, maps:is_key(Case, Known)],
    New = lists:sort([Key || {Key, {3, 0}} <- maps:to_list(reruns(Dir))]),
    [io:format("difference: ~s~n", [lists:join(" ", Key)]) || Key <- New],
    Empty = [File || File <- files(Dir), [] =:= [x || {_, {"passed", _}} <- read(File)]],
    [io:format("no case passed: ~s~n", [File]) || File <- Empty],
    halt(min(1, length(New ++ Empty))).

files(Dir) ->
    filelib:wildcard(filename:join(Dir, "*/*/*.tsv")).

%% [Release, Mode, Suite, Group, Case] => {Result, Reason}
results(Dir) ->
    maps:from_list(lists:append([read(File) || File <- files(Dir)])).

read(File) ->
    [_, Mode, Release | _] = lists:reverse(filename:split(File)),
    [{[Release, Mode, Suite, Group, Case], {Result, Reason}}
     || [Suite, Group, Case, Result, _, Reason] <- lines(File), not is_configuration(Case)].

is_configuration(Case) ->
    lists:member(Case, ["init_per_group", "end_per_group"]).

lines(File) ->
    case file:read_file(File) of
        {ok, Text} ->
            [string:split(Line, "\t", all) || Line <- string:split(unicode:characters_to_list(Text), "\n", all), Line =/= ""];
        {error, enoent} ->
            []
    end.

%% [Release, Mode, Suite, Group, Case] => {Failed, FailedAlone}, each of 3 reruns
reruns(Dir) ->
    maps:from_list([{Key, {list_to_integer(With), list_to_integer(Without)}}
                    || Line <- lines(filename:join(Dir, "reruns.tsv")),
                       {Key, [With, Without]} <- [lists:split(5, Line)]]).

%% [Mode, Suite, Group, Case] => Reason
known(Here) ->
    {ok, Text} = file:read_file(filename:join(Here, "known.cases")),
    maps:from_list([{[Mode, Suite, Group, Case], Reason}
                    || Line <- string:split(unicode:characters_to_list(Text), "\n", all), Line =/= "", hd(Line) =/= $#,
                       [Mode, Suite, Group, Case | Words] <- [string:lexemes(Line, " ")],
                       Reason <- [lists:join(" ", Words)]]).

%% A case that failed alone may be unstable: the reruns decide.
differences(Results) ->
    [[Release, Mode, Suite, Group, Case]
     || {[Release, "alone", Suite, Group, Case], {Alone, _}} <- lists:sort(maps:to_list(Results)),
        Alone =/= "skipped",
        Mode <- ["bystander", "peer"],
        has_run(Release, Mode, Suite, Results),
        is_different(maps:get([Release, Mode, Suite, Group, Case], Results, missing))].

%% A suite without cases as a peer does not run as one.
has_run(Release, Mode, Suite, Results) ->
    Mode =:= "bystander" orelse [] =/= [x || [R, M, S | _] <- maps:keys(Results), R =:= Release, M =:= Mode, S =:= Suite].

is_different({"passed", _}) -> false;
is_different({"skipped", Reason}) -> string:find(Reason, ?NOT_PEER) =:= nomatch;
is_different(_) -> true.

tables(Results, Reruns, Known) ->
    Releases = lists:usort([Release || [Release | _] <- maps:keys(Results)]),
    Columns = [{Release, Mode} || Release <- Releases, Mode <- ?MODES],
    Suites = lists:usort([Suite || [_, _, Suite | _] <- maps:keys(Results)]),
    [summary(Columns, Suites, Results), [suite(Suite, Columns, Results, Reruns, Known) || Suite <- Suites],
     reasons(Known), skipped(Results)].

heading(First, Columns) ->
    [row([First | [["OTP ", Release, ", ", Mode] || {Release, Mode} <- Columns]]), row(["---" || _ <- [First | Columns]])].

row(Cells) ->
    ["| ", lists:join(" | ", Cells), " |\n"].

%% Returns the number of passed cases and of those that ran.
summary(Columns, Suites, Results) ->
    ["\n## Passed of run, by suite\n\n", heading("suite", Columns),
     [row([name(Suite) | [count(Suite, Column, Results) || Column <- Columns]]) || Suite <- Suites]].

count(Suite, {Release, Mode}, Results) ->
    Words = [Word || {[R, M, S | _], {Word, _}} <- maps:to_list(Results), R =:= Release, M =:= Mode, S =:= Suite],
    case length([x || Word <- Words, Word =/= "skipped"]) of
        0 -> "-";
        Run -> io_lib:format("~b/~b", [length([x || "passed" <- Words]), Run])
    end.

name(Suite) ->
    ["`", hd(string:split(Suite, "_SUITE", trailing)), "`"].

suite(Suite, Columns, Results, Reruns, Known) ->
    Cases = lists:usort([{Group, Case} || [_, _, S, Group, Case] <- maps:keys(Results), S =:= Suite]),
    ["\n## ", name(Suite), "\n\n", heading("case", Columns),
     [row([case_name(Group, Case) | [cell([Release, Mode, Suite, Group, Case], Results, Reruns, Known) || {Release, Mode} <- Columns]])
      || {Group, Case} <- Cases]].

case_name("-", Case) -> ["`", Case, "`"];
case_name(Group, Case) -> ["`", Group, "`: `", Case, "`"].

cell([_ | Case] = Key, Results, Reruns, Known) ->
    case {maps:get(Key, Results, missing), Reruns} of
        {missing, _} -> "-";
        {{"passed", _}, _} -> "passed";
        {_, #{Key := {3, 0}}} -> "**differs**";
        {_, #{Key := _}} -> "unstable";
        {{"skipped", Reason}, _} ->
            case string:find(Reason, ?NOT_PEER) of
                nomatch -> "skipped";
                _ -> "-"
            end;
        {{Word, _}, _} when is_map_key(Case, Known) -> [Word, " (known)"];
        {{Word, _}, _} -> Word
    end.

reasons(Known) ->
    ["\n## Known differences\n\n", row(["role", "suite", "case", "why"]), row(["---", "---", "---", "---"]),
     [row([Mode, name(Suite), case_name(Group, Case), Reason])
      || {[Mode, Suite, Group, Case], Reason} <- lists:sort(maps:to_list(Known))]].

skipped(Results) ->
    Skipped = lists:usort([{Suite, Group, Case, Release} || {[Release, "alone", Suite, Group, Case], {"skipped", _}} <- maps:to_list(Results)]),
    Failed = lists:usort([{Suite, Group, Case, Release} || {[Release, "alone", Suite, Group, Case], {"failed", _}} <- maps:to_list(Results)]),
    io_lib:format("\nWithout the daemon, ~b cases of both releases are skipped by the suites, and ~b fail.\n", [length(Skipped), length(Failed)]).
