#!/usr/bin/env bash
# Everything that this repository says about a GPU, measured on yours in at most 9 minutes:
#
#   benchmarks/gpu.sh                       needs CUDA, and the [dev] extra for the tests
#   benchmarks/gpu.sh --only mixed          one part (see --help)
#   benchmarks/gpu.sh --device cpu --tiny   the smallest shapes, to see that it runs
#
# Writes <date>-gpu-<device>.json and .md into benchmarks/results/ (--out elsewhere); post them in an issue.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
exec "$python" benchmarks/gpu.py "$@"
