#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs what is missing, builds the release preset and runs every test, the Python package's first. Arguments go to
# ctest, and then it runs alone: -R session
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cmake/setup.sh tests
echo "building build/release"
cmake --preset release --log-level=WARNING >/dev/null
cmake --build --preset release -- --quiet
if (($# == 0)); then
  echo "the Python package, with what is compiled in build/release"
  python/test.sh build/release || (($? == 77))
fi
ctest --preset release "$@"
