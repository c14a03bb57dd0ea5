#!/bin/sh
# All tests: installs what they need (as root; else names it), builds, and runs them through ctest.
#   sh tests/run.sh [-L LABEL | -R REGEX | any other ctest option]
# MARQUEE_TEST_LEVEL=quick leaves out the sanitizer build and the short fuzzing runs (default: all).
set -eu
case "${1:-}" in
-h | --help)
  sed -n '2,4s/^# \{0,1\}//p' "$0"
  exit 0
  ;;
esac
cd "$(dirname "$0")/.."
. jobs/packages.sh

# shellcheck disable=SC2086
need_packages $BUILD_PACKAGES libcmocka-dev clang clang-format libclang-rt-14-dev
[ -f models/all-MiniLM-L6-v2/model.safetensors ] || need_packages $MODEL_PACKAGES
sh jobs/fetch_minilm.sh || echo "tests/run.sh: going on without all-MiniLM-L6-v2: its tests say that they are skipped" >&2

echo "== building (the first time takes some minutes)"
[ -f build/release/build.ninja ] || cmake --preset release >/dev/null
cmake --build --preset release -- --quiet

status=0
if [ "${MARQUEE_TEST_LEVEL:-all}" != quick ]; then
  echo "== building the fuzzing targets and the sanitizer build"
  [ -f build/fuzz/build.ninja ] || cmake --preset fuzz >/dev/null
  cmake --build --preset fuzz --target fuzzers -- --quiet
  [ -f build/asan/build.ninja ] || cmake --preset asan >/dev/null
  cmake --build --preset asan -- --quiet
  echo "== AddressSanitizer and UBSan"
  # Left out: what runs long and calls the program only, or needs no sanitizer.
  ctest --test-dir build/asan --output-on-failure -j "$(nproc)" -E 'test_(resume|tidy|fuzz|digest_keys|evaluate)$' || status=$?
fi
echo "== release build"
ctest --test-dir build/release --output-on-failure -j "$(nproc)" "$@" || status=$?
exit $status
