#!/usr/bin/env bash
# Build the documentation (extra rlexp[docs]): bash scripts/docs.sh [FOLDER]; default: docs/_build. Warnings are errors, and
# nothing is fetched. Open index.html of the folder.
set -euo pipefail
cd "$(dirname "$0")/.."
export CUDA_VISIBLE_DEVICES=-1 TF_CPP_MIN_LOG_LEVEL=3
"${PYTHON:-python}" -m sphinx -b html --fresh-env --fail-on-warning --keep-going --quiet docs "${1:-docs/_build}"
echo "${1:-docs/_build}/index.html"
