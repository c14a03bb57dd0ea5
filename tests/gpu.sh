#!/bin/sh
# Everything that only a GPU can show, in under nine minutes: builds, runs the list of cases on the device, compute-sanitizer,
# the quickstart on the GPU against the CPU's release, and the benchmarks beside peers on the same GPU.
#   sh tests/gpu.sh             results: OUT (default out/gpu)/results.jsonl and table.md, and at the end of the output
#   sh tests/gpu.sh --rehearse  the same steps on the emulated device and tiny shapes, to try this script; measures nothing
# Needs nvcc, CMake, a C compiler, Python (peers: torch, sentence-transformers; comparing: h5py, numpy) and no network: libraries and
# all-MiniLM-L6-v2 are taken from the machine, else from gpu-pack/ (made elsewhere by tests/gpu_pack.sh, 54 MiB).
# Without a GPU it says so and ends with 0.
set -u
case "${1:-}" in
-h | --help)
  sed -n '2,8s/^# \{0,1\}//p' "$0"
  exit 0
  ;;
'' | --rehearse) ;;
*)
  echo "tests/gpu.sh: \"$1\" is none of its flags: sh tests/gpu.sh --help" >&2
  exit 64
  ;;
esac
cd "$(dirname "$0")/.."
rehearsal=
backend=cuda
[ "${1:-}" = --rehearse ] && rehearsal=1 backend=cuda-emulated

if [ -z "$rehearsal" ] && ! nvidia-smi -L 2>/dev/null | grep -q GPU; then
  echo "tests/gpu.sh: there is no GPU here (nvidia-smi -L lists none): nothing was run, nothing was measured"
  exit 0
fi
out=${OUT:-out/gpu}
build=build/gpu
python=${PYTHON:-python3}
mkdir -p "$build" "$out" && out=$(cd "$out" && pwd) && results=$out/results.jsonl && : >"$results" || exit 73
status=0
begin=$(date +%s)
device=$([ -n "$rehearsal" ] && echo "rehearsal, not a GPU" || nvidia-smi --query-gpu=name --format=csv,noheader | head -1)
echo "== $device"
[ -n "$rehearsal" ] || nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv

# step NAME SECONDS COMMAND...: runs it under a time limit, keeps its output in OUT/NAME.log, notes how it ended. After 500
# seconds in all nothing more is begun, so that what was found is told in under nine minutes.
step() {
  name=$1 limit=$2
  shift 2
  left=$((begin + 500 - $(date +%s)))
  if [ $left -le 0 ]; then
    : >"$out/$name.log"
    echo "{\"step\":\"$name\",\"result\":\"skipped: no time left\",\"seconds\":0,\"device\":\"$device\"}" | tee -a "$results"
    return 77
  fi
  [ "$limit" -le $left ] || [ -n "$rehearsal" ] || limit=$left
  echo "== $name"
  started=$(date +%s)
  timeout "$limit" "$@" >"$out/$name.log" 2>&1
  code=$?
  case $code in
  0) result=passed ;;
  77) result="skipped: $(tail -n 1 "$out/$name.log")" ;;
  124) result="stopped after $limit s" status=1 ;;
  *) result="failed ($code)" status=1 ;;
  esac
  tail -n "${LINES_SHOWN:-12}" "$out/$name.log"
  echo "{\"step\":\"$name\",\"result\":\"$result\",\"seconds\":$(($(date +%s) - started)),\"device\":\"$device\"}" | tee -a "$results"
  return $code
}

