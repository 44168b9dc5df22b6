#!/bin/sh
# Downloads the files that the suites of an OTP release need from Debian, once, to the user's cache:
#
#   tests/suites/sources.sh CODENAME [PACKAGE]...
#
# Prints a directory. It contains the test sources of CODENAME's source package `erlang` in `otp/`,
# and the files of each binary package in `packages/`. apt verifies all of them by CODENAME's signed
# index. It uses separate lists and settings, so the lists and settings of this machine do not
# change.
set -eu

codename=$1
shift
cache=${XDG_CACHE_HOME:-$HOME/.cache}/hecate-daemon/suites
root=$cache/$codename
wanted=$*
[ "$(cat "$root/complete" 2>/dev/null || echo none)" = "$wanted" ] && { echo "$root"; exit; }

fail() {
  echo "the test sources of Debian $codename cannot be obtained: $1" >&2
  tail -n 20 "$root/log" >&2
  exit 1
}

from=$("${0%/*}/../mirror.sh")
rm -rf "$root"
mkdir -p "$root/apt/lists/partial" "$root/apt/cache/archives/partial" "$root/apt/none" "$root/download" "$root/packages"
cat >"$root/apt/debian.sources" <<END
Types: deb deb-src
URIs: $from
Suites: $codename
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
touch "$root/apt/status"
cat >"$root/apt/conf" <<END
Dir::Etc::sourcelist "$root/apt/debian.sources";
Dir::Etc::sourceparts "$root/apt/none";
Dir::State::lists "$root/apt/lists";
Dir::State::status "$root/apt/status";
Dir::Cache "$root/apt/cache";
APT::Sandbox::User "root";
Acquire::Retries "3";
END
export APT_CONFIG="$root/apt/conf"
# Without this, apt-get only warns about an index that it cannot fetch.
apt-get update --error-on=any >"$root/log" 2>&1 || fail "no index from $from"
# The test sources are all in the upstream archive, which Debian's patches do not change.
(cd "$root/download" && apt-get source --download-only --tar-only "erlang/$codename" >>"$root/log" 2>&1) ||
  fail "no source package from $from"
mkdir "$root/otp"
tar -xJf "$root"/download/erlang_*.orig.tar.xz -C "$root/otp" --strip-components=1 --wildcards \
  '*/lib/kernel/test' '*/lib/erl_interface/test' '*/erts/emulator/test' '*/erts/epmd/test' 2>>"$root/log" ||
  fail "the archive has no test sources"
if [ -n "$wanted" ]; then
  # shellcheck disable=SC2086
  (cd "$root/download" && apt-get download $wanted >>"$root/log" 2>&1) || fail "no binary packages from $from"
  for package in "$root"/download/*.deb; do dpkg-deb -x "$package" "$root/packages"; done
fi
rm -rf "$root/download" "$root/apt"
echo "$wanted" >"$root/complete"
echo "$root"
