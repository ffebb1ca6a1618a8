# SPDX-License-Identifier: MIT
"""What the pictures of benchmarks are drawn with."""


def ticks(most, count=5):
    """Round numbers from 0 to `most`, at most `count` of them above 0."""
    step = 1.0
    while most / step > count:
        for factor in (2, 2.5, 2):
            step *= factor
            if most / step <= count:
                break
    return [i * step for i in range(int(most / step) + 1)]


def text(x, y, content, anchor="middle", **more):
    attributes = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in more.items())
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{attributes}>{content}</text>'


def picture(width, height, body):
    """A whole file, of the lines of what is drawn."""
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'font-family="system-ui, sans-serif" font-size="12" fill="#223">\n<rect width="{width}" height="{height}" fill="#fff"/>\n'
            + "\n".join(body) + "\n</svg>\n")
