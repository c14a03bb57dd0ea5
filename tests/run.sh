#!/bin/sh
# All tests: installs what they need (as root; else names it), builds, and runs them through ctest.
#   sh tests/run.sh [-L LABEL | -R REGEX | any other ctest option]
# MARQUEE_TEST_LEVEL=quick leaves out the sanitizer build and the short fuzzing runs (default: all).
# MQ_TEST_LEVEL=1..4: how many shapes the kernels are tried on (default 1: minutes; 4: hours).
# Without CUDA's nvcc here the emulated device still runs the CUDA kernels (8 MB of headers are fetched for it); MARQUEE_FETCH_CUDA=1
# fetches the whole toolkit (830 MB) into build/, so that nvcc compiles them too and what it made is tested.
set -eu
case "${1:-}" in
-h | --help)
  sed -n '2,7s/^# \{0,1\}//p' "$0"
  exit 0
  ;;
esac
cd "$(dirname "$0")/.."
. jobs/packages.sh

# shellcheck disable=SC2086
need_packages $BUILD_PACKAGES libcmocka-dev libboost-context-dev clang clang-format libclang-rt-14-dev
[ -f models/all-MiniLM-L6-v2/model.safetensors ] || need_packages $MODEL_PACKAGES
if ! command -v nvcc >/dev/null && [ ! -x /usr/local/cuda/bin/nvcc ] && [ ! -x build/cuda-toolkit/nvidia/cu13/bin/nvcc ]; then
  need_packages $MODEL_PACKAGES
  if [ "${MARQUEE_FETCH_CUDA:-0}" = 1 ]; then
    sh jobs/fetch_cuda.sh || echo "tests/run.sh: going on without nvcc: its tests say that they are skipped" >&2
  elif [ ! -f build/cuda-toolkit/nvidia/cu13/include/cuda_runtime_api.h ]; then
    sh jobs/fetch_cuda.sh --headers || echo "tests/run.sh: going on without CUDA's headers: the emulated device is skipped" >&2
  fi
fi
if [ "${MARQUEE_FETCH_CUDA:-0}" = 1 ] && ! command -v cuobjdump >/dev/null && [ ! -x build/cuda-toolkit/nvidia/cu13/bin/cuobjdump ]; then
  sh jobs/fetch_cuda.sh --tools || echo "tests/run.sh: going on without cuobjdump: its tests say that they are skipped" >&2
fi
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
