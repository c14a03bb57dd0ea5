#!/bin/sh
# Puts beside the working tree what tests/gpu.sh needs on a machine without network and without our libraries:
#   sh tests/gpu_pack.sh        writes gpu-pack/ (ignored by git): headers and libraries, and all-MiniLM-L6-v2 in bfloat16
# Wants a Debian-like machine on which the project builds (sh jobs/quickstart/run.sh), and models/all-MiniLM-L6-v2.
set -eu
[ $# = 0 ] || {
  sed -n '2,4s/^# \{0,1\}//p' "$0"
  [ "$1" = --help ] || [ "$1" = -h ] || exit 64
  exit 0
}
cd "$(dirname "$0")/.."
program=build/release/marquee
[ -x "$program" ] || { echo "gpu_pack: $program is not built: sh jobs/quickstart/run.sh" >&2; exit 66; }
[ -f models/all-MiniLM-L6-v2/model.safetensors ] || sh jobs/fetch_minilm.sh
rm -rf gpu-pack
mkdir -p gpu-pack/sysroot gpu-pack/all-MiniLM-L6-v2

# Of the development packages: headers, .pc files and the links to the libraries; with them what our program loads, the C
# library left out.
{
  dpkg -L libhdf5-dev libjansson-dev libyaml-dev libsodium-dev libutf8proc-dev libxxhash-dev zlib1g-dev libcmocka-dev pkgconf \
    pkgconf-bin libpkgconf3 | grep -E '/include/.*\.h$|\.pc$|\.so(\.|$)|/bin/' | grep -vE '/(mpi|hdf5/.*(cpp|fortran))|_(cpp|fortran|hl)'
  find /usr/lib -path '*hdf5/serial*' -name 'libhdf5.so*'
  { ldd "$program"; ldd /usr/lib/x86_64-linux-gnu/libcmocka.so.0; } | awk '$3 ~ /^\// {print $3}' |
    grep -vE '/(libc|libm|libdl|libpthread|librt|libresolv|ld-linux[^/]*)\.so'
} | sed 's|^/lib/|/usr/lib/|' | sort -u | while read -r file; do # one folder of libraries: /lib is a link to it
  real=$(readlink -f "$file")
  [ -f "$real" ] && [ "$(stat -c %s "$real")" -lt 16000000 ] || continue
  echo "$file"
  echo "$real"
done | sort -u | tar -chf - -T - 2>/dev/null | tar -xf - -C gpu-pack/sysroot
tar -czf gpu-pack/sysroot.tar.gz -C gpu-pack/sysroot .
rm -r gpu-pack/sysroot

for file in models/all-MiniLM-L6-v2/*; do
  case $file in
  *.safetensors | *.md) ;;
  *) cp -r "$file" gpu-pack/all-MiniLM-L6-v2/ ;;
  esac
done
python3 - models/all-MiniLM-L6-v2/model.safetensors gpu-pack/all-MiniLM-L6-v2/model.safetensors <<'PYTHON'
import array, json, struct, sys
data = open(sys.argv[1], "rb").read()
n = struct.unpack("<Q", data[:8])[0]
header, at, parts = json.loads(data[8:8 + n]), 0, []
for name, entry in header.items():
    if name == "__metadata__":
        continue
    first, last = entry["data_offsets"]
    body = data[8 + n + first:8 + n + last]
    if entry["dtype"] == "F32":                        # to nearest, ties to even
        body = array.array("H", ((v + 0x7fff + (v >> 16 & 1)) >> 16 for v in array.array("I", body))).tobytes()
        entry["dtype"] = "BF16"
    entry["data_offsets"] = [at, at + len(body)]
    at += len(body)
    parts.append(body)
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
open(sys.argv[2], "wb").write(struct.pack("<Q", len(text)) + text + b"".join(parts))
PYTHON
du -sm gpu-pack
