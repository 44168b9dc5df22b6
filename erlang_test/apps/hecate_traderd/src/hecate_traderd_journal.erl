%% @doc An append-only log on disk, at `reckon-db/journal.log' in the plugin's directory.
%%
%% Until the plugin is registered, notes wait in the mailbox of this process, so callers do not
%% block.
-module(hecate_traderd_journal).
-behaviour(gen_server).

-export([start_link/0, note/1, notes/0]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, terminate/2]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Appends a term.
-spec note(term()) -> ok.
note(Term) -> gen_server:cast(?MODULE, {note, Term}).

%% @doc Returns all notes, the oldest first.
-spec notes() -> [term()].
notes() -> gen_server:call(?MODULE, notes).

init([]) -> {ok, undefined, {continue, open}}.

handle_continue(open, undefined) ->
    {ok, _} = hecate_plugin:await(infinity),
    %% So that `terminate/2' closes the log. While it waited, an exit signal of the supervisor had
    %% to end it.
    process_flag(trap_exit, true),
    %% A log that was not closed is repaired.
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
