#!/bin/bash
# Makes a host for one run of a suite, and runs suite.sh there with the remaining arguments:
#
#   unshare --net --uts --mount --pid --fork --kill-child --mount-proc host.sh RUN TREE TARGET ...
#
# The host's name is `suites`, its only network is loopback, and its processes and mounts end with
# it. TREE is the root of the release's Debian, or `/`. RUN and TARGET are below /tmp.
set -euo pipefail

run=$1 tree=$2 target=$3
hostname suites
ip link set lo up
printf '127.0.0.1 localhost\n127.0.1.1 suites\n::1 localhost ip6-localhost\n' >"$run/hosts"
mount --bind "$run/hosts" /etc/hosts
if [ "$tree" != / ]; then
  for directory in /proc /dev /tmp; do mount --rbind "$directory" "$tree$directory"; done
  mount --bind "$run/hosts" "$tree/etc/hosts"
fi
exec chroot "$tree" "$target/suite.sh" "$run" "$target" "${@:4}"
