%% The guide, erlang_test/README.md, line by line: its files are written, its commands run, what is typed into its Erlang shell
%% is typed into a real one; and what it shows is what comes.
-module(hecate_guide_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([the_guide_is_true/1, a_checkout_does_as_well/1]).

-define(DEADLINE, 60000).

suite() -> [{timetrap, {minutes, 3}}].

all() -> [the_guide_is_true, a_checkout_does_as_well].

init_per_testcase(_, Config) ->
    %% As a user has it: the cookie is the one in the home, which the daemon makes.
    Host = #{home := Home} = hecate_host:start_daemon(hecate_host:start([{cookie, home} | Config])),
    [{host, Host}, {repository, repository(filename:join(Home, "repository"))} | Config].

end_per_testcase(_, Config) -> hecate_host:stop(proplists:get_value(host, Config)).

the_guide_is_true(Config) ->
    {ok, Guide} = file:read_file(filename:join([code:lib_dir(hecate_plugin), "src", "..", "..", "..", "README.md"])),
    #{home := Home} = Host = proplists:get_value(host, Config),
    Steps = steps(string:split(unicode:characters_to_list(Guide), "\n", all)),
    Begin = #{host => Host, directory => Home, shell => undefined, repository => proplists:get_value(repository, Config)},
    lists:foldl(fun step/2, Begin, Steps),
    Kinds = [element(1, Step) || Step <- Steps],
    Count = fun(Kind) -> length([K || K <- Kinds, K =:= Kind]) end,
    ?assertEqual({6, 10, 11}, {Count(file), Count(command), Count(typed)}).

%% The other way to have the application.
a_checkout_does_as_well(Config) ->
    #{home := Home} = proplists:get_value(host, Config),
    "file://" ++ Repository = proplists:get_value(repository, Config),
    Plugin = filename:join(Home, "hecate_xd"),
    Checkout = filename:join(Plugin, "_checkouts/hecate_plugin"),
    ok = filelib:ensure_dir(Checkout),
    ok = file:make_symlink(filename:join(Repository, "erlang_test/apps/hecate_plugin"), Checkout),
    ok = write(filename:join(Plugin, "rebar.config"), "{deps, [hecate_plugin]}.\n"),
    ok = write(filename:join(Plugin, "src/hecate_xd.app.src"),
               "{application, hecate_xd, [{vsn, \"1\"}, {registered, []}, {applications, [kernel, stdlib, hecate_plugin]}]}.\n"),
    {0, _} = run("rebar3 compile", Plugin, proplists:get_value(host, Config)),
    ?assert(filelib:is_regular(filename:join(Plugin, "_build/default/checkouts/hecate_plugin/ebin/hecate_plugin.beam"))).

%% ---- The guide -----------------------------------------------------------------------------------

%% Files, each with its path, which ends the paragraph before; commands and what is typed, each with what is shown.
steps(Lines) -> outside(Lines, "", []).

outside([], _, Steps) -> lists:reverse(Steps);
outside(["```console" | Lines], _, Steps) -> console(Lines, Steps);
outside(["```" ++ _ | Lines], Before, Steps) ->
    {match, [Path]} = re:run(Before, "`([^`]+)`:$", [{capture, all_but_first, list}]),
    {Content, ["```" | Rest]} = lists:splitwith(fun(Line) -> Line =/= "```" end, Lines),
    outside(Rest, "", [{file, Path, lists:join("\n", Content ++ [""])} | Steps]);
outside(["" | Lines], Before, Steps) -> outside(Lines, Before, Steps);
outside([Line | Lines], _, Steps) -> outside(Lines, Line, Steps).

console(["```" | Lines], Steps) -> outside(Lines, "", Steps);
console(["$ " ++ Command | Lines], Steps) -> console(Lines, [{command, Command, []} | Steps]);
console([Line | Lines], Steps) ->
    case {re:run(Line, "^\\(hecate_pingd@vm\\)[0-9]+> (.*)$", [{capture, all_but_first, list}]), Steps} of
        {{match, [Typed]}, _} -> console(Lines, [{typed, Typed, []} | Steps]);
        {nomatch, [{Kind, What, Shown} | Earlier]} -> console(Lines, [{Kind, What, Shown ++ [Line]} | Earlier])
    end.

step({file, Path, Content}, #{directory := Directory, repository := Repository} = World) ->
    ok = write(filename:join(Directory, Path), string:replace(Content, "URL-OF-THE-REPOSITORY", Repository)),
    World;
step({command, "cd " ++ To, []}, #{directory := Directory} = World) ->
    World#{directory := filename:join(Directory, To)};
step({command, "rebar3 shell " ++ _ = Command, []}, #{shell := undefined} = World) ->
    Shell = start(Command, maps:get(directory, World), maps:get(host, World)),
    {_, true} = up_to_prompt(Shell, <<>>),
    World#{shell := Shell};
step({command, Command, Shown}, #{directory := Directory, host := Host} = World) ->
    {Status, Came} = run(Command, Directory, Host),
    ?assertEqual({Command, 0, Came}, {Command, Status, Came}),
    ?assertEqual({Command, Came, true}, {Command, Came, matches(Shown, Came, Host)}),
    World;
%% Who types has taken some time to: what comes may come a little later.
step({typed, Typed, Shown}, #{shell := Shell, host := Host} = World) ->
    hecate_host:eventually(fun() ->
                                   port_command(Shell, [Typed, "\n"]),
                                   {Came, true} = up_to_prompt(Shell, <<>>),
                                   ct:log("~ts~n~ts", [Typed, Came]),
                                   matches(Shown, Came, Host)
                           end),
    World.

%% "..." is whatever comes; the home and the host are those of this test, and spaces and line breaks are of no weight.
matches(Shown, Came, #{home := Home}) ->
    {ok, Name} = inet:gethostname(),
    Short = hd(string:split(Name, ".")),
    Here = fun(Text) -> string:replace(string:replace(Text, "/home/user", Home, all), "@vm", "@" ++ Short, all) end,
    Pattern = [string:replace(escape(unicode:characters_to_list(Here(string:join(Shown, "\n")))), "\\.\\.\\.", ".*", all)],
    Flat = fun(Text) -> re:replace(Text, "\\s+", "", [global, {return, binary}, unicode]) end,
    match =:= re:run(Flat(Came), ["^", Flat(Pattern), "$"], [{capture, none}, dotall]).

escape(Text) -> re:replace(Text, "[][\\\\^$.|?*+(){}#]", "\\\\&", [global, {return, list}, unicode]).

%% ---- What runs it --------------------------------------------------------------------------------

start(Command, Directory, Host) ->
    Programs = filename:dirname(os:getenv("HECATE_DAEMON_BIN")),
    open_port({spawn_executable, os:find_executable("sh")},
              [{args, ["-c", "exec 2>&1; " ++ Command]},
               {cd, Directory}, {env, [{"PATH", Programs ++ ":" ++ os:getenv("PATH")}, {"TERM", "dumb"}, {"ERL_FLAGS", false},
                                       {"REBAR_BASE_DIR", false}, {"REBAR_PROFILE", false}, {"ERL_LIBS", false}
                                       | hecate_host:env(Host)]},
               exit_status, binary]).

run(Command, Directory, Host) -> output(start(Command, Directory, Host), <<>>).

output(Port, Read) ->
    receive
        {Port, {data, More}} -> output(Port, <<Read/binary, More/binary>>);
        {Port, {exit_status, Status}} -> {Status, Read}
    after ?DEADLINE -> error({still_running, Read})
    end.

%% What comes before the next prompt.
up_to_prompt(Shell, Read) ->
    case re:run(Read, "^(.*)\\(hecate_pingd@[^)]+\\)[0-9]+> $", [{capture, all_but_first, binary}, dotall]) of
        {match, [Before]} -> {Before, true};
        nomatch ->
            receive
                {Shell, {data, More}} -> up_to_prompt(Shell, <<Read/binary, More/binary>>);
                {Shell, {exit_status, Status}} -> error({shell_ended, Status, Read})
            after ?DEADLINE -> error({no_prompt, Read})
            end
    end.

%% A repository that has what this one has.
repository(Path) ->
    Source = filename:join(code:lib_dir(hecate_plugin), "src"),
    {ok, Files} = file:list_dir(Source),
    Copy = filename:join(Path, "erlang_test/apps/hecate_plugin/src"),
    [begin
         {ok, Content} = file:read_file(filename:join(Source, File)),
         ok = write(filename:join(Copy, File), Content)
     end || File <- Files],
    Git = "git -c user.name=x -c user.email=x@x -C " ++ Path,
    "" = os:cmd("git init -q -b main " ++ Path ++ " && " ++ Git ++ " add -A && " ++ Git ++ " commit -qm x"),
    "file://" ++ Path.

write(Path, Content) ->
    ok = filelib:ensure_dir(Path),
    file:write_file(Path, unicode:characters_to_binary(Content)).
