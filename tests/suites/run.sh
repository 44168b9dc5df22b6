#!/bin/bash
# Runs OTP's own suites with the built daemon and without it, and compares the results by case:
#
#   tests/suites/run.sh              all suites of OTP 25 and 27; writes docs/internals/suites.md
#   tests/suites/run.sh quick        three suites of OTP 25; writes nothing
#   tests/suites/run.sh SUITE...     these suites, such as `pg`, of OTP 25 and 27; writes nothing
#
# Fails if a case that passes alone differs in all 3 reruns with the daemon and in none of the 3
# reruns alone, unless known.cases lists it. Needs root, an installed OTP 25, cc, debootstrap and
# iproute2. HECATE_SUITES_KEEP=1 keeps the logs of all runs. HECATE_SUITES_JOBS is the number of
# parallel runs.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
suites="ei_connect ei_accept ei_tmo pg erpc rpc monitor global_group epmd distribution global"
as_peer=$(sed -n 's/^\([a-z_]*\)_SUITE .*/\1/p' "$here/peer.cases" | sort -u)
releases="25 27" jobs=${HECATE_SUITES_JOBS:-$((2 * $(nproc)))}
# Timeout of a run, longer than the longest suite: 70 minutes.
longest=7200
case ${1:-} in
  '') ;;
  quick) suites="pg erpc epmd" releases=25 ;;
  *) suites=$* ;;
esac

declare -A codename=([25]=bookworm [27]=trixie) tree=([25]=/) bin=()
# The packages that the suites use in addition to the installed and the unpacked ones.
declare -A packages=(
  [25]=erlang-os-mon
  [27]="erlang-common-test erlang-crypto erlang-dev erlang-eunit erlang-os-mon erlang-runtime-tools erlang-tools"
)

installed=$(erl -noinput -eval 'io:put_chars(erlang:system_info(otp_release)), halt().')
[ "$installed" = 25 ] || { echo "the installed OTP is $installed, not 25" >&2; exit 1; }
bin[25]=$(dirname "$(command -v erl)")
work=$(mktemp -d /tmp/suites.XXXXXX)
trap '[ -n "${HECATE_SUITES_KEEP:-}" ] && echo "logs: $work" || rm -rf "$work"' EXIT
chmod 755 "$work"
cp "$HECATE_DAEMON_BIN" "$work/hecate-daemon"
for release in $releases; do
  # shellcheck disable=SC2086
  sources=$("$here/sources.sh" "${codename[$release]}" ${packages[$release]})
  if [ "$release" != 25 ]; then
    bin[$release]=$("$here/../releases.sh" "${codename[$release]}")
    tree[$release]=${bin[$release]%/bin}/tree
  fi
  "$here/adapt.sh" "$sources" "${bin[$release]}" "$work/$release"
  export "TREE_$release=${tree[$release]}"
done

# RELEASE MODE SUITE RESULTS [GROUP CASE]
one() {
  local release=$1 mode=$2 suite=$3 results=$4 tree=TREE_$1 run
  run=$(mktemp -d "$WORK/run.$release.$mode.$suite.XXXXXX")
  chmod 755 "$run"
  mkdir -p "$(dirname "$results")"
  # A run that ends early has no results for its last cases, which then differ. Without any result,
  # the verdict is a failure.
  timeout --kill-after=10 "$LONGEST" unshare --net --uts --mount --pid --fork --kill-child --mount-proc \
    "$HERE/host.sh" "$run" "${!tree}" "$WORK/$release" "$mode" "$WORK/hecate-daemon" "${suite}_SUITE" "${@:5}" ||
    { echo "OTP $release, $suite, $mode: ended early" >&2; tail -n 5 "$run/log" >&2; }
  touch "$run/results.tsv"
  mv "$run/results.tsv" "$results"
  if [ $# = 4 ]; then
    echo "OTP $release, $suite, $mode: $(cut -f 4 "$results" | sort | uniq -c | paste -sd' ' | tr -s ' ')"
  fi
  if [ -z "${HECATE_SUITES_KEEP:-}" ]; then rm -rf "$run"; fi
}
export -f one
export WORK=$work HERE=$here LONGEST=$longest

results=$work/results
for suite in $(printf '%s\n' $suites | tac); do
  for release in $releases; do
    for mode in alone bystander peer; do
      if [ "$mode" != peer ] || grep -qx "$suite" <<<"$as_peer"; then
        echo "$release $mode $suite $results/$release/$mode/${suite}_SUITE.tsv"
      fi
    done
  done
done | xargs -P "$jobs" -L 1 bash -c 'one "$@"' one

# RELEASE MODE SUITE GROUP CASE: prints how many of 3 runs did not pass. Stops after the first run
# that contradicts a difference, because it passes in a role or fails alone.
reruns() {
  local release=$1 mode=$2 suite=$3 group=$4 case=$5 count=0 rerun
  rerun=$(mktemp "$WORK/rerun.XXXXXX")
  if [ "$group" = - ]; then group=none; fi
  for _ in 1 2 3; do
    one "$release" "$mode" "${suite%_SUITE}" "$rerun" "$group" "$case" >&2
    if cut -f 3,4 "$rerun" | grep -qx "$case"$'\t'passed; then
      if [ "$mode" != alone ]; then break; fi
    else
      count=$((count + 1))
      if [ "$mode" = alone ]; then break; fi
    fi
  done
  echo "$count"
}
compare() {
  local with without=0
  with=$(reruns "$@")
  if [ "$with" = 3 ]; then without=$(reruns "$1" alone "${@:3}"); fi
  echo "OTP $1, $3, $5: failed in $with of 3 reruns as $2, in $without of 3 alone" >&2
  printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$@" "$with" "$without"
}
export -f reruns compare
report() { escript "$here/report.escript" "$@"; }
report differences "$results" "$here" | xargs -r -P "$jobs" -L 1 bash -c 'compare "$@"' compare >"$results/reruns.tsv"
[ $# -gt 0 ] || report table "$results" "$here" "$here/../../docs/internals/suites.md"
report verdict "$results" "$here"
