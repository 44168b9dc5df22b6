%% @doc The parts of JSON (RFC 8259) that the daemon's API needs, because OTP has a JSON module only
%% since 27.
%%
%% Objects are maps with binary keys, and `null' is an atom. Decoding creates no atoms, and accepts
%% at most 64 levels; the caller must bound the length.
-module(hecate_plugin_json).

-export([encode/1, decode/1]).
-export_type([value/0]).

-define(DEPTH, 64).

-type value() :: null | boolean() | number() | binary() | [value()] | #{binary() => value()}.

%% @doc Encodes a value. Keys may be atoms. Raises `badarg' if text is not UTF-8.
-spec encode(value() | #{atom() => value()}) -> iodata().
encode(null) -> <<"null">>;
encode(true) -> <<"true">>;
encode(false) -> <<"false">>;
encode(Number) when is_integer(Number) -> integer_to_binary(Number);
encode(Number) when is_float(Number) -> io_lib:format("~p", [Number]);
encode(Text) when is_binary(Text) -> [$", [escape(C) || C <- characters(Text)], $"];
encode(List) when is_list(List) -> [$[, lists:join($,, [encode(Value) || Value <- List]), $]];
encode(Object) when is_map(Object) ->
    Pair = fun({Key, Value}) -> [encode(key(Key)), $:, encode(Value)] end,
    [${, lists:join($,, lists:map(Pair, lists:sort(maps:to_list(Object)))), $}].

characters(Text) ->
    case unicode:characters_to_list(Text) of
        Characters when is_list(Characters) -> Characters;
        _ -> error(badarg)
    end.

key(Key) when is_atom(Key) -> atom_to_binary(Key);
key(Key) -> Key.

escape($") -> <<"\\\"">>;
escape($\\) -> <<"\\\\">>;
escape(C) when C < 32 -> iolist_to_binary(io_lib:format("\\u~4.16.0b", [C]));
escape(C) -> <<C/utf8>>.

%% @doc Decodes one value, with nothing but white space after it.
-spec decode(binary()) -> {ok, value()} | {error, not_json}.
decode(Text) ->
    try
        {Value, Rest} = value(space(Text), ?DEPTH),
        <<>> = space(Rest),
        {ok, Value}
    catch
        %% A failed match means that the text is not JSON.
        error:_ -> {error, not_json}
    end.

space(<<C, Rest/binary>>) when C =:= $\s; C =:= $\t; C =:= $\n; C =:= $\r -> space(Rest);
space(Text) -> Text.

value(<<"null", Rest/binary>>, _) -> {null, Rest};
value(<<"true", Rest/binary>>, _) -> {true, Rest};
value(<<"false", Rest/binary>>, _) -> {false, Rest};
value(<<$", Rest/binary>>, _) -> text(Rest, []);
value(<<$[, Rest/binary>>, Depth) when Depth > 0 ->
    case space(Rest) of
        <<$], After/binary>> -> {[], After};
        Items -> items(Items, Depth - 1, [])
    end;
value(<<${, Rest/binary>>, Depth) when Depth > 0 ->
    case space(Rest) of
        <<$}, After/binary>> -> {#{}, After};
        Pairs -> pairs(Pairs, Depth - 1, #{})
    end;
value(Text, _) -> number(Text).

items(Text, Depth, Items) ->
    {Item, Rest} = value(Text, Depth),
    case space(Rest) of
        <<$,, More/binary>> -> items(space(More), Depth, [Item | Items]);
        <<$], After/binary>> -> {lists:reverse([Item | Items]), After}
    end.

pairs(<<$", Text/binary>>, Depth, Object) ->
    {Key, Colon} = text(Text, []),
    <<$:, AfterColon/binary>> = space(Colon),
    {Value, Rest} = value(space(AfterColon), Depth),
    case space(Rest) of
        <<$,, More/binary>> -> pairs(space(More), Depth, Object#{Key => Value});
        <<$}, After/binary>> -> {Object#{Key => Value}, After}
    end.

text(<<$", Rest/binary>>, Read) -> {unicode:characters_to_binary(lists:reverse(Read)), Rest};
text(<<"\\u", Rest/binary>>, Read) ->
    {C, After} = unit(Rest),
    text(After, [C | Read]);
text(<<$\\, C, Rest/binary>>, Read) -> text(Rest, [unescape(C) | Read]);
text(<<C/utf8, Rest/binary>>, Read) when C >= 32 -> text(Rest, [C | Read]).

unescape($") -> $";
unescape($\\) -> $\\;
unescape($/) -> $/;
unescape($b) -> $\b;
unescape($f) -> $\f;
unescape($n) -> $\n;
unescape($r) -> $\r;
unescape($t) -> $\t.

%% A character outside the basic plane is two units. A single surrogate is an error.
unit(Text) ->
    case hex(Text) of
        {High, <<"\\u", Rest/binary>>} when High >= 16#D800, High < 16#DC00 ->
            {Low, After} = hex(Rest),
            true = Low >= 16#DC00 andalso Low < 16#E000,
            {16#10000 + ((High - 16#D800) bsl 10) + (Low - 16#DC00), After};
        {C, After} when C < 16#D800; C >= 16#E000 -> {C, After}
    end.

hex(<<Digits:4/binary, Rest/binary>>) ->
    {match, _} = re:run(Digits, "^[0-9A-Fa-f]{4}$", []),
    {binary_to_integer(Digits, 16), Rest}.

number(Text) ->
    {match, [{0, Length} | _]} = re:run(Text, "^-?(0|[1-9][0-9]{0,29})([.][0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", []),
    <<Number:Length/binary, Rest/binary>> = Text,
    {convert(Number), Rest}.

convert(Number) ->
    case binary:match(Number, [<<".">>, <<"e">>, <<"E">>]) of
        nomatch -> binary_to_integer(Number);
        _ -> binary_to_float(with_fraction(Number))
    end.

%% `binary_to_float' needs a fraction before the exponent.
with_fraction(Number) ->
    case binary:match(Number, <<".">>) of
        nomatch -> re:replace(Number, "[eE]", ".0e", [{return, binary}]);
        _ -> Number
    end.
