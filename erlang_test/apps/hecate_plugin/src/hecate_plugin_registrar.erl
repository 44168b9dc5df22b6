%% @doc Registers this plugin with hecate-daemon, and registers it again when the registration may
%% be lost.
%%
%% ```
%%            +---- pause, or register/0 ----+
%%            v                              |
%%        waiting --> registering --> registered
%%            ^            |                 |
%%            +-- pause ---+                 | deregister/0
%%            ^                              v
%%            +------ it failed ------ deregistering --> deregistered -- register/0 --> waiting
%% '''
%%
%% It owns the assigned paths ({@link registration/0}) and the run files. It never blocks and calls
%% no other process: a {@link hecate_plugin_session} waits for the daemon, and a crash of the
%% session counts as a failed attempt. So the daemon cannot make this process fail.
-module(hecate_plugin_registrar).
-behaviour(gen_statem).

-export([start_link/1, await/1, state/0, registration/0, register/0, deregister/0, stopping/0, introduce/0]).
-export([forget/0, pause/2]).
-export([callback_mode/0, init/1, handle_event/4, terminate/3]).
-export_type([info/0, state/0]).

%% The first pause and the longest, in ms. A plugin that waits for the daemon registers within the
%% longest pause after the daemon has started.
-define(FIRST_PAUSE, 100).
-define(LONGEST_PAUSE, 5000).
%% The pause in ms after a refusal that only a change of the settings can prevent.
-define(REFUSED_PAUSE, 30000).
%% A session that lasted this long, in ms, resets the pause to the first.
-define(GOOD_SESSION, 5000).
%% Pause in ms until run files that could not be written, as on a full disk, are written again.
-define(RUN_FILES_PAUSE, 1000).

%% Persistent terms outlive this process and are read without a call. A call to the owner of the
%% application's environment would wait while an application stops.
-define(REGISTRATION, {hecate_plugin, registration}).
-define(DEREGISTERED, {hecate_plugin, deregistered}).

-type info() :: #{name := binary(), version := binary() | undefined, description := binary() | undefined,
                  status := running | stopped, socket := binary(), base_dir := binary(),
                  paths := hecate_plugin_daemon:paths(), node := node() | undefined, host := binary(),
                  %% Only in the answer of a daemon's proxy.
                  since => integer(), reason => binary(), reason_code => atom(), node_state => atom(),
                  node_failure => atom()}.
%% The description of a plugin: the answer of each member of the plugin groups to `info'.

-type state() :: registered | {waiting, Why :: starting | hecate_plugin_session:outcome() | crashed}
               | deregistering | deregistered.

