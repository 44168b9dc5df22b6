%% @doc Answers `{advise, Pid, Symbol}' with advice from the knowledge base, `hecate-agents/' in the
%% plugin's directory, and monitors its clients.
%%
%% It joins its group when it can answer.
-module(hecate_marthad_advisor).
-behaviour(gen_server).

-export([start_link/0, clients/0, subjects/0]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2]).

%% Pause in ms while hecate_plugin, or another owner, restarts the scope.
-define(PAUSE, 500).

-record(state, {scope :: reference() | undefined, base :: file:filename() | undefined,
                clients = #{} :: #{pid() => reference()}}).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Returns the nodes of the clients that still run.
-spec clients() -> [node()].
clients() -> gen_server:call(?MODULE, clients).

%% @doc Returns the subjects of the knowledge base.
-spec subjects() -> [binary()].
subjects() -> gen_server:call(?MODULE, subjects).

init([]) -> {ok, #state{}, {continue, begin_work}}.

handle_continue(begin_work, State) ->
    {ok, _} = hecate_plugin:await(infinity),
    Base = filename:join(hecate_paths:base_dir(), "hecate-agents"),
    ok = filelib:ensure_path(Base),
    Brought = filelib:wildcard(filename:join(code:priv_dir(hecate_marthad), "hecate-agents/*.md")),
    lists:foreach(fun(File) -> learn(File, Base) end, Brought),
    {noreply, join(State#state{base = Base})}.

join(State) ->
    case whereis(pg) of
        undefined ->
            join_later(State);
        Pid ->
            Scope = erlang:monitor(process, Pid),
            ok = pg:join({hecate_marthad, advisors}, self()),
            State#state{scope = Scope}
    end.

join_later(State) ->
    erlang:send_after(?PAUSE, self(), join),
    State#state{scope = undefined}.

%% Keeps existing files, which may have been edited.
learn(File, Base) ->
    Known = filename:join(Base, filename:basename(File)),
    case filelib:is_file(Known) of
        true -> ok;
        false -> {ok, _} = file:copy(File, Known)
    end.

handle_call(clients, _, #state{clients = Clients} = State) ->
    {reply, lists:usort([node(Pid) || Pid <- maps:keys(Clients)]), State};
handle_call(subjects, _, #state{base = Base} = State) ->
    {reply, [list_to_binary(filename:basename(File, ".md")) || File <- filelib:wildcard(filename:join(Base, "*.md"))], State}.

handle_cast(_, State) -> {noreply, State}.

handle_info({advise, Client, Symbol}, #state{base = Base, clients = Clients} = State) when is_pid(Client), is_binary(Symbol) ->
    {ok, Text} = file:read_file(filename:join(Base, "trading.md")),
    [Rule | _] = binary:split(Text, <<"\n">>),
    erlang:send(Client, {advice, self(), Symbol, <<Symbol/binary, ": ", Rule/binary>>}),
    Monitor = maps:get(Client, Clients, undefined),
    Known = case Monitor of
                undefined -> Clients#{Client => erlang:monitor(process, Client)};
                _ -> Clients
            end,
    {noreply, State#state{clients = Known}};
handle_info({'DOWN', Scope, process, _, _}, #state{scope = Scope} = State) ->
    %% The membership has ended with the scope.
    {noreply, join_later(State)};
handle_info(join, State) ->
    {noreply, join(State)};
handle_info({'DOWN', _, process, Client, _}, #state{clients = Clients} = State) ->
    {noreply, State#state{clients = maps:remove(Client, Clients)}};
handle_info(_, State) ->
    {noreply, State}.
