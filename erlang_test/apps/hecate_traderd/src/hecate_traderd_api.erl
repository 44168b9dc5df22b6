%% @doc Answers requests at the plugin's `api.sock' from hecate-web, from its frontend
%% `hecate-traderw' and from probes.
-module(hecate_traderd_api).

-export([answer/1]).

-spec answer(Path :: binary()) -> hecate_plugin_api:answer().
answer(<<"/health">>) ->
    json(#{status => <<"healthy">>, service => <<"hecate-traderd">>, version => version(),
           advisors => length(hecate_traderd_desk:advice())});
answer(<<"/manifest">>) ->
    json(#{name => <<"hecate-traderd">>, version => version(), icon => <<"chart">>,
           description => <<"Trades on advice">>, tag => <<"hecate-trader">>});
answer(<<"/advice">>) ->
    json([#{from => atom_to_binary(Node), advice => Advice} || #{from := Node, advice := Advice} <- hecate_traderd_desk:advice()]);
answer(_) ->
    not_found.

version() ->
    {ok, Version} = application:get_key(hecate_traderd, vsn),
    list_to_binary(Version).

json(Value) -> {200, <<"application/json">>, hecate_plugin_json:encode(Value)}.