# What the machine lacks of our libraries comes from the pack (old dtags: the path holds for libraries of libraries too).
if ! pkg-config --exists hdf5-serial jansson yaml-0.1 libsodium libutf8proc libxxhash zlib cmocka 2>/dev/null; then
  if [ ! -f gpu-pack/sysroot.tar.gz ]; then
    echo "tests/gpu.sh: the libraries are not installed (README.md), and gpu-pack/ is not here (tests/gpu_pack.sh makes it)" >&2
    exit 69
  fi
  root=$PWD/$build/sysroot
  mkdir -p "$root" && tar -xzf gpu-pack/sysroot.tar.gz -C "$root"
  lib=$root/usr/lib/x86_64-linux-gnu
  export PKG_CONFIG_SYSROOT_DIR="$root" PKG_CONFIG_LIBDIR="$lib/pkgconfig" CPATH="$root/usr/include" LIBRARY_PATH="$lib" \
    LDFLAGS="-Wl,--disable-new-dtags -Wl,-rpath,$lib:$lib/hdf5/serial -Wl,-rpath-link,$lib" PATH="$PATH:$root/usr/bin"
  # The pack's pkg-config, where there is none, with its own library.
  command -v pkg-config >/dev/null && pkg-config --version >/dev/null 2>&1 || {
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s/usr/bin/pkgconf "$@"\n' "$lib" "$root" >"$root/pkg-config"
    chmod +x "$root/pkg-config"
    export PKG_CONFIG="$root/pkg-config"
  }
fi
model=models/all-MiniLM-L6-v2
[ -f $model/model.safetensors ] || model=gpu-pack/all-MiniLM-L6-v2

generator=$(command -v ninja >/dev/null && echo Ninja || echo "Unix Makefiles")
[ -n "$rehearsal" ] && cuda=AUTO || cuda=ON
step configure 60 cmake -S . -B "$build" -G "$generator" -DCMAKE_BUILD_TYPE=Release "-DCMAKE_C_FLAGS_RELEASE=-O3" -DMARQUEE_CUDA=$cuda || exit 1
benches="gemm attention norm embed_norm pool history_pool topk kmeans convert"
# shellcheck disable=SC2046
step build ${BUILD_SECONDS:-300} cmake --build "$build" -j "$(nproc)" --target marquee test_backends \
  "marquee_$(echo $backend | tr - _)" $(printf ' bench_%s' $benches) || exit 1
marquee=$build/marquee
export MARQUEE_PLUGIN_DIR="$PWD/$build"
step doctor 30 "$marquee" doctor --backend $backend || exit 1

# The instructions themselves, as the emulator understands them: its sm_90 kernels on the device.
if [ -z "$rehearsal" ]; then
  nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
  step instructions 120 sh -euc "'$nvcc' -std=c++17 -fmad=false -gencode arch=compute_90a,code=sm_90a -I. -Iinclude \
    tests/simt/device_async.cu tests/simt/async_kernels.cu -o '$build/device_async' && '$build/device_async'"
fi

MQ_TEST_LEVEL=${MQ_TEST_LEVEL:-$([ -n "$rehearsal" ] && echo 0 || echo 2)} step cases 120 "$build/tests/test_backends" $backend
if [ -n "$rehearsal" ]; then
  echo '{"step":"sanitizer","result":"skipped: rehearsal","seconds":0}' >>"$results"
elif command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck synccheck; do
    MQ_TEST_LEVEL=0 step "sanitizer-$tool" 60 compute-sanitizer --tool $tool --error-exitcode 9 --launch-timeout 60 \
      "$build/tests/test_backends" $backend
  done
else
  echo '{"step":"sanitizer","result":"skipped: no compute-sanitizer here","seconds":0}' >>"$results"
fi

# The whole pipeline on both backends, from the same simulated viewers.
data=$out/quickstart
titles=jobs/quickstart/titles.jsonl
viewers=1200
rm -rf "$data" && mkdir -p "$data"
if [ -n "$rehearsal" ]; then
  head -n 40 $titles >"$data/titles.jsonl"
  titles=$data/titles.jsonl viewers=60 model=tests/models/tiny-bert-64
