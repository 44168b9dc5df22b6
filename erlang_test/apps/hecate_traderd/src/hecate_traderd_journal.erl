%% @doc What happened, in the plugin's own namespace: a log on disk that is only ever added to, at `reckon-db/journal.log'.
%%
%% It waits for its path and blocks nobody meanwhile: what is to be noted is in its mailbox until then.
-module(hecate_traderd_journal).
-behaviour(gen_server).

-export([start_link/0, note/1, notes/0]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, terminate/2]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Adds a term.
-spec note(term()) -> ok.
note(Term) -> gen_server:cast(?MODULE, {note, Term}).

%% @doc All that was ever noted, the first one first.
-spec notes() -> [term()].
notes() -> gen_server:call(?MODULE, notes).

init([]) -> {ok, undefined, {continue, open}}.

handle_continue(open, undefined) ->
    {ok, _} = hecate_plugin:await(infinity),
    %% From now on there is something to close; before, who waits is to end when told.
    process_flag(trap_exit, true),
    %% One that was not closed is repaired.
    Opened = disk_log:open([{name, ?MODULE}, {file, hecate_paths:reckon_path("journal.log")}]),
    true = element(1, Opened) =:= ok orelse element(1, Opened) =:= repaired,
    {noreply, ?MODULE}.

handle_call(notes, _, Log) -> {reply, read(Log, start), Log}.

handle_cast({note, Term}, Log) ->
    ok = disk_log:log(Log, Term),
    {noreply, Log}.

terminate(_, Log) -> disk_log:close(Log).

read(Log, Continuation) ->
    case disk_log:chunk(Log, Continuation) of
        {Next, Terms} -> Terms ++ read(Log, Next);
        eof -> []
    end.
