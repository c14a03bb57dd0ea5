#!/bin/sh
# marquee doctor and the energy of marquee bench: a machine without CUDA, GPUs that are healthy, sick, or say little (the
# management library is tests/cli/fake_nvml.c, the devices are emulated).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export XDG_CACHE_HOME="$folder/cache" MARQUEE_SIMT_MEMORY=400000000
n_failed=0
# expect CODE PATTERN COMMAND...: the exit code, and a pattern (grep -E) in stdout and stderr together.
expect() {
  code=$1 pattern=$2
  shift 2
  got=0
  "$@" >"$folder/out" 2>&1 </dev/null || got=$?
  if [ "$got" != "$code" ] || ! grep -qE -- "$pattern" "$folder/out"; then
    echo "FAILED: $*"
    echo "  expected $code and /$pattern/, got $got and:"
    sed 's/^/  | /' "$folder/out"
    n_failed=$((n_failed + 1))
  fi
}

# ---- no plugin at all ----
expect 0 'no CUDA: libmarquee_cuda.so is not in /nowhere' env MARQUEE_PLUGIN_DIR=/nowhere "$MARQUEE" doctor
expect 0 'takes cpu \(auto: ' env MARQUEE_PLUGIN_DIR=/nowhere "$MARQUEE" doctor
expect 69 'libmarquee_cuda.so is not in /nowhere' env MARQUEE_PLUGIN_DIR=/nowhere "$MARQUEE" doctor --backend cuda
expect 69 'this build has no cuda backend' env MARQUEE_PLUGIN_DIR=/nowhere "$MARQUEE" embed --backend cuda \
  -m "$SOURCE/tests/models/tiny-bert" -i /dev/null -o "$folder/x.h5"
expect 64 'backend "gpu" is unknown: expected auto, cpu, cuda or cuda:N' "$MARQUEE" doctor --backend gpu
printf 'not a library' >"$folder/libmarquee_cuda.so"
expect 69 'libmarquee_cuda.so cannot be opened' env MARQUEE_PLUGIN_DIR="$folder" "$MARQUEE" doctor --backend cuda
expect 0 'no health of GPUs: /nowhere.so cannot be opened' env MARQUEE_NVML=/nowhere.so "$MARQUEE" doctor

# ---- devices ----
if [ -f "$BUILD/libmarquee_cuda_emulated.so" ]; then
  export MARQUEE_NVML="$BUILD/tests/libfake_nvml.so"
  [ -f "$MARQUEE_NVML" ] || { echo "FAILED: $MARQUEE_NVML is missing"; exit 1; }
  doctor="$MARQUEE doctor --backend cuda-emulated"
  expect 0 'Emulated sm_90, compute capability 9.0, .*free: 1 GiB.*temperature 61 C' $doctor
  expect 0 'memory errors: corrected 0, uncorrected 0; row remap pending: no, failed: no' $doctor
  expect 0 'driver 999.1.02 supports CUDA' $doctor
  expect 0 'NOT HEALTHY: reset it' env FAKE_NVML=sick $doctor
  expect 0 '"healthy": false' env FAKE_NVML=sick $doctor --json
  expect 0 '"ecc_errors_uncorrected": 2' env FAKE_NVML=sick $doctor --json
  expect 0 '"healthy": null' env FAKE_NVML=old $doctor --json
  expect 0 'corrected unknown, uncorrected unknown; row remap pending: unknown' env FAKE_NVML=old $doctor
  expect 0 'no health of GPUs: NVML does not start: Driver Not Loaded' env FAKE_NVML=broken $doctor
  bench="$MARQUEE bench --backend cuda-emulated --model $SOURCE/tests/models/tiny-bert-64 --seconds 0 --items 32 --lengths 8
    --batches 1 --json"
  expect 0 '"energy_source": "NVML"' $bench
  expect 0 '"energy_per_token_joules": [0-9]' $bench
  expect 0 '"energy_per_token_joules": "unknown"' env FAKE_NVML=old $bench
else
  echo "skipped: the emulated device is not built"
fi
[ $n_failed = 0 ] || exit 1
echo "ok"
