%% Tests the parts of hecate_plugin that need no daemon: the HTTP client, JSON, pauses and settings.
%% The HTTP client is tested against servers that send responses that the daemon never sends.
-module(hecate_plugin_http_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([a_response_may_arrive_in_any_pieces/1, interim_answers_are_skipped/1, responses_without_a_body_have_an_empty_one/1,
         malformed_responses_are_errors/1, lengths_are_bounded/1, times_are_bounded/1, a_missing_or_dead_socket_is_an_error/1,
         a_stream_is_read_to_its_end/1, refusals_are_decoded_without_new_atoms/1, malformed_registrations_are_refused/1,
         the_plugin_retries_until_the_daemon_accepts/1, a_plugin_registers_without_an_event_stream/1,
         run_files_of_another_process_are_kept/1, json_is_decoded_and_encoded/1, malformed_json_is_refused/1,
         pauses_double_up_to_the_longest/1, the_environment_sets_the_path_of_the_socket/1, an_invalid_setting_is_refused/1]).

suite() -> [{timetrap, {minutes, 1}}].

all() ->
    [a_response_may_arrive_in_any_pieces, interim_answers_are_skipped, responses_without_a_body_have_an_empty_one,
     malformed_responses_are_errors, lengths_are_bounded, times_are_bounded, a_missing_or_dead_socket_is_an_error, a_stream_is_read_to_its_end,
     refusals_are_decoded_without_new_atoms, malformed_registrations_are_refused, the_plugin_retries_until_the_daemon_accepts,
     a_plugin_registers_without_an_event_stream, run_files_of_another_process_are_kept, json_is_decoded_and_encoded, malformed_json_is_refused, pauses_double_up_to_the_longest,
     the_environment_sets_the_path_of_the_socket, an_invalid_setting_is_refused].

init_per_testcase(_, Config) ->
    Directory = filename:join("/tmp", "http" ++ os:getpid() ++ integer_to_list(erlang:unique_integer([positive]))),
    ok = file:make_dir(Directory),
    [{socket, filename:join(Directory, "api.sock")} | Config].

end_per_testcase(_, Config) -> file:del_dir_r(filename:dirname(socket(Config))).

%% ---- HTTP ----------------------------------------------------------------------------------------

-define(CHUNKED, "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n").

a_response_may_arrive_in_any_pieces(Config) ->
    Expected = {200, <<"hello, world">>},
    Wholes = ["HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello, world",
              "HTTP/1.1 200 \r\ncontent-length:12 \r\nX-Any: thing\r\n\r\nhello, worldand more",
              "HTTP/1.0 200 OK\r\n\r\nhello, world",
              ?CHUNKED "c\r\nhello, world\r\n0\r\n\r\n",
              ?CHUNKED "5;a=b\r\nhello\r\n7\r\n, world\r\n0\r\nTrailer: x\r\n\r\n",
              ?CHUNKED "0005 \r\nhello\r\n07\r\n, world\r\n000\r\n\r\n"],
    [[?assertEqual({Pieces, Whole, Expected}, {Pieces, Whole, answer(Config, cut(Whole, Pieces))})
      || Pieces <- [1000, 7, 2, 1]] || Whole <- Wholes].

interim_answers_are_skipped(Config) ->
    Interim = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
    Final = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ?assertEqual({200, <<"ok">>}, answer(Config, [Interim, "HTTP/1.1 100 Continue\r\n\r\n", Final])),
    ?assertEqual({error, bad_response}, answer(Config, [lists:duplicate(70, Interim), Final])),
    ?assertEqual({error, bad_response}, answer(Config, ["HTTP/1.1 101 Switching Protocols\r\n\r\n"])).

responses_without_a_body_have_an_empty_one(Config) ->
    ?assertEqual({204, <<>>}, answer(Config, ["HTTP/1.1 204 No Content\r\n\r\nxx"])),
    ?assertEqual({304, <<>>}, answer(Config, ["HTTP/1.1 304 Not Modified\r\nContent-Length: 12\r\n\r\n"])).

malformed_responses_are_errors(Config) ->
    [?assertEqual({Bytes, {error, Reason}}, {Bytes, answer(Config, [Bytes])})
     || {Reason, Bytes} <-
            [{bad_response, "SSH-2.0-OpenSSH\r\n\r\n"},
             {bad_response, "HTTP/2.0 200 OK\r\n\r\n"},
             {bad_response, "HTTP/1.1 2x0 OK\r\n\r\n"},
             {bad_response, "HTTP/1.1 200 OK\r\nno colon\r\n\r\n"},
             {bad_response, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"},
             {bad_response, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nab"},
             {bad_response, "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nab"},
             {bad_response, "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab"},
             {bad_response, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab"},
             {bad_response, ?CHUNKED "x\r\n"},
             {bad_response, ?CHUNKED "-1\r\nx\r\n0\r\n\r\n"},
             {bad_response, ?CHUNKED "2\r\nabc\r\n0\r\n\r\n"},
             {closed, ""},
             {closed, "HTTP/1.1 200 OK\r\nContent-Le"},
             {closed, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"},
             {closed, ?CHUNKED "5\r\nab"},
             {closed, ?CHUNKED "2\r\nab\r\n"}]].

lengths_are_bounded(Config) ->
    Head = "HTTP/1.1 200 OK\r\n",
    Long = lists:duplicate(17000, $x),
    Mega = binary:copy(<<"x">>, 1048576),
    ?assertEqual({error, head_too_large}, answer(Config, [Head, "X: ", Long])),
    ?assertEqual({error, head_too_large}, answer(Config, [Head, "X: ", Long, "\r\n\r\n"])),
    ?assertEqual({error, body_too_large}, answer(Config, [Head, "Content-Length: 1048577\r\n\r\n"])),
    ?assertEqual({error, body_too_large}, answer(Config, [Head, "Content-Length: 99999999999999999999\r\n\r\n"])),
    ?assertEqual({200, Mega}, answer(Config, [Head, "Content-Length: 1048576\r\n\r\n", Mega])),
    ?assertEqual({error, body_too_large}, answer(Config, [Head, "\r\n", Mega, "x"])),
    ?assertEqual({error, body_too_large}, answer(Config, [?CHUNKED "100000\r\n", Mega, "\r\n1\r\nx\r\n0\r\n\r\n"])),
    ?assertEqual({error, body_too_large}, answer(Config, [?CHUNKED "FFFFFFFFFFFFFFFF\r\n"])),
    ?assertEqual({error, line_too_large}, answer(Config, [?CHUNKED "1;", Long])),
    ?assertEqual({error, line_too_large}, answer(Config, [?CHUNKED "1;", lists:duplicate(1100, $x), "\r\nx\r\n0\r\n\r\n"])),
    ?assertEqual({error, bad_response}, answer(Config, [?CHUNKED "0\r\n", lists:duplicate(70, "T: x\r\n"), "\r\n"])).

times_are_bounded(Config) ->
    %% A server that sends nothing, and one that keeps sending a little.
    ?assertEqual({error, timeout}, answer(Config, [wait], 200)),
    ?assertEqual({error, timeout}, answer(Config, ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", wait], 200)),
    Drops = lists:append(lists:duplicate(200, ["x", {pause, 20}])),
    ?assertEqual({error, timeout}, answer(Config, ["HTTP/1.1 200 OK\r\n\r\n" | Drops], 300)).

a_missing_or_dead_socket_is_an_error(Config) ->
    ?assertEqual({error, enoent}, hecate_plugin_http:request(socket(Config), <<"GET">>, <<"/">>, none, 1000)),
    {ok, Listener} = gen_tcp:listen(0, [{ifaddr, {local, socket(Config)}}]),
    ok = gen_tcp:close(Listener),
    ?assertEqual({error, econnrefused}, hecate_plugin_http:request(socket(Config), <<"GET">>, <<"/">>, none, 1000)),
    Long = "/tmp/" ++ lists:duplicate(110, $x),
    ?assertEqual({error, socket_path_too_long}, hecate_plugin_http:request(Long, <<"GET">>, <<"/">>, none, 1000)).

a_stream_is_read_to_its_end(Config) ->
    Head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    hecate_script:serve(socket(Config), [[Head, "e\r\n: heartbeat\n\n\r\n", {pause, 50}, "e\r\n: heartbeat\n\n\r\n"]]),
    {ok, Stream} = hecate_plugin_http:open(socket(Config), <<"/api/events">>, 1000),
    ?assertEqual(closed, hecate_plugin_http:drain(Stream, 5000)),
    hecate_script:serve(socket(Config), [[Head, wait]]),
    {ok, Silent} = hecate_plugin_http:open(socket(Config), <<"/api/events">>, 1000),
    ?assertEqual(timeout, hecate_plugin_http:drain(Silent, 100)),
    hecate_script:serve(socket(Config), [["HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"]]),
    ?assertMatch({answered, #{status := 503, headers := [{<<"retry-after">>, <<"7">>} | _]}},
                 hecate_plugin_http:open(socket(Config), <<"/api/events">>, 1000)).

%% ---- The daemon's answers ------------------------------------------------------------------------

refusals_are_decoded_without_new_atoms(Config) ->
    Refused = fun(Status, Headers, Body) ->
                      Length = integer_to_list(length(Body)),
                      hecate_script:serve(socket(Config), [["HTTP/1.1 ", integer_to_list(Status), " No\r\n", Headers, "Content-Length: ", Length, "\r\n\r\n", Body]]),
                      {error, {refused, Problem}} = hecate_plugin_daemon:register(socket(Config), config(), node()),
                      Problem
              end,
    Problem = "{\"type\":\"about:blank\",\"title\":\"Conflict\",\"status\":409,\"detail\":\"held\",\"code\":\"node_conflict\",\"ok\":false,\"error\":\"held\"}",
    ?assertEqual(#{status => 409, code => node_conflict, detail => <<"held">>}, Refused(409, "", Problem)),
    Unknown = "{\"detail\":\"new\",\"code\":\"a_code_that_is_no_atom_anywhere\"}",
    %% The first call may load modules, and so create atoms.
    Refused(422, "", Unknown),
    Before = erlang:system_info(atom_count),
    ?assertEqual(#{status => 422, code => <<"a_code_that_is_no_atom_anywhere">>, detail => <<"new">>},
                 Refused(422, "X-Header-That-Is-No-Atom-Anywhere: 1\r\n", Unknown)),
    ?assertEqual(Before, erlang:system_info(atom_count)),
    ?assertMatch(#{code := unknown, detail := <<"old">>}, Refused(500, "", "{\"ok\":false,\"error\":\"old\"}")),
    ?assertMatch(#{code := unknown}, Refused(502, "", "<html>")),
    [?assertEqual({Header, Wait}, {Header, maps:get(retry_after, Refused(503, Header, Problem), none)})
     || {Header, Wait} <- [{"Retry-After: 3\r\n", 3}, {"Retry-After: 99999\r\n", 300}, {"Retry-After: -5\r\n", 0},
                           {"Retry-After: soon\r\n", none}, {"Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n", none}]].

malformed_registrations_are_refused(Config) ->
    Register = fun(Body) ->
                       hecate_script:serve(socket(Config), [["HTTP/1.1 201 Created\r\nContent-Length: ", integer_to_list(length(Body)), "\r\n\r\n", Body]]),
                       hecate_plugin_daemon:register(socket(Config), config(), node())
               end,
    Paths = "\"sqlite\":\"/x/s\",\"reckon_db\":\"/x/r\",\"sockets\":\"/x/o\",\"run\":\"/x/u\",\"connectors\":\"/x/c\"",
    Good = "{\"name\":\"hecate-xd\",\"base_dir\":\"/x\",\"more\":[1],\"paths\":{" ++ Paths ++ ",\"config\":\"/x/config\"}}",
    ?assertEqual({ok, #{name => <<"hecate-xd">>, base_dir => <<"/x">>,
                        paths => #{sqlite => <<"/x/s">>, reckon_db => <<"/x/r">>, sockets => <<"/x/o">>, run => <<"/x/u">>,
                                   connectors => <<"/x/c">>}}}, Register(Good)),
    [?assertEqual({Change, {error, {bad_registration, Why}}},
                  {Change, Register(lists:flatten(string:replace(Good, element(1, Change), element(2, Change))))})
     || {Change, Why} <- [{{"hecate-xd", "hecate-yd"}, {name, <<"hecate-yd">>}},
                          {{"\"/x\"", "\"x\""}, {path, <<"x">>}},
                          {{"/x/u", "../run"}, {path, <<"../run">>}},
                          {{"/x/s", ""}, {path, <<>>}},
                          {{"/x/c", "/x/c\\u0000/y"}, {path, <<"/x/c", 0, "/y">>}}]],
    [?assertEqual({Body, {error, {bad_answer, 201}}}, {Body, Register(Body)})
     || Body <- ["", "[]", "null", "{\"name\":\"hecate-xd\"}", "{\"name\":1,\"base_dir\":\"/x\",\"paths\":{" ++ Paths ++ "}}",
                 "{\"name\":\"hecate-xd\",\"base_dir\":\"/x\",\"paths\":{}}", "{\"name\":\"hecate-xd\",\"base_dir\":\"/x\",\"paths\":[]}"]].

%% Runs the application against a daemon that sends nonsense, closes, refuses, and finally registers
%% it.
the_plugin_retries_until_the_daemon_accepts(Config) ->
    Stream = "HTTP/1.1 200 OK\r\n\r\n: hello\n\n",
    Conflict = hecate_script:whole(409, "", "{\"code\":\"node_conflict\",\"detail\":\"held\"}"),
    Script = [["nonsense\r\n\r\n"], [],
              [Stream, wait], Conflict,
              [Stream, wait], hecate_script:whole(503, "Retry-After: 1\r\n", "{\"code\":\"starting\",\"detail\":\"wait\"}"),
              [Stream, wait], hecate_script:whole(201, "", hecate_script:registered(socket(Config)))],
    Server = hecate_script:serve(socket(Config), Script),
    hecate_script:start_plugin(socket(Config)),
    try
        Pids = [whereis(Name) || Name <- [hecate_plugin_registrar, hecate_plugin_discovery, hecate_plugin_watcher]],
        ?assertMatch({ok, #{name := <<"hecate-xd">>}}, hecate_plugin:await(20000)),
        Times = [Time || {asked, Time} <- hecate_script:asked(Server)],
        ?assertEqual(8, length(Times)),
        %% The seventh request follows "Retry-After: 1".
        ?assert(lists:nth(7, Times) - lists:nth(6, Times) >= 1000),
        ?assertEqual(Pids, [whereis(Name) || Name <- [hecate_plugin_registrar, hecate_plugin_discovery, hecate_plugin_watcher]]),
        %% The registrar forgets callers of await/1 that time out or end.
        exit(Server, kill),
        hecate_host:eventually(fun() -> hecate_plugin:state() =/= registered end),
        ?assertEqual({error, timeout}, hecate_plugin:await(10)),
        {Waiter, Ref} = spawn_monitor(fun() -> hecate_plugin:await(infinity) end),
        exit(Waiter, kill),
        receive {'DOWN', Ref, process, Waiter, _} -> ok end,
        hecate_host:eventually(fun() ->
                                       {_, Data} = sys:get_state(hecate_plugin_registrar),
                                       [] =:= [Key || Map <- tuple_to_list(Data), is_map(Map), Key <- maps:keys(Map), is_reference(Key)]
                               end)
    after
        hecate_script:stop_plugin()
    end.

a_plugin_registers_without_an_event_stream(Config) ->
    hecate_script:serve(socket(Config), [[hecate_script:whole(404, "", "{}")], [hecate_script:whole(201, "", hecate_script:registered(socket(Config)))]]),
    hecate_script:start_plugin(socket(Config)),
    try
        ?assertMatch({ok, _}, hecate_plugin:await(20000)),
        ?assertEqual(registered, hecate_plugin:state())
    after
        hecate_script:stop_plugin()
    end.

%% A plugin without a connection to the daemon may still run when another instance has taken over.
run_files_of_another_process_are_kept(Config) ->
    Run = filename:dirname(socket(Config)),
    Read = fun(File) -> file:read_file(filename:join(Run, File)) end,
    ok = hecate_plugin_run_files:write(Run, running),
    ?assertEqual({{ok, list_to_binary(os:getpid())}, {ok, <<"running">>}}, {Read("daemon.pid"), Read("daemon.state")}),
    ok = file:write_file(filename:join(Run, "daemon.pid"), "1"),
    ok = hecate_plugin_run_files:remove(Run),
    ?assertEqual({{ok, <<"1">>}, {ok, <<"running">>}}, {Read("daemon.pid"), Read("daemon.state")}),
    ok = hecate_plugin_run_files:write(Run, stopping),
    ok = hecate_plugin_run_files:remove(Run),
    ?assertEqual({ok, []}, file:list_dir(Run)).

%% ---- JSON ----------------------------------------------------------------------------------------

json_is_decoded_and_encoded(_) ->
    Read = [{<<" null ">>, null}, {<<"true">>, true}, {<<"[]">>, []}, {<<"{}">>, #{}}, {<<"-12">>, -12}, {<<"0">>, 0},
            {<<"1.5">>, 1.5}, {<<"1e3">>, 1000.0}, {<<"-2.5E-1">>, -0.25}, {<<"\"\"">>, <<>>},
            {<<"\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\"">>, <<"a\"\\/\b\f\n\r\t", "é😀"/utf8>>},
            {<<"\"é\""/utf8>>, <<"é"/utf8>>},
            {<<"[1, [2,{\"a\" : [ ]} ] ]">>, [1, [2, #{<<"a">> => []}]]},
            {<<"{\"a\":1,\"a\":2}">>, #{<<"a">> => 2}}],
    [?assertEqual({ok, Value}, hecate_plugin_json:decode(Text)) || {Text, Value} <- Read],
    [?assertEqual({ok, Value}, hecate_plugin_json:decode(iolist_to_binary(hecate_plugin_json:encode(Value)))) || {_, Value} <- Read],
    %% Text with an invalid byte raises an error and is not cut.
    ?assertError(badarg, hecate_plugin_json:encode(#{a => <<"caf", 16#E9>>})),
    ?assertEqual({ok, <<"\e\0", 127>>}, hecate_plugin_json:decode(iolist_to_binary(hecate_plugin_json:encode(<<"\e\0", 127>>)))),
    ?assertEqual(<<"{\"a\":[true,null],\"b\":\"x\"}">>, iolist_to_binary(hecate_plugin_json:encode(#{b => <<"x">>, a => [true, null]}))).

malformed_json_is_refused(_) ->
    [?assertEqual({Text, {error, not_json}}, {Text, hecate_plugin_json:decode(Text)})
     || Text <- [<<>>, <<"nul">>, <<"truee">>, <<"[1,]">>, <<"[1 2]">>, <<"{\"a\"}">>, <<"{a:1}">>, <<"{\"a\":1,}">>, <<"\"">>,
                 <<"\"\n\"">>, <<"\"\\x\"">>, <<"\"\\u12\"">>, <<"\"\\ud83d\"">>, <<"\"\\ude00\"">>, <<"\"\\ud83d\\u0041\"">>,
                 <<"\"", 255, "\"">>, <<"01">>, <<"+1">>, <<".5">>, <<"1.">>, <<"1e">>, <<"1e999">>, <<"--1">>, <<"[] []">>,
                 binary:copy(<<"[">>, 100000), binary:copy(<<"1">>, 100000),
                 iolist_to_binary([binary:copy(<<"[">>, 65), binary:copy(<<"]">>, 65)])]],
    ?assertMatch({ok, _}, hecate_plugin_json:decode(iolist_to_binary([binary:copy(<<"[">>, 64), binary:copy(<<"]">>, 64)]))).

%% ---- Pauses and settings -------------------------------------------------------------------------

pauses_double_up_to_the_longest(_) ->
    Pauses = fun(Random) -> [hecate_plugin_registrar:pause(Failures, Random) || Failures <- [0, 1, 2, 3, 4, 5, 6, 1000000]] end,
    ?assertEqual([50, 100, 200, 400, 800, 1600, 2500, 2500], Pauses(0.0)),
    ?assertEqual([100, 200, 400, 800, 1600, 3200, 5000, 5000], Pauses(1.0)).

the_environment_sets_the_path_of_the_socket(_) ->
    Names = ["HECATE_SOCKET_PATH", "HECATE_HOME", "HOME"],
    Before = [{Name, os:getenv(Name)} || Name <- Names],
    Set = fun({Name, false}) -> os:unsetenv(Name); ({Name, Value}) -> os:putenv(Name, Value) end,
    try
        [begin
             lists:foreach(Set, lists:zip(Names, Values)),
             ?assertEqual({Values, list_to_binary(Path)}, {Values, hecate_plugin_config:socket()})
         end || {Values, Path} <- [{[false, false, "/h"], "/h/.hecate/hecate-daemon/sockets/api.sock"},
                                   {["", "", "/h"], "/h/.hecate/hecate-daemon/sockets/api.sock"},
                                   {[false, "/data", "/h"], "/data/hecate-daemon/sockets/api.sock"},
                                   {[false, "~/data", "/h"], "/h/data/hecate-daemon/sockets/api.sock"},
                                   {["/run/api.sock", "/data", "/h"], "/run/api.sock"},
                                   {["/run/api.sock", false, false], "/run/api.sock"}]]
    after
        lists:foreach(Set, Before)
    end.

an_invalid_setting_is_refused(_) ->
    ok = application:load(hecate_plugin),
    try
        [begin
             [application:unset_env(hecate_plugin, Key) || Key <- [name, version, description]],
             application:set_env(hecate_plugin, scope, pg),
             [application:set_env(hecate_plugin, Key, Value) || {Key, Value} <- Env],
             ?assertMatch({Env, {error, {bad_config, Wrong, _, _}}}, {Env, hecate_plugin_config:read()}),
             ?assertMatch({error, {hecate_plugin, {{bad_config, Wrong, _, _}, _}}}, application:ensure_all_started(hecate_plugin))
         end || {Wrong, Env} <- [{name, []}, {name, [{name, 'hecate-xd'}]}, {name, [{name, ""}]}, {name, [{name, [a]}]},
                                 {name, [{name, undefined}]}, {name, [{name, <<255>>}]},
                                 {version, [{name, "hecate-xd"}, {version, 1}]},
                                 {description, [{name, "hecate-xd"}, {description, {}}]},
                                 {scope, [{name, "hecate-xd"}, {scope, "pg"}]}]],
        [application:set_env(hecate_plugin, Key, Value) || {Key, Value} <- [{name, "hecate-xd"}, {version, undefined}, {description, <<"é"/utf8>>}, {scope, other}]],
        ?assertEqual({ok, #{name => <<"hecate-xd">>, version => undefined, description => <<"é"/utf8>>, scope => other}},
                     hecate_plugin_config:read())
    after
        application:unload(hecate_plugin)
    end.

%% ---- Helpers -------------------------------------------------------------------------------------

socket(Config) -> proplists:get_value(socket, Config).

config() -> #{name => <<"hecate-xd">>, version => undefined, description => undefined, scope => pg}.

%% Returns the status and body, or the error, of a request to a server that plays the script.
answer(Config, Script) -> answer(Config, Script, 5000).

answer(Config, Script, Timeout) ->
    hecate_script:serve(socket(Config), [Script]),
    case hecate_plugin_http:request(socket(Config), <<"GET">>, <<"/">>, none, Timeout) of
        {ok, #{status := Status, body := Body}} -> {Status, Body};
        Error -> Error
    end.

cut(Text, Size) when length(Text) =< Size -> [Text];
cut(Text, Size) ->
    {Piece, Rest} = lists:split(Size, Text),
    [Piece | cut(Rest, Size)].
