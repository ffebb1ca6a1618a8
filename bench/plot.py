#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws what a token costs by depth, measured and bound by memory, from the outputs of `pith bench --json`.

    bench/plot.py OUT.svg RESULT.json [RESULT.json ...]     one panel per file
"""
import json
import sys

from svg import picture, text, ticks

WIDTH, HEIGHT = 460, 330
LEFT, RIGHT, TOP, BOTTOM = 58, 26, 52, 44
COLOURS = ["#0b4a83", "#c2570c", "#5b7f2b", "#7a4a9c"]


def panel(result, left):
    rows = [row for row in result["rows"] if row["test"] == "decode"]
    config, system = result["config"], result["system"]
    deepest = max(row["depth"] for row in rows)
    most = 1.08 * max(row["ms_per_step"] for row in rows)

    def x(depth):
        return left + LEFT + depth / max(deepest, 1) * (WIDTH - LEFT - RIGHT)

    def y(milliseconds):
        return HEIGHT - BOTTOM - milliseconds / most * (HEIGHT - TOP - BOTTOM)

    sequences = config["sequences"]
    title = "one sequence" if sequences == 1 else f"{sequences} sequences"
    out = [text(left + LEFT, 20, f'{config["model"]} {config["format"]}, {title}', "start", font_weight="bold"),
           text(left + LEFT, 38, f'{config["kv"]} cache, {system["threads"]} threads, {system["isa"]}; '
                f'plain read {system["read_bytes_per_s"] / 1e9:.0f} GB/s', "start", fill="#667")]
    for tick in ticks(most):
        out.append(f'<line x1="{x(0):.1f}" x2="{x(deepest):.1f}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#dde"/>')
        out.append(text(x(0) - 8, y(tick) + 4, f"{tick:g}", "end"))
    for depth in sorted({row["depth"] for row in rows}):
        out.append(f'<line x1="{x(depth):.1f}" x2="{x(depth):.1f}" y1="{y(0):.1f}" y2="{y(0) + 4:.1f}" stroke="#889"/>')
        if depth == 0 or x(depth) - x(0) > 40:
            out.append(text(x(depth), y(0) + 18, f"{depth:,}"))
    out.append(text((x(0) + x(deepest)) / 2, HEIGHT - 8, "tokens of context", fill="#667"))
    out.append(text(left + 14, (y(0) + y(most)) / 2, "ms per step", fill="#667",
                    transform=f"rotate(-90 {left + 14} {(y(0) + y(most)) / 2:.1f})"))

    for colour, keep in zip(COLOURS, sorted({row["keep"] for row in rows}, reverse=True)):
        line = sorted((row for row in rows if row["keep"] == keep), key=lambda row: row["depth"])

        def path(field):
            return " ".join(f'{x(row["depth"]):.1f},{y(row[field]):.1f}' for row in line)

        out.append(f'<polyline points="{path("bound_ms_per_step")}" fill="none" stroke="{colour}" stroke-width="1.5" '
                   'stroke-dasharray="4 4"/>')
        out.append(f'<polyline points="{path("ms_per_step")}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        for row in line:
            low, high = (sequences * row[f"ms_per_token_{end}"] for end in ("min", "max"))
            out.append(f'<line x1="{x(row["depth"]):.1f}" x2="{x(row["depth"]):.1f}" y1="{y(low):.1f}" '
                       f'y2="{y(min(high, most)):.1f}" stroke="{colour}"/>')
            out.append(f'<circle cx="{x(row["depth"]):.1f}" cy="{y(row["ms_per_step"]):.1f}" r="3" fill="{colour}"/>')
        name = "dense" if keep == 1 else f"{100 * keep:.0f} % kept, gate at work"
        row_of_key = y(most) + 14 + 18 * COLOURS.index(colour)
        out.append(f'<line x1="{x(0) + 10:.1f}" x2="{x(0) + 34:.1f}" y1="{row_of_key - 4:.1f}" y2="{row_of_key - 4:.1f}" '
                   f'stroke="{colour}" stroke-width="2.5"/>')
        out.append(text(x(0) + 40, row_of_key, name, "start"))
    key = y(most) + 14 + 18 * len({row["keep"] for row in rows})
    out.append(f'<line x1="{x(0) + 10:.1f}" x2="{x(0) + 34:.1f}" y1="{key - 4:.1f}" y2="{key - 4:.1f}" stroke="#445" '
               'stroke-width="1.5" stroke-dasharray="4 4"/>')
    out.append(text(x(0) + 40, key, "bytes to read / plain read", "start"))
    return out


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    panels = []
    for path in sys.argv[2:]:
        with open(path) as file:
            panels.append(json.load(file))
    width = WIDTH * len(panels)
    body = [line for i, result in enumerate(panels) for line in panel(result, i * WIDTH)]
    with open(sys.argv[1], "w") as out:
        out.write(picture(width, HEIGHT, body))


main()
