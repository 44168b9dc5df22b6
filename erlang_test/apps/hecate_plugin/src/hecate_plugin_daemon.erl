%% @doc The client of the daemon's HTTP API.
%%
%% Codes of refusals are atoms if this module knows them, else binaries, so that answers create no
%% atoms.
-module(hecate_plugin_daemon).

-export([register/3, deregister/2, events/1]).
-export_type([registration/0, paths/0, problem/0, failure/0]).

%% Time for one call in ms. While the daemon starts, a call waits up to 5 s.
-define(TIMEOUT, 15000).
%% Longest wait that a `Retry-After' can ask for, in seconds.
-define(LONGEST_WAIT, 300).
%% The codes with which the daemon refuses a plugin's calls.
-define(CODES, [node_conflict, starting, stopping, layout_failed, store_failed, call_timeout, too_many_plugins,
                too_many_streams, forbidden, not_found, body_too_large, field_type, field_too_long, field_bad_character,
                node_malformed, node_is_daemon, socket_path_too_long, name_empty, name_too_long, name_reserved, name_is_frontend,
                name_is_infrastructure, name_bad_character, name_bad_hyphen, name_first_letter, name_not_a_daemon]).

-type paths() :: #{sqlite := binary(), reckon_db := binary(), sockets := binary(), run := binary(), connectors := binary()}.

-type registration() :: #{name := binary(), base_dir := binary(), paths := paths()}.

-type problem() :: #{status := 300..999, code := atom() | binary(), detail := binary(),
                     retry_after => Seconds :: non_neg_integer()}.
%% A refusal. Branch on `code'; `detail' is a sentence for people.

-type failure() :: {refused, problem()} | {unreachable, hecate_plugin_http:reason()} | {bad_answer, Status :: integer()}
                 | {bad_registration, {name, binary()} | {path, binary()}}.
%% `bad_registration' contains the part of the answer that this plugin cannot use: the name of
%% another plugin, or a path that is relative or contains NUL.

%% @doc Registers a plugin, or registers it again. A value of `undefined' clears the stored one.
%% `Node' is left out if this node is not distributed.
-spec register(file:filename_all(), hecate_plugin_config:config(), node()) -> {ok, registration()} | {error, failure()}.
register(Socket, #{name := Name, version := Version, description := Description}, Node) ->
    About = #{name => Name, version => or_null(Version), description => or_null(Description)},
    Body = case Node of
               nonode@nohost -> About;
               _ -> About#{node => atom_to_binary(Node)}
           end,
    case call(Socket, <<"POST">>, <<"/api/plugins/register">>, hecate_plugin_json:encode(Body)) of
        {ok, Status, Answer} when Status =:= 200; Status =:= 201 -> checked(Name, registration(Status, Answer));
        {ok, Status, _} -> {error, {bad_answer, Status}};
        {error, _} = Error -> Error
    end.

%% @doc Deregisters a plugin. Succeeds if it is not registered.
-spec deregister(file:filename_all(), Name :: binary()) -> ok | {error, failure()}.
deregister(Socket, Name) ->
    case call(Socket, <<"DELETE">>, <<"/api/plugins/", (uri_string:quote(Name))/binary>>, none) of
        {ok, 200, _} -> ok;
        {ok, Status, _} -> {error, {bad_answer, Status}};
        {error, {refused, #{status := 404}}} -> ok;
        {error, _} = Error -> Error
    end.

%% @doc Opens the event stream. It ends when the daemon ends, and has a heartbeat every 30 s.
-spec events(file:filename_all()) -> {ok, hecate_plugin_http:stream()} | {error, failure()}.
events(Socket) ->
    case hecate_plugin_http:open(Socket, <<"/api/events">>, ?TIMEOUT) of
        {ok, Stream} -> {ok, Stream};
        {answered, Response} -> {error, refusal(Response)};
        {error, Reason} -> {error, {unreachable, Reason}}
    end.

call(Socket, Method, Target, Body) ->
    case hecate_plugin_http:request(Socket, Method, Target, Body, ?TIMEOUT) of
        {ok, #{status := Status, body := Answer}} when Status < 300 -> {ok, Status, hecate_plugin_json:decode(Answer)};
        {ok, Response} -> {error, refusal(Response)};
        {error, Reason} -> {error, {unreachable, Reason}}
    end.

or_null(undefined) -> null;
or_null(Text) -> Text.

registration(Status, {ok, #{<<"name">> := Name, <<"base_dir">> := Base, <<"paths">> := Paths}}) ->
    case Paths of
        #{<<"sqlite">> := Sqlite, <<"reckon_db">> := ReckonDb, <<"sockets">> := Sockets, <<"run">> := Run,
          <<"connectors">> := Connectors} when is_binary(Sqlite), is_binary(ReckonDb), is_binary(Sockets),
                                               is_binary(Run), is_binary(Connectors), is_binary(Name), is_binary(Base) ->
            {ok, #{name => Name, base_dir => Base,
                   paths => #{sqlite => Sqlite, reckon_db => ReckonDb, sockets => Sockets, run => Run,
                              connectors => Connectors}}};
        _ -> {error, {bad_answer, Status}}
    end;
registration(Status, _) -> {error, {bad_answer, Status}}.

%% Another process may listen at the daemon's socket path and answer anything, and this plugin
%% writes to the paths in the answer.
checked(Name, {ok, #{name := Name, base_dir := Base, paths := Paths}} = Registration) ->
    case [Path || Path <- [Base | maps:values(Paths)], not is_usable(Path)] of
        [] -> Registration;
        [Path | _] -> {error, {bad_registration, {path, Path}}}
    end;
checked(_, {ok, #{name := Other}}) -> {error, {bad_registration, {name, Other}}};
checked(_, {error, _} = Error) -> Error.

is_usable(<<"/", _/binary>> = Path) -> binary:match(Path, <<0>>) =:= nomatch;
is_usable(_) -> false.

%% Reads a problem of RFC 9457 with the daemon's `code'. Of another body, such as one of a proxy,
%% only the status is used.
refusal(#{status := Status, headers := Headers, body := Body}) ->
    Problem = case hecate_plugin_json:decode(Body) of
                  {ok, #{<<"code">> := Code, <<"detail">> := Detail}} when is_binary(Code), is_binary(Detail) ->
                      #{status => Status, code => code(Code), detail => Detail};
                  {ok, #{<<"error">> := Detail}} when is_binary(Detail) ->
                      #{status => Status, code => unknown, detail => Detail};
                  _ -> #{status => Status, code => unknown, detail => <<"the answer is not a problem document">>}
              end,
    case retry_after(Headers) of
        undefined -> {refused, Problem};
        Seconds -> {refused, Problem#{retry_after => Seconds}}
    end.

%% RFC 9110, 10.2.3: seconds, or a date, which hecate-daemon never sends.
retry_after(Headers) ->
    case lists:keyfind(<<"retry-after">>, 1, Headers) of
        {_, Value} when byte_size(Value) =< 9 ->
            try min(?LONGEST_WAIT, max(0, binary_to_integer(Value))) catch error:badarg -> undefined end;
        _ -> undefined
    end.

code(Code) ->
    case [Known || Known <- ?CODES, atom_to_binary(Known) =:= Code] of
        [Known] -> Known;
        [] -> Code
    end.
