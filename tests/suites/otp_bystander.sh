#!/bin/sh
# An OTP node that connects to each node in EPMD, like the bystander. It shows whether a case also
# fails with an OTP node that does this:
#
#   HECATE_DAEMON_BIN=tests/suites/otp_bystander.sh tests/suites/run.sh SUITE
exec erl -noinput -sname hecate -eval '
  Connect = fun Connect() ->
    {ok, Names} = erl_epmd:names("localhost"),
    [_, Host] = string:split(atom_to_list(node()), "@"),
    [net_kernel:connect_node(list_to_atom(Name ++ "@" ++ Host)) || {Name, _} <- Names, Name =/= "hecate"],
    timer:sleep(500),
    Connect()
  end,
  Connect().'
