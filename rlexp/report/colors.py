"""Colours of the report's marks and text, chosen so that they can be told from their background.

WCAG 2.2 asks for a contrast of 4.5 of text (AA, 1.4.3) and of 3 of what a figure needs to be understood (1.4.11).
Every colour here reaches 3 on white; tests hold it.
"""

from __future__ import annotations

from collections.abc import Sequence

BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"  # Okabe and Ito 2008, "Color Universal Design"
PURPLE, OLIVE, SKY = "#C06A9B", "#8F8B00", "#3A96CF"  # darker than theirs, which reach 3.1, 1.3 and 2.3 on white
INK, GREY, LIGHT = "#222222", "#666666", "#8C8C8C"
COLORS = (BLUE, VERMILION, GREEN, PURPLE, OLIVE, SKY, INK)  # of contenders, the best first; LIGHT for the rest
SHADES = {  # of the members of a family, the best first; the first is the family's own colour
    "policy gradients": (VERMILION, "#7A2E00", "#E0604F", "#B07A5A"),
    "tables": (GREEN, "#00442F", "#5B9A2F", "#A37A0B", "#3E7C6B", "#4D7C0F"),
    "DQN": (BLUE, "#001F3F", SKY, "#7B61C4", "#5C8FA8"),
}
TEXT, MARK = 4.5, 3.0  # the smallest contrasts


def luminance(color: str) -> float:
    """The relative luminance of `#rrggbb`, from 0 to 1."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(a: str, b: str = "#FFFFFF") -> float:
    """The contrast of two colours, from 1 to 21."""
    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


def pale(color: str) -> str:
    """The palest mixture of a colour with white that still has the contrast of a mark."""
    channels = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    mixtures = (_hex([255 - (255 - c) * share / 100 for c in channels]) for share in range(20, 101))
    return next((mixed for mixed in mixtures if contrast(mixed) >= MARK), color)


def on(background: Sequence[float]) -> str:
    """Black or white, whichever can be read on a background (red, green, blue from 0 to 1)."""
    color = _hex([255 * c for c in background[:3]])
    return max("#000000", "#FFFFFF", key=lambda text: contrast(text, color))


def _hex(channels: Sequence[float]) -> str:
    return "#" + "".join(f"{round(c):02X}" for c in channels)
