#!/usr/bin/env python3
"""Turns terminal text on standard input into an SVG picture on standard output."""

import sys
from html import escape

FONT, CHAR, LINE, PAD = 14, 8.43, 19, 16


def main() -> None:
    lines = sys.stdin.read().rstrip("\n").split("\n")
    width = round(max(map(len, lines)) * CHAR + 2 * PAD)
    height = len(lines) * LINE + 2 * PAD
    print(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">'
        f'<rect width="100%" height="100%" rx="8" fill="#14181d"/>'
        f'<g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="{FONT}" '
        f'fill="#d7dde4" xml:space="preserve">'
    )
    for number, line in enumerate(lines):
        y = PAD + LINE * (number + 0.75)
        # Commands stand out from what they print.
        style = ' fill="#7fc8ff"' if line.startswith("$ ") else ""
        print(f'<text x="{PAD}" y="{y:.0f}" textLength="{len(line) * CHAR:.0f}"{style}>{escape(line)}</text>')
    print("</g></svg>")


if __name__ == "__main__":
    main()
