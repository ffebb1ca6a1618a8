#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs, with apt, what is missing of what pith is built with: setup.sh tool | tests | ci
set -euo pipefail

missing=()
need_command() { command -v "$1" >/dev/null || missing+=("$2"); }  # command, package
need_package() {
  local package
  for package; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
  done
}

need_command g++ g++
need_command cmake cmake
need_command ninja ninja-build
need_command pkg-config pkg-config
need_package nlohmann-json3-dev libcli11-dev libpcre2-dev libutf8proc-dev libcpp-httplib-dev
if [[ $1 != tool ]]; then
  need_command python3 python3
  python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
  python3 -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
    2>/dev/null || missing+=(python3-dev)
  need_package libgtest-dev libbenchmark-dev libeigen3-dev libpango1.0-dev libgif-dev python3-jsonschema python3-pil
fi
if [[ $1 == ci ]]; then
  need_command git git
  need_command ccache ccache
  need_command clang++ clang
  need_command clang-format clang-format
  need_command aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
  need_command qemu-aarch64-static qemu-user-static
  need_command node nodejs
  need_command chromium chromium
  need_package libclang-rt-dev libomp-dev python3-numpy python3-torch python3-venv
  python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
  python3 -c 'import jsonschema' 2>/dev/null || missing+=(python3-jsonschema)
fi
((${#missing[@]})) || exit 0

if ! command -v apt-get >/dev/null; then
  echo "setup: no apt-get here; what Debian calls ${missing[*]} should be installed (CMake downloads libraries that are not)" >&2
  exit 0
fi
as_root=()
if ((EUID != 0)); then
  if ! command -v sudo >/dev/null; then
    echo "setup: please install, as root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "setup: installing ${missing[*]}"
quietly() {  # runs a command; shows what it printed only if it fails
  local log
  log=$("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "$@" 2>&1 </dev/null) || { echo "$log" >&2 && exit 1; }
}
quietly apt-get update
quietly apt-get install -y --no-install-recommends "${missing[@]}"
