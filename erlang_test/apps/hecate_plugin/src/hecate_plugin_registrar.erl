%% @doc Keeps this node registered with hecate-daemon, for as long as it takes and as often as it takes.
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
%% It owns the assigned paths ({@link registration/0}) and the run files. It never blocks and calls nobody: all that waits for
%% the daemon is done by a {@link hecate_plugin_session}, whose crash is one more failed attempt. So there is nothing here
%% that a daemon, or its absence, could bring down.
-module(hecate_plugin_registrar).
-behaviour(gen_statem).

-export([start_link/1, await/1, state/0, registration/0, register/0, deregister/0, stopping/0, introduce/0]).
-export([forget/0, pause/2]).
-export([callback_mode/0, init/1, handle_event/4, terminate/3]).
-export_type([info/0, state/0]).

%% The first pause and the longest, which is the longest, too, that a plugin needs to notice that its daemon has come.
-define(FIRST_PAUSE, 100).
-define(LONGEST_PAUSE, 5000).
%% What only somebody's hand can mend is tried again this seldom.
-define(HOPELESS_PAUSE, 30000).
%% A session that lasted for this long was a good one: what comes next begins anew.
-define(GOOD_SESSION, 5000).
%% Run files that could not be written, as on a full disk, are tried again.
-define(RUN_FILES_PAUSE, 1000).

%% Kept where they outlive this process, and where nobody has to be asked: who has the application's environment waits, while an
%% application ends, for that application.
-define(REGISTRATION, {hecate_plugin, registration}).
-define(DEREGISTERED, {hecate_plugin, deregistered}).

-type info() :: #{name := binary(), version := binary() | undefined, description := binary() | undefined,
                  status := running | stopped, socket := binary(), base_dir := binary(),
                  paths := hecate_plugin_daemon:paths(), node := node() | undefined, host := binary(),
                  %% Only from a daemon.
                  since => integer(), reason => binary(), reason_code => atom(), node_state => atom(),
                  node_failure => atom()}.
%% What is known of a plugin: the map that every member of the plugin groups gives for `info'.

-type state() :: registered | {waiting, Why :: starting | hecate_plugin_session:outcome() | crashed}
               | deregistering | deregistered.

-record(data, {config :: hecate_plugin_config:config(),
               session :: hecate_plugin_session:session() | undefined,
               %% Why the last session ended, or that there was none.
               why = starting :: starting | hecate_plugin_session:outcome() | crashed,
               %% Attempts since the last good session.
               failures = 0 :: non_neg_integer(),
               registered_at :: integer() | undefined,
               run_state = running :: hecate_plugin_run_files:state(),
               %% What the plugin's member of the group says, while the name is ours.
               info :: info() | undefined,
               waiters = #{} :: #{reference() => gen_statem:from()},
               %% Who asked for the deregistration.
               caller :: gen_statem:from() | undefined}).

-spec start_link(hecate_plugin_config:config()) -> {ok, pid()} | {error, term()}.
start_link(Config) -> gen_statem:start_link({local, ?MODULE}, ?MODULE, Config, []).

%% @doc Waits until the plugin is registered, whatever becomes of this process meanwhile: who waits does not end with it.
-spec await(timeout()) -> {ok, hecate_plugin_daemon:registration()} | {error, timeout}.
await(infinity) -> await_until(infinity);
await(Timeout) when is_integer(Timeout), Timeout >= 0 -> await_until(now_ms() + Timeout).

await_until(Deadline) ->
    try
        gen_statem:call(?MODULE, {await, Deadline}, infinity)
    catch
        exit:Reason ->
            %% Another follows, unless the application has ended.
            is_pid(whereis(hecate_plugin_sup)) orelse exit(Reason),
            receive after ?FIRST_PAUSE -> await_until(Deadline) end
    end.

-spec state() -> state().
state() -> gen_statem:call(?MODULE, state).

%% @doc What the daemon last assigned. Costs no call.
-spec registration() -> {ok, hecate_plugin_daemon:registration()} | {error, not_registered}.
registration() ->
    case persistent_term:get(?REGISTRATION, undefined) of
        undefined -> {error, not_registered};
        Registration -> {ok, Registration}
    end.

%% @doc Begins anew at once: after a deregistration, by whomever, or instead of the rest of a pause.
-spec register() -> ok.
register() -> gen_statem:call(?MODULE, register).

-spec deregister() -> ok | {error, hecate_plugin_daemon:failure() | crashed}.
deregister() -> gen_statem:call(?MODULE, deregister, infinity).

%% @doc Has `run/daemon.state' say that the plugin is on its way out.
-spec stopping() -> ok.
stopping() -> gen_statem:call(?MODULE, stopping).

