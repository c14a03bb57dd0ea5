#!/bin/sh
# The command line from outside: exit codes, where output goes, and that docs/job-file.md is what the schema says.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset MARQUEE_DATE MARQUEE_LOG_FORMAT
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

# nothing_on stdout|stderr: of the last command.
nothing_on() {
  case $1 in stdout) file=$folder/out ;; *) file=$folder/err ;; esac
  if [ -s "$file" ]; then
    echo "FAILED: unexpected on $1:"
    sed 's/^/  | /' "$file"
    n_failed=$((n_failed + 1))
  fi
}

mkdir -p "$folder/job/minilm"
cat >"$folder/job/job.yaml" <<'END'
name: tonight
inputs:
  titles: {path: films.csv}
  histories: {path: events.csv}
models: {encoder: {path: minilm}}
output: {path: ../out}
END
printf 'id,title,year\n1,Up,2009\n' >"$folder/job/films.csv"
printf 'viewer,title,time\n' >"$folder/job/events.csv"
cat >"$folder/job/minilm/config.json" <<'END'
{"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
 "vocab_size": 100, "max_position_embeddings": 128, "type_vocab_size": 2}
END
job=$folder/job/job.yaml

# the program
expect 0 '^Usage: marquee COMMAND' "$MARQUEE" --help
nothing_on stderr
expect 0 '^Usage: marquee COMMAND' "$MARQUEE" help
expect 64 '^Usage: marquee COMMAND' "$MARQUEE"
nothing_on stdout
expect 0 '^marquee [0-9]+\.[0-9]+\.[0-9]+ \(' "$MARQUEE" --version
expect 0 '^HDF5 [0-9.]+$' "$MARQUEE" --version
expect 0 '^cpu: ' "$MARQUEE" --version
expect 64 'error: "valdate" is no command: did you mean "validate"\?' "$MARQUEE" valdate
expect 64 'error: "banana" is no command: `marquee --help` lists them' "$MARQUEE" banana
expect 64 'is no command' "$MARQUEE" help banana
expect 64 '"--json": options come behind the command' "$MARQUEE" --json
expect 74 'standard output: No space left' sh -c '"$MARQUEE" --help >/dev/full'
expect 74 'standard output: No space left' sh -c '"$MARQUEE" config "$1" >/dev/full' sh "$job"
expect 74 'standard output: Bad file' sh -c '"$MARQUEE" config "$1" >&-' sh "$job"
expect 0 '' sh -c '"$MARQUEE" config "$1" 2>&- <&-' sh "$job"
expect 73 'path of a folder is empty' "$MARQUEE" simulate --titles 3 --viewers 3 --output ""

# every command that the help lists says what it does, and refuses what it does not know
"$MARQUEE" --help | sed -nE 's/^  ([a-z]+) .*/\1/p' >"$folder/commands"
[ "$(wc -l <"$folder/commands")" -ge 5 ] || { echo "FAILED: --help lists no commands"; exit 1; }
[ -z "$(sort "$folder/commands" | uniq -d)" ] || { echo "FAILED: --help lists a command twice"; exit 1; }
while read -r command; do
  expect 0 "^Usage: marquee $command " "$MARQUEE" "$command" --help
  nothing_on stderr
  expect 0 "^Usage: marquee $command " "$MARQUEE" help "$command"
  expect 64 "^marquee $command: unrecognized option '--no-such-flag'" "$MARQUEE" "$command" --no-such-flag
  nothing_on stdout
  expect 64 'expected auto, text, logfmt or json' "$MARQUEE" "$command" --log-format=xml
  expect 64 'MARQUEE_LOG_FORMAT is "xml": expected auto' env MARQUEE_LOG_FORMAT=xml "$MARQUEE" "$command"
done <"$folder/commands"

# validate
expect 0 '^.*job.yaml: valid$' "$MARQUEE" validate "$job"
nothing_on stderr
expect 0 "^  output +$(cd "$folder" && pwd -P)/out\$" "$MARQUEE" validate "$job"
expect 0 '^\{"valid":true,"job":".*","name":"tonight","titles":\[".*/films.csv"\],.*\}$' \
  "$MARQUEE" validate --json "$job"
expect 64 'which job\? Name a job file' "$MARQUEE" validate
expect 64 'one job file is enough' "$MARQUEE" validate "$job" "$job"
expect 66 'nix.yaml: No such file' "$MARQUEE" validate "$folder/nix.yaml"
expect 66 'inputs.titles\[0\].path: .*/nix.csv: No such file' \
  "$MARQUEE" validate "$job" --set "inputs.titles[0].path=$folder/nix.csv"
