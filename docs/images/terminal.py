#!/usr/bin/env python3
"""Turns terminal text on standard input, with or without colours, into an SVG picture on standard
output: that of a command, or of a screen (`tmux capture-pane -e -p`)."""

import re
import sys
from html import escape

FONT, CHAR, LINE, PAD = 14, 8.43, 19, 16
PAPER, INK = "#14181d", "#d7dde4"
COLOURS = {1: "#ff7b72", 2: "#56d364", 3: "#e3b341", 6: "#56d4dd"}
WORDS = re.compile(r"\S+(?: \S+)*")
STYLE = re.compile(r"\x1b\[([\d;]*)m")


def runs(line, style):
    """Pieces of a line, each in one style: where it begins, its text, its style. Styles go on to the
    next line."""
    column, found = 0, []
    for number, part in enumerate(STYLE.split(line)):
        if number % 2:
            codes = [int(code or 0) for code in part.split(";")]
            while codes:
                switch(style, codes)
        elif part:
            found.append((column, part, dict(style)))
            column += len(part)
    return found, column


def switch(style, codes):
    """Takes the next code, with what belongs to it."""
    code = codes.pop(0)
    if code == 38 and codes[:1] == [5]:
        code = 30 + codes[1]
        del codes[:2]
    if code == 0:
        style.clear()
    elif code == 39:
        style.pop("colour", None)
    elif code - 30 in COLOURS:
        style["colour"] = COLOURS[code - 30]
    elif code in (1, 2, 4, 7):
        style[code] = True
    elif code == 22:
        style.pop(1, None)
        style.pop(2, None)
    elif code in (24, 27):
        style.pop(code - 20, None)


def drawn(x, y, text, style):
    """A piece of text, and what is behind it where it is inverse."""
    width = len(text) * CHAR
    colour = style.get("colour", INK)
    if style.get(7):
        yield f'<rect x="{x:.1f}" y="{y - 14:.0f}" width="{width:.1f}" height="{LINE}" fill="{colour}"/>'
        colour = PAPER
    attributes = f' fill="{colour}"' if colour != INK else ""
    attributes += ' font-weight="bold"' if style.get(1) else ""
    attributes += ' opacity="0.65"' if style.get(2) and not style.get(7) else ""
    attributes += ' text-decoration="underline"' if style.get(4) else ""
    # Programs do not agree on what becomes of several blanks.
    for words in WORDS.finditer(text):
        x_words, width = x + words.start() * CHAR, len(words[0]) * CHAR
        yield f'<text x="{x_words:.1f}" y="{y:.0f}" textLength="{width:.1f}"{attributes}>{escape(words[0])}</text>'


def main() -> None:
    style = {}
    lines = [runs(line, style) for line in sys.stdin.read().rstrip("\n").split("\n")]
    width = round(max(length for _, length in lines) * CHAR + 2 * PAD)
    height = len(lines) * LINE + 2 * PAD
    print(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">'
        f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>'
        f'<g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="{FONT}" '
        f'fill="{INK}">'
    )
    for number, (pieces, _) in enumerate(lines):
        y = PAD + LINE * (number + 0.75)
        for column, text, style in pieces:
            # Commands stand out from what they print.
            if column == 0 and text.startswith("$ "):
                style["colour"] = "#7fc8ff"
            print("".join(drawn(PAD + column * CHAR, y, text, style)))
    print("</g></svg>")


if __name__ == "__main__":
    main()