%% @doc The process in the group has begun, and asks what to say there.
-spec introduce() -> ok.
introduce() -> gen_statem:cast(?MODULE, introduce).

%% @doc Forgets what outlives this process: the application begins, or has ended.
-spec forget() -> ok.
forget() ->
    _ = [persistent_term:erase(Key) || Key <- [?REGISTRATION, ?DEREGISTERED]],
    ok.

%% ---- gen_statem ----------------------------------------------------------------------------------

callback_mode() -> handle_event_function.

init(Config) ->
    %% So that run files are removed at a stop, and sessions are awaited here.
    process_flag(trap_exit, true),
    %% Which tells of this node, too, when it gets its name.
    ok = net_kernel:monitor_nodes(true),
    case persistent_term:get(?DEREGISTERED, false) of
        true -> {ok, deregistered, #data{config = Config}};
        false -> {ok, waiting, #data{config = Config}, {state_timeout, 0, try_it}}
    end.

handle_event(state_timeout, try_it, waiting, #data{config = Config} = Data) ->
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
    {keep_state_and_data, [{reply, From, ok}, {state_timeout, 0, try_it}]};
handle_event({call, From}, register, deregistered, Data) ->
    _ = persistent_term:erase(?DEREGISTERED),
    {next_state, waiting, Data, [{reply, From, ok}, {state_timeout, 0, try_it}]};
handle_event({call, From}, register, registered, Data) ->
    anew(Data, [{reply, From, ok}]);
handle_event({call, _}, register, deregistering, _) ->
    {keep_state_and_data, postpone};
handle_event({call, From}, register, registering, _) ->
    {keep_state_and_data, {reply, From, ok}};

%% This node has got its name, which the daemon is to know.
handle_event(info, {nodeup, Node}, State, Data) when Node =:= node(), State =:= registering orelse State =:= registered ->
    anew(Data, []);

handle_event({call, From}, deregister, deregistered, _) ->
    {keep_state_and_data, {reply, From, ok}};
%% A registration that is under way could be done after the deregistration: let it be over first.
handle_event({call, _}, deregister, State, _) when State =:= registering; State =:= deregistering ->
    {keep_state_and_data, postpone};
%% Another node holds the name: its registration is not ours to end, only our waiting for it.
handle_event({call, From}, deregister, waiting, #data{why = {failed, {refused, #{code := node_conflict}}}} = Data) ->
    deregistered(From, Data);
handle_event({call, From}, deregister, _, Data) ->
    end_session(Data),
    Session = hecate_plugin_session:start_deregister(hecate_plugin_config:socket(), Data#data.config),
    {next_state, deregistering, Data#data{session = Session, caller = From}};

%% Exits of sessions, which are monitored, and what nobody knows.
handle_event(_, _, _, _) ->
    keep_state_and_data.

terminate(_, _, Data) ->
    end_session(Data),
    case registration() of
        {ok, #{paths := #{run := Run}}} -> hecate_plugin_run_files:remove(Run);
        {error, not_registered} -> ok
    end.

%% ---- What happens --------------------------------------------------------------------------------

registered(#{base_dir := Base} = Registration, #data{waiters = Waiters} = Data) ->
    persistent_term:put(?REGISTRATION, Registration),
    Info = info(Registration, Data#data.config),
    hecate_plugin_discovery:present(Info),
    log(notice, "is registered at ~ts", [Base], Data),
    Answers = [[{reply, From, {ok, Registration}}, {{timeout, {await, Ref}}, cancel}]
               || {Ref, From} <- maps:to_list(Waiters)],
    [erlang:demonitor(Ref, [flush]) || Ref <- maps:keys(Waiters)],
    Registered = Data#data{why = starting, registered_at = now_ms(), info = Info, waiters = #{}},
    {next_state, registered, Registered, lists:append(Answers) ++ write_run_files(Registered, first)}.

%% What the daemon knows of us is not what it should.
anew(Data, Actions) ->
    end_session(Data),
    {next_state, waiting, Data#data{session = undefined}, [{state_timeout, 0, try_it} | Actions]}.

%% A session is over.
ended(deregistering, Outcome, #data{caller = Caller} = Data) ->
    case Outcome of
        deregistered ->
            deregistered(Caller, Data);
        _ ->
            Error = case Outcome of {failed, Failure} -> Failure; _ -> crashed end,
            log(warning, "could not be deregistered (~p) and goes on", [Error], Data),
            {next_state, waiting, Data#data{caller = undefined},
             [{reply, Caller, {error, Error}}, {state_timeout, pause(0, random()), try_it}]}
    end;
ended(registering, Outcome, Data) ->
    wait(Outcome, Data);
ended(registered, Outcome, #data{registered_at = Since} = Data) ->
    Good = now_ms() - Since >= ?GOOD_SESSION,
    wait(Outcome, case Good of true -> Data#data{failures = 0}; false -> Data end).

%% The next life of this process is not to begin by registering.
deregistered(Caller, Data) ->
    persistent_term:put(?DEREGISTERED, true),
    log(notice, "is deregistered", [], Data),
    {next_state, deregistered, absent(Data#data{caller = undefined, failures = 0}), {reply, Caller, ok}}.

absent(Data) ->
    hecate_plugin_discovery:absent(),
    Data#data{info = undefined}.

wait(Outcome, #data{failures = Failures} = Data) ->
    tell_why(Outcome, Data),
    Held = case holds_its_name(Outcome) of true -> Data; false -> absent(Data) end,
    Pause = max(pause(Failures, random()), least_pause(Outcome)),
    {next_state, waiting, Held#data{why = Outcome, failures = Failures + 1}, {state_timeout, Pause, try_it}}.

%% Another node holds the name, so whoever looks for the plugin is to find that one.
holds_its_name({failed, {refused, #{code := node_conflict}}}) -> false;
holds_its_name(_) -> true.

%% @private Doubles from attempt to attempt; of each pause the second half is by chance, so that plugins that have lost the
%% same daemon do not come back in step. `Random' is from 0.0 to 1.0.
-spec pause(Failures :: non_neg_integer(), Random :: float()) -> pos_integer().
pause(Failures, Random) ->
    Pause = min(?LONGEST_PAUSE, ?FIRST_PAUSE bsl min(Failures, 16)),
    Pause div 2 + round(Random * (Pause div 2)).

random() -> rand:uniform().

%% The daemon may know better when another attempt makes sense. What it says is wrong with us stays wrong; that it is not as
%% things are (409), or too slow for now (408), does not.
least_pause({failed, {refused, #{retry_after := Seconds}}}) -> Seconds * 1000;
least_pause({failed, {refused, #{status := Status}}}) when Status >= 400, Status < 500, Status =/= 408, Status =/= 409 ->
    ?HOPELESS_PAUSE;
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

%% Gives the action that has it tried again, if there is need.
write_run_files(#data{run_state = State} = Data, Try) ->
    case registration() of
        {ok, #{paths := #{run := Run}}} ->
            case hecate_plugin_run_files:write(Run, State) of
                ok -> [];
                {error, Reason} ->
                    Try =:= first andalso log(warning, "cannot write its run files in ~ts yet: ~p", [Run, Reason], Data),
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

%% One line for each reason, not for each attempt.
tell_why(Outcome, #data{why = Outcome}) -> ok;
tell_why({failed, {refused, #{status := Status, code := Code, detail := Detail}}}, Data) ->
    log(warning, "is refused by hecate-daemon (~b ~ts): ~ts", [Status, Code, Detail], Data);
tell_why({failed, {unreachable, Reason}}, Data) ->
    log(warning, "waits for hecate-daemon at ~ts: ~p", [hecate_plugin_config:socket(), Reason], Data);
tell_why({failed, {bad_registration, {What, Value}}}, Data) ->
    log(warning, "refused the registration answered at ~ts, because its ~p is ~0tp; check that hecate-daemon listens there",
        [hecate_plugin_config:socket(), What, Value], Data);
tell_why({lost, Reason}, Data) ->
    log(warning, "has lost hecate-daemon (~p) and registers again", [Reason], Data);
tell_why(Outcome, Data) ->
    log(warning, "could not register: ~p", [Outcome], Data).

log(Level, Format, Args, #data{config = #{name := Name}}) ->
    logger:log(Level, "~ts " ++ Format, [Name | Args], #{domain => [hecate_plugin]}).

now_ms() -> erlang:monotonic_time(millisecond).
