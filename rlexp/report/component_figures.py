"""The figures of an ablation: effects of single components, and learning curves as the papers draw them.

A component has one colour in all figures; the base is black. Axes: `T` points of a curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from rlexp.config.components import COMPONENTS
from rlexp.jobs.plots import PALE
from rlexp.jobs.plots import style as style_axes
from rlexp.report import drawing
from rlexp.report.colors import COLORS, GREY, INK
from rlexp.report.drawing import DASHES, FONT

COLOR = dict(zip(COMPONENTS, COLORS, strict=False))  # of a component; INK, the last of them, is the base's
MARKERS = ("o", "D")  # of the measures
DASH = (*DASHES, (0, (2, 2)))  # of components, so that they are told apart in greyscale


@dataclass(frozen=True)
class Dot:
    """One effect.

    Attributes:
        measure: name of the measure.
        value, low, high: the change, with its interval; NaN for none.
        certain: whether it is significant: a full mark, else a hollow one.
    """

    measure: str
    value: float
    low: float
    high: float
    certain: bool


@dataclass(frozen=True)
class Rows:
    """A panel of effects: component, name and dots of each row."""

    title: str
    rows: Sequence[tuple[str, str, Sequence[Dot]]]


def effects(panels: Sequence[Rows], measures: Sequence[str], xlabel: str) -> Figure:
    """Panels side by side with one x axis, one row per component: dots with intervals, around zero.

    Args:
        panels: one or two.
        measures: names of the measures, in the order of their marks.
        xlabel: what the changes are.
    """
    names = list(dict.fromkeys(name for panel in panels for _, name, _ in panel.rows))
    figure = drawing.new_figure(1.1 + 0.42 * len(names))
    grid = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for axes, panel in zip(grid, panels, strict=True):
        style_axes(axes)
        axes.grid(axis="x", color=PALE, linewidth=0.8)
        axes.grid(axis="y", visible=False)
        axes.axvline(0.0, color=GREY, linewidth=1.1, zorder=1)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        for component, name, dots in panel.rows:
            for dot in dots:
                _draw_dot(axes, names.index(name), measures.index(dot.measure), dot, COLOR[component])
        drawing.draw_text(axes.set_title, drawing.shortened(panel.title, 34), loc="left", fontsize=FONT, color=INK)
    grid[0].set_yticks(range(len(names)))
    grid[0].yaxis.set_major_formatter(drawing.TextTicks([drawing.shortened(name, 30) for name in names]))
    grid[0].tick_params(axis="y", labelsize=FONT)
    grid[0].set_ylim(len(names) - 0.5, -0.5)
    figure.supxlabel(xlabel, fontsize=FONT, color=INK)
    look: dict[str, Any] = {"linestyle": "", "color": INK, "markersize": 5}
    handles = [Line2D([], [], marker=marker, **look) for marker in MARKERS[: len(measures)]]
    handles.append(Line2D([], [], marker="o", markerfacecolor="white", **look))
    figure.legend(handles, [*measures, "hollow: undecided"], loc="outside upper left", ncols=3, frameon=False,
                  fontsize=FONT - 1, handletextpad=0.2, columnspacing=1.2)  # fmt: skip
    return figure


def _draw_dot(axes: Axes, row: int, place: int, dot: Dot, color: str) -> None:
    y = row - 0.16 + 0.32 * place
    if np.isfinite([dot.low, dot.high]).all():
        axes.plot([dot.low, dot.high], [y, y], color=color, linewidth=1.8, solid_capstyle="butt", zorder=3)
    inside = color if dot.certain else "white"
    axes.plot(dot.value, y, MARKERS[place], color=color, markerfacecolor=inside, markersize=6, zorder=4)


@dataclass(frozen=True)
class Curve:
    """A learning curve: its component (None for the base), name, places, middle [T] and the base's band [2, T]."""

    component: str | None
    name: str
    x: np.ndarray
    middle: np.ndarray
    band: np.ndarray | None = None


def curves(panels: Sequence[tuple[str, Sequence[Curve]]], ylabel: str, in_shares: bool) -> Figure:
    """A panel for each base, one above the other: the base with its band, and its variants.

    Args:
        panels: titles and curves, the base first.
        ylabel: what the curves are.
        in_shares: whether the x axis is the share of the budget, else env steps.
    """
    figure = drawing.new_figure(0.35 + 2.5 * len(panels))
    grid = figure.subplots(len(panels), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (title, lines) in zip(grid, panels, strict=True):
        style_axes(axes)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0) if in_shares else EngFormatter(sep=""))
        for line in reversed(lines):
            look = _look(line.component)
            if line.band is not None:
                axes.fill_between(line.x, *line.band, color=look["color"], alpha=0.14, linewidth=0, zorder=1)
            axes.plot(line.x, line.middle, zorder=4 if line.component is None else 3, **look)
        _draw_names(axes, lines)
        drawing.draw_text(axes.set_title, drawing.shortened(title, 60), loc="left", fontsize=FONT, color=INK)
    figure.supxlabel("share of the budget" if in_shares else "env steps per trial", fontsize=FONT, color=INK)
    figure.supylabel(ylabel, fontsize=FONT, color=INK)
    return figure


def _look(component: str | None) -> dict[str, Any]:
    """Colour, width and dashes of a component's line, None for the base."""
    if component is None:
        return {"color": INK, "linewidth": 2.4, "linestyle": "-"}
    return {"color": COLOR[component], "linewidth": 1.6, "linestyle": DASH[list(COMPONENTS).index(component)]}


def _draw_names(axes: Axes, lines: Sequence[Curve]) -> None:
    """The legend at the right of a panel."""
    handles = [Line2D([], [], **_look(line.component)) for line in lines]
    legend = axes.legend(handles, ["."] * len(handles), loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False,
                         fontsize=FONT - 1, handlelength=2.4)  # fmt: skip
    for text, line in zip(legend.get_texts(), lines, strict=True):
        text.set_parse_math(False)
        text.set_text(drawing.shortened(line.name, 28))
