#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Builds and installs the Python package in an environment of its own, build/python, and runs its tests there.
#   python/test.sh           as `pip install .` does: the library is compiled anew, some minutes on two cores
#   python/test.sh BUILD     the module is linked with what is compiled in a build folder of this tree; seconds
# Leaves with 77 where pip cannot fetch what the package is built with.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=$PWD/build/python
pip=("$venv/bin/python" -m pip --disable-pip-version-check --quiet)
if [[ ! -x $venv/bin/python ]]; then
  python3 -m venv "$venv" || { echo "python: an environment needs Python's venv (Debian: apt-get install python3-venv)" >&2; exit 1; }
fi
"${pip[@]}" install pytest numpy scikit-build-core nanobind 2>"$venv/pip.log" ||
  { echo "python: skipped: pip cannot fetch pytest, numpy, scikit-build-core and nanobind ($venv/pip.log)" >&2; exit 77; }

settings=()
if (($#)); then
  cmake --install "$1" --prefix "$venv/pith" >/dev/null
  settings=(-C "cmake.define.pith_ROOT=$venv/pith")
fi
"${pip[@]}" install --force-reinstall --no-deps "${settings[@]}" . 2>"$venv/pip.log" || { cat "$venv/pip.log" >&2; exit 1; }
"$venv/bin/python" -B -m pytest -q -rs -p no:cacheprovider python/tests