-record(data, {config :: hecate_plugin_config:config(),
               session :: hecate_plugin_session:session() | undefined,
               %% Why the last session ended; `starting' before the first.
               why = starting :: starting | hecate_plugin_session:outcome() | crashed,
               %% Failed attempts since the last session that reset the pause.
               failures = 0 :: non_neg_integer(),
               registered_at :: integer() | undefined,
               run_state = running :: hecate_plugin_run_files:state(),
               %% The answer of the plugin's group member, while this node holds the name.
               info :: info() | undefined,
               waiters = #{} :: #{reference() => gen_statem:from()},
               %% The caller that waits for the deregistration.
               caller :: gen_statem:from() | undefined}).

-spec start_link(hecate_plugin_config:config()) -> {ok, pid()} | {error, term()}.
start_link(Config) -> gen_statem:start_link({local, ?MODULE}, ?MODULE, Config, []).

%% @doc Waits until the plugin is registered. Goes on waiting if the registrar is restarted
%% meanwhile.
-spec await(timeout()) -> {ok, hecate_plugin_daemon:registration()} | {error, timeout}.
await(infinity) -> await_until(infinity);
await(Timeout) when is_integer(Timeout), Timeout >= 0 -> await_until(now_ms() + Timeout).

await_until(Deadline) ->
    try
        gen_statem:call(?MODULE, {await, Deadline}, infinity)
    catch
        exit:Reason ->
            %% The supervisor starts another registrar, unless the application has ended.
            is_pid(whereis(hecate_plugin_sup)) orelse exit(Reason),
            receive after ?FIRST_PAUSE -> await_until(Deadline) end
    end.

-spec state() -> state().
state() -> gen_statem:call(?MODULE, state).

%% @doc Returns the paths of the last registration, without a call.
-spec registration() -> {ok, hecate_plugin_daemon:registration()} | {error, not_registered}.
registration() ->
    case persistent_term:get(?REGISTRATION, undefined) of
        undefined -> {error, not_registered};
        Registration -> {ok, Registration}
    end.

%% @doc Registers at once: after a deregistration, or during a pause.
-spec register() -> ok.
register() -> gen_statem:call(?MODULE, register).

-spec deregister() -> ok | {error, hecate_plugin_daemon:failure() | crashed}.
deregister() -> gen_statem:call(?MODULE, deregister, infinity).

%% @doc Writes `stopping' to `run/daemon.state'.
-spec stopping() -> ok.
stopping() -> gen_statem:call(?MODULE, stopping).

%% @doc Requests the description of the plugin for {@link hecate_plugin_discovery}, which has just
%% started.
-spec introduce() -> ok.
introduce() -> gen_statem:cast(?MODULE, introduce).

%% @doc Erases the terms that outlive this process, when the application starts and after it has
%% ended.
-spec forget() -> ok.
forget() ->
    _ = [persistent_term:erase(Key) || Key <- [?REGISTRATION, ?DEREGISTERED]],
    ok.

%% ---- gen_statem ----------------------------------------------------------------------------------

callback_mode() -> handle_event_function.

init(Config) ->
    %% So that `terminate/3' removes the run files, and the exit of a session does not end this
    %% process.
    process_flag(trap_exit, true),
    %% Also sends `nodeup' of this node when it gets its name.
    ok = net_kernel:monitor_nodes(true),
    case persistent_term:get(?DEREGISTERED, false) of
        true -> {ok, deregistered, #data{config = Config}};
        false -> {ok, waiting, #data{config = Config}, {state_timeout, 0, start_session}}
    end.

handle_event(state_timeout, start_session, waiting, #data{config = Config} = Data) ->
    Session = hecate_plugin_session:start_register(hecate_plugin_config:socket(), Config),
    {next_state, registering, Data#data{session = Session}};
handle_event(info, {Pid, {registered, Registration}}, registering, #data{session = {Pid, _}} = Data) ->
    registered(Registration, Data);
handle_event(info, {'DOWN', Ref, process, Pid, Reason}, State, #data{session = {Pid, Ref}} = Data) ->
    ended(State, outcome(Reason), Data#data{session = undefined});

handle_event({timeout, run_files}, write, _, Data) ->
    {keep_state_and_data, write_run_files(Data, again)};
handle_event({call, From}, stopping, _, Data) ->
    Stopping = Data#data{run_state = stopping},
    {keep_state, Stopping, [{reply, From, ok} | write_run_files(Stopping, first)]};

handle_event(cast, introduce, _, #data{info = Info}) ->
    Info =:= undefined orelse hecate_plugin_discovery:present(Info),
    keep_state_and_data;

handle_event({call, From}, {await, Deadline}, State, Data) ->
    await(From, Deadline, State, Data);
handle_event({timeout, {await, Ref}}, give_up, _, #data{waiters = Waiters} = Data) ->
    {From, Others} = maps:take(Ref, Waiters),
    erlang:demonitor(Ref, [flush]),
    {keep_state, Data#data{waiters = Others}, {reply, From, {error, timeout}}};
handle_event(info, {'DOWN', Ref, process, _, _}, _, #data{waiters = Waiters} = Data) when is_map_key(Ref, Waiters) ->
    {keep_state, Data#data{waiters = maps:remove(Ref, Waiters)}, {{timeout, {await, Ref}}, cancel}};

handle_event({call, From}, state, waiting, #data{why = Why}) ->
    {keep_state_and_data, {reply, From, {waiting, Why}}};
handle_event({call, From}, state, registering, #data{why = Why}) ->
    {keep_state_and_data, {reply, From, {waiting, Why}}};
handle_event({call, From}, state, State, _) ->
    {keep_state_and_data, {reply, From, State}};

handle_event({call, From}, register, waiting, _) ->
    {keep_state_and_data, [{reply, From, ok}, {state_timeout, 0, start_session}]};
handle_event({call, From}, register, deregistered, Data) ->
    _ = persistent_term:erase(?DEREGISTERED),
    {next_state, waiting, Data, [{reply, From, ok}, {state_timeout, 0, start_session}]};
handle_event({call, From}, register, registered, Data) ->
    register_again(Data, [{reply, From, ok}]);
handle_event({call, _}, register, deregistering, _) ->
    {keep_state_and_data, postpone};
handle_event({call, From}, register, registering, _) ->
    {keep_state_and_data, {reply, From, ok}};

%% This node now has a name. Registering again reports the name to the daemon.
handle_event(info, {nodeup, Node}, State, Data) when Node =:= node(), State =:= registering orelse State =:= registered ->
    register_again(Data, []);

handle_event({call, From}, deregister, deregistered, _) ->
    {keep_state_and_data, {reply, From, ok}};
%% A pending registration could take effect after the deregistration, so it must end first.
handle_event({call, _}, deregister, State, _) when State =:= registering; State =:= deregistering ->
    {keep_state_and_data, postpone};
%% Another node holds the name. Its registration stays, and this node stops trying.
handle_event({call, From}, deregister, waiting, #data{why = {failed, {refused, #{code := node_conflict}}}} = Data) ->
    deregistered(From, Data);
handle_event({call, From}, deregister, _, Data) ->
    end_session(Data),
    Session = hecate_plugin_session:start_deregister(hecate_plugin_config:socket(), Data#data.config),
    {next_state, deregistering, Data#data{session = Session, caller = From}};

%% Ignores exit signals of sessions, which are monitored, and unknown messages.
handle_event(_, _, _, _) ->
    keep_state_and_data.

terminate(_, _, Data) ->
    end_session(Data),
    case registration() of
        {ok, #{paths := #{run := Run}}} -> hecate_plugin_run_files:remove(Run);
        {error, not_registered} -> ok
    end.

%% ---- Transitions ---------------------------------------------------------------------------------

registered(#{base_dir := Base} = Registration, #data{waiters = Waiters} = Data) ->
    persistent_term:put(?REGISTRATION, Registration),
    Info = info(Registration, Data#data.config),
    hecate_plugin_discovery:present(Info),
    log(notice, "registered at ~ts", [Base], Data),
    Answers = [[{reply, From, {ok, Registration}}, {{timeout, {await, Ref}}, cancel}]
               || {Ref, From} <- maps:to_list(Waiters)],
    [erlang:demonitor(Ref, [flush]) || Ref <- maps:keys(Waiters)],
    Registered = Data#data{why = starting, registered_at = now_ms(), info = Info, waiters = #{}},
    {next_state, registered, Registered, lists:append(Answers) ++ write_run_files(Registered, first)}.

%% Ends the session and registers again, because the daemon may have no registration or an old one.
register_again(Data, Actions) ->
    end_session(Data),
    {next_state, waiting, Data#data{session = undefined}, [{state_timeout, 0, start_session} | Actions]}.

%% Handles the end of a session.
ended(deregistering, Outcome, #data{caller = Caller} = Data) ->
    case Outcome of
        deregistered ->
            deregistered(Caller, Data);
        _ ->
            Error = case Outcome of {failed, Failure} -> Failure; _ -> crashed end,
            log(warning, "cannot deregister, so it stays registered: ~p", [Error], Data),
            {next_state, waiting, Data#data{caller = undefined},
             [{reply, Caller, {error, Error}}, {state_timeout, pause(0, random()), start_session}]}
    end;
ended(registering, Outcome, Data) ->
    wait(Outcome, Data);
ended(registered, Outcome, #data{registered_at = Since} = Data) ->
    Good = now_ms() - Since >= ?GOOD_SESSION,
    wait(Outcome, case Good of true -> Data#data{failures = 0}; false -> Data end).

%% Stores that the plugin is deregistered, so that a restarted registrar does not register it.
deregistered(Caller, Data) ->
    persistent_term:put(?DEREGISTERED, true),
    log(notice, "deregistered", [], Data),
    {next_state, deregistered, absent(Data#data{caller = undefined, failures = 0}), {reply, Caller, ok}}.

absent(Data) ->
    hecate_plugin_discovery:absent(),
    Data#data{info = undefined}.

wait(Outcome, #data{failures = Failures} = Data) ->
    log_outcome(Outcome, Data),
    Held = case holds_its_name(Outcome) of true -> Data; false -> absent(Data) end,
    Pause = max(pause(Failures, random()), least_pause(Outcome)),
    {next_state, waiting, Held#data{why = Outcome, failures = Failures + 1}, {state_timeout, Pause, start_session}}.

%% If another node holds the name, this one leaves the plugin's group, so that others find only that
%% node.
holds_its_name({failed, {refused, #{code := node_conflict}}}) -> false;
holds_its_name(_) -> true.

%% @private Returns the pause in ms before the next attempt. It doubles with each failure and is
%% jittered to 50–100 %, so that plugins of one daemon do not register at the same time. `Random' is
%% from 0.0 to 1.0.
-spec pause(Failures :: non_neg_integer(), Random :: float()) -> pos_integer().
pause(Failures, Random) ->
    Pause = min(?LONGEST_PAUSE, ?FIRST_PAUSE bsl min(Failures, 16)),
    Pause div 2 + round(Random * (Pause div 2)).

random() -> rand:uniform().

%% The shortest pause in ms after an outcome: `Retry-After' of the daemon, or a long one after a
%% refusal that another attempt cannot change. A conflict (409) and a timeout (408) may pass.
least_pause({failed, {refused, #{retry_after := Seconds}}}) -> Seconds * 1000;
least_pause({failed, {refused, #{status := Status}}}) when Status >= 400, Status < 500, Status =/= 408, Status =/= 409 ->
    ?REFUSED_PAUSE;
least_pause(_) -> 0.

outcome({shutdown, Outcome}) -> Outcome;
outcome(_) -> crashed.

end_session(#data{session = undefined}) -> ok;
end_session(#data{session = {Pid, Ref}}) ->
    erlang:demonitor(Ref, [flush]),
    exit(Pid, kill),
    ok.

await(From, _, registered, _) ->
    {ok, Registration} = registration(),
    {keep_state_and_data, {reply, From, {ok, Registration}}};
await({Pid, _} = From, Deadline, _, #data{waiters = Waiters} = Data) ->
    Ref = erlang:monitor(process, Pid),
    {keep_state, Data#data{waiters = Waiters#{Ref => From}}, {{timeout, {await, Ref}}, Deadline, give_up, {abs, true}}}.

%% Returns the action that writes them again later, if they could not be written.
write_run_files(#data{run_state = State} = Data, Try) ->
    case registration() of
        {ok, #{paths := #{run := Run}}} ->
            case hecate_plugin_run_files:write(Run, State) of
                ok -> [];
                {error, Reason} ->
                    Try =:= first andalso log(warning, "cannot write run files in ~ts, retrying every second: ~p", [Run, Reason], Data),
                    [{{timeout, run_files}, ?RUN_FILES_PAUSE, write}]
            end;
        {error, not_registered} -> []
    end.

info(#{base_dir := Base, paths := #{sockets := Sockets} = Paths},
     #{name := Name, version := Version, description := Description}) ->
    #{name => Name, version => Version, description => Description, status => running,
      socket => <<Sockets/binary, "/api.sock">>, base_dir => Base, paths => Paths,
      node => case node() of nonode@nohost -> undefined; Node -> Node end, host => host()}.

host() ->
    case string:split(atom_to_list(node()), "@") of
        ["nonode", _] ->
            {ok, Host} = inet:gethostname(),
            unicode:characters_to_binary(Host);
        [_, Host] -> unicode:characters_to_binary(Host)
    end.

%% Logs one line for each change of the reason, not for each attempt.
log_outcome(Outcome, #data{why = Outcome}) -> ok;
log_outcome({failed, {refused, #{status := Status, code := Code, detail := Detail}}}, Data) ->
    log(warning, "hecate-daemon refused the registration (~b ~ts): ~ts", [Status, Code, Detail], Data);
log_outcome({failed, {unreachable, Reason}}, Data) ->
    log(warning, "cannot connect to hecate-daemon at ~ts, retrying: ~p", [hecate_plugin_config:socket(), Reason], Data);
log_outcome({failed, {bad_registration, {What, Value}}}, Data) ->
    log(warning, "refused the registration from ~ts, because its ~p is ~0tp; check that hecate-daemon listens there",
        [hecate_plugin_config:socket(), What, Value], Data);
log_outcome({lost, Reason}, Data) ->
    log(warning, "lost the connection to hecate-daemon (~p), registering again", [Reason], Data);
log_outcome(Outcome, Data) ->
    log(warning, "cannot register, retrying: ~p", [Outcome], Data).

%% The line has no domain, because the default handler of OTP logs only lines of `[otp, sasl]' and
%% lines without a domain.
log(Level, Format, Args, #data{config = #{name := Name}}) -> logger:log(Level, "~ts: " ++ Format, [Name | Args]).

now_ms() -> erlang:monotonic_time(millisecond).
