%% @doc Answers requests at the plugin's `api.sock'.
-module(hecate_marthad_api).

-export([answer/1]).

-spec answer(Path :: binary()) -> hecate_plugin_api:answer().
answer(<<"/health">>) ->
    json(#{status => <<"healthy">>, service => <<"hecate-marthad">>, version => version(),
           clients => [atom_to_binary(Node) || Node <- hecate_marthad_advisor:clients()],
           subjects => hecate_marthad_advisor:subjects()});
answer(<<"/manifest">>) ->
    json(#{name => <<"hecate-marthad">>, version => version(), icon => <<"owl">>,
           description => <<"Gives advice">>, tag => <<"hecate-martha">>});
answer(_) ->
    not_found.

version() ->
    {ok, Version} = application:get_key(hecate_marthad, vsn),
    list_to_binary(Version).

json(Value) -> {200, <<"application/json">>, hecate_plugin_json:encode(Value)}.
