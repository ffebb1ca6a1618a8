# SPDX-License-Identifier: MIT
"""Pictures of what bench_methods finds: a method is a line, a share of the prompt that is kept a dot. For bench/methods.py --plot."""
import math

from svg import picture, text

COLOURS = {0.5: "#0b4a83", 0.25: "#5b7f2b", 0.1: "#c2570c"}
LINE, TOP, NAMES, GAP, WIDTH = 17, 64, 132, 26, 240


def panel(left, title, names, found, value, x_of, ticks):
    """value(Found) -> a number or None; x_of: number -> 0 to 1; ticks: (number, label)"""
    bottom = TOP + LINE * len(names)
    out = [text(left + WIDTH / 2, TOP - 26, title, "middle", font_weight="bold")]
    for number, label in ticks:
        x = left + WIDTH * x_of(number)
        out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 4}" y2="{bottom}" stroke="#dde"/>')
        out.append(text(x, TOP - 9, label, "middle", fill="#667"))
    for i, name in enumerate(names):
        y = TOP + LINE * (i + 0.5)
        dots = [(keep, value(found[name, keep])) for keep in COLOURS if (name, keep) in found and found[name, keep].documents]
        dots = [(keep, left + WIDTH * min(1, max(0, x_of(number)))) for keep, number in dots if number is not None]
        if len(dots) > 1:
            ends = [x for _, x in dots]
            out.append(f'<line x1="{min(ends):.1f}" x2="{max(ends):.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="#bbc"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.2" fill="{COLOURS[keep]}"/>' for keep, x in dots]
    return out


def draw(path, title, found, not_asked, asked):
    """found: {(name, keep): Found}; lines in the order of the divergence with a quarter kept."""
    there = {name for (name, _), one in found.items() if one.documents}
    names = sorted(there, key=lambda name: (found[name, 0.25].kl if (name, 0.25) in found else math.inf, name))
    least, most = 0.003, 3.0

    def logarithm(number):
        return math.log(max(number, least) / least) / math.log(most / least)

    shares = [(0, "0"), (0.5, "50 %"), (1, "100 %")]

    def recall(tasks):
        return lambda one: one.share(*tasks) if sum(one.of[task] for task in tasks) else None

    panels = [("KL from the dense model, nats", lambda one: one.kl, logarithm, [(n, f"{n:g}") for n in (0.01, 0.1, 1)]),
              ("facts, asked afterwards", recall(not_asked), lambda n: n, shares),
              ("facts, asked in the prompt", recall(asked), lambda n: n, shares),
              ("words of a list", recall(["copy"]), lambda n: n, shares)]
    width, height = NAMES + len(panels) * (WIDTH + GAP) + GAP, TOP + LINE * len(names) + 16
    body = [text(8, 20, title, "start", font_weight="bold", font_size="14")]
    for i, (keep, colour) in enumerate(COLOURS.items()):
        x = width - 3 * 92 + i * 92
        body += [f'<circle cx="{x}" cy="16" r="4.2" fill="{colour}"/>', text(x + 9, 20, f"{keep:.0%} kept", "start")]
    for i, name in enumerate(names):
        body.append(text(NAMES - 8, TOP + LINE * (i + 0.5) + 4, name, "end"))
    for i, (head, value, x_of, ticks) in enumerate(panels):
        body += panel(NAMES + GAP / 2 + i * (WIDTH + GAP), head, names, found, value, x_of, ticks)
    with open(path, "w", encoding="utf-8") as out:
        out.write(picture(width, height, body))
