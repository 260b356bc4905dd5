#!/usr/bin/env bash
# Write constraints.txt: the current versions of a fresh install with all extras except the GPU packages.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check -e '.[atari,box2d,ray,search,video,dev]'
{
  echo "# Tested versions of an install with all extras except gpu (Python 3.11); made by scripts/pin.sh."
  "$work/venv/bin/pip" freeze --exclude-editable --exclude rlexp
} > "$work/constraints.txt"
mv "$work/constraints.txt" constraints.txt
