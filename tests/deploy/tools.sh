#!/bin/sh
# Downloads the tools that check manifests and units, because Debian 12 does not have them or has
# too old versions:
#
#   tests/deploy/tools.sh   prints a directory with `kubectl`, `quadlet` and a `python` that has
#                           kubernetes-validate
#
# kubectl and Quadlet's generator come from packages of Debian trixie. apt uses separate lists, but
# the same mirror and the same keys as on this machine. The result is kept below ~/.cache.
set -eu

tests=$(cd "$(dirname "$0")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/hecate-daemon/deploy-1
if [ ! -e "$cache/complete" ]; then
  rm -rf "$cache"
  mkdir -p "$cache/apt/lists/partial" "$cache/apt/cache/archives/partial" "$cache/bin"
  cd "$cache/apt"
  keys=/usr/share/keyrings/debian-archive-keyring.gpg
  echo "deb [signed-by=$keys] $("$tests/mirror.sh") trixie main" >sources.list
  : >status
  apt() {
    apt-get -o Dir::Etc::SourceList="$PWD/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists="$PWD/lists" \
      -o Dir::Cache="$PWD/cache" -o Dir::State::Status="$PWD/status" -o APT::Sandbox::User=root --quiet=2 "$@" >&2
  }
  apt update
  apt download kubectl podman
  for package in *.deb; do dpkg-deb --extract "$package" tree; done
  cp tree/usr/bin/kubectl tree/usr/libexec/podman/quadlet "$cache/bin"
  cd "$cache"
  rm -rf apt
  python3 -m venv "$cache/venv" >&2
  "$cache/venv/bin/pip" install --quiet kubernetes-validate==1.37.0 >&2
  printf '#!/bin/sh\nexec "%s/venv/bin/python" "$@"\n' "$cache" >"$cache/bin/python"
  chmod +x "$cache/bin/python"
  touch "$cache/complete"
fi
echo "$cache/bin"
