# SPDX-License-Identifier: MIT
"""Draws what soak wrote: plot.py CSV SVG"""
import csv
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
from svg import picture, text, ticks  # noqa: E402

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 300, 64, 16, 28, 40


def main(source, target):
    with open(source, newline="") as file:
        rows = list(csv.DictReader(file))
    minutes = [float(row["seconds"]) / 60 for row in rows]
    curves = [("resident memory, MiB", "#0b4a83", [int(row["resident_kib"]) / 1024 for row in rows]),
              ("pages that are used, MiB", "#c2570c", [int(row["pool_kib"]) / 1024 for row in rows])]
    most_x, most_y = max(minutes), 1.05 * max(max(ys) for _, _, ys in curves)

    def x(minute):
        return LEFT + minute / most_x * (WIDTH - LEFT - RIGHT)

    def y(mebibytes):
        return HEIGHT - BOTTOM - mebibytes / most_y * (HEIGHT - TOP - BOTTOM)

    out = []
    for tick in ticks(most_y):
        out.append(f'<path d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}" stroke="#dde"/>')
        out.append(text(LEFT - 6, y(tick) + 4, f"{tick:g}", "end"))
    out += [text(x(tick), HEIGHT - BOTTOM + 18, f"{tick:g}") for tick in ticks(most_x)]
    out.append(text(WIDTH - RIGHT, HEIGHT - 6, f'minutes; {int(rows[-1]["asked"]):,} requests', "end"))
    for i, (name, colour, ys) in enumerate(curves):
        points = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in zip(minutes, ys))
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1"/>')
        out.append(text(LEFT + i * 200, 18, name, "start", fill=colour))
    with open(target, "w") as file:
        file.write(picture(WIDTH, HEIGHT, out))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
