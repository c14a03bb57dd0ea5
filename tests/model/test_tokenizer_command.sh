#!/bin/sh
# marquee tokenize: one line out for each line in, a bad line costs that line, the exit code says so.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "not ok - $1"; exit 1; }

mkdir "$work/model"
printf '%s\n' '[PAD]' '[UNK]' '[CLS]' '[SEP]' the heist goes wrong un '##believ' '##able' '!' > "$work/model/vocab.txt"
run() { "$MARQUEE" tokenize --model "$work/model" "$@"; }
same() { printf '%s\n' "$2" > "$work/expected"; cmp -s "$work/expected" "$work/out" || { cat "$work/out"; fail "$1"; }; echo "ok - $1"; }

printf 'The heist goes WRONG!\n\nunbelievable\r\n{"text": "the \\u0000heist"}\nno end' | run > "$work/out" || fail "texts: exit $?"
same "a line of ids for each text" "$(printf '2 4 5 6 7 11 3\n2 3\n2 8 9 10 3\n2 4 5 3\n2 1 1 3')"

printf 'the heist goes\nthe\n' | run --json --max-model-len 4 > "$work/out" || fail "json: exit $?"
same "json says where a window cut" "$(printf '{"ids":[2,4,5,3],"n":4,"is_truncated":true}\n{"ids":[2,4,3],"n":3}')"

printf 'the heist\n' | run --no-special-tokens > "$work/out" || fail "no special tokens: exit $?"
same "special tokens can be left out" "4 5"

code=0
printf 'the\nh\377st\n{"txt": "the"}\n{oops\nheist\n' | run > "$work/out" 2> "$work/err" || code=$?
[ $code -eq 65 ] || fail "bad lines end with 65, not $code"
[ "$(sed -n '1p;5p' "$work/out" | tr '\n' ,)" = "2 4 3,2 5 3," ] || fail "good lines around bad ones"
[ "$(sed -n '2,4p' "$work/out" | grep -c '^error: line [234]: ')" -eq 3 ] || fail "bad lines become error lines"
grep -q '3 of 5 rows' "$work/err" || fail "bad lines are counted"
echo "ok - a bad line costs that line only"

printf '{"text": "the"}\n' | run --text --no-special-tokens > "$work/out"
same "a line is a text as it stands with --text" "1 1 1 1 1 1 4 1 1"
printf 'the\n' | gzip | run > "$work/out"
same "gzip is seen" "2 4 3"

code=0; run --max-model-len 2 < /dev/null > /dev/null 2>&1 || code=$?
[ $code -eq 64 ] || fail "a window too small for any text ends with 64, not $code"
code=0; "$MARQUEE" tokenize --model "$work/none" < /dev/null > /dev/null 2>&1 || code=$?
[ $code -eq 66 ] || fail "a missing model ends with 66, not $code"
code=0; echo the | run > /dev/full 2> "$work/err" || code=$?
[ $code -eq 74 ] || fail "a full disk ends with 74, not $code"
echo "ok - exit codes"
