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
expect 69 'where MARQUEE_PLUGIN_DIR says' env MARQUEE_PLUGIN_DIR=/nowhere "$MARQUEE" embed --backend cuda \
  -m "$SOURCE/tests/models/tiny-bert" -i /dev/null -o "$folder/x.h5"
expect 64 'backend "gpu" is unknown: expected auto, cpu, cuda or cuda:N' "$MARQUEE" doctor --backend gpu
printf 'not a library' >"$folder/libmarquee_cuda.so"
expect 69 'libmarquee_cuda.so cannot be opened' env MARQUEE_PLUGIN_DIR="$folder" "$MARQUEE" doctor --backend cuda
expect 0 'no health of GPUs: MARQUEE_NVML cannot be opened: /nowhere.so' env MARQUEE_NVML=/nowhere.so "$MARQUEE" doctor

# ---- bench: what is wrong is said before anything is measured ----
bench="$MARQUEE bench --backend cpu --model $SOURCE/tests/models/tiny-bert-64 --seconds 0 --items 32"
expect 64 'batches is "64,1": expected ascending' $bench --batches 64,1
expect 64 'batches is "": expected' $bench --batches ''
expect 64 'threads is "2.5": expected a number from 1 to 4096' $bench --threads 2.5
expect 64 'lengths: 600 is more than this model.s window of 24' $bench --lengths 8,600
expect 73 'svg /nowhere/x.svg: No such file' $bench --svg /nowhere/x.svg
expect 73 'this is a folder' $bench --svg "$folder"
! grep -q 'the ceiling' "$folder/out" || { echo "FAILED: bench measured first"; n_failed=1; }
expect 0 'the ceiling' $bench --lengths 8 --batches 1,2 --svg "$folder/x.svg"
[ -s "$folder/x.svg" ] || { echo "FAILED: no picture"; n_failed=1; }

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
  echo "a film" >"$folder/texts"
  embed="$MARQUEE embed --backend cuda-emulated -m $SOURCE/tests/models/tiny-bert-64 -i $folder/texts -o $folder/x.h5 --json"
  expect 0 '"backend":"cuda-emulated"' $embed
  expect 75 'the GPU is lost to this process' env MARQUEE_SIMT_FAIL=launch:20 $embed
else
  echo "skipped: the emulated device is not built"
fi
[ $n_failed = 0 ] || exit 1
echo "ok"
