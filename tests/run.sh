#!/usr/bin/env bash
# Runs several test executables at a time, since most tests wait for another process or a timer:
#
#   tests/run.sh [OPTION]...   with options of `cargo test`, for example `--test pg`. Without
#                              options, it runs all tests except doc tests
#
# Prints the output of each executable when it has ended. The exit code is 0 only if all tests
# passed.
set -euo pipefail

log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --no-run "$@" 2>&1 | tee "$log"
executables=$(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' "$log")
[ -n "$executables" ] || { echo "tests/run.sh: cargo names no test executable" >&2; exit 1; }

run() {
  local output code=0
  output=$("$1" 2>&1) || code=$?
  printf '\n%s\n%s\n' "$1" "$output"
  return "$code"
}
export -f run
xargs -P "$((2 * $(nproc)))" -I{} bash -c 'run {}' <<<"$executables"
