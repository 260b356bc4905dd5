"""The pictures of a study. Each function draws what it is given and knows no statistics but the IQM and its band.

Built without pyplot, like `plots`. Made to be read at a phone's width: one column, few words, large type.
Axes: `N` trials, `T` records.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from rlexp.jobs.plots import BLUE, GREY, INK, ORANGE, PALE, SKY, VERMILION
from rlexp.jobs.plots import style as style_axes
from rlexp.system.words import number

GREEN, PURPLE = "#009E73", "#CC79A7"  # Okabe-Ito, as in `plots`
COLORS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, INK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ((0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (9, 3)), (0, (5, 1, 1, 1, 1, 1)))  # of named levels
LIGHT = "#BBBBBB"  # contenders beyond the colours
WIDTH, DPI = 5.6, 160
NUM_POINTS = 150  # of a line, at most; more would not be seen
FONT = 9.0
WORST_SHOWN = 3.0  # a picture's axis goes down to so many times the distance between the best and the middle


@dataclass(frozen=True)
class Line:
    """One contender's learning curve.

    Attributes:
        label: its name.
        color: of the line.
        marker: of the line, so that it is told apart on grey paper.
        steps: of the records.  # [T]
        values: of the trials.  # [T, N]
        middle: their IQM.  # [T]
        band: its interval, lower and upper.  # [2, T]
        final: final return of each trial, NaN where there is none.  # [N]
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


