#!/bin/sh
# The built plugin on a machine without a driver: it opens, and says what is missing; the program goes on with the CPU
# where it may choose. Skipped where the plugin was not built, and where there is a driver.
set -u
fail() {
  echo "$1"
  exit 1
}
if [ ! -f "$BUILD/libmarquee_cuda.so" ]; then
  echo "skipped: libmarquee_cuda.so was not built"
  exit 77
fi
if ldconfig -p 2>/dev/null | grep -q libcuda.so.1 || [ -e /dev/nvidiactl ]; then
  echo "skipped: this machine has a driver"
  exit 77
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
echo hello >"$folder/texts.txt"
embed() {
  MARQUEE_PLUGIN_DIR=$BUILD "$MARQUEE" embed --backend "$1" --model "$SOURCE/tests/models/tiny-bert" \
    --input "$folder/texts.txt" --output "$folder/vectors.h5" >"$folder/out" 2>&1
}

embed cuda
code=$?
[ $code -eq 69 ] || fail "--backend cuda without a driver: exit code $code, expected 69: $(cat "$folder/out")"
grep -q 'no NVIDIA driver on this machine' "$folder/out" || fail "not said what is missing: $(cat "$folder/out")"

embed auto || fail "--backend auto without a driver: exit code $?: $(cat "$folder/out")"
[ -s "$folder/vectors.h5" ] || fail "--backend auto gave no vectors"
echo "the plugin says what is missing, and auto takes the CPU"
