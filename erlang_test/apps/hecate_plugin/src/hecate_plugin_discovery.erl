%% @doc The plugin's member of the pg group `{hecate_plugin, Name}', while the plugin is registered.
%% It answers `info' as the daemon's proxy does.
%%
%% It also joins the groups to which daemons send the events of plugins, and forwards them to {@link
%% hecate_plugin_watcher}. The two are separate processes because on OTP 25 the scope crashes when a
%% process ends that is a member and monitors the scope.
-module(hecate_plugin_discovery).
-behaviour(gen_server).

-export([start_link/1, present/1, absent/0]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2]).

%% A daemon sends each event to the group with the event's name.
-define(EVENTS, [plugin_registered_v1, plugin_status_changed_v1, plugin_deregistered_v1]).

-record(state, {group :: {hecate_plugin, binary()},
                scope :: atom(),
                attached :: reference() | undefined,
                info :: hecate_plugin_registrar:info() | undefined}).

-spec start_link(hecate_plugin_config:config()) -> {ok, pid()} | {error, term()}.
start_link(Config) -> gen_server:start_link({local, ?MODULE}, ?MODULE, Config, []).

%% @doc Joins the plugin's group and answers `info' with this map, because the plugin is registered.
-spec present(hecate_plugin_registrar:info()) -> ok.
present(Info) -> gen_server:cast(?MODULE, {present, Info}).

%% @doc Leaves the plugin's group, because the plugin is no longer registered.
-spec absent() -> ok.
absent() -> gen_server:cast(?MODULE, absent).

%% ---- gen_server ----------------------------------------------------------------------------------

init(#{name := Name, scope := Scope}) ->
    {ok, #state{group = {hecate_plugin, Name}, scope = Scope}, {continue, attach}}.

handle_continue(attach, State) ->
    hecate_plugin_registrar:introduce(),
    {noreply, attach(State)}.

handle_call(info, _, #state{info = undefined} = State) ->
    {reply, {error, not_registered}, State};
handle_call(info, _, #state{info = Info} = State) ->
    {reply, Info, State};
handle_call(_, _, State) ->
    %% The same answer as the daemon's proxy: plugins serve their own calls through their own
    %% groups.
    {reply, {error, {not_forwarded, node()}}, State}.

handle_cast({present, Info}, #state{info = Before} = State) ->
    Before =:= undefined andalso join([State#state.group], State),
    {noreply, State#state{info = Info}};
handle_cast(absent, #state{scope = Scope, group = Group} = State) ->
    hecate_plugin_scope:in(fun() -> pg:leave(Scope, Group, self()) end),
    {noreply, State#state{info = undefined}};
handle_cast(_, State) ->
    {noreply, State}.

handle_info({Event, #{name := Name, status := Status} = Plugin}, State) when is_binary(Name), is_atom(Event) ->
    case lists:member(Event, ?EVENTS) of
        true when Event =:= plugin_deregistered_v1 -> hecate_plugin_watcher:status(Name, deregistered, Plugin);
        true -> hecate_plugin_watcher:status(Name, Status, Plugin);
        false -> ok
    end,
    {noreply, State};
handle_info({'DOWN', Ref, process, _, _}, #state{attached = Ref} = State) ->
    %% The scope has ended, and with it all memberships.
    hecate_plugin_scope:attach_later(),
    {noreply, State#state{attached = undefined}};
handle_info(attach, #state{attached = undefined} = State) ->
    {noreply, attach(State)};
handle_info(_, State) ->
    {noreply, State}.

attach(#state{scope = Scope, group = Group, info = Info} = State) ->
    Ref = hecate_plugin_scope:attach(Scope),
    join(?EVENTS ++ [Group || Info =/= undefined], State),
    State#state{attached = Ref}.

%% Leaves first, because pg counts joins, and this process may be a member already.
join(Groups, #state{scope = Scope}) ->
    Join = fun(Group) ->
                   _ = pg:leave(Scope, Group, self()),
                   ok = pg:join(Scope, Group, self())
           end,
    hecate_plugin_scope:in(fun() -> lists:foreach(Join, Groups) end).
