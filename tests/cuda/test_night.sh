#!/bin/sh
# A whole night through the CUDA plugin's own code, on the emulated device: vectors as the CPU's, the same bytes whatever the
# workers, batches, seeds of the emulator and crashes; --trace, bench and doctor on such a device.
set -eu
[ -f "$BUILD/libmarquee_cuda_emulated.so" ] || {
  echo "skipped: libmarquee_cuda_emulated.so is not built (tests/simt/CMakeLists.txt says why)"
  exit 77
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export MARQUEE_DATE=2026-11-23 XDG_CACHE_HOME="$work/cache" MARQUEE_SIMT_MEMORY=700000000
model=$SOURCE/tests/models/tiny-bert-64
n_checks=0
ok() {
  n_checks=$((n_checks + 1))
  echo "ok $n_checks - $*"
}
fail() {
  echo "not ok: $*"
  [ ! -f "$work/log" ] || sed 's/^/  | /' "$work/log" | tail -n 40
  exit 1
}

# ---- the encoder ----
head -n 24 "$SOURCE/jobs/quickstart/titles.jsonl" | sed 's/.*"synopsis": *"\([^"]*\)".*/\1/' >"$work/texts.txt"
"$MARQUEE" embed -q -m "$model" -i "$work/texts.txt" -o "$work/cpu.jsonl" --text --backend cpu
# cosine FILE OTHER: the worst between their vectors.
cosine() {
  sed 's/.*"vector": *\[\([^]]*\)\].*/\1/' "$1" "$2" | awk -F, '
    { rows[NR] = $0 }
    END {
      worst = 2
      for (i = 1; i <= NR / 2; i++) {
        n = split(rows[i], a); split(rows[i + NR / 2], b)
        dot = aa = bb = 0
        for (c = 1; c <= n; c++) { dot += a[c] * b[c]; aa += a[c] * a[c]; bb += b[c] * b[c] }
        cosine = dot / sqrt(aa * bb)
        if (!(cosine >= worst)) worst = cosine
      }
      print worst }'
}
for compute in 80 90; do
  MARQUEE_SIMT_COMPUTE=$compute "$MARQUEE" embed -m "$model" -i "$work/texts.txt" -o "$work/$compute.jsonl" --text \
    --backend cuda-emulated --batch-tokens 128 --trace "$work/trace.json" >"$work/log" 2>&1 || fail "embed at $compute"
  ! grep -q '^simt:' "$work/log" || fail "embed at $compute: the checker found something"
  worst=$(cosine "$work/cpu.jsonl" "$work/$compute.jsonl")
  awk "BEGIN { exit !($worst >= 0.9999) }" || fail "embed at $compute: worst cosine to the CPU $worst"
  ok "sm_$compute: vectors agree with the CPU's (worst cosine $worst)"
done
if [ -f "$SOURCE/models/all-MiniLM-L6-v2/model.safetensors" ]; then
  head -n 6 "$work/texts.txt" >"$work/few.txt"
  for backend in cpu cuda-emulated; do
    "$MARQUEE" embed -q -m "$SOURCE/models/all-MiniLM-L6-v2" -i "$work/few.txt" -o "$work/minilm-$backend.jsonl" --text \
      --backend $backend >"$work/minilm.log" 2>&1 || { mv "$work/minilm.log" "$work/log" && fail "all-MiniLM-L6-v2 on $backend"; }
  done
  worst=$(cosine "$work/minilm-cpu.jsonl" "$work/minilm-cuda-emulated.jsonl")
  awk "BEGIN { exit !($worst >= 0.9999) }" || fail "all-MiniLM-L6-v2: worst cosine to the CPU $worst"
  ok "all-MiniLM-L6-v2 agrees with the CPU (worst cosine $worst)"
else
  echo "skipped: models/all-MiniLM-L6-v2 is absent"
fi
grep -q 'event=trace .*device_idle_percent=[0-9.]* .*copy_s=0*\.*[0-9.]*' "$work/log" || fail "no summary of the trace"
for lane in host copy compute; do
  grep -q "\"thread_name\".*\"$lane\"" "$work/trace.json" || fail "the trace has no lane $lane"
done
grep -q '"name":"attention' "$work/trace.json" || fail "the trace has no attention"
ok "the trace has its three lanes and a summary"

# ---- a night ----
"$MARQUEE" simulate -q --titles-file "$SOURCE/jobs/quickstart/titles.jsonl" --viewers 60 --seed 7 --until 2026-11-20 --output "$work/all"
head -n 60 "$SOURCE/jobs/quickstart/titles.jsonl" >"$work/titles.jsonl"
cat >"$work/job.yaml" <<YAML
name: night
inputs:
  titles: [{path: titles.jsonl}]
  histories: [{path: all/events.csv, max_unknown: 1}]
  viewers: [{path: all/viewers.csv}]
privacy: {viewer_key: key}
models: {encoder: {path: $model}}
stages: {embed: {shard_titles: 20, batch_tokens: 512}}
output: {path: out}
YAML
printf '%064d\n' 7 >"$work/key"
plain=
# same NAME [VARIABLE=VALUE]... [FLAG]...
same() {
  name=$1
  shift
  variables=
  while [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; do
    variables="$variables $1"
    shift
  done
  # shellcheck disable=SC2086 # one word each
  env $variables "$MARQUEE" run "$work/job.yaml" --backend cuda-emulated --set "output.path=$work/$name" "$@" >"$work/log" 2>&1 || {
    case $variables in
    *CRASHPOINT*) "$MARQUEE" run "$work/job.yaml" --backend cuda-emulated --set "output.path=$work/$name" "$@" >"$work/log" 2>&1 ||
      fail "$name, resumed" ;;
    *) fail "$name: exit $?" ;;
    esac
  }
  ! grep -q '^simt:' "$work/log" || fail "$name: the checker found something"
  bytes=$(cd "$work/$name/current" && cat ./* | b2sum)
  plain=${plain:-$bytes}
  [ "$bytes" = "$plain" ] || fail "$name: other bytes"
  ok "$name"
}
same plain
"$MARQUEE" verify "$work/plain" >"$work/log" 2>&1 || fail "verify"
grep -aq backend "$work/plain/current/catalog.h5" || fail "the release does not name its backend"
[ -s "$work"/plain/runs/night-*/gemm.json ] || fail "the run has no gemm.json"
same seed MARQUEE_SIMT_SEED=5
same workers --workers 2
same batches --set stages.embed.batch_tokens=96 --set stages.embed.shard_titles=60
same resumed MARQUEE_CRASHPOINT=shard_in_place
same little_memory MARQUEE_SIMT_MEMORY=300000000 --set stages.embed.batch_tokens=1048576
"$MARQUEE" run "$work/job.yaml" --backend cpu --set "output.path=$work/plain" >"$work/log" 2>&1 || fail "cpu"
[ "$(ls "$work/plain/runs" | wc -l)" = 2 ] || fail "CPU and CUDA share a run folder"
ok "another backend is another run"

# ---- bench and doctor ----
"$MARQUEE" bench --backend cuda-emulated --model "$model" --seconds 0 --items 64 --lengths 8 --batches 1,2 --dollars-per-hour 2 \
  --svg "$work/bench.svg" --json >"$work/bench.json" 2>"$work/log" || fail "bench"
for key in tokens_per_s tflops share_of_ceiling p50_ms p99_ms energy_per_token_joules dollars_per_1000_texts peak_device_memory_bytes; do
  grep -q "\"$key\"" "$work/bench.json" || fail "bench --json has no $key"
done
grep -q '<polyline' "$work/bench.svg" || fail "bench --svg has no line"
ok "bench: figures, price and picture"
"$MARQUEE" doctor --backend cuda-emulated >"$work/log" 2>&1 || fail "doctor"
grep -q 'cuda:0 .*Emulated sm_90, compute capability 9.0' "$work/log" || fail "doctor does not list the device"
MARQUEE_SIMT_FAIL=no-device "$MARQUEE" doctor --backend cuda-emulated >"$work/log" 2>&1 && fail "doctor without a device"
MARQUEE_SIMT_FAIL=old-driver "$MARQUEE" doctor --backend cuda-emulated >"$work/log" 2>&1 && fail "doctor with an old driver"
grep -qi 'driver' "$work/log" || fail "doctor does not name the old driver"
ok "doctor: the device, none, and a driver that is too old"
echo "$n_checks checks passed"