def save(figure: Figure, stem: Path) -> Path:
    """Write `<stem>.png` and `<stem>.svg`, the same bytes for the same figure; returns the PNG."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "rlexp"}):
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
    figure.set_layout_engine("none")  # as the first drawing has laid it out: that is half of the time
    figure.savefig(stem.with_suffix(".png"), dpi=DPI)
    return stem.with_suffix(".png")


def learning_curves(lines: Sequence[Line], levels: Mapping[str, float], ylabel: str) -> Figure:
    """All contenders of one environment: IQM over env steps with its band; those beyond the colours in grey.

    Args:
        lines: the best first.
        levels: name -> return, drawn as named horizontal lines.
        ylabel: what the curves are.
    """
    colored = [line for line in lines if line.color != LIGHT]
    rows = math.ceil((len(colored) + (len(colored) < len(lines)) + len(levels)) / 2)
    figure = _figure(3.3 + 0.19 * rows)
    axes = figure.subplots()
    _style_steps(axes)
    for line in reversed(lines):
        _draw_line(axes, line, trials=len(lines) == 1)
    handles = [Line2D([], [], color=x.color, marker=x.marker, markersize=4.5, linewidth=2) for x in colored]
    labels = [line.label for line in colored]
    if len(colored) < len(lines):
        handles.append(Line2D([], [], color=LIGHT))
        labels.append(f"{len(lines) - len(colored)} others")
    for dash, (name, level) in zip(itertools.cycle(DASHES), levels.items(), strict=False):
        handles.append(axes.axhline(level, color=GREY, linestyle=dash, linewidth=1.1, zorder=1))
        labels.append(name)
    _legend(axes, handles, labels)
    _frame(axes, lines, levels)
    axes.set_ylabel(ylabel, fontsize=FONT, color=INK)
    return figure


def single_trials(lines: Sequence[Line], every: Sequence[Line], ylabel: str) -> Figure:
    """A panel a contender, with axes that suit all of `every`: thin lines are trials, the thick one is their IQM."""
    columns = min(2, len(lines))
    rows = math.ceil(len(lines) / columns)
    figure = _figure(0.35 + 1.75 * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, line in zip(panels.flat, lines, strict=False):
        _style_steps(axes)
        axes.set_xlabel("")
        _draw_line(axes, line, trials=True)
        _text(axes.set_title, line.label, loc="left", fontsize=FONT, color=INK)
    for axes in panels.flat[len(lines) :]:
        axes.set_visible(False)
    _frame(panels[0, 0], every, {})
    figure.supxlabel("env steps per trial", fontsize=FONT, color=INK)
    figure.supylabel(ylabel, fontsize=FONT, color=INK)
    return figure


def final_returns(lines: Sequence[Line], levels: Mapping[str, float]) -> Figure:
    """One row a contender: a dot a trial, a diamond at their IQM, a bar for its interval."""
    figure = _figure(0.9 + 0.42 * len(lines) + 0.16 * len(levels))
    axes = figure.subplots()
    style_axes(axes)
    axes.grid(axis="x", color=PALE, linewidth=0.8)
    axes.grid(axis="y", visible=False)
    for row, line in enumerate(lines):
        final = line.final[np.isfinite(line.final)]
        spread = np.linspace(-0.13, 0.13, len(final)) if len(final) > 1 else [0.0]
        color = line.color if line.color != LIGHT else GREY
        axes.scatter(final, row + 0.17 + np.asarray(spread), s=13, color=color, alpha=0.65, linewidth=0, zorder=3)
        if np.isfinite(line.final_interval).all():
            axes.plot(line.final_interval, [row - 0.18] * 2, color=color, linewidth=3, solid_capstyle="butt", zorder=3)
        axes.plot(line.final_iqm, row - 0.18, "D", color=INK, markersize=5, zorder=4)
    axes.set_yticks(range(len(lines)))
    axes.yaxis.set_major_formatter(_Names([_short(line.label) for line in lines]))
    axes.tick_params(axis="y", labelsize=FONT)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xlabel("final return", fontsize=FONT, color=INK)
    for i, (dash, (name, level)) in enumerate(zip(itertools.cycle(DASHES), levels.items(), strict=False)):
        axes.axvline(level, color=GREY, linestyle=dash, linewidth=1.1, zorder=1)
        place = (level, 1.0)
        low, high = axes.get_xlim()
        _text(
            axes.annotate, name, place, (0, 3 + 11 * i), ("data", "axes fraction"), "offset points", fontsize=7.5,
            color=GREY, ha="right" if level > (low + high) / 2 else "left", annotation_clip=False,
        )  # fmt: skip
    return figure


def profiles(curves: Mapping[str, tuple[str, np.ndarray]], thresholds: np.ndarray) -> Figure:
    """Performance profiles: the share of trials whose normalised score exceeds each threshold.

    Args:
        curves: label -> colour and (share, lower, upper) bound.  # [3, T]
        thresholds: normalised scores.  # [T]
    """
    figure = _figure(3.2 + 0.19 * math.ceil(len(curves) / 2))
    axes = figure.subplots()
    style_axes(axes)
    for color, (share, low, high) in curves.values():
        axes.fill_between(thresholds, low, high, color=color, alpha=0.14, linewidth=0, step="post")
        axes.plot(thresholds, share, color=color, linewidth=2, drawstyle="steps-post")
    for score in (0.0, 1.0):
        axes.axvline(score, color=GREY, linestyle=(0, (4, 2)), linewidth=1.0, zorder=1)
    axes.set_ylim(0, 1.02)
    axes.set_xlim(thresholds[0], thresholds[-1])
    axes.set_xlabel("normalised score (0: random play, 1: solved)", fontsize=FONT, color=INK)
    axes.set_ylabel("share of trials above it", fontsize=FONT, color=INK)
    _legend(axes, [Line2D([], [], color=color, linewidth=2) for color, _ in curves.values()], list(curves))
    return figure


def heat_map(xs: Sequence[str], ys: Sequence[str], cells: np.ndarray, xlabel: str, ylabel: str) -> Figure:
    """IQM of the final return for each pair of values of two hyper-parameters; empty where there is no job.

    Args:
        xs, ys: the values as texts.
        cells: one number a pair, NaN for none.  # [Y, X]
        xlabel, ylabel: names of the hyper-parameters.
    """
    figure = _figure(0.9 + 0.5 * len(ys))
    axes = figure.subplots()
    image = axes.imshow(cells, cmap="cividis", aspect="auto")
    low, high = np.nanmin(cells), np.nanmax(cells)
    for (row, column), value in np.ndenumerate(cells):
        if np.isfinite(value):
            dark = value < (low + high) / 2
            axes.text(column, row, number(value), ha="center", va="center", fontsize=8, color="white" if dark else INK)
    axes.set_xticks(range(len(xs)))
    axes.set_yticks(range(len(ys)))
    axes.xaxis.set_major_formatter(_Names(xs))
    axes.yaxis.set_major_formatter(_Names(ys))
    axes.tick_params(labelsize=8, labelcolor=INK, length=0)
    axes.spines[:].set_visible(False)
    _text(axes.set_xlabel, xlabel, fontsize=FONT, color=INK)
    _text(axes.set_ylabel, ylabel, fontsize=FONT, color=INK)
    figure.colorbar(image, ax=axes, label="final return (IQM)").outline.set_visible(False)
    return figure


def slices(panels: Mapping[str, tuple[Sequence[Any], np.ndarray, np.ndarray]]) -> Figure:
    """One panel a hyper-parameter: the final return of each job against its value.

    Args:
        panels: name -> values (numbers, or anything with a text), IQM [K], interval [2, K]; one entry a job.
    """
    figure = _figure(0.3 + 1.9 * math.ceil(len(panels) / 2))
    grid = figure.subplots(math.ceil(len(panels) / 2), min(2, len(panels)), sharey=True, squeeze=False)
    for axes, (name, (values, middle, interval)) in zip(grid.flat, panels.items(), strict=False):
        style_axes(axes)
        numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        if numeric:
            x = np.array(values, np.float64)
            if x.min() > 0 and x.max() / x.min() > 20:
                axes.set_xscale("log")
        else:
            kinds = sorted({str(v) for v in values})
            x = np.array([kinds.index(str(v)) for v in values], np.float64)
            axes.set_xticks(range(len(kinds)))
            axes.xaxis.set_major_formatter(_Names([_short(kind, 14) for kind in kinds]))
            axes.set_xlim(-0.5, len(kinds) - 0.5)
        bars = np.nan_to_num(np.stack([middle - interval[0], interval[1] - middle]))
        axes.errorbar(
            x, middle, np.maximum(bars, 0), fmt="o", color=BLUE, ecolor=SKY, markersize=4, elinewidth=1.4, zorder=3
        )
        if numeric:
            groups = np.unique(x)
            axes.plot(groups, [np.mean(middle[x == g]) for g in groups], color=BLUE, linewidth=1, alpha=0.6)
        _text(axes.set_xlabel, _short(name, 30), fontsize=FONT, color=INK)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    figure.supylabel("final return (IQM)", fontsize=FONT, color=INK)
    return figure


class _Names(matplotlib.ticker.FixedFormatter):
    """Tick labels that are texts, whatever is in them."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return super().__call__(x, pos).replace("$", r"\$")


def _figure(height: float) -> Figure:
    return Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white", layout="constrained")


def _style_steps(axes: Axes) -> None:
    style_axes(axes)
    axes.set_xlabel("env steps per trial", fontsize=FONT, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _draw_line(axes: Axes, line: Line, trials: bool) -> None:
    few = np.unique(np.linspace(0, len(line.steps) - 1, min(len(line.steps), NUM_POINTS)).astype(int))
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


def _frame(axes: Axes, lines: Sequence[Line], levels: Mapping[str, float]) -> None:
    """Limits that show all levels, and all trials but for the catastrophic ones."""
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


def _legend(axes: Axes, handles: Sequence[Any], labels: Sequence[str]) -> None:
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
        shown.set_text(_short(label, 44))


def _text(draw: Any, words: str, *args: Any, **options: Any) -> None:
    """Draw text that is no mathematics, whatever dollars are in it."""
    drawn = draw(words.replace("$", r"\$"), *args, **options)
    drawn.set_parse_math(False)
    drawn.set_text(words)


def _short(words: str, longest: int = 30) -> str:
    return words if len(words) <= longest else f"{words[: longest - 1]}…"
