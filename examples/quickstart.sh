#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs what is missing, builds the pith command and lets the shipped model write; arguments are passed on to it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

shopt -s nullglob
models=(examples/models/*/config.json)
if ((${#models[@]} == 0)); then
  echo "quickstart: expected a model in examples/models, found none" >&2
  exit 1
fi

cmake/setup.sh tool
echo "building build/release/bin/pith"
cmake --preset release --log-level=WARNING -DPITH_BUILD_TESTS=OFF -DPITH_BUILD_BENCH=OFF >/dev/null
cmake --build --preset release --target pith_tool -- --quiet
build/release/bin/pith run -m "${models[0]%/config.json}" -p "The old house stood at the end of the lane, and" \
  -n 120 --show "$@"
echo "to talk with a real model (98 MB to fetch): examples/chat.sh" >&2
