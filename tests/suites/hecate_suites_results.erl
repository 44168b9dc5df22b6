%% An event handler of Common Test that writes one line for each case, with tabs between the fields.
%% The fields are the suite, the group or `-`, the case, `passed`, `failed` or `skipped`, the
%% milliseconds, and the reason.
-module(hecate_suites_results).
-behaviour(gen_event).

-export([init/1, handle_event/2, handle_call/2, handle_info/2]).

-include_lib("common_test/include/ct_event.hrl").

-define(REASON, 300).

init([File]) ->
    {ok, Out} = file:open(atom_to_list(File), [write, {encoding, utf8}]),
    {ok, #{out => Out, groups => [], started => #{}}}.

handle_event(#event{name = tc_start, data = {_, {init_per_group, Group, _}}}, #{groups := Groups} = State) ->
    {ok, State#{groups := [Group | Groups]}};
handle_event(#event{name = tc_start, data = {_, Case}}, #{started := Started} = State) ->
    {ok, State#{started := Started#{Case => erlang:monotonic_time(millisecond)}}};
handle_event(#event{name = tc_done, data = {_, {init_per_group, _, _}, _}}, State) ->
    {ok, State};
handle_event(#event{name = tc_done, data = {_, {end_per_group, _, _}, _}}, #{groups := Groups} = State) ->
    {ok, State#{groups := lists:nthtail(min(1, length(Groups)), Groups)}};
handle_event(#event{name = tc_done, data = {Suite, Case, Result}}, State) when is_atom(Case) ->
    write(Suite, group(State), Case, Result, State);
handle_event(#event{name = Name, data = {Suite, {Case, Group}, Reason}}, State)
  when is_atom(Case), Name =:= tc_auto_skip orelse Name =:= tc_user_skip ->
    write(Suite, Group, Case, {skipped, Reason}, State);
handle_event(#event{name = Name, data = {Suite, Case, Reason}}, State)
  when is_atom(Case), Name =:= tc_auto_skip orelse Name =:= tc_user_skip ->
    write(Suite, group(State), Case, {skipped, Reason}, State);
handle_event(_, State) ->
    {ok, State}.

handle_call(_, State) ->
    {ok, ok, State}.

handle_info(_, State) ->
    {ok, State}.

group(#{groups := []}) -> '-';
group(#{groups := [Group | _]}) -> Group.

write(_, _, Case, _, State) when Case =:= init_per_suite; Case =:= end_per_suite ->
    {ok, State};
write(Suite, Group, Case, Result, #{out := Out, started := Started} = State) ->
    Now = erlang:monotonic_time(millisecond),
    {Word, Reason} =
        case Result of
            ok -> {passed, ""};
            {skipped, Why} -> {skipped, Why};
            {auto_skipped, Why} -> {skipped, Why};
            {failed, Why} -> {failed, Why};
            Why -> {failed, Why}
        end,
    Text = string:slice(io_lib:format("~0tp", [Reason]), 0, ?REASON),
    io:format(Out, "~s\t~s\t~s\t~s\t~b\t~ts~n", [Suite, Group, Case, Word, Now - maps:get(Case, Started, Now), Text]),
    {ok, State#{started := maps:remove(Case, Started)}}.
