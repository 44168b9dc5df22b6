%% @doc The plugin's place in the cluster: the one process that is its member of `{hecate_plugin, Name}' in pg, and answers `info'
%% as a proxy of hecate-daemon does. It is a member only while the plugin is registered.
%%
%% It is in the groups, too, to which daemons send what happens to plugins, and passes that on to {@link hecate_plugin_watcher}.
%% The two are apart because a process that is a member and monitors the scope as well ends the scope of OTP 25 with its own end.
-module(hecate_plugin_discovery).
-behaviour(gen_server).

-export([start_link/1, present/1, absent/0]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2]).

%% The daemon sends each event to the group of its name.
-define(EVENTS, [plugin_registered_v1, plugin_status_changed_v1, plugin_deregistered_v1]).

-record(state, {group :: {hecate_plugin, binary()},
                scope :: atom(),
                attached :: reference() | undefined,
                info :: hecate_plugin_registrar:info() | undefined}).

-spec start_link(hecate_plugin_config:config()) -> {ok, pid()} | {error, term()}.
start_link(Config) -> gen_server:start_link({local, ?MODULE}, ?MODULE, Config, []).

%% @doc The plugin is registered: is in its group from now on, with this to say.
-spec present(hecate_plugin_registrar:info()) -> ok.
present(Info) -> gen_server:cast(?MODULE, {present, Info}).

%% @doc The plugin is no longer registered: leaves its group.
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
    %% A plugin's work goes through groups of its own.
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
    %% Our places in the groups are gone with it.
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

%% Once each: pg counts, and the scope may be another one than we know of.
join(Groups, #state{scope = Scope}) ->
    Join = fun(Group) ->
                   _ = pg:leave(Scope, Group, self()),
                   ok = pg:join(Scope, Group, self())
           end,
    hecate_plugin_scope:in(fun() -> lists:foreach(Join, Groups) end).
