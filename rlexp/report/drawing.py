"""What the figures of a report share: colours, lines of learning curves, axes, legends and text.

Axes: `N` trials, `T` records.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import EngFormatter, MaxNLocator

from rlexp.jobs.plots import ROOM
from rlexp.jobs.plots import style as style_axes
from rlexp.report.colors import COLORS, INK, LIGHT, pale

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ((0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (9, 3)), (0, (5, 1, 1, 1, 1, 1)))  # of levels
WIDTH, DPI = 5.6, 160  # inches, dots per inch: to be read at a phone's width
NUM_POINTS = 150  # of a line, at most: more cannot be told apart
FONT = 9.0  # points
WORST_SHOWN = 3.0  # how far the y axis goes down, in distances between the top and the median; bands are always shown
OUTLINE = (Stroke(linewidth=3.4, foreground="white"), Normal())  # of a line above single trials


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
            axes.plot(steps[present], column[present], color=pale(line.color), linewidth=0.6, zorder=2)
    if front or trials:
        axes.fill_between(steps, *line.band[:, few], color=line.color, alpha=0.16, linewidth=0, zorder=1)
        for bound in line.band[:, few]:
            axes.plot(steps, bound, color=pale(line.color), linewidth=0.5, zorder=1.5)
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
        path_effects=OUTLINE if trials else None,
    )


def set_limits(axes: Axes, lines: Sequence[Line], levels: Mapping[str, float]) -> None:
    """Set limits that show all levels, markers and bands, and all trials except catastrophic ones."""
    last = max([1, *(int(line.steps[-1]) for line in lines if len(line.steps))])
    axes.set_xlim(-ROOM * last, (1 + ROOM) * last)
    middles, bands, values = (
        np.concatenate([part[np.isfinite(part)] for part in parts])
        for parts in ([x.middle for x in lines], [x.band for x in lines], [x.values for x in lines])
    )
    if len(middles):
        top = max([values.max(), *bands, *levels.values()])
        floor = top - WORST_SHOWN * (top - np.median(middles)) if top > np.median(middles) else values.min()
        shown = min([middles.min(), *bands, *levels.values()])
        bottom = max(min(values.min(), shown), min(floor, shown))  # a catastrophic trial does not flatten the others
        room = 0.05 * (top - bottom) or 1.0
        axes.set_ylim(bottom - room, top + room)


def panel_grid(figure: Figure, count: int, same_x: bool) -> list[Axes]:
    """Panels with one y axis, two in a row; of an odd number the last takes a whole row, so that none is missing.

    Args:
        figure: an empty one.
        count: number of panels.
        same_x: whether they have one x axis, too.
    """
    grid = figure.add_gridspec(math.ceil(count / 2), 2)
    panels: list[Axes] = []
    for k in range(count):
        place = grid[k // 2, :] if k == count - 1 and count % 2 else grid[k // 2, k % 2]
        first = panels[0] if panels else None
        axes = figure.add_subplot(place, sharey=first, sharex=first if same_x else None)
        axes.tick_params(axis="y", labelleft=k % 2 == 0)
        panels.append(axes)
    return panels


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
