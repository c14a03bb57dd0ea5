#!/bin/sh
# Whatever happens to the device, a run ends well or says why; no release has other bytes; running again finishes it.
# MQ_TEST_LEVEL=1..4: how many of the places where a device can be lost are tried (default 1).
set -eu
plugin=$BUILD/libmarquee_cuda_emulated.so
[ -f "$plugin" ] || {
  echo "skipped: libmarquee_cuda_emulated.so is not built (tests/simt/CMakeLists.txt says why)"
  exit 77
}
model=$SOURCE/tests/models/tiny-bert-64
# In memory where that exists: most of the time of these short runs is waiting for a disk.
work=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)
trap 'rm -rf "$work"' EXIT
n_checks=0
export MARQUEE_DATE=2026-11-23 XDG_CACHE_HOME="$work/cache" MARQUEE_SIMT_MEMORY=320000000
unset MARQUEE_SIMT_FAIL MARQUEE_SIMT_POISON MARQUEE_PLUGIN_DIR

fail() {
  echo "not ok: $*"
  [ ! -f "$work/log" ] || sed 's/^/  | /' "$work/log" | tail -n 30
  exit 1
}
ok() {
  n_checks=$((n_checks + 1))
  echo "ok $n_checks - $*"
}

"$MARQUEE" simulate -q --titles 24 --viewers 12 --seed 11 --until 2026-11-20 --output "$work/data"
cat >"$work/job.yaml" <<YAML
name: faults
inputs:
  titles: [{path: data/titles.jsonl}]
  histories: [{path: data/events.csv}]
  viewers: [{path: data/viewers.csv}]
privacy: {viewer_key: key}
models: {encoder: {path: $model}}
stages:
  embed: {shard_titles: 8}
output: {path: out, part_viewers: 8}
YAML
printf '%064d\n' 7 >"$work/key"

