%% Follows the guides for authors of plugins, docs/plugins-erlang.md and docs/plugins-elixir.md. It
%% writes their files, runs their commands, types their input into a real shell, and compares the
%% output.
-module(hecate_guide_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([the_erlang_guide_works/1, the_elixir_guide_works/1, a_checkout_replaces_the_dependency/1,
         documents_name_the_repository_of_cargo_toml/1]).

-define(DEADLINE, 60000).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [the_erlang_guide_works, the_elixir_guide_works, a_checkout_replaces_the_dependency,
     documents_name_the_repository_of_cargo_toml].

init_per_testcase(documents_name_the_repository_of_cargo_toml, Config) -> Config;
init_per_testcase(_, Config) ->
    %% The daemon makes the cookie in the home, and all nodes use it.
    Host = #{home := Home} = hecate_host:start_daemon(hecate_host:start([{cookie, home} | Config])),
    [{host, Host}, {repository, repository(filename:join(Home, "repository"))} | Config].

end_per_testcase(_, Config) ->
    case proplists:get_value(host, Config) of
        undefined -> ok;
        Host -> hecate_host:stop(Host)
    end.

the_erlang_guide_works(Config) ->
    ?assertEqual(#{file => 7, command => 11, typed => 11}, follow("plugins-erlang.md", Config)).

the_elixir_guide_works(Config) ->
    ?assertEqual(#{file => 5, command => 10, typed => 8}, follow("plugins-elixir.md", Config)).

%% Returns the number of steps of each kind.
follow(Guide, Config) ->
    #{home := Home} = Host = proplists:get_value(host, Config),
    Steps = steps(string:split(text(filename:join("docs", Guide)), "\n", all)),
    Begin = #{host => Host, directory => Home, shell => undefined, repository => proplists:get_value(repository, Config)},
    lists:foldl(fun step/2, Begin, Steps),
    lists:foldl(fun(Step, Counts) -> maps:update_with(element(1, Step), fun(N) -> N + 1 end, 1, Counts) end, #{}, Steps).

documents_name_the_repository_of_cargo_toml(_) ->
    Url = url(),
    Count = fun(Text) -> length(string:split(text(Text), Url, all)) - 1 end,
    ?assertEqual({1, 1, 1}, {Count("docs/plugins-erlang.md"), Count("docs/plugins-elixir.md"),
                             Count("deploy/systemd/hecate-daemon.service")}).

a_checkout_replaces_the_dependency(Config) ->
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

%% ---- Guides --------------------------------------------------------------------------------------

%% Returns the files, each with the path that ends the paragraph before it; the commands and the
%% typed input, each with its output.
steps(Lines) -> outside(Lines, "", []).

outside([], _, Steps) -> lists:reverse(Steps);
outside(["```console" | Lines], _, Steps) -> console(Lines, Steps);
%% Skips commands that the guides mark as `sh', because they are only examples.
outside(["```sh" | Lines], _, Steps) ->
    {_, ["```" | Rest]} = lists:splitwith(fun(Line) -> Line =/= "```" end, Lines),
    outside(Rest, "", Steps);
outside(["```" ++ _ | Lines], Before, Steps) ->
    {match, [Path]} = re:run(Before, "`([^`]+)`:$", [{capture, all_but_first, list}]),
    {Content, ["```" | Rest]} = lists:splitwith(fun(Line) -> Line =/= "```" end, Lines),
    outside(Rest, "", [{file, Path, lists:join("\n", Content ++ [""])} | Steps]);
outside(["" | Lines], Before, Steps) -> outside(Lines, Before, Steps);
outside([Line | Lines], _, Steps) -> outside(Lines, Line, Steps).

console(["```" | Lines], Steps) -> outside(Lines, "", Steps);
console(["$ " ++ Command | Lines], Steps) -> console(Lines, [{command, Command, []} | Steps]);
console([Line | Lines], Steps) ->
    case {re:run(Line, "^(?:iex)?\\([a-z_]+@vm\\)[0-9]+> (.*)$", [{capture, all_but_first, list}]), Steps} of
        {{match, [Typed]}, _} -> console(Lines, [{typed, Typed, []} | Steps]);
        {nomatch, [{Kind, What, Shown} | Earlier]} -> console(Lines, [{Kind, What, Shown ++ [Line]} | Earlier])
    end.

step({file, Path, Content}, #{directory := Directory, repository := Repository} = World) ->
    ok = write(filename:join(Directory, Path), string:replace(Content, url(), Repository)),
    World;
step({command, "cd " ++ To, []}, #{directory := Directory} = World) ->
    World#{directory := filename:join(Directory, To)};
step({command, "rebar3 shell " ++ _ = Command, []}, #{shell := undefined} = World) -> start_shell(Command, World);
step({command, "iex " ++ _ = Command, ["..."]}, #{shell := undefined} = World) -> start_shell(Command, World);
step({command, Command, Shown}, #{directory := Directory, host := Host} = World) ->
    {Status, Came} = run(Command, Directory, Host),
    ?assertEqual({Command, 0, Came}, {Command, Status, Came}),
    ?assertEqual({Command, Came, true}, {Command, Came, matches(Shown, Came, Host)}),
    World;
%% A person types slowly, so the expected output may need several tries.
step({typed, Typed, Shown}, #{shell := Shell, host := Host} = World) ->
    hecate_host:eventually(fun() ->
                                   port_command(Shell, [Typed, "\n"]),
                                   Came = up_to_prompt(Shell, <<>>),
                                   ct:log("~ts~n~ts", [Typed, Came]),
                                   matches(Shown, Came, Host)
                           end),
    World.

start_shell(Command, #{directory := Directory, host := Host} = World) ->
    Shell = start(Command, Directory, Host),
    _ = up_to_prompt(Shell, <<>>),
    World#{shell := Shell}.

%% "..." matches any text. The home and the host are those of this test. White space is ignored.
matches(Shown, Came, #{home := Home}) ->
    {ok, Name} = inet:gethostname(),
    Short = hd(string:split(Name, ".")),
    Here = fun(Text) -> string:replace(string:replace(Text, "/home/user", Home, all), "@vm", "@" ++ Short, all) end,
    Pattern = [string:replace(escape(unicode:characters_to_list(Here(string:join(Shown, "\n")))), "\\.\\.\\.", ".*", all)],
    Flat = fun(Text) -> re:replace(Text, "\\s+", "", [global, {return, binary}, unicode]) end,
    match =:= re:run(Flat(Came), ["^", Flat(Pattern), "$"], [{capture, none}, dotall]).

escape(Text) -> re:replace(Text, "[][\\\\^$.|?*+(){}#]", "\\\\&", [global, {return, list}, unicode]).

%% ---- Programs ------------------------------------------------------------------------------------

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

%% Returns the output before the next prompt.
up_to_prompt(Shell, Read) ->
    case re:run(Read, "^(.*?)(?:iex)?\\([a-z_]+@[^)]+\\)[0-9]+> $", [{capture, all_but_first, binary}, dotall]) of
        {match, [Before]} -> Before;
        nomatch ->
            receive
                {Shell, {data, More}} -> up_to_prompt(Shell, <<Read/binary, More/binary>>);
                {Shell, {exit_status, Status}} -> error({shell_ended, Status, Read})
            after ?DEADLINE -> error({no_prompt, Read})
            end
    end.

%% Makes a repository with the library of this one.
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

%% Returns the address of the repository: `repository' of Cargo.toml.
url() ->
    {match, [Url]} = re:run(text("Cargo.toml"), "^repository = \"(.*)\"$", [multiline, {capture, all_but_first, list}]),
    Url.

%% Returns the content of a file of this repository.
text(Path) ->
    Root = filename:join([code:lib_dir(hecate_plugin), "src", "..", "..", "..", ".."]),
    {ok, Text} = file:read_file(filename:join(Root, Path)),
    unicode:characters_to_list(Text).

write(Path, Content) ->
    ok = filelib:ensure_dir(Path),
    file:write_file(Path, unicode:characters_to_binary(Content)).
