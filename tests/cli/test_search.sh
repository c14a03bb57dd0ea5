#!/bin/sh
# A small night with the tiny test model, then what a user asks of its release: search with its filters, show, and the
# refusals. A title's own text must find that title with score 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset MARQUEE_DATE MARQUEE_LOG_FORMAT MARQUEE_MODEL
n_failed=0

# expect CODE PATTERN COMMAND...: the exit code, and a pattern (grep -E) in stdout and stderr together.
expect() {
  code=$1 pattern=$2
  shift 2
  got=0
  "$@" >"$folder/out" 2>"$folder/err" </dev/null || got=$?
  if [ "$got" != "$code" ] || ! cat "$folder/out" "$folder/err" | grep -qE -- "$pattern"; then
    echo "FAILED: $*"
    echo "  expected $code and /$pattern/, got $got and:"
    sed 's/^/  | /' "$folder/out" "$folder/err"
    n_failed=$((n_failed + 1))
  fi
}

cp -r "$SOURCE/tests/models/tiny-bert" "$folder/model"
cat >"$folder/titles.jsonl" <<'END'
{"id": "a", "title": "Desert Heist", "year": 1999, "genres": ["Crime"], "maturity": 16, "synopsis": "It goes wrong."}
{"id": "b", "title": "Harbour Lights", "year": 2005, "genres": ["Drama"], "maturity": 6, "synopsis": "Two sisters and a boat."}
{"id": "c", "title": "Orbit", "year": 2012, "genres": ["Science Fiction"], "synopsis": "Nobody answers from the station."}
{"id": "d", "title": "Next Year", "year": 2027, "genres": ["Drama"], "maturity": 0, "released": "2027-01-01", "synopsis": "Not yet."}
{"id": "e", "title": "Snow", "year": 1980, "genres": ["Drama"], "maturity": 12, "synopsis": "A village waits for spring."}
END
{
  echo viewer,title,time,rating
  time=1700000000
  for viewer in anna ben cleo dora; do
    for title in a b c e; do
      time=$((time + 3600))
      [ "$viewer$title" = benb ] || echo "$viewer,$title,$time,4"
    done
  done
} >"$folder/events.csv"
cat >"$folder/job.yaml" <<'END'
name: tiny
inputs:
  titles: {path: titles.jsonl}
  histories: {path: events.csv}
models: {encoder: {path: model}}
stages: {embed: {text: "{title}. {synopsis}"}}
output: {path: out}
END
out=$folder/out-tiny
expect 0 'published v000001' "$MARQUEE" run "$folder/job.yaml" --date 2026-11-23 --set "output.path=$out"
expect 0 'good: 5 titles, 4 viewers' "$MARQUEE" verify "$out"
expect 0 '^For anna: ' "$MARQUEE" show "$out" --viewer anna

# a key file that the job names is found through the run
"$MARQUEE" run "$folder/job.yaml" --date 2026-11-23 --set "output.path=$folder/keyed" \
  --set "privacy.viewer_key=$out/viewer.key" >"$folder/log" 2>&1
expect 0 '^For anna: ' "$MARQUEE" show "$folder/keyed" --viewer anna
expect 66 'no key file' "$MARQUEE" show "$folder/keyed" --viewer anna --key "$folder/keyed/viewer.key"

# the encoder is the one of the run's job, or named
expect 0 '^  1  1\.000  Orbit \(2012\) +Science Fiction$' "$MARQUEE" search "$out" "Orbit. Nobody answers from the station."
expect 0 '^  1  1\.000  Snow' "$MARQUEE" search "$out" "Snow. A village waits for spring." --model "$folder/model"
expect 0 '^  1  1\.000  Snow' env MARQUEE_MODEL="$folder/model" "$MARQUEE" search "$out" "Snow. A village waits for spring."
expect 0 '"rank":1,"score":(1|0\.999)[0-9.]*,"id":"e","title":"Snow","year":1980,"genres":\["Drama"\]' \
  "$MARQUEE" search "$out" "Snow. A village waits for spring." --json
mv "$out/runs" "$out/old-runs"
expect 66 '--model DIR' "$MARQUEE" search "$out" Snow
expect 0 'Snow' "$MARQUEE" search "$out" Snow --model "$folder/model"
mv "$out/old-runs" "$out/runs"

# filters
lines() {
  expected=$1
  shift
  expect 0 . "$MARQUEE" search "$out" "Snow" "$@"
  [ "$(wc -l <"$folder/out")" = "$expected" ] || {
    echo "FAILED: $expected titles expected with $*:"
    cat "$folder/out"
    n_failed=$((n_failed + 1))
  }
}
lines 5
lines 2 --top-k 2
lines 3 --max-maturity 12 # not Desert Heist, and not Orbit, which has no rating
lines 4 --on 2026-11-23   # not Next Year
lines 5 --on 2027-01-01
expect 0 'no title passes the filters' "$MARQUEE" search "$out" Snow --max-maturity 0 --on 2026-11-23
cut_short=$("$MARQUEE" search "$out" "Snow" --top-k 3)
[ "$cut_short" = "$("$MARQUEE" search "$out" "Snow" | head -3)" ] || {
  echo "FAILED: the first three of a search are not the search of three"
  n_failed=$((n_failed + 1))
}

# another model, no model, a damaged release
sed 's/"max_seq_length": *[0-9]*/"max_seq_length": 8/' "$folder/model/sentence_bert_config.json" >"$folder/changed"
mkdir "$folder/other"
cp -r "$folder/model/." "$folder/other"
mv "$folder/changed" "$folder/other/sentence_bert_config.json"
# shellcheck disable=SC2015
cmp -s "$folder/other/sentence_bert_config.json" "$folder/model/sentence_bert_config.json" && {
  echo "FAILED: the other model is the same"
  n_failed=$((n_failed + 1))
} || expect 65 'is not the model that encoded this release' "$MARQUEE" search "$out" Snow --model "$folder/other"
expect 66 . "$MARQUEE" search "$out" Snow --model "$folder/nowhere"
truncate -s 3000 "$out/current/catalog.h5"
expect 65 'catalog.h5: has 3000 bytes' "$MARQUEE" search "$out" Snow
exit $((n_failed > 0))
