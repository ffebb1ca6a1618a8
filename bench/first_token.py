#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Time from a whole prompt to its first token by the prompt's length: dense, with gates, and narrowing (FastKV), by turns.
Beside each the bound: the multiply-adds of the weights and of the pairs of query and row that are seen, at the peak of 8-bit dot
products that `pith bench` measures in the same run. For FastKV the bound is the dense one, as what it leaves out depends on the layer.

    bench/first_token.py MODEL GATES TEXT OUT.svg [--tokens 1024,2048,4096,8128] [--tau 0] [--repeat 3] [--threads 2]
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

PITH = os.environ.get("PITH", "build/release/bin/pith")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 360, 62, 150, 46, 44
COLOURS = {"dense": "#0b4a83", "gates": "#c2570c", "fastkv": "#5b7f2b"}


def pith(*arguments):
    done = subprocess.run([PITH, *arguments, "--json"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"first_token.py: pith {' '.join(arguments)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def text(x, y, content, anchor="middle", **more):
    attributes = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in more.items())
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{attributes}>{content}</text>'


def draw(rows, title):
    longest = max(row["tokens"] for row in rows)
    most = 1.05 * max(row["seconds"] for row in rows)

    def x(tokens):
        return LEFT + tokens / longest * (WIDTH - LEFT - RIGHT)

    def y(seconds):
        return HEIGHT - BOTTOM - seconds / most * (HEIGHT - TOP - BOTTOM)

    out = [text(LEFT, 22, title, "start", font_weight="bold")]
    for i in range(6):
        at = most * i / 5
        out.append(f'<line x1="{x(0):.1f}" x2="{x(longest):.1f}" y1="{y(at):.1f}" y2="{y(at):.1f}" stroke="#dde"/>')
        out.append(text(LEFT - 8, y(at) + 4, f"{at:.1f}", "end"))
    for tokens in sorted({row["tokens"] for row in rows}):
        out.append(text(x(tokens), HEIGHT - BOTTOM + 18, f"{tokens:,}"))
    out.append(text((x(0) + x(longest)) / 2, HEIGHT - 8, "tokens of the prompt", fill="#667"))
    out.append(text(16, (y(0) + y(most)) / 2, "seconds to the first token", fill="#667",
                    transform=f"rotate(-90 16 {(y(0) + y(most)) / 2:.1f})"))
    for place, (name, colour) in enumerate(COLOURS.items()):
        line = sorted((row for row in rows if row["name"] == name), key=lambda row: row["tokens"])
        for field, dash, wide in (("seconds", "", 2.5), ("bound", ' stroke-dasharray="4 4"', 1.5)):
            points = " ".join(f'{x(row["tokens"]):.1f},{y(row[field]):.1f}' for row in line)
            out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{wide}"{dash}/>')
        out += [f'<circle cx="{x(row["tokens"]):.1f}" cy="{y(row["seconds"]):.1f}" r="3" fill="{colour}"/>' for row in line]
        out.append(text(x(longest) + 14, TOP + 20 + 20 * place, name, "start", fill=colour, font_weight="bold"))
    out.append(text(x(longest) + 14, TOP + 20 + 20 * len(COLOURS), "dashed: the bound", "start", fill="#667"))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
            f'font-family="system-ui, sans-serif" font-size="12" fill="#223">\n<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>\n'
            + "\n".join(out) + "\n</svg>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("gates")
    parser.add_argument("text")
    parser.add_argument("out")
    parser.add_argument("--tokens", default="1024,2048,4096,8128")
    parser.add_argument("--tau", default="0")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", default="2")
    options = parser.parse_args()
    lengths = [int(n) for n in options.tokens.split(",")]
    ways = {"dense": ["--policy", "none"], "gates": ["--gates", options.gates, "--tau", options.tau], "fastkv": ["--policy", "fastkv"]}

    about = pith("inspect", "-m", options.model)
    peaks, samples, kept = [], {}, {}
    with open(options.text, encoding="utf-8") as file, tempfile.TemporaryDirectory() as folder:
        whole = file.read()
        for _ in range(options.repeat):
            bench = pith("bench", "-m", options.model, "-p", "64", "-n", "0", "-d", "0", "-r", "1", "-t", options.threads)
            peaks.append(bench["system"]["multiply_adds_per_s"])
            row = bench["rows"][0]
            weights = row["of_peak"] * peaks[-1] / row["tokens_per_s"]  # multiply-adds a token
            for length in lengths:
                prompt = os.path.join(folder, f"{length}.txt")
                if not os.path.exists(prompt):
                    characters = 3 * length
                    for _ in range(4):
                        with open(prompt, "w", encoding="utf-8") as out:
                            out.write(whole[:characters])
                        count = len(pith("tokenize", "-m", options.model, "-f", prompt)["tokens"])
                        characters = round(characters * length / count)
                for name, flags in ways.items():
                    got = pith("run", "-m", options.model, "-f", prompt, "-n", "1", "-t", options.threads, "--kv", "f16", *flags)
                    samples.setdefault((name, length), []).append(got["prompt_tokens"] / got["prefill_tokens_per_s"])
                    kept[name, length] = got["kept"], got["prompt_tokens"]
    peak = statistics.median(peaks)
    rows = []
    for (name, length), seconds in samples.items():
        share, count = kept[name, length]
        pairs = count * (count + 1) / 2 * (share if name == "gates" else 1)
        attention = 2 * pairs * about["layers"] * about["heads"] * about["head_dim"]
        rows.append({"name": name, "tokens": count, "seconds": statistics.median(seconds), "least": min(seconds),
                     "most": max(seconds), "kept": share, "bound": (weights * count + attention) / peak})
    print(f"| prompt | way | seconds to the first token | ratio to dense | pairs kept | bound, s | of bound |\n"
          f"|---|---|---|---|---|---|---|")
    for row in sorted(rows, key=lambda row: (row["tokens"], list(ways).index(row["name"]))):
        dense = next(other for other in rows if other["name"] == "dense" and other["tokens"] == row["tokens"])
        print(f'| {row["tokens"]:,} | {row["name"]} | {row["seconds"]:.2f} ({row["least"]:.2f} to {row["most"]:.2f}) | '
              f'{dense["seconds"] / row["seconds"]:.2f} | {100 * row["kept"]:.0f} % | {row["bound"]:.2f} | '
              f'{row["bound"] / row["seconds"]:.2f} |')
    print(f"peak of 8-bit dot products: {peak / 1e9:.0f} billion multiply-adds/s")
    with open(options.out, "w", encoding="utf-8") as out:
        out.write(draw(rows, f"f16 cache, {options.threads} threads, by turns, medians of {options.repeat}"))


main()
