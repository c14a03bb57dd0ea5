# Sourced by jobs/quickstart/run.sh and tests/run.sh: need_packages PACKAGE ... installs what is missing when root on a
# Debian-like system, else says what to install and ends with 69. Takes milliseconds when all is there.
need_packages() {
  missing=""
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
  done
  [ -z "$missing" ] && return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "Missing packages. As root: apt-get install --no-install-recommends$missing" >&2
    exit 69
  fi
  echo "installing:$missing" >&2
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >/dev/null || echo "apt-get update failed; trying with the lists that are there" >&2
  # shellcheck disable=SC2086
  apt-get install -y -qq --no-install-recommends $missing >/dev/null || {
    echo "could not install:$missing" >&2
    exit 69
  }
}

BUILD_PACKAGES="gcc g++ libc6-dev cmake ninja-build ccache pkg-config libhdf5-dev libjansson-dev libyaml-dev \
libsodium-dev libutf8proc-dev libxxhash-dev zlib1g-dev"
MODEL_PACKAGES="python3 python3-pip"

# ccache wants a folder that can be written; the home of a service account often cannot.
if [ -z "${CCACHE_DIR:-}" ] && [ ! -w "${HOME:-/nonexistent}" ]; then
  export CCACHE_DIR="$PWD/build/ccache"
fi
