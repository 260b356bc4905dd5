"""What the figures of a report share: colours, lines of learning curves, axes, legends and text.

Axes: `N` trials, `T` records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from rlexp.jobs.plots import BLUE, INK, ORANGE, SKY, VERMILION
from rlexp.jobs.plots import style as style_axes

GREEN, PURPLE = "#009E73", "#CC79A7"  # Okabe-Ito, as in `plots`
COLORS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, INK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ((0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (9, 3)), (0, (5, 1, 1, 1, 1, 1)))  # of levels
LIGHT = "#BBBBBB"  # contenders beyond the colours
WIDTH, DPI = 5.6, 160  # inches, dots per inch: to be read at a phone's width
NUM_POINTS = 150  # of a line, at most: more cannot be told apart
FONT = 9.0  # points
WORST_SHOWN = 3.0  # how far the y axis goes down, in distances between the top and the median


@dataclass(frozen=True)
class Line:
    """One contender's learning curve.

    Attributes:
        label: its name.
        color: of the line.
        marker: of the line, so that it is told apart in greyscale.
        steps: of the records.  # [T]
        values: of the trials.  # [T, N]
        middle: their IQM.  # [T]
        band: its interval, lower and upper.  # [2, T]
        final: final return of each trial, NaN for none.  # [N]
        final_iqm, final_interval: of the final returns.
    """

    label: str
    color: str
    marker: str
    steps: np.ndarray
    values: np.ndarray
    middle: np.ndarray
    band: np.ndarray
    final: np.ndarray
    final_iqm: float
    final_interval: tuple[float, float]


def appearance(labels: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each contender; grey dots beyond the colours."""
    known = list(zip(COLORS, MARKERS, strict=True))
    return {label: known[i] if i < len(known) else (LIGHT, ".") for i, label in enumerate(labels)}


def thinned(length: int) -> np.ndarray:
    """Indices of at most `NUM_POINTS` evenly spaced records out of `length`, with the first and the last."""
    return np.unique(np.linspace(0, length - 1, min(length, NUM_POINTS)).astype(int))


def save(figure: Figure, stem: Path) -> Path:
    """Write `<stem>.png` and `<stem>.svg`, the same bytes for the same figure; returns the PNG."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "rlexp"}):
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
    figure.set_layout_engine("none")  # keep the layout of the first drawing: it takes half of the time
    figure.savefig(stem.with_suffix(".png"), dpi=DPI)
    return stem.with_suffix(".png")


class TextTicks(matplotlib.ticker.FixedFormatter):
    """Tick labels without mathematics, even if they contain dollar signs."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return super().__call__(x, pos).replace("$", r"\$")


def new_figure(height: float) -> Figure:
    """An empty figure of `WIDTH` and the given height, in inches."""
    return Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white", layout="constrained")


def style_steps(axes: Axes) -> None:
    """Style axes whose x axis counts env steps."""
    style_axes(axes)
    axes.set_xlabel("env steps per trial", fontsize=FONT, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def draw_line(axes: Axes, line: Line, trials: bool) -> None:
    """Draw a contender's IQM with its band, and its single trials if `trials`."""
    few = thinned(len(line.steps))
    steps = line.steps[few]
    front = line.color != LIGHT
    if trials:
        for column in line.values[few].T:
            present = np.isfinite(column)
            axes.plot(steps[present], column[present], color=line.color, linewidth=0.7, alpha=0.45, zorder=2)
    if front or trials:
        axes.fill_between(steps, *line.band[:, few], color=line.color, alpha=0.16, linewidth=0, zorder=1)
    axes.plot(
        steps,
        line.middle[few],
        color=line.color,
        linewidth=2.0 if front else 0.9,
        marker=line.marker if front else "",
        markersize=4.5,
        markeredgecolor="white",
        markeredgewidth=0.6,
        markevery=max(1, len(few) // 8),
        zorder=4 if front else 2,
    )


def set_limits(axes: Axes, lines: Sequence[Line], levels: Mapping[str, float]) -> None:
    """Set limits that show all levels, and all trials except catastrophic ones."""
    last = max((int(line.steps[-1]) for line in lines if len(line.steps)), default=1)
    axes.set_xlim(0, max(1, last))
    middles = np.concatenate([line.middle[np.isfinite(line.middle)] for line in lines])
    values = np.concatenate([line.values[np.isfinite(line.values)] for line in lines])
    if len(middles):
        top = max([values.max(), *levels.values()])
        floor = top - WORST_SHOWN * (top - np.median(middles)) if top > np.median(middles) else values.min()
        bottom = max(values.min(), min(floor, middles.min()))  # one catastrophic trial does not flatten the others
        room = 0.05 * (top - bottom) or 1.0
        axes.set_ylim(bottom - room, top + room)


def draw_legend(axes: Axes, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Draw a legend above the axes."""
    legend = axes.legend(
        handles,
        ["."] * len(labels),
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=2 if len(labels) > 1 else 1,
        frameon=False,
        fontsize=FONT - 0.5,
        borderaxespad=0.1,
        handlelength=1.6,
        columnspacing=1.2,
    )
    for shown, label in zip(legend.get_texts(), labels, strict=True):
        shown.set_parse_math(False)
        shown.set_text(shortened(label, 44))


def draw_text(draw: Any, words: str, *args: Any, **options: Any) -> None:
    """Draw text without mathematics, even if it contains dollar signs."""
    drawn = draw(words.replace("$", r"\$"), *args, **options)
    drawn.set_parse_math(False)
    drawn.set_text(words)


def shortened(words: str, longest: int = 30) -> str:
    """Text of at most `longest` characters; an ellipsis stands for the rest."""
    return words if len(words) <= longest else f"{words[: longest - 1]}…"
