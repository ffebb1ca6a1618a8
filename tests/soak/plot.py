# SPDX-License-Identifier: MIT
"""Draws what soak wrote: plot.py CSV SVG"""
import csv
import sys

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 300, 64, 16, 28, 40


def steps(most):
    """About five round numbers up to `most`."""
    step = 1.0
    while most / step > 5:
        step *= 2 if str(step)[0] in "15" else 2.5
    return [i * step for i in range(int(most / step) + 1)]


def line(xs, ys, most_x, most_y, colour):
    points = " ".join(f"{LEFT + x / most_x * (WIDTH - LEFT - RIGHT):.1f},"
                      f"{HEIGHT - BOTTOM - y / most_y * (HEIGHT - TOP - BOTTOM):.1f}" for x, y in zip(xs, ys))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1"/>'


def main(source, target):
    with open(source, newline="") as file:
        rows = list(csv.DictReader(file))
    minutes = [float(row["seconds"]) / 60 for row in rows]
    curves = [("resident memory, MiB", "#1f6feb", [int(row["resident_kib"]) / 1024 for row in rows]),
              ("pages that are used, MiB", "#d1662b", [int(row["pool_kib"]) / 1024 for row in rows])]
    most_x, most_y = max(minutes), 1.05 * max(max(ys) for _, _, ys in curves)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
           f'font-size="12"><rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>']
    for y in steps(most_y):
        at = HEIGHT - BOTTOM - y / most_y * (HEIGHT - TOP - BOTTOM)
        out.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#dddddd"/>'
                   f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in steps(most_x):
        at = LEFT + x / most_x * (WIDTH - LEFT - RIGHT)
        out.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x:g}</text>')
    out.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">minutes; '
               f'{int(rows[-1]["asked"]):,} requests</text>')
    for i, (name, colour, ys) in enumerate(curves):
        out.append(line(minutes, ys, most_x, most_y, colour))
        out.append(f'<text x="{LEFT + i * 200}" y="18" fill="{colour}">{name}</text>')
    out.append("</svg>")
    with open(target, "w") as file:
        file.write("\n".join(out) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
