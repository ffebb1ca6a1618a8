#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Hosts without CMake: test.sh PROGRAM MODEL builds the programs, in C++ and in C, and runs them; pkg-config knows where
# pith is.
set -euo pipefail
folder=${BASH_SOURCE[0]%/*}/..
read -ra flags < <(pkg-config --cflags --libs pith)
"${CXX:-g++}" -std=c++20 "$folder/main.cpp" -o "$1" "${flags[@]}"
"$1" "$2"
"${CC:-cc}" "$folder/../../examples/hello.c" -o "$1_c" "${flags[@]}"
"$1_c" "$2"
