#!/bin/sh
# Replaces `epmd` in a run of epmd_SUITE: the daemon serves as EPMD.
set -eu

case " $* " in *" -names "*) exec epmd "$@" ;; esac
port=4369
while [ $# -gt 0 ]; do
  [ "$1" != -port ] || port=$2
  shift
done
echo $$ >"$HECATE_SUITES_RUN/epmd.pid"
mkdir -p "$HECATE_SUITES_RUN/no-programs"
export ERL_EPMD_PORT="$port" HECATE_HOME="$HECATE_SUITES_RUN/epmd" HECATE_EPMD_NAMES=none
export PATH="$HECATE_SUITES_RUN/no-programs"
exec "$HECATE_SUITES_DAEMON" >>"$HECATE_SUITES_RUN/epmd.log" 2>&1
