#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs what is missing, builds the release preset and runs every test. Arguments go to ctest, e.g. -R session
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cmake/setup.sh tests
echo "building build/release"
cmake --preset release --log-level=WARNING >/dev/null
cmake --build --preset release -- --quiet
ctest --preset release "$@"
