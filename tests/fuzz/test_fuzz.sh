#!/bin/sh
# A short run of every fuzz target, from its seeds. FUZZ_SECONDS each (default 8); build them with the preset `fuzz`.
set -eu
found=""
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for target in "$SOURCE"/build/fuzz/tests/fuzz_*; do
  [ -f "$target" ] && [ -x "$target" ] || continue
  found=yes
  name=$(basename "$target" | sed 's/^fuzz_//')
  mkdir -p "$work/$name"
  seeds=$SOURCE/tests/fuzz/corpus/$name
  [ -d "$seeds" ] || { echo "fuzz_$name has no seeds in tests/fuzz/corpus/$name"; exit 1; }
  if ! (cd "$work" && "$target" -max_total_time="${FUZZ_SECONDS:-8}" -timeout=20 -rss_limit_mb=2048 -artifact_prefix="$work/" \
    -print_final_stats=1 "$work/$name" "$seeds") > "$work/$name.log" 2>&1; then
    tail -40 "$work/$name.log"
    for crash in "$work"/crash-* "$work"/timeout-* "$work"/oom-*; do
      [ -e "$crash" ] && { echo "input: $(base64 -w0 < "$crash")"; }
    done
    echo "not ok - fuzz_$name"
    exit 1
  fi
  echo "ok - fuzz_$name: $(sed -n 's/stat::number_of_executed_units: *//p' "$work/$name.log") inputs"
done
[ -n "$found" ] || {
  echo "skipped: no fuzz targets: cmake --preset fuzz && cmake --build --preset fuzz --target fuzzers"
  exit 77
}
