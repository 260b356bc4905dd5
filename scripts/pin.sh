#!/usr/bin/env bash
# Write constraints.txt: the versions that a fresh install of everything but the GPU packages brings today.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check -e '.[atari,box2d,ray,search,video,dev]'
{
  echo "# Tested versions of everything that an install with all extras but gpu brings (Python 3.11); made by scripts/pin.sh."
  "$work/venv/bin/pip" freeze --exclude-editable --exclude rlexp
} > "$work/constraints.txt"
mv "$work/constraints.txt" constraints.txt
