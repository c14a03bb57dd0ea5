#!/bin/sh
# fetch_cuda.sh [--headers] [--tools]: puts what a machine without the CUDA toolkit needs to build the CUDA backend into
# build/cuda-toolkit, from NVIDIA's wheels on PyPI; CMake finds it there. Nothing is installed elsewhere.
#   (nothing)   nvcc, headers, runtime and cuBLAS: builds libmarquee_cuda.so (830 MB on disk)
#   --headers   only what the emulated device of the tests includes (8 MB)
#   --tools     cuobjdump and nvdisasm, for the tests of what the compiler made (7 MB)
# Needs python3 with pip (Debian: python3-pip); set MARQUEE_PIP to use another, e.g. "~/venv/bin/pip".
set -eu
want_toolkit=yes
want_headers=no
want_tools=no
for argument; do
  case $argument in
  --headers) want_headers=yes want_toolkit=no ;;
  --tools) want_tools=yes want_toolkit=no ;;
  *)
    sed -n '2,7s/^# \{0,1\}//p' "$0"
    [ "$argument" = --help ] || [ "$argument" = -h ] || exit 64
    exit 0
    ;;
  esac
done
cd "$(dirname "$0")/.."
target=build/cuda-toolkit

# One release of the toolkit: its parts are not made to be mixed.
packages=""
[ $want_headers = no ] || packages="nvidia-cuda-runtime>=13.0,<13.1 nvidia-cuda-crt>=13.0,<13.1"
[ $want_toolkit = no ] || packages="nvidia-cuda-nvcc>=13.0,<13.1 nvidia-cuda-crt>=13.0,<13.1 nvidia-nvvm>=13.0,<13.1 \
nvidia-cuda-runtime>=13.0,<13.1 nvidia-cuda-cccl>=13.0,<13.1 nvidia-cublas>=13.0,<13.2"
[ $want_tools = no ] || packages="$packages nvidia-cuda-cuobjdump>=13.0,<14 nvidia-cuda-nvdisasm>=13.0,<14"

if [ -n "${MARQUEE_PIP:-}" ]; then
  pip=$MARQUEE_PIP
elif python3 -m pip --version >/dev/null 2>&1; then
  pip="python3 -m pip"
else
  echo "fetch_cuda.sh: pip is missing: apt-get install python3-pip, or set MARQUEE_PIP" >&2
  exit 69
fi
mkdir -p "$target"
scratch=$(mktemp -d "$target/part.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
for package in $packages; do
  echo "fetching $package" >&2
  $pip download --quiet --disable-pip-version-check --no-deps --no-cache-dir --only-binary=:all: --dest "$scratch" \
    "$package" >&2 || {
    echo "fetch_cuda.sh: the download failed. Without a network, copy a toolkit and set MARQUEE_CUDA_ROOT" >&2
    exit 69
  }
  # A wheel is a zip file, and pip needs Python anyway; zipfile forgets which files are programs.
  python3 -m zipfile -e "$scratch"/*.whl "$target"
  rm "$scratch"/*.whl
done
find "$target" -type f -path '*/bin/*' -exec chmod +x {} +
echo "$target/nvidia/cu13" >&2
