#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Makes the README's pictures from the shipped model: the text of story.txt, whose last question the model answers.
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

# The same question to caches that forget differently.
for policy in gate none "streaming(sinks=4,recent=68)"; do
  printf '%-30s' "$policy"
  "$pith" run -q -m $model -f $pictures/story.txt -n 5 --temp 0 --policy "$policy"
done

"$pith" trace -q -m $model -f $pictures/story.txt -n 5 --temp 0 --html "$folder/report.html"
node $pictures/shoot.mjs "$folder/report.html" $pictures
