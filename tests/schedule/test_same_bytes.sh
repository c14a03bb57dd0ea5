#!/bin/sh
# A release does not depend on how it was computed: instruction set, C library for a CPU without FMA, threads, workers,
# how stages are cut, locale, time zone, what freed memory holds. test_resume.sh adds crashes to that.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export MARQUEE_DATE=2026-11-23
unset MARQUEE_ISA MARQUEE_THREADS OMP_NUM_THREADS

"$MARQUEE" simulate -q --titles 300 --viewers 400 --seed 3 --until 2026-11-20 --output "$work/data"
cat > "$work/job.yaml" <<YAML
name: same
inputs:
  titles: [{path: data/titles.jsonl}]
  histories: [{path: data/events.csv}]
  viewers: [{path: data/viewers.csv}]
privacy: {viewer_key: key}
models: {encoder: {path: $SOURCE/tests/models/tiny-bert}}
output: {path: out, part_viewers: 150}
YAML
printf '%064d\n' 7 > "$work/key"

n_checks=0
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
  code=0
  # shellcheck disable=SC2086 # one word each
  env $variables "$MARQUEE" run "$work/job.yaml" --set "output.path=$work/$name" "$@" > "$work/log" 2>&1 || code=$?
  if [ $code = 69 ] && [ "${variables#*MARQUEE_ISA=}" != "$variables" ]; then
    echo "skipped: $name: this CPU does not have it"
    return
  fi
  [ $code = 0 ] || {
    cat "$work/log"
    echo "not ok: $name: exit $code"
    exit 1
  }
  bytes=$(cd "$work/$name/current" && cat ./* | b2sum)
  plain=${plain:-$bytes}
  [ "$bytes" = "$plain" ] || {
    for file in "$work/plain/current"/*; do
      cmp "$file" "$work/$name/current/$(basename "$file")" || true
    done
    echo "not ok: $name: other bytes"
    exit 1
  }
  n_checks=$((n_checks + 1))
  echo "ok $n_checks - $name"
  [ "$name" = plain ] || rm -rf "${work:?}/$name"
}

same plain
grep -aq '"used": *"fitted"' "$work/plain/current/catalog.h5" || {
  echo "not ok: the blend was not fitted, so its arithmetic is not tested"
  exit 1
}
for isa in portable avx2 avx512; do
  same "$isa" "MARQUEE_ISA=$isa"
done
same no_fma MARQUEE_ISA=portable GLIBC_TUNABLES=glibc.cpu.hwcaps=-FMA,-FMA4,-AVX2,-AVX2_Usable,-FMA_Usable
for threads in 1 2 5; do
  same "threads_$threads" "MARQUEE_THREADS=$threads"
done
same workers --workers 3
same small_shards --set stages.embed.shard_titles=17 --set stages.profile.shard_viewers=43
same small_batches --set stages.embed.batch_tokens=64
same locale LC_ALL=tr_TR.UTF-8 TZ=Asia/Tokyo
same dirty_memory MALLOC_PERTURB_=170
echo "$n_checks passed, 0 failed"
