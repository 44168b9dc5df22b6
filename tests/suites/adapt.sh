#!/bin/bash
# Adapts and compiles the suites of one release:
#
#   tests/suites/adapt.sh SOURCES BIN TARGET
#
# SOURCES is the directory that sources.sh prints, BIN one with the release's `erl`. TARGET, below
# /tmp, gets the suites in `suites/` and libraries for ERL_LIBS in `lib/`.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
otp=$1/otp packages=$1/packages bin=$2 target=$3
mkdir -p "$target/suites" "$target/lib"
cp -r "$packages/usr/lib/erlang/lib/." "$target/lib/"
suites=$target/suites
# Common Test copies its style sheets and scripts, some of which are links into other packages.
find "$target/lib" -xtype l -exec sh -c 'for link; do rm "$link"; touch "$link"; done' sh {} +

for path in \
  lib/kernel/test/{pg,global,global_group,rpc,erpc}_SUITE.erl \
  lib/kernel/test/kernel_test_{lib,sys_monitor,global_sys_monitor}.erl \
  erts/emulator/test/{monitor,distribution}_SUITE.erl erts/emulator/test/erts_test_utils.erl \
  erts/epmd/test/epmd_SUITE.erl \
  lib/erl_interface/test/ei_{connect,accept,tmo}_SUITE.erl lib/erl_interface/test/runner.erl
do
  sed -f "$here/adapt.sed" "$otp/$path" >"$suites/${path##*/}"
done
cp "$otp"/lib/kernel/test/kernel_test_lib.hrl "$here"/*.erl "$here"/*.hrl "$here/peer.cases" "$suites"
cp "$here"/{suite,epmd}.sh "$target"
cp -r "$otp"/lib/kernel/test/{global,global_group,erpc}_SUITE_data "$otp"/erts/emulator/test/distribution_SUITE_data \
  "$otp"/lib/erl_interface/test/{all,ei_connect,ei_accept,ei_tmo}_SUITE_data "$suites"

export ERL_LIBS=$target/lib
# Evaluates an expression in a directory below /tmp, also where `erl` runs in another root.
erl() { "$bin/erl" -noinput -pa "$suites/all_SUITE_data" -eval "ok = file:set_cwd(\"$1\"), $2, halt()."; }
make() {
  erl "$1" '[] = [F || F <- filelib:wildcard("*.erl"), error =:= compile:file(F, [report_errors, debug_info])]'
}

# Does the work of the Makefiles of erl_interface's tests, which need OTP's build system.
include=$packages/usr/include library=$packages/usr/lib/libei.a
if [ ! -e "$library" ]; then include=/usr/include library=/usr/lib/libei.a; fi
compile() { cc -w -D_REENTRANT -I"$include" -I"$suites/all_SUITE_data" -o "$@" "$here/glibc.c" "$library" -lpthread; }
make "$suites/all_SUITE_data"
for name in connect accept tmo; do
  erl "$suites/ei_${name}_SUITE_data" "init_tc:run([ei_${name}_test])"
done
(
  cd "$suites"
  runner=(all_SUITE_data/ei_runner.c all_SUITE_data/my_ussi.c)
  for name in connect accept tmo; do
    data=ei_${name}_SUITE_data
    compile "$data/ei_${name}_test" "$data/ei_${name}_test.c" "$data/ei_${name}_test_decl.c" "${runner[@]}"
  done
  compile ei_connect_SUITE_data/einode ei_connect_SUITE_data/einode.c
  compile ei_accept_SUITE_data/eiaccnode ei_accept_SUITE_data/eiaccnode.c all_SUITE_data/my_ussi.c
  compile erpc_SUITE_data/fwd_node erpc_SUITE_data/fwd_node.c
)
make "$suites/distribution_SUITE_data"
make "$suites"
