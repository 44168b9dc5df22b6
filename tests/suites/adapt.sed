# Makes a suite of OTP call the driver, `hecate_suites`, when it starts nodes and when it lists all
# nodes. The driver replaces the hook that OTP's own build system installs.
s/ts_install_cth/hecate_suites/g
# Nodes that a case starts.
s/?CT_PEER\b/?HECATE_PEER/g
s/\btest_server:start_node(/hecate_suites:start_node(/g
/include_lib("common_test\/include\/ct.hrl")/a -include("hecate_suites.hrl").
# All nodes but the bystander: a case names the nodes that it started.
s/\(^\|[^a-zA-Z0-9_:]\)nodes()/\1hecate_suites:others()/g
/^nodes2(/,/^    ok\.$/! s/\(^\|[^a-zA-Z0-9_:]\)nodes(connected)/\1hecate_suites:others(connected)/g
s/\berlang:nodes()/hecate_suites:others()/g
s/\berlang, *nodes, *\[\(connected\|\)\]/hecate_suites, others, [\1]/g
s/\bRPC([A-Za-z0-9]*, global, disconnect, \[\])/hecate_suites:without(&)/g
s/\brpc:call([A-Za-z0-9]*, global_group, own_nodes, \[\])/hecate_suites:without(&)/g
s/\bglobal:disconnect()/hecate_suites:without(&)/g
# The node that a C program connects to.
s/\bei_connect(P, node())/ei_connect(P, hecate_suites:remote())/g
s/^\( *\)node(),$/\1hecate_suites:remote(),/
# The EPMD under test. erl puts its own directory in front of PATH.
s/\bos:find_executable(epmd)/hecate_suites:epmd()/
# Between the cases of EPMD's suite, the daemon is ended, which refuses KILL. There are no pauses of
# 1 s, and no retries on a closed port.
/^cleanup() ->/,/^$/ {
  s/^cleanup() ->/&\
    hecate_suites:stop_epmd(),/
  s/?MEDIUM_PAUSE/100/
  s/\bconnect()/connect("localhost", ?PORT, passive, 0, 1)/
}
# The daemon that serves as EPMD is itself among the names.
s/^do_get_names(Socket) ->/do_get_names(Socket) ->\
    hecate_suites:without_daemon(do_get_all_names(Socket)).\
\
do_get_all_names(Socket) ->/
# A check that runs code on a node of the case, which a daemon cannot run.
s/^verify_nc(Node) ->/verify_nc(Node) ->\
    hecate_suites:is_daemon(Node) orelse verify_nc_by_code(Node).\
\
verify_nc_by_code(Node) ->/
