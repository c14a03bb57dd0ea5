#!/bin/sh
# tidy: what a reviewer should not have to look for. First it checks a small tree with one planted mistake of each kind,
# to show that it can fail; then the project.
set -eu
here=${SOURCE:-$(cd "$(dirname "$0")/../.." && pwd)}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Tracked files where there is a repository, else all but what a build leaves.
list_files() {
  git ls-files 2>/dev/null || find . -type f | sed 's|^\./||' | grep -vE '^(\.git|build|out|models)/|__pycache__'
}

# Includes of "pipeline/LAYER/..." and "kernels/..." that a file may have (docs/architecture.md).
allowed_layers() {
  case $1 in
  pipeline/base/*) echo base ;;
  pipeline/model/*) echo base model ;;
  pipeline/store/*) echo base store ;;
  pipeline/report/*) echo base report ;;
  pipeline/stages/*) echo base model store report stages ;;
  pipeline/schedule/*) echo base model store report stages schedule ;;
  pipeline/cli/*) echo base model store report stages schedule cli ;;
  kernels/*) echo base kernels ;;
  include/*) echo ;;
  *) echo base model store report stages schedule cli kernels ;;
  esac
}

check_layers() {
  for file in $(grep -E '^(pipeline|kernels|include)/.*\.(c|h|cu|cuh)$' "$1"); do
    allowed=" $(allowed_layers "$file") "
    sed -n 's/^#include "pipeline\/\([a-z]*\)\/.*/\1/p; s/^#include "\(kernels\)\/.*/\1/p' "$file" | sort -u |
      while read -r layer; do
        case $allowed in
        *" $layer "*) ;;
        *) echo "$file: includes a header of $layer, which is not below it" ;;
        esac
      done
    case $file in
    pipeline/store/*) ;;
    *) grep -Hn '#include <hdf5' "$file" | sed 's/:#.*/: HDF5 belongs to pipeline\/store/' || true ;;
    esac
  done
}

check_headers() {
  for file in $(grep -E '\.(c|h|cu|cuh)$' "$1"); do
    case $(head -c 2 "$file") in
    '/*') ;;
    *) echo "$file:1: does not begin with a comment that says what it is" ;;
    esac
  done
  for file in $(grep -E '\.(sh|py)$|(^|/)CMakeLists\.txt$' "$1"); do
    head -n 3 "$file" | grep -q '^# [A-Za-z]\|^"""[A-Za-z]\|^cmake_minimum' ||
      echo "$file:1: does not begin with a comment that says what it is"
  done
}

check_text() {
  grep -E '\.(c|h|cu|cuh)$' "$1" | LC_ALL=C.UTF-8 xargs -r grep -nHE '^.{121,}' |
    sed -E 's/^([^:]*:[0-9]*):.*/\1: longer than 120 columns/' || true
  grep -vE '^tests/tidy/|/corpus/|/golden/' "$1" | xargs -r grep -nHIwE 'TODO|FIXME' |
    sed -E 's/^([^:]*:[0-9]*):.*/\1: do it or leave it out; no notes to self/' || true
  grep -vE '^tests/tidy/|/corpus/|/golden/' "$1" | xargs -r grep -nHIE '(^|[^a-zA-Z0-9_.~-])/(home|root|work)/' |
    sed -E 's/^([^:]*:[0-9]*):.*/\1: a path of one machine/' || true
}

check_readmes() {
  { sed -nE 's/^(pipeline\/[^/]*)\/.*/\1/p' "$1" && sed -nE 's/^(benchmarks|jobs|kernels|tests)\/.*/\1/p' "$1"; } |
    sort -u | while read -r of; do
    [ -f "$of/README.md" ] || echo "$of: has no README.md that says what may be in it"
  done
}

check_format() {
  if command -v clang-format >/dev/null; then
    grep -E '\.(c|h)$' "$1" | xargs -r clang-format --dry-run 2>&1 | sed -nE 's/^(.*): warning: code should be.*/\1: run clang-format -i/p'
  else
    echo "skipped: clang-format is absent" >&2
  fi
}

check_all() {
  list_files | sort >"$folder/files"
  # A file may be deleted but not yet committed.
  while read -r file; do [ -f "$file" ] && echo "$file"; done <"$folder/files" >"$folder/present" || true
  for check in check_layers check_headers check_text check_readmes check_format; do
    $check "$folder/present"
  done
}

plant() {
  mkdir -p "$(dirname "$1")"
  printf "$2" >"$1"
}

expect() {
  grep -q "$1" "$folder/planted.txt" || {
    echo "tidy did not see the planted: $1"
    cat "$folder/planted.txt"
    exit 1
  }
}

mkdir "$folder/planted"
cd "$folder/planted"
cp "$here/.clang-format" .
plant pipeline/base/up.c '/* up */\n#include "pipeline/store/artifact.h"\n#include <hdf5.h>\n'
plant pipeline/base/bare.c 'int x;\n'
plant kernels/topk/up.c '/* up */\n#include "pipeline/model/config.h"\n'
plant kernels/README.md 'operations\n'
plant tests/long.c "/* long */\n/* $(printf '%0130d' 0) */\n"
plant tests/note.sh '#!/bin/sh\n# note\ntrue # TO''DO later\ncat /ho''me/me/x\n'
plant tests/format.c '/* format */\nint   x ;\n'
GIT_CEILING_DIRECTORIES=$folder check_all >"$folder/planted.txt"
expect '^pipeline/base/up.c: includes a header of store'
expect '^pipeline/base/up.c:3: HDF5 belongs'
expect '^pipeline/base/bare.c:1: does not begin'
expect '^kernels/topk/up.c: includes a header of model'
expect '^tests/long.c:2: longer than 120'
expect '^tests/note.sh:3: do it or leave'
expect '^tests/note.sh:4: a path of one machine'
expect '^pipeline/base: has no README'
! command -v clang-format >/dev/null || expect '^tests/format.c:2:.*clang-format -i'

cd "$here"
check_all >"$folder/found.txt"
if [ -s "$folder/found.txt" ]; then
  cat "$folder/found.txt"
  exit 1
fi
echo "$(wc -l <"$folder/present") files are tidy"
