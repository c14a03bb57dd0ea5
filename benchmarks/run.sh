#!/bin/sh
# All benchmarks, one JSON line per case, each with its ratio to a limit or to a peer that was measured beside it.
#   sh benchmarks/run.sh [gemm|attention|norm|embed_norm|pool|history_pool|convert|kmeans|topk|embed|tokenizer|publish|import|match|quickstart ...]     (default: all)
# PEERS_PYTHON: a Python with torch, sentence-transformers, onnxruntime, faiss-cpu, tokenizers; PEERS: the folder with the peers'
# scripts (default ../shared/peers). Without them our own lines are printed and the peers are said to be skipped.
# ROUNDS: how often each side runs, in turn (default 3). Wants a quiet machine; compare ratios, not seconds.
set -eu
case "${1:-}" in
-h | --help)
  sed -n '2,6s/^# \{0,1\}//p' "$0"
  exit 0
  ;;
esac
cd "$(dirname "$0")/.."
[ -f build/release/build.ninja ] || cmake --preset release >/dev/null
cmake --build --preset release -- --quiet
bin=build/release/benchmarks
peers=${PEERS:-../shared/peers}
rounds=${ROUNDS:-3}
model=models/all-MiniLM-L6-v2
films=../shared/data/wiki-films

# versus NAME OURS PEER...: in turn with the peers, or ours alone.
versus() {
  name=$1 ours=$2
  shift 2
  if [ -z "${PEERS_PYTHON:-}" ] || [ ! -d "$peers" ]; then
    $ours
    echo "{\"name\":\"$name\",\"skipped\":\"peers: set PEERS_PYTHON and PEERS\"}"
    return
  fi
  for peer in "$@"; do
    set -- "$@" --peer "$PEERS_PYTHON $peers/$peer"
    shift
  done
  "$PEERS_PYTHON" benchmarks/versus.py --rounds "$rounds" --ours "$ours" "$@"
}

section() {
  case $1 in
  gemm) $bin/bench_gemm ;;
  attention) $bin/bench_attention ;;
  norm | embed_norm | pool | history_pool | convert | kmeans) $bin/bench_"$1" ;;
  topk) versus topk "$bin/bench_topk --seconds 1 14000 384 20000 100" "topk.py --repeats 1" ;;
  embed)
    [ -d "$films" ] || { echo '{"name":"embed","skipped":"../shared/data/wiki-films is absent"}'; return; }
    versus embed "$bin/bench_embed $model $films 1000 1" "embed.py --limit 1000 --repeats 1 --engines torch,ort" \
      "topk.py --repeats 1 --queries 4096"
    ;;
  tokenizer)
    [ -d "$films" ] || { echo '{"name":"tokenizer","skipped":"../shared/data/wiki-films is absent"}'; return; }
    versus tokenizer "$bin/bench_tokenizer $model $films 1" \
      "tokenize_texts.py --threads 1 --repeats 1 --tokenizer $model/tokenizer.json"
    ;;
  publish) $bin/bench_publish ;;
  import) $bin/bench_import ;;
  match) $bin/bench_match ;;
  quickstart)
    folder=$(mktemp -d)
    MARQUEE_THREADS=2 sh jobs/quickstart/run.sh "$folder" >/dev/null 2>&1
    python3 - "$folder"/runs/*/report.json <<'PY' || cat "$folder"/runs/*/report.json
import json, sys
report = json.load(open(sys.argv[1]))
print(json.dumps({"name": "quickstart", "wall_seconds": report["wall_seconds"], "peak_memory_mib": report["peak_memory_bytes"] >> 20}))
PY
    rm -rf "$folder"
    ;;
  *)
    echo "benchmarks/run.sh: no section \"$1\": gemm attention norm embed_norm pool history_pool convert kmeans topk embed tokenizer publish import match quickstart" >&2
    exit 64
    ;;
  esac
}

echo "{\"name\":\"machine\",\"cpu\":\"$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -1)\",\"cores\":$(nproc),\"program\":\"$(build/release/marquee --version | head -1)\"}"
[ $# -gt 0 ] || set -- gemm attention norm embed_norm pool history_pool convert kmeans topk embed tokenizer publish import match quickstart
for name in "$@"; do
  section "$name"
done