# run OUTPUT [VARIABLE=VALUE]... [ARGUMENT]...: the exit code is kept in $code
run() {
  out=$1
  shift
  variables=
  while [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; do
    variables="$variables $1"
    shift
  done
  code=0
  # shellcheck disable=SC2086 # one word each
  env $variables "$MARQUEE" run "$work/job.yaml" --backend cuda-emulated --set "output.path=$work/$out" "$@" \
    >"$work/log" 2>&1 || code=$?
  [ $code -lt 128 ] || fail "$variables: the program crashed (exit $code)"
}
bytes_of() { (cd "$work/$1/current" && cat ./* | b2sum); }
# Shards that are journaled twice.
done_twice() {
  cat "$work/$1"/runs/*/journals/*.journal 2>/dev/null | tr -c '[:print:]' '\n' |
    grep -o '"stage":"[a-z]*","shard":[0-9]*' | sort | uniq -d
}
embedded() {
  cat "$work/$1"/runs/*/journals/*.journal 2>/dev/null | tr -c '[:print:]' '\n' | grep -c '"stage":"embed","shard":' || true
}
expect_text() { grep -q "$1" "$work/log" || fail "$2: does not say \"$1\""; }
expect_nothing_published() { [ ! -e "$work/$1/current" ] || fail "$2: something was published"; }
expect_plain() {
  [ $code = 0 ] || fail "$2: exit $code"
  [ "$(bytes_of "$1")" = "$plain" ] || fail "$2: other bytes"
  [ -z "$(done_twice "$1")" ] || fail "$2: done twice: $(done_twice "$1")"
}

run plain MARQUEE_SIMT_REPORT="$work/kernels"
[ $code = 0 ] || fail "plain run: exit $code"
plain=$(bytes_of plain)
! grep -q '^simt:' "$work/log" || fail "plain run: the checker found something"
run counted MARQUEE_SIMT_CALLS="$work/calls"
expect_plain counted "second plain run"
n_calls() { sed -n "s/^$1 //p" "$work/calls"; }
ok "without bad luck two runs have the same bytes: $(n_calls any) calls, $(n_calls launch) launches"

# ---- no device ----

# absent NAME FAULT TEXT...
absent() {
  name=$1
  run absent MARQUEE_SIMT_FAIL="$2"
  [ $code = 69 ] || fail "$name: exit $code"
  shift 2
  for text in "$@"; do
    expect_text "$text" "$name"
  done
  expect_nothing_published absent "$name"
  ok "$name: exit 69, and it says what is missing"
}
absent "no device" no-device "no GPU"
absent "no driver" no-driver "no NVIDIA driver"
absent "a driver older than the toolkit" old-driver "too old" "11.4" "13."
mkdir "$work/empty"
run absent MARQUEE_PLUGIN_DIR="$work/empty"
[ $code = 69 ] || fail "no plugin: exit $code"
expect_text "libmarquee_cuda_emulated.so" "no plugin"
ok "no plugin: exit 69"

# ---- another plugin ----

# build FOLDER SOURCE
build() {
  mkdir -p "$work/$1"
  ${CC:-cc} -shared -fPIC -std=gnu17 -I "$SOURCE/include" -x c -o "$work/$1/libmarquee_cuda_emulated.so" "$2" -ldl
}
if command -v "${CC:-cc}" >/dev/null; then
  build odd "$SOURCE/tests/faults/odd_plugin.c"
  build void /dev/null
  export ODD_PLUGIN_REAL="$plugin"
  run other ODD_PLUGIN=abi MARQUEE_PLUGIN_DIR="$work/odd"
  [ $code = 76 ] || fail "another ABI version: exit $code"
  expect_text "build both from the same source" "another ABI version"
  run other MARQUEE_PLUGIN_DIR="$work/void"
  [ $code = 76 ] || fail "a library that is no plugin: exit $code"
  expect_nothing_published other "another ABI version"
  ok "a plugin of another ABI version, or none at all: exit 76"

  run memory ODD_PLUGIN_COUNT="$work/allocations" MARQUEE_PLUGIN_DIR="$work/odd"
  expect_plain memory "counting allocations"
  n_allocations=$(cat "$work/allocations") n_well=0 n=1
  while [ $n -le "$n_allocations" ]; do
    rm -rf "$work/memory"
    run memory ODD_PLUGIN="allocate:$n" MARQUEE_PLUGIN_DIR="$work/odd"
    if [ $code = 0 ]; then
      n_well=$((n_well + 1))
    else
      [ $code = 71 ] || fail "allocation $n of $n_allocations fails: exit $code"
      expect_text "allocation $n finds no memory" "allocation $n of $n_allocations fails"
      expect_nothing_published memory "allocation $n of $n_allocations fails"
      run memory
    fi
    expect_plain memory "allocation $n of $n_allocations fails"
    n=$((n + 1))
  done
  [ $n_well -gt 0 ] || fail "no failed allocation was made good by a smaller batch"
  [ $n_well -lt "$n_allocations" ] || fail "weights that do not fit cannot end well"
  ok "each of $n_allocations allocations fails once: $n_well runs end well, the others with 71 and then well"
else
  echo "skipped: no C compiler for the odd plugins"
fi

# ---- memory of the device ----

for kind in malloc host; do
  n=1
  while [ $n -le "$(n_calls $kind)" ]; do
    rm -rf "$work/memory"
    run memory MARQUEE_SIMT_FAIL="$kind:$n" MARQUEE_SIMT_MEMORY=640000000
    if [ $code != 0 ]; then
      [ $code = 71 ] || fail "$kind:$n: exit $code"
      expect_text "memory" "$kind:$n"
      expect_nothing_published memory "$kind:$n"
      run memory
    fi
    expect_plain memory "$kind:$n"
    n=$((n + 1))
  done
done
ok "every allocation of CUDA fails once: a smaller arena, or exit 71 and then well"
rm -rf "$work/memory"
run memory MARQUEE_SIMT_FAIL=malloc:1+
[ $code = 71 ] || fail "no memory at all: exit $code"
expect_text "MiB are free" "no memory at all"
ok "no memory at all: exit 71"
run memory --set stages.embed.batch_tokens=1048576
expect_text "event=out_of_memory" "batches larger than the device"
expect_plain memory "batches larger than the device"
ok "batches larger than the device are halved until they fit: the same bytes"

# ---- the device is lost ----

# lost FAULT TEXT [ARGUMENT]...: exit 75, nothing published; again, and well.
n_partial=0
lost() {
  fault=$1 text=$2
  shift 2
  rm -rf "$work/lost"
  run lost MARQUEE_SIMT_FAIL="$fault" "$@"
  [ $code = 75 ] || fail "$fault: exit $code"
  expect_text "$text" "$fault"
  expect_nothing_published lost "$fault"
  n_before=$(embedded lost)
  [ "$n_before" = 0 ] || n_partial=$((n_partial + 1))
  run lost
  expect_plain lost "$fault, then again"
}
places=$((8 * ${MQ_TEST_LEVEL:-1}))
i=0
while [ $i -lt $places ]; do
  # Not the first, before which nothing was there to be lost, nor the last: what closes the device may fail unnoticed.
  lost "any:$((2 + i * ($(n_calls any) - 40) / places))=lost" "cudaErrorDevicesUnavailable"
  # Most launches choose algorithms; the last ones are the shards.
  lost "launch:$(($(n_calls launch) - 60 + i * 60 / places))" "cudaErrorLaunchFailure"
  i=$((i + 1))
done
[ $n_partial -gt 0 ] || fail "no fault came between two shards"
ok "the device is lost at $places calls and $places launches: exit 75, finished shards are kept ($n_partial times), the same bytes"
for error in ecc illegal unknown; do
  lost "memcpy:$(($(n_calls memcpy) / 2))=$error" "is lost to this process"
done
ok "memory errors and unknown ones: the same"
rm -rf "$work/lost"
run lost MARQUEE_SIMT_FAIL="launch:$(($(n_calls launch) - 30))=invalid" # while algorithms are chosen it would be one refused
[ $code = 70 ] || fail "a launch that is refused: exit $code"
expect_text "cudaErrorInvalidValue" "a launch that is refused"
expect_nothing_published lost "a launch that is refused"
ok "a launch that is refused: exit 70, since another try would end the same way"
lost "launch:$(($(n_calls launch) / 2))" "all workers are gone" MARQUEE_SIMT_MEMORY=700000000 --workers 2
ok "all workers lose their device: the same"

# ---- wrong results ----

# wrong NAME POISON TEXT...: the CPU does the shard again.
wrong() {
  name=$1
  rm -rf "$work/wrong"
  run wrong MARQUEE_SIMT_POISON="$2"
  [ $code = 0 ] || fail "$name: exit $code"
  shift 2
  for text in "event=device_wrong" "$@"; do
    expect_text "$text" "$name"
  done
  "$MARQUEE" verify "$work/wrong" >"$work/verify" 2>&1 || fail "$name: verify"
  ok "$name: named, done again on the CPU"
}
attention=$(sed -n 's/.*"kernel":"\(attention[^"]*\)".*/\1/p' "$work/kernels" | head -n 1)
wrong "NaN out of attention" "$attention:1+" "stage=embed shard=0" "attention of layer 0 gave NaN"
wrong "NaN out of a norm" "layer_norm:1+" "layer_norm .* of layer 0 gave NaN"
wrong "NaN once" "embed_norm:2" "stage=embed shard=1" "finite ones when it was computed again"
[ "$(grep -c device_wrong "$work/log")" = 1 ] || fail "NaN once: more than one shard was done again"
wrong "NaN out of the profiles" "history_pool:1" "stage=profile" "history_pool gave NaN"

cp -r "$model" "$work/model"
size=$(wc -c <"$work/model/model.safetensors")
printf '\377\377\377\177' | dd of="$work/model/model.safetensors" bs=1 seek=$((size - 4)) conv=notrunc status=none
run damaged --set "models.encoder.path=$work/model"
[ $code = 81 ] || fail "NaN among the weights: exit $code"
expect_text "event=device_wrong" "NaN among the weights"
expect_text "not finite on the CPU either" "NaN among the weights"
expect_nothing_published damaged "NaN among the weights"
ok "NaN among the weights: wrong on the CPU too, exit 81"

echo "$n_checks passed, 0 failed"
