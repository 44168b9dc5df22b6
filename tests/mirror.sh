#!/bin/sh
# Prints where this machine's apt gets its packages from.
set -eu
for list in /etc/apt/sources.list.d/*.sources; do
  [ -e "$list" ] && sed -n 's/^URIs: *\([^ ]*\).*/\1/p' "$list"
done | grep -v security | head -n 1 | grep . && exit
from=$(sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) .*/\2/p' /etc/apt/sources.list | grep -v security | head -n 1)
[ -n "$from" ] || { echo "apt's configuration names no mirror" >&2; exit 1; }
echo "$from"
