#!/bin/sh
# What docs/job-file.md does not mark as shaping the release must not: each such number, set to something small, gives the
# same run id and the same bytes. And a marked one gives another run.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset MARQUEE_DATE
export MARQUEE_LOG_FORMAT=text

"$MARQUEE" simulate -q --titles 60 --viewers 30 --seed 5 --until 2026-11-20 --output "$work/data" >"$work/log"
printf '%064d\n' 9 >"$work/key"
cat >"$work/job.yaml" <<END
name: digest
inputs:
  titles: {path: data/titles.jsonl}
  histories: {path: data/events.csv}
  viewers: {path: data/viewers.csv}
privacy: {viewer_key: key}
models: {encoder: {path: $SOURCE/tests/models/tiny-bert}}
output: {path: out}
END

# run OUTPUT ARGUMENTS...: prints the run's id.
run() {
  out=$work/$1
  shift
  "$MARQUEE" run "$work/job.yaml" -q --date 2026-11-23 --set "output.path=$out" "$@" >"$work/log" 2>&1 || {
    echo "FAILED: run $*"
    cat "$work/log"
    exit 1
  }
  basename "$out"/runs/*
}
bytes_of() { (cd "$work/$1/current" && cat ./* | b2sum); }

id=$(run plain)
plain=$(bytes_of plain)

"$MARQUEE" config --markdown | awk -F'|' '/^\| `[^[]*`/ && $3 ~ /whole number/ && $5 !~ /yes/ {gsub(/[` ]/, "", $2); print $2}' \
  >"$work/keys"
[ "$(wc -l <"$work/keys")" -ge 3 ] || { echo "FAILED: too few keys found in the reference"; exit 1; }
n=0
while read -r key; do
  n=$((n + 1))
  other=$(run "free$n" --set "$key=7")
  [ "$other" = "$id" ] || { echo "FAILED: $key is not marked, but changes the run's id"; exit 1; }
  [ "$(bytes_of "free$n")" = "$plain" ] || { echo "FAILED: $key is not marked, but changes the release"; exit 1; }
done <"$work/keys"

other=$(run marked --set stages.match.top_k=7)
[ "$other" != "$id" ] || { echo "FAILED: top_k does not change the run's id"; exit 1; }
[ "$(bytes_of marked)" != "$plain" ] || { echo "FAILED: top_k does not change the release"; exit 1; }
echo "$n keys that are not marked leave the release as it is"
