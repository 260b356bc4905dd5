"""Docstrings as reStructuredText: rlexp's are plain text with Google's sections, written for readers of the code."""

from __future__ import annotations

import re
from typing import Any

CODE = re.compile(r"(`[^`]*`)")
RETURNS = re.compile(r"Returns:\s*$")
SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields|Axes):\s*$")


def process(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Escape what would be markup, mark indented formulas as literal blocks, and leave out what says nothing."""
    if what in ("attribute", "property"):
        if lines and lines[0].startswith("Alias for field number"):  # of a named tuple
            lines.clear()
        lines[:1] = [f": {line}" for line in lines[:1]]
    lines[:] = as_rst(lines)


def as_rst(lines: list[str]) -> list[str]:
    """The same text with `*`, `|` and final `_` escaped outside code, and `::` before indented blocks of no section.

    What is returned has no type there: napoleon would take what stands before a colon for one, and a colon of its own
    before the text says that there is none. The same holds for attributes.
    """
    out: list[str] = []
    literal = in_section = False
    for number, line in enumerate(lines):
        indented = line.startswith(" ")
        if line and not indented:
            literal, in_section = False, bool(SECTION.match(line))
        starts = indented and not in_section and not literal and number > 0 and not lines[number - 1].strip()
        if starts:
            out += ["::", ""]
            literal = True
        if number and RETURNS.match(lines[number - 1]):
            line = f"{line[: len(line) - len(line.lstrip())]}: {line.lstrip()}"
        out.append(line if literal else _escaped(line))
    return out


def _escaped(line: str) -> str:
    parts = CODE.split(line)
    return "".join(
        part if part.startswith("`") else re.sub(r"([*|])|(?<=\w)(_)(?=\W|$)", r"\\\1\2", part) for part in parts
    )
