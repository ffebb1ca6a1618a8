#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The laws of tests/properties/laws_test.cpp for COUNT random shapes: laws.sh COUNT [SEED]. Without a seed it is today's
# date, and so others every day; what fails names the seed of its shape.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

count=${1:?usage: laws.sh COUNT [SEED]}
seed=${2:-$(date +%Y%m%d)000}
echo "laws: $count shapes from seed $seed on"
cmake --preset release --log-level=WARNING >/dev/null
cmake --build --preset release --target properties_laws_test -- --quiet
PITH_LAWS="$count $seed" build/release/bin/properties_laws_test --gtest_brief=1