fi
export marquee model backend data titles viewers python out
step quickstart 120 sh -euc '
  printf "%064d\n" 7 >"$data/key"
  "$marquee" simulate --titles-file "$titles" --viewers "$viewers" --seed 7 --until 2026-11-23 --output "$data/input"
  for name in cpu "$backend"; do
    "$marquee" run jobs/quickstart/job.yaml --date 2026-11-23 --backend "$name" --trace "$out/trace-$name.json" --set "privacy.viewer_key=$data/key" \
      --set "output.path=$data/$name" --set "models.encoder.path=$PWD/$model" --set "inputs.titles[0].path=$(realpath "$titles")" \
      --set "inputs.viewers[0].path=$data/input/viewers.csv" --set "inputs.histories[0].path=$data/input/events.csv"
  done
  "$marquee" verify "$data/$backend"
  "$python" -c "import h5py, numpy" || { echo "the releases are not compared: this Python has no h5py or numpy"; exit 77; }
  "$python" benchmarks/gpu/compare_releases.py "$data/cpu/current" "$data/$backend/current"
'
grep -h '^{"op"' "$out/quickstart.log" >>"$results"

# Ours beside the peers, on the same weights and the same texts.
texts=$out/texts.txt
"$python" -c '
import json
rows = [json.loads(l) for l in open("'"$titles"'", encoding="utf-8")]
texts = ["%s (%s). %s" % (r["title"], r.get("year"), r.get("synopsis", "")) for r in rows]
print("\n".join((texts * (1 if "'"$rehearsal"'" else 40))))' >"$texts"
export texts
if [ -n "$rehearsal" ]; then
  quick="--seconds 0 --items 200 --lengths 8 --batches 1,2"
else
  quick="--seconds 0.3 --batches 1,64,1024,4096"
fi
export quick
step bench 120 sh -euc '"$marquee" bench --backend "$backend" --model "$model" $quick --svg "$out/bench.svg" --json'
sed -n '/^{/,$p' "$out/bench.log" >"$out/bench.json"
step embed 60 sh -euc '
  for i in 1 2 3; do "$marquee" embed --backend "$backend" --model "$model" --text --input "$texts" --output "$out/vectors.h5" --json; done'
"$python" - "$out/embed.log" "$(wc -l <"$texts")" "$device" >>"$results" <<'PYTHON'
import json, sys
runs = [json.loads(l) for l in open(sys.argv[1]) if l.startswith("{")]
if runs:
    best = min(runs, key=lambda r: r["seconds"])      # the program's whole run: opening the model included
    print(json.dumps({"op": "encoder", "case": sys.argv[2] + " texts", "seconds": best["seconds"], "texts_per_s": best["rows_per_s"],
                      "tokens_per_s": best["tokens"] / best["seconds"], "device": sys.argv[3], "note": "marquee embed, whole program"}))
PYTHON
for bench in $benches; do # not `name`: that is step's
  step "bench_$bench" 60 "$build/benchmarks/bench_$bench" --backend $backend
  grep -h '^{' "$out/bench_$bench.log" >>"$results"
done
if "$python" -c 'import torch' 2>/dev/null; then
  small=
  [ -n "$rehearsal" ] && small="--device cpu --small --seconds 0"
  # shellcheck disable=SC2086
  step peers-ops 90 "$python" benchmarks/gpu/peers.py ops $small
  # shellcheck disable=SC2086
  step peers-encoder 90 env HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=true "$python" benchmarks/gpu/peers.py encoder "$model" "$texts" $small
  grep -h '^{' "$out/peers-ops.log" "$out/peers-encoder.log" >>"$results"
else
  echo '{"step":"peers","result":"skipped: this Python has no torch","seconds":0}' >>"$results"
fi

echo "{\"step\":\"all\",\"result\":\"$([ $status = 0 ] && echo passed || echo FAILED)\",\"seconds\":$(($(date +%s) - begin)),\"device\":\"$device\"}" >>"$results"
"$python" benchmarks/gpu/table.py "$results" | tee "$out/table.md"
exit $status
