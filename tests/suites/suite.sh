#!/bin/bash
# Runs one suite, or one case of it, on the host that host.sh made:
#
#   suite.sh RUN TARGET MODE DAEMON SUITE [GROUP CASE]
#
# The results are written to `RUN/results.tsv`. TARGET is the directory that adapt.sh made.
set -euo pipefail

run=$1 target=$2 mode=$3 daemon=$4 suite=$5
shift 5
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=$run/home ERL_LIBS=$target/lib LANG=C.UTF-8
export HECATE_SUITES_MODE=$mode HECATE_SUITES_RUN=$run HECATE_SUITES_DAEMON=$daemon
mkdir -p "$HOME"
printf suites >"$HOME/.erlang.cookie"
chmod 400 "$HOME/.erlang.cookie"
cd "$run"
epmd -daemon
if [ "$mode" = bystander ]; then
  # The daemon does not connect to nodes in C, because each of them waits for a single connection:
  # the connection of the case.
  case $suite in
    ei_*) names=test_server ;;
    erpc_*) names='test_server,*-call*,*-cast*,*-send*,*-multi*' ;;
    *) names='*' ;;
  esac
  HECATE_HOME="$run/hecate" HECATE_EPMD_NAMES="$names" "$daemon" >"$run/daemon.log" 2>&1 &
fi
# As a peer, the daemon is the EPMD that epmd_SUITE tests.
if [ "$mode" = peer ]; then export HECATE_SUITES_EPMD=$target/epmd.sh; fi
exec erl -noinput -sname test_server -pa "$target/suites" -s hecate_suites run "$suite" "$run/results.tsv" "$@" >"$run/log" 2>&1
