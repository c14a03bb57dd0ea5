#!/bin/sh
# The quickstart: from a fresh machine to a published release, with nothing but this repository.
#   sh jobs/quickstart/run.sh [OUTPUT_FOLDER]          (default: out/quickstart)
# Installs Debian packages when root (else names them), builds, fetches the encoder's weights, simulates viewers, runs the
# job, and shows three viewers. A second run does nothing that is done already.
set -eu
case "${1:-}" in
-*)
  sed -n '2,5s/^# \{0,1\}//p' "$0"
  [ "$1" = --help ] || [ "$1" = -h ] || exit 64
  exit 0
  ;;
esac
cd "$(dirname "$0")/../.."
. jobs/packages.sh

out=${1:-out/quickstart}
case $out in /*) ;; *) out=$(pwd)/$out ;; esac
date=${MARQUEE_DATE:-2026-11-23}
# shellcheck disable=SC2086
need_packages $BUILD_PACKAGES
[ -f models/all-MiniLM-L6-v2/model.safetensors ] || need_packages $MODEL_PACKAGES

[ -f build/release/build.ninja ] || cmake --preset release >/dev/null
echo "building build/release/marquee (a minute or two the first time)" >&2
cmake --build --preset release --target marquee -- --quiet
marquee=build/release/marquee

sh jobs/fetch_minilm.sh
[ -f "$out/data/events.csv" ] ||
  "$marquee" simulate --titles-file jobs/quickstart/titles.jsonl --viewers 1200 --seed 7 --until "$date" --output "$out/data"

"$marquee" run jobs/quickstart/job.yaml --date "$date" --set "output.path=$out" \
  --set "inputs.viewers[0].path=$out/data/viewers.csv" --set "inputs.histories[0].path=$out/data/events.csv"

# Three viewers of different kinds: the first, a middle and the last of the simulated ones.
for line in 2 600 1201; do
  viewer=$(sed -n "${line}p" "$out/data/viewers.csv" | cut -d, -f1)
  echo
  "$marquee" show "$out" --viewer "$viewer" --rows 5
done
echo
echo "Next: $marquee search $out \"a heist that goes wrong in the desert\""
