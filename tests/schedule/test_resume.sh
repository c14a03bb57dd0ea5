#!/bin/sh
# Whatever happens to the processes of a run, the release has the same bytes and finished shards are not done twice.
# MQ_TEST_MODEL: another encoder folder than the tiny one.
set -eu
model=${MQ_TEST_MODEL:-$SOURCE/tests/models/tiny-bert}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
n_checks=0
export MARQUEE_DATE=2026-11-23

fail() {
  echo "not ok: $*"
  [ -f "$work/log" ] && tail -20 "$work/log"
  exit 1
}
ok() {
  n_checks=$((n_checks + 1))
  echo "ok $n_checks - $*"
}

"$MARQUEE" simulate -q --titles 240 --viewers 90 --seed 11 --until 2026-11-20 --output "$work/data"
cat > "$work/job.yaml" <<YAML
name: resume
inputs:
  titles: [{path: data/titles.jsonl}]
  histories: [{path: data/events.csv}]
  viewers: [{path: data/viewers.csv}]
privacy: {viewer_key: key}
models: {encoder: {path: $model}}
stages:
  embed: {shard_titles: 16}
  profile: {shard_viewers: 16}
output: {path: out, part_viewers: 40}
YAML
printf '%064d\n' 7 > "$work/key"

# run OUTPUT ARGUMENTS...: the exit code is kept in $code
run() {
  out=$1
  shift
  code=0
  "$MARQUEE" run "$work/job.yaml" --set "output.path=$work/$out" "$@" > "$work/log" 2>&1 || code=$?
}
bytes_of() { (cd "$work/$1/current" && cat ./* | b2sum); }
# Shards that are journaled twice.
done_twice() {
  cat "$work/$1"/runs/*/journals/*.journal | tr -c '[:print:]' '\n' |
    grep -o '"stage":"[a-z]*","shard":[0-9]*' | sort | uniq -d
}
same_as_plain() {
  [ "$code" = 0 ] || fail "$2: exit $code"
  [ "$(bytes_of "$1")" = "$plain" ] || fail "$2: other bytes"
  [ -z "$(done_twice "$1")" ] || fail "$2: done twice: $(done_twice "$1")"
  "$MARQUEE" verify "$work/$1" > "$work/log" 2>&1 || fail "$2: verify"
  ok "$2"
}

run plain
[ "$code" = 0 ] || fail "plain run: exit $code"
plain=$(bytes_of plain)
same_as_plain plain "one worker publishes a release that verifies"

run plain
[ "$code" = 0 ] || fail "second run: exit $code"
grep -q "already published" "$work/log" || fail "second run: does not say that there was nothing to do"
[ "$(find "$work/plain/releases" -maxdepth 1 -name 'v*' | wc -l)" = 1 ] || fail "second run: made another release"
run plain --exit-skipped
[ "$code" = 99 ] || fail "--exit-skipped: exit $code"
ok "a second run has nothing to do"

for n in 2 3; do
  run "workers$n" --workers "$n"
  same_as_plain "workers$n" "$n workers give the same bytes"
done

for stage in import join embed profile cowatch fit match publish; do
  run stages --stage "$stage"
  [ "$code" = 0 ] || fail "--stage $stage: exit $code"
done
same_as_plain stages "stages run one by one give the same bytes"

run early --stage match
[ "$code" = 66 ] || fail "--stage match before its upstream: exit $code"
grep -q "upstream is not finished" "$work/log" || fail "--stage match before its upstream: no reason"
ok "a stage whose upstream is missing says so"

for point in shard_in_place shard_journaled; do
  for try in 1 2 3; do
    MARQUEE_CRASHPOINT=$point
    export MARQUEE_CRASHPOINT
    run "crash_$point"
    unset MARQUEE_CRASHPOINT
    [ "$code" = 137 ] || fail "crash at $point, try $try: exit $code"
  done
  run "crash_$point"
  same_as_plain "crash_$point" "killed at $point, three times in a row: resumes to the same bytes"
done

# Kill whole groups of processes after ever longer times, until one run comes through.
tries=0
delay=10
while :; do
  tries=$((tries + 1))
  [ $tries -lt 60 ] || fail "killed runs: no end after $tries tries"
  setsid "$MARQUEE" run "$work/job.yaml" --workers 2 --set "output.path=$work/killed" > "$work/log" 2>&1 &
  group=$!
  sleep "0.$(printf %03d $delay)"
  if kill -KILL "-$group" 2>/dev/null; then
    wait $group 2>/dev/null || true
  else
    code=0
    wait $group || code=$?
    break
  fi
  delay=$((delay + 37))
  [ $delay -lt 999 ] || delay=990
  [ $tries -lt 25 ] || { run killed --workers 2; break; }
done
same_as_plain killed "kill -9 of all workers, $tries times: the same bytes"

# One worker of three is killed: the others take its shard over and the run ends well.
"$MARQUEE" run "$work/job.yaml" --workers 3 --set "output.path=$work/lost" > "$work/log" 2>&1 &
parent=$!
sleep 0.15
victim=$(ps -o pid= --ppid $parent | head -1)
[ -z "$victim" ] || kill -KILL "$victim" 2>/dev/null || true
code=0
wait $parent || code=$?
same_as_plain lost "a killed worker's shard is taken over by the others"

# SIGINT: nothing half-published, exit 75, and the next run goes on.
"$MARQUEE" run "$work/job.yaml" --set "output.path=$work/interrupted" > "$work/log" 2>&1 &
parent=$!
sleep 0.1
kill -INT $parent 2>/dev/null || true
code=0
wait $parent || code=$?
[ "$code" = 75 ] || [ "$code" = 0 ] || fail "SIGINT: exit $code"
[ "$code" = 0 ] || [ ! -e "$work/interrupted/current" ] || fail "SIGINT: something was published"
run interrupted
same_as_plain interrupted "interrupted and run again: the same bytes"

# A finished shard that rots is found by its checksum and done again.
cp -r "$work/plain" "$work/rotten"
shard=$(find "$work/rotten/runs" -path '*shards/embed/00003.h5')
size=$(stat -c %s "$shard")
printf 'x' | dd of="$shard" bs=1 seek=$((size - 9)) conv=notrunc status=none
rm -rf "$work/rotten/releases" "$work/rotten/current" "$work"/rotten/runs/*/shards/publish
run rotten
[ "$code" = 0 ] || fail "rotten shard: exit $code"
grep -q shard_damaged "$work/log" || fail "rotten shard: not noticed"
[ "$(bytes_of rotten)" = "$plain" ] || fail "rotten shard: other bytes"
ok "a damaged shard is noticed and done again"

# Another input is another run; the old one stays.
sed -i '2s/[0-9.]*$/1.5/' "$work/data/events.csv"
run plain
[ "$code" = 0 ] || fail "changed input: exit $code"
[ "$(find "$work/plain/runs" -mindepth 1 -maxdepth 1 | wc -l)" = 2 ] || fail "changed input: no run of its own"
ok "a changed input is another run"

echo "$n_checks passed, 0 failed"
