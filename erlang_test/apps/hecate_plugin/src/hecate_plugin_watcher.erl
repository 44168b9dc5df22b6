%% @doc Monitors the pg groups of all plugins, and sends their changes to subscribers on this node.
%% It joins no group: see {@link hecate_plugin_discovery}.
-module(hecate_plugin_watcher).
-behaviour(gen_server).

-export([start_link/1, subscribe/0, unsubscribe/1, status/3]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2]).

-type members() :: #{Name :: binary() => [pid()]}.

-record(state, {scope :: atom(),
                %% The monitors of the scope's process and of its groups, while the scope runs.
                attached :: {reference(), reference() | gone} | undefined,
                members = #{} :: members(),
                subscribers = #{} :: #{reference() => pid()}}).

-spec start_link(hecate_plugin_config:config()) -> {ok, pid()} | {error, term()}.
start_link(Config) -> gen_server:start_link({local, ?MODULE}, ?MODULE, Config, []).

-spec subscribe() -> {reference(), members()}.
subscribe() -> gen_server:call(?MODULE, {subscribe, self()}).

-spec unsubscribe(reference()) -> ok.
unsubscribe(Ref) -> gen_server:call(?MODULE, {unsubscribe, Ref}).

%% @doc Sends the change of a plugin's status, which a daemon reported, to all subscribers.
-spec status(Name :: binary(), Status :: atom(), Plugin :: map()) -> ok.
status(Name, Status, Plugin) -> gen_server:cast(?MODULE, {status, Name, Status, Plugin}).

%% ---- gen_server ----------------------------------------------------------------------------------

init(#{scope := Scope}) -> {ok, #state{scope = Scope}, {continue, attach}}.

handle_continue(attach, State) -> {noreply, attach(State)}.

handle_call({subscribe, Pid}, _, #state{subscribers = Subscribers, members = Members} = State) ->
    Ref = erlang:monitor(process, Pid),
    {reply, {Ref, Members}, State#state{subscribers = Subscribers#{Ref => Pid}}};
handle_call({unsubscribe, Ref}, _, #state{subscribers = Subscribers} = State) ->
    is_map_key(Ref, Subscribers) andalso erlang:demonitor(Ref, [flush]),
    {reply, ok, State#state{subscribers = maps:remove(Ref, Subscribers)}};
handle_call(_, _, State) ->
    {reply, {error, not_supported}, State}.

handle_cast({status, _, _, _} = Event, State) ->
    send(Event, State),
    {noreply, State};
handle_cast(_, State) ->
    {noreply, State}.

handle_info({Groups, What, {hecate_plugin, Name}, Pids}, #state{attached = {_, Groups}} = State) when is_binary(Name) ->
    {noreply, changed([{What, Name, Pid} || Pid <- Pids], State)};
handle_info({'DOWN', Scope, process, _, _}, #state{attached = {Scope, _}} = State) ->
    hecate_plugin_scope:attach_later(),
    {noreply, replace(#{}, State#state{attached = undefined})};
handle_info({'DOWN', Ref, process, _, _}, #state{subscribers = Subscribers} = State) ->
    {noreply, State#state{subscribers = maps:remove(Ref, Subscribers)}};
handle_info(attach, #state{attached = undefined} = State) ->
    {noreply, attach(State)};
handle_info(_, State) ->
    {noreply, State}.

%% ---- Changes -------------------------------------------------------------------------------------

attach(#state{scope = Scope} = State) ->
    Down = hecate_plugin_scope:attach(Scope),
    case hecate_plugin_scope:in(fun() -> pg:monitor_scope(Scope) end) of
        {Ref, Groups} ->
            Plugins = [{Name, Pids} || {{hecate_plugin, Name}, Pids} <- maps:to_list(Groups), is_binary(Name)],
            replace(maps:from_list(Plugins), State#state{attached = {Down, Ref}});
        gone ->
            State#state{attached = {Down, gone}}
    end.

%% Replaces the members, and sends the differences to the subscribers.
replace(Members, #state{members = Before} = State) ->
    Only = fun(What, Here, There) ->
                   [{What, Name, Pid} || {Name, Pids} <- maps:to_list(Here), Pid <- Pids -- maps:get(Name, There, [])]
           end,
    changed(Only(leave, Before, Members) ++ Only(join, Members, Before), State).

changed(Events, State) -> lists:foldl(fun change/2, State, Events).

change({What, Name, Pid} = Event, #state{members = Members} = State) ->
    send(Event, State),
    Pids = maps:get(Name, Members, []),
    case What of
        join -> State#state{members = Members#{Name => [Pid | Pids]}};
        leave when Pids =:= [Pid] -> State#state{members = maps:remove(Name, Members)};
        leave -> State#state{members = Members#{Name => lists:delete(Pid, Pids)}}
    end.

send(Event, #state{subscribers = Subscribers}) ->
    maps:foreach(fun(Ref, Pid) -> Pid ! {hecate_plugin, Ref, Event} end, Subscribers).
