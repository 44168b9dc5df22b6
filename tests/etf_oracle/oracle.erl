%% The Erlang side of tests/etf_oracle.rs. Standard input and output carry frames: a 32-bit length
%% and a body. The requests and their responses are:
%%
%% <<0, Batch>>         decodes each term and encodes it again -> Batch, empty for a refused term
%% <<1, Seed:64, N:32>> generates N terms and keeps them -> Batch, two encodings of each term
%% <<2, Batch>>         compares with the kept terms -> Batch, <<1>> for an equal term
%%
%% A batch is a sequence of <<Length:32, Bytes/binary>>.
-module(oracle).
-export([main/0]).

main() ->
    Port = open_port({fd, 0, 1}, [{packet, 4}, binary, eof]),
    loop(Port, []).

loop(Port, Kept) ->
    receive
        {Port, {data, <<0, Batch/binary>>}} ->
            reply(Port, [again(Bytes) || Bytes <- unbatch(Batch)]),
            loop(Port, Kept);
        {Port, {data, <<1, Seed:64, N:32>>}} ->
            _ = rand:seed(exsss, Seed),
            Terms = [term(5) || _ <- lists:seq(1, N)],
            reply(Port, lists:append([[somehow(Term), encode(Term)] || Term <- Terms])),
            loop(Port, Terms);
        {Port, {data, <<2, Batch/binary>>}} ->
            Equal = fun(Term, Bytes) -> exactly_equal(Term, binary_to_term(Bytes)) end,
            reply(Port, lists:zipwith(Equal, Kept, unbatch(Batch))),
            loop(Port, Kept);
        {Port, eof} ->
            halt(0)
    end.

unbatch(Batch) -> [Bytes || <<Length:32, Bytes:Length/binary>> <= Batch].

reply(Port, Batch) ->
    true = port_command(Port, [<<(byte_size(Bytes)):32, Bytes/binary>> || Bytes <- Batch]).

again(Bytes) ->
    try encode(binary_to_term(Bytes)) catch error:badarg -> <<>> end.

encode(Term) -> term_to_binary(Term, [{minor_version, 2}]).

%% Minor version 0 encodes floats as text. Versions 0 and 1 encode atoms in Latin-1 where possible.
somehow(Term) -> term_to_binary(Term, [{minor_version, rand:uniform(3) - 1}]).

exactly_equal(Term, Term) -> <<1>>;
exactly_equal(_, _) -> <<0>>.

term(Depth) ->
    Inner = fun() -> term(Depth - 1) end,
    case rand:uniform(case Depth of 0 -> 21; _ -> 32 end) of
        1 -> rand:uniform(512) - 256;
        2 -> (rand:uniform(3) - 2) * (1 bsl rand:uniform(130)) + rand:uniform(5) - 3;
        3 -> (rand:uniform(3) - 2) * ((1 bsl (2000 + rand:uniform(200))) - rand:uniform(1000));
        4 -> rand:normal() * math:pow(10, rand:uniform(600) - 300);
        5 -> lists:nth(rand:uniform(4), [0.0, 5.0e-324, 1.7976931348623157e308, -1.0]);
        6 -> atom();
        7 -> list_to_atom([rand:uniform(255) || _ <- lists:seq(1, rand:uniform(255))]);
        8 -> list_to_atom([16#1F600 + rand:uniform(40) || _ <- lists:seq(1, rand:uniform(255))]);
        9 -> self();
        10 -> spawn(fun() -> ok end);
        11 -> make_ref();
        12 -> alias();
        13 -> atomics:new(1, []);
        14 -> lists:nth(rand:uniform(length(erlang:ports())), erlang:ports());
        15 -> fun lists:map/2;
        16 -> fun erlang:self/0;
        17 -> rand:bytes(rand:uniform(40) - 1);
        18 -> rand_bits(rand:uniform(100));
        19 -> part_of_another();
        20 -> [rand:uniform(255) || _ <- lists:seq(1, rand:uniform(30))];
        21 -> foreign();
        22 -> list_to_tuple([Inner() || _ <- lists:seq(1, rand:uniform(5) - 1)]);
        23 -> [Inner() || _ <- lists:seq(1, rand:uniform(5) - 1)];
        24 -> [Inner() | Inner()];
        25 -> [Inner(), Inner() | Inner()];
        26 -> maps:from_list([{Inner(), Inner()} || _ <- lists:seq(1, rand:uniform(6) - 1)]);
        27 -> maps:from_list([{N, Inner()} || N <- lists:seq(1, 33)]);
        28 -> X = Inner(), Y = Inner(), fun(Z) -> {X, Y, Z} end;
        29 -> X = Inner(), elsewhere(fun() -> fun() -> X end end);
        30 -> #{Inner() => #{Inner() => Inner()}};
        31 -> list_to_tuple(lists:seq(1, 250 + rand:uniform(10)));
        32 -> {Inner(), Inner()}
    end.

atom() -> lists:nth(rand:uniform(8), ['', ok, undefined, 'a b', 'ä', 'ÿ', 'Ω', '日本語']).

rand_bits(N) ->
    <<Bits:N/bitstring, _/bitstring>> = rand:bytes(13),
    Bits.

%% Returns a part of a bit string that neither begins nor ends on a byte boundary.
part_of_another() ->
    Before = rand:uniform(7),
    Size = rand:uniform(60),
    <<_:Before, Part:Size/bitstring, _/bitstring>> = rand:bytes(20),
    Part.

elsewhere(Fun) ->
    Self = self(),
    spawn(fun() -> Self ! {made, Fun()} end),
    receive {made, Value} -> Value end.

%% Returns a pid, port, reference or fun of another node.
foreign() ->
    Node = <<119, 9, "some@node">>,
    Word = rand:uniform(1 bsl 32) - 1,
    binary_to_term(case rand:uniform(4) of
        1 -> <<131, 88, Node/binary, Word:32, 7:32, 9:32>>;
        2 -> <<131, 120, Node/binary, Word:64, 9:32>>;
        3 -> <<131, 120, Node/binary, Word:32, 0:32, 9:32>>;
        4 ->
            Words = rand:uniform(5),
            <<131, 90, Words:16, Node/binary, 9:32, (binary:copy(<<Word:32>>, Words))/binary>>
    end).