mkfifo "$folder/pipe.csv"
for device in /dev/zero "$folder/pipe.csv"; do
  expect 66 'inputs.histories\[0\].path: .*: neither a file nor a folder' \
    "$MARQUEE" validate "$job" --set "inputs.histories[0].path=$device"
  expect 66 ': neither a file nor a folder: write the data to a file first' \
    "$MARQUEE" run "$job" --date 2026-11-23 --set "inputs.histories[0].path=$device" --set "output.path=$folder/published"
done
sed 's/{path: films/{pth: x, path: films/' "$job" >"$folder/job/bad.yaml"
expect 78 '^marquee: error: .*/bad.yaml:3: inputs.titles.pth: unknown key: did you mean "path"\?$' \
  "$MARQUEE" validate "$folder/job/bad.yaml"
nothing_on stdout
expect 78 '^\{"error":\{"code":78,"class":"invalid job file","message":".*unknown key.*"\}\}$' \
  "$MARQUEE" validate --json "$folder/job/bad.yaml"
nothing_on stderr
expect 78 'no column "titel" \(it has id, title, year\)|did you mean "title"' \
  "$MARQUEE" validate "$job" --set 'inputs.titles[0].columns.title=titel'
expect 64 'unknown key: did you mean "top_k"' "$MARQUEE" validate "$job" --set stages.match.topk=3
expect 64 '^.*--date is "2023-02-30": expected YYYY-MM-DD' "$MARQUEE" validate "$job" --date 2023-02-30
expect 64 'MARQUEE_DATE is "soon": expected YYYY-MM-DD' env MARQUEE_DATE=soon "$MARQUEE" validate "$job"

expect 66 ': is a folder: name the job file in it' "$MARQUEE" validate "$folder/job"
expect 66 '^\{"time":".*","level":"error","event":"failed","code":66,"class":"input is missing","message":".*nix.yaml: No' \
  "$MARQUEE" validate --log-format json "$folder/nix.yaml"
nothing_on stdout
expect 64 '^time=.* level=error event=failed code=64 class="usage" message=".*unknown key: did you mean .top_k.\?"$' \
  env MARQUEE_LOG_FORMAT=logfmt "$MARQUEE" validate "$job" --set stages.match.topk=3

# where each value came from: flag, environment, file, default
expect 0 '^stages.match.top_k +9 +--set stages.match.top_k=9$' \
  env MARQUEE_STAGES_MATCH_TOP_K=8 "$MARQUEE" config "$job" --set stages.match.top_k=9
expect 0 '^stages.match.top_k +8 +MARQUEE_STAGES_MATCH_TOP_K$' \
  env MARQUEE_STAGES_MATCH_TOP_K=8 "$MARQUEE" config "$job"
expect 0 '^stages.match.top_k +20 +default$' "$MARQUEE" config "$job"
expect 0 '^name +"tonight" +.*/job.yaml:1$' "$MARQUEE" config "$job"
expect 0 '\{"key":"output.part_viewers","value":262144,"origin":"default"\}' "$MARQUEE" config --json "$job"

# a night has a date
if grep -qx run "$folder/commands"; then
  expect 64 'which date\? Say --date YYYY-MM-DD' "$MARQUEE" run "$job"
  expect 64 'which date\? Say --date YYYY-MM-DD' "$MARQUEE" plan "$job"
fi

# what a file holds commands no terminal
printf 'viewer,title,time\n1,\033[2J,1790536885\n' >"$folder/job/escape.csv"
expect 65 'unknown title "\?\[2J"' "$MARQUEE" run "$job" --date 2026-11-23 --set "output.path=$folder/published" \
  --set "inputs.histories[0].path=$folder/job/escape.csv" --set "models.encoder.path=$SOURCE/tests/models/tiny-bert"

# the first night of a new service: viewers, and nothing watched yet
printf 'id\nv1\n' >"$folder/job/viewers.csv"
sed "s|^models:.*|  viewers: {path: viewers.csv}\nmodels: {encoder: {path: $SOURCE/tests/models/tiny-bert}}|" "$job" \
  >"$folder/job/new.yaml"
expect 0 '^published v000001 ' "$MARQUEE" run "$folder/job/new.yaml" --date 2026-11-23 --set "output.path=$folder/published"
expect 0 '^  1  Up \(2009\) +a good place to start$' "$MARQUEE" show "$folder/published" --viewer v1

# the page is the schema's
"$MARQUEE" config --markdown >"$folder/job-file.md"
cmp "$folder/job-file.md" "$SOURCE/docs/job-file.md" || {
  echo "FAILED: docs/job-file.md is not current: marquee config --markdown > docs/job-file.md"
  n_failed=$((n_failed + 1))
}

[ "$n_failed" = 0 ] || exit 1
echo "the command line answers as it should ($(wc -l <"$folder/commands") commands)"
