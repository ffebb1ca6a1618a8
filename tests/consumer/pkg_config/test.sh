#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A host without CMake: test.sh PROGRAM MODEL builds the program and runs it; pkg-config knows where pith is.
set -euo pipefail
read -ra flags < <(pkg-config --cflags --libs pith)
"${CXX:-g++}" -std=c++20 "${BASH_SOURCE[0]%/*}/../main.cpp" -o "$1" "${flags[@]}"
"$1" "$2"
