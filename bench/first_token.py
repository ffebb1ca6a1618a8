#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Seconds from a prompt to its first token by the prompt's length: dense, with gates, and narrowed (FastKV), by turns.

    bench/first_token.py MODEL.gguf --gates GATES --text FILE --out OUT.svg      a table in Markdown, and a plot

The bound is the multiply-adds that a way cannot do without - of each token with the weights of the layers it goes through, and of
each query with the keys and values it sees - at the peak of 8-bit dot products, which `pith bench` measures in each round. Of the
gates' pairs those count that they left to be seen; what gates themselves cost is no part of the bound. Under FastKV all of a
prompt's tokens go through the layers before the middle, and --narrowed of them through the others.
"""
import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

from svg import picture, text, ticks

ROOT = pathlib.Path(__file__).resolve().parents[1]
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 360, 58, 132, 46, 44
COLOURS = {"dense": "#0b4a83", "gates": "#c2570c", "narrowed": "#5b7f2b"}


def pith(args, subcommand, *arguments):
    command = [str(word) for word in (args.pith, subcommand, "-m", args.model, *arguments, "--json")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"first_token: {' '.join(command)}: left with {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout)


def write_prompt(args, whole, length, path):
    """As many characters of `whole` as make about `length` tokens."""
    characters = 4 * length
    for _ in range(4):
        path.write_text(whole[:characters], encoding="utf-8")
        characters = characters * length // len(pith(args, "tokenize", "-f", path)["tokens"])


def pairs(tokens):
    """Of a query and a row at or before it."""
    return tokens * (tokens + 1) / 2


def multiply_adds(way, model, tokens, kept, narrowed):
    """That `way` cannot do without: weights of the layers, and keys and values."""
    weights = sum(math.prod(tensor["shape"]) for tensor in model["tensors"]
                  if tensor["name"].startswith("blk.") and len(tensor["shape"]) == 2)
    width = 2 * model["heads"] * model["head_dim"]  # of a pair in a layer
    layers = model["layers"]
    if way == "narrowed":
        on = min(tokens, narrowed)
        first = layers // 2
        return (weights * (first * tokens + (layers - first) * on) / layers
                + width * (first * pairs(tokens) + (layers - first) * pairs(on)))
    return weights * tokens + width * layers * pairs(tokens) * (kept if way == "gates" else 1)


def measure(args):
    """The rows of the table, and multiply-adds/s at best."""
    ways = {"dense": ["--policy", "none"], "gates": ["--gates", args.gates, "--tau", args.tau],
            "narrowed": ["--policy", f"fastkv(tokens={args.narrowed})"]}
    model = pith(args, "inspect")
    whole = pathlib.Path(args.text).read_text(encoding="utf-8")
    peaks, runs = [], {}
    with tempfile.TemporaryDirectory() as folder:
        prompts = {length: pathlib.Path(folder, f"{length}.txt") for length in args.tokens}
        for length, path in prompts.items():
            write_prompt(args, whole, length, path)
        for _ in range(args.rounds):
            bench = pith(args, "bench", "-p", 64, "-n", 0, "-d", 0, "-r", 3, "-t", args.threads)
            peaks.append(bench["system"]["multiply_adds_per_s"])
            for length, path in prompts.items():
                for way, flags in ways.items():
                    found = pith(args, "run", "-f", path, "-n", 1, "-t", args.threads, "--kv", args.kv, *flags)
                    runs.setdefault((length, way), []).append(found)
    peak = statistics.median(peaks)
    rows = []
    for (_, way), found in runs.items():
        seconds = [one["prompt_tokens"] / one["prefill_tokens_per_s"] for one in found]
        tokens, kept = found[0]["prompt_tokens"], found[0]["kept"]
        rows.append({"way": way, "tokens": tokens, "seconds": statistics.median(seconds), "least": min(seconds),
                     "most": max(seconds), "kept": kept,
                     "bound": multiply_adds(way, model, tokens, kept, args.narrowed) / peak})
    return rows, peak


def table(rows):
    print("| tokens | way | seconds to the first token | times as fast as dense | pairs seen | bound, s | of bound |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        dense = next(other["seconds"] for other in rows if other["way"] == "dense" and other["tokens"] == row["tokens"])
        print(f'| {row["tokens"]:,} | {row["way"]} | {row["seconds"]:.2f} ({row["least"]:.2f} to {row["most"]:.2f}) | '
              f'{dense / row["seconds"]:.2f} | {100 * row["kept"]:.0f} % | {row["bound"]:.2f} | {row["bound"] / row["seconds"]:.2f} |')


def draw(rows, title):
    longest = max(row["tokens"] for row in rows)
    most = 1.05 * max(row["most"] for row in rows)

    def x(tokens):
        return LEFT + tokens / longest * (WIDTH - LEFT - RIGHT)

    def y(seconds):
        return HEIGHT - BOTTOM - seconds / most * (HEIGHT - TOP - BOTTOM)

    out = [text(LEFT, 22, title, "start", font_weight="bold"),
           text((x(0) + x(longest)) / 2, HEIGHT - 8, "tokens of the prompt", fill="#667"),
           text(14, (y(0) + y(most)) / 2, "seconds to the first token", fill="#667",
                transform=f"rotate(-90 14 {(y(0) + y(most)) / 2:.1f})")]
    for tick in ticks(most):
        out += [f'<line x1="{x(0):.1f}" x2="{x(longest):.1f}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#dde"/>',
                text(x(0) - 8, y(tick) + 4, f"{tick:g}", "end")]
    for tokens in sorted({row["tokens"] for row in rows}):
        out.append(text(x(tokens), y(0) + 18, f"{tokens:,}"))
    for place, (way, colour) in enumerate(COLOURS.items()):
        line = [row for row in rows if row["way"] == way]
        for field, dash in (("seconds", ""), ("bound", ' stroke-dasharray="4 4"')):
            points = " ".join(f'{x(row["tokens"]):.1f},{y(row[field]):.1f}' for row in line)
            out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        for row in line:
            at = x(row["tokens"])
            out += [f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y(row["least"]):.1f}" y2="{y(row["most"]):.1f}" stroke="{colour}"/>',
                    f'<circle cx="{at:.1f}" cy="{y(row["seconds"]):.1f}" r="3" fill="{colour}"/>']
        out.append(text(x(longest) + 14, TOP + 20 + 20 * place, way, "start", fill=colour, font_weight="bold"))
    out.append(text(x(longest) + 14, TOP + 20 + 20 * len(COLOURS), "dashed: the bound", "start", fill="#667"))
    return picture(WIDTH, HEIGHT, out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="GGUF")
    parser.add_argument("--gates", required=True, help="safetensors")
    parser.add_argument("--text", required=True, help="what prompts are the beginning of")
    parser.add_argument("--out", required=True, help="SVG")
    parser.add_argument("--pith", default=ROOT / "build/release/bin/pith", help="the command")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 2048, 4096, 8128], help="lengths of prompts, about")
    parser.add_argument("--narrowed", type=int, default=2048, help="tokens that FastKV leaves to the later layers")
    parser.add_argument("--tau", type=float, default=0)
    parser.add_argument("--kv", default="f16", help="format of the cache")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-t", "--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    rows, peak = measure(args)
    table(rows)
    print(f"\nPeak of 8-bit dot products: {peak / 1e9:.0f} billion multiply-adds/s.")
    with open(args.out, "w", encoding="utf-8") as out:
        out.write(draw(rows, f"{os.path.basename(args.model)}, {args.kv} cache, {args.threads} threads"))


if __name__ == "__main__":
    main()
