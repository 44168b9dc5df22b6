%% @doc Finds the advisors of each hecate-marthad in the cluster through their pg group, and
%% requests advice on `ACME' from each. It keeps an advisor's advice until that advisor ends.
%%
%% It joins no group, because on OTP 25 the scope crashes when a process ends that is a member and
%% monitors a group.
-module(hecate_traderd_desk).
-behaviour(gen_server).

-export([start_link/0, advice/0]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2]).

-define(ADVISORS, {hecate_marthad, advisors}).
%% Pause in ms while hecate_plugin, or another owner, restarts the scope.
-define(PAUSE, 500).

-record(state, {scope :: reference() | undefined, group :: reference() | undefined,
                %% Each advisor with its monitor and its advice.
                advisors = #{} :: #{pid() => {reference(), Advice :: binary() | undefined}}}).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Returns the advice of the present advisors.
-spec advice() -> [#{from := node(), advice := binary()}].
advice() -> gen_server:call(?MODULE, advice).

init([]) -> {ok, #state{}, {continue, find}}.

handle_continue(find, State) -> {noreply, find(State)}.

handle_call(advice, _, #state{advisors = Advisors} = State) ->
    Given = [#{from => node(Pid), advice => Advice} || {Pid, {_, Advice}} <- maps:to_list(Advisors), Advice =/= undefined],
    {reply, Given, State}.

handle_cast(_, State) -> {noreply, State}.

handle_info({Group, join, ?ADVISORS, Pids}, #state{group = Group} = State) ->
    {noreply, lists:foldl(fun ask/2, State, Pids)};
handle_info({advice, Advisor, <<"ACME">>, Advice}, #state{advisors = Advisors} = State)
  when is_map_key(Advisor, Advisors), is_binary(Advice) ->
    hecate_traderd_journal:note({advice, erlang:system_time(millisecond), node(Advisor), Advice}),
    #{Advisor := {Monitor, _}} = Advisors,
    {noreply, State#state{advisors = Advisors#{Advisor := {Monitor, Advice}}}};
handle_info({'DOWN', Scope, process, _, _}, #state{scope = Scope} = State) ->
    %% The monitor of the group has ended with the scope. The advisors are still monitored.
    {noreply, find_later(State)};
handle_info(find, State) ->
    {noreply, find(State)};
handle_info({'DOWN', _, process, Advisor, _}, #state{advisors = Advisors} = State) ->
    hecate_traderd_journal:note({gone, erlang:system_time(millisecond), node(Advisor)}),
    {noreply, State#state{advisors = maps:remove(Advisor, Advisors)}};
handle_info(_, State) ->
    {noreply, State}.

find(State) ->
    case whereis(pg) of
        undefined ->
            find_later(State);
        Pid ->
            Scope = erlang:monitor(process, Pid),
            {Group, Advisors} = pg:monitor(?ADVISORS),
            lists:foldl(fun ask/2, State#state{scope = Scope, group = Group}, Advisors)
    end.

find_later(State) ->
    erlang:send_after(?PAUSE, self(), find),
    State#state{scope = undefined, group = undefined}.

ask(Advisor, #state{advisors = Advisors} = State) when is_map_key(Advisor, Advisors) -> State;
ask(Advisor, #state{advisors = Advisors} = State) ->
    Monitor = erlang:monitor(process, Advisor),
    erlang:send(Advisor, {advise, self(), <<"ACME">>}),
    State#state{advisors = Advisors#{Advisor => {Monitor, undefined}}}.
