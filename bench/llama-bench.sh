#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The same GGUF file through llama.cpp's llama-bench and through `pith bench`, by turns, at the same depths:
#   bench/llama-bench.sh MODEL.gguf [depths, default 0,1024,4096,8192] [threads, default 2] [rounds, default 3]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

model=${1:?usage: bench/llama-bench.sh MODEL.gguf [DEPTHS] [THREADS] [ROUNDS]}
depths=${2:-0,1024,4096,8192}
threads=${3:-2}
rounds=${4:-3}
theirs=${LLAMA_BENCH:-llama-bench}
ours=${PITH:-build/release/bin/pith}

if ! command -v "$theirs" >/dev/null; then
  echo "llama-bench.sh: no llama-bench on the PATH (build llama.cpp, or set LLAMA_BENCH=/path/to/llama-bench)" >&2
  exit 1
fi
if ! command -v "$ours" >/dev/null; then
  echo "llama-bench.sh: no $ours (cmake --preset release && cmake --build --preset release, or set PITH)" >&2
  exit 1
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for ((round = 1; round <= rounds; ++round)); do
  echo "round $round of $rounds" >&2
  "$theirs" -m "$model" -t "$threads" -d "$depths" -p 512 -n 32 -r 1 -ctk f16 -ctv f16 -o json >"$folder/theirs-$round.json"
  "$ours" bench -m "$model" -t "$threads" -d "$depths" -p 512 -n 32 -r 1 --kv f16 --json >"$folder/ours-$round.json"
done

python3 - "$folder" <<'PYTHON'
import glob
import json
import statistics
import sys

speeds = {}  # (test, depth) -> {"theirs": [...], "ours": [...]}


def add(test, depth, whose, speed):
    speeds.setdefault((test, depth), {"theirs": [], "ours": []})[whose].append(speed)


for path in glob.glob(sys.argv[1] + "/theirs-*.json"):
    for row in json.load(open(path)):
        add("prefill" if row["n_prompt"] else "decode", row.get("n_depth", 0), "theirs", row["avg_ts"])
for path in glob.glob(sys.argv[1] + "/ours-*.json"):
    for row in json.load(open(path))["rows"]:
        add(row["test"], row["depth"], "ours", row["tokens_per_s"])

print(f"{'test':8}{'depth':>8}{'llama.cpp':>12}{'pith':>12}{'ratio':>8}   tokens/s, medians; (min, max) of ours")
for (test, depth), both in sorted(speeds.items()):
    if both["theirs"] and both["ours"]:
        theirs, ours = statistics.median(both["theirs"]), statistics.median(both["ours"])
        spread = f"({min(both['ours']):.1f}, {max(both['ours']):.1f})"
        print(f"{test:8}{depth:8}{theirs:12.1f}{ours:12.1f}{ours / theirs:8.2f}   {spread}")
PYTHON
