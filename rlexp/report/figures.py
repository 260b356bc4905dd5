"""The figures of a report. Each function draws what it is given; none computes statistics.

They are built without pyplot, like `plots`, and made to be read at a phone's width: one column, few words, large type.

Axes: `K` jobs, `T` thresholds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from rlexp.jobs.plots import PALE
from rlexp.jobs.plots import style as style_axes
from rlexp.report.colors import BLUE, GREY, INK, LIGHT, SKY, on, pale
from rlexp.report.drawing import (
    DASHES,
    FONT,
    Line,
    TextTicks,
    draw_legend,
    draw_line,
    draw_text,
    new_figure,
    panel_grid,
    set_limits,
    shortened,
    style_steps,
)
from rlexp.system.words import number

HOLLOW: dict[str, Any] = {"markerfacecolor": "white", "markeredgecolor": INK, "markersize": 5.5}  # published results


def learning_curves(lines: Sequence[Line], levels: Mapping[str, float], ylabel: str) -> Figure:
    """The learning curves of all contenders of one environment: IQM and band; grey for those beyond the colours.

    Args:
        lines: the best first.
        levels: name -> return, drawn as named horizontal lines.
        ylabel: what the curves are.
    """
    colored = [line for line in lines if line.color != LIGHT]
    rows = math.ceil((len(colored) + (len(colored) < len(lines)) + len(levels)) / 2)
    figure = new_figure(3.3 + 0.19 * rows)
    axes = figure.subplots()
    style_steps(axes)
    for line in reversed(lines):
        draw_line(axes, line, trials=len(lines) == 1)
    handles = [Line2D([], [], color=x.color, marker=x.marker, markersize=4.5, linewidth=2) for x in colored]
    labels = [line.label for line in colored]
    if len(colored) < len(lines):
        handles.append(Line2D([], [], color=LIGHT))
        labels.append(f"{len(lines) - len(colored)} others")
    for dash, (name, level) in zip(itertools.cycle(DASHES), levels.items(), strict=False):
        handles.append(axes.axhline(level, color=GREY, linestyle=dash, linewidth=1.1, zorder=1))
        labels.append(name)
    draw_legend(axes, handles, labels)
    set_limits(axes, lines, levels)
    axes.set_ylabel(ylabel, fontsize=FONT, color=INK)
    return figure


def single_trials(lines: Sequence[Line], every: Sequence[Line], ylabel: str) -> Figure:
    """One panel per contender, with axes for all of `every`: thin lines are trials, the thick line is their IQM."""
    figure = new_figure(0.35 + 1.9 * math.ceil(len(lines) / 2))
    panels = panel_grid(figure, len(lines), same_x=True)
    for axes, line in zip(panels, lines, strict=True):
        style_steps(axes)
        axes.set_xlabel("")
        draw_line(axes, line, trials=True)
        draw_text(axes.set_title, line.label, loc="left", fontsize=FONT, color=INK)
    set_limits(panels[0], every, {})
    figure.supxlabel("env steps per trial", fontsize=FONT, color=INK)
    figure.supylabel(ylabel, fontsize=FONT, color=INK)
    return figure


def final_returns(
    lines: Sequence[Line], levels: Mapping[str, float], published: Mapping[str, Mapping[str, float]]
) -> Figure:
    """One row per contender: a dot per trial, a diamond for their IQM, a bar for its interval.

    Args:
        lines: the best first.
        levels: name -> return, drawn as named vertical lines.
        published: label of a contender -> published results of its algorithm by source, drawn in its row.
    """
    figure = new_figure(0.9 + 0.42 * len(lines) + 0.16 * len(levels) + 0.2 * bool(published))
    axes = figure.subplots()
    style_axes(axes)
    axes.margins(x=0.03)
    axes.grid(axis="x", color=PALE, linewidth=0.8)
    axes.grid(axis="y", visible=False)
    markers = dict(zip(sorted({source for own in published.values() for source in own}), "osv^", strict=False))
    for row, line in enumerate(lines):
        final = line.final[np.isfinite(line.final)]
        spread = np.linspace(-0.13, 0.13, len(final)) if len(final) > 1 else [0.0]
        axes.scatter(final, row + 0.17 + np.asarray(spread), s=13, color=pale(line.color), linewidth=0, zorder=3)
        if np.isfinite(line.final_interval).all():
            axes.plot(
                line.final_interval, [row - 0.18] * 2, color=line.color, linewidth=3, solid_capstyle="butt", zorder=3
            )
        axes.plot(line.final_iqm, row - 0.18, "D", color=INK, markersize=5, zorder=4)
        for source, value in published.get(line.label, {}).items():
            axes.plot(value, row - 0.18, markers[source], zorder=5, **HOLLOW)
    axes.set_yticks(range(len(lines)))
    axes.yaxis.set_major_formatter(TextTicks([shortened(line.label) for line in lines]))
    axes.tick_params(axis="y", labelsize=FONT)
    axes.set_ylim(len(lines) - 0.5, -0.55)
    axes.set_xlabel("final return", fontsize=FONT, color=INK)
    _draw_levels(axes, levels)
    if markers:
        handles = [Line2D([], [], marker=marker, linestyle="", **HOLLOW) for marker in markers.values()]
        names = [f"published, {source}" for source in markers]
        figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False, fontsize=FONT - 1.5)
    return figure


def _draw_levels(axes: Axes, levels: Mapping[str, float]) -> None:
    """Draw vertical lines, with their names above the axes, one below the other."""
    for level, dash in zip(levels.values(), itertools.cycle(DASHES), strict=False):
        axes.axvline(level, color=GREY, linestyle=dash, linewidth=1.1, zorder=1)
    low, high = axes.get_xlim()
    for i, (name, level) in enumerate(levels.items()):
        draw_text(
            axes.annotate, name, (level, 1.0), (0, 3 + 11 * i), ("data", "axes fraction"), "offset points",
            fontsize=7.5, color=GREY, ha="right" if level > (low + high) / 2 else "left", annotation_clip=False,
        )  # fmt: skip


def profiles(curves: Mapping[str, tuple[str, np.ndarray]], thresholds: np.ndarray) -> Figure:
    """Performance profiles: the share of trials whose normalised score exceeds each threshold.

    Args:
        curves: label -> colour and (share, lower, upper) bound.  # [3, T]
        thresholds: normalised scores.  # [T]
    """
    figure = new_figure(3.2 + 0.19 * math.ceil(len(curves) / 2))
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
    draw_legend(axes, [Line2D([], [], color=color, linewidth=2) for color, _ in curves.values()], list(curves))
    return figure


def heat_map(xs: Sequence[str], ys: Sequence[str], cells: np.ndarray, xlabel: str, ylabel: str) -> Figure:
    """IQM of the final return for each pair of values of two hyper-parameters; empty for pairs without a job.

    Args:
        xs, ys: the values as texts.
        cells: one number per pair, NaN for none.  # [Y, X]
        xlabel, ylabel: names of the hyper-parameters.
    """
    figure = new_figure(0.9 + 0.5 * len(ys))
    axes = figure.subplots()
    image = axes.imshow(cells, cmap="cividis", aspect="auto")
    for (row, column), value in np.ndenumerate(cells):
        if np.isfinite(value):
            color = on(np.asarray(image.to_rgba(value)).tolist())
            axes.text(column, row, number(value), ha="center", va="center", fontsize=8, color=color)
    axes.set_xticks(range(len(xs)))
    axes.set_yticks(range(len(ys)))
    axes.xaxis.set_major_formatter(TextTicks(xs))
    axes.yaxis.set_major_formatter(TextTicks(ys))
    axes.tick_params(labelsize=8, labelcolor=INK, length=0)
    axes.spines[:].set_visible(False)
    draw_text(axes.set_xlabel, xlabel, fontsize=FONT, color=INK)
    draw_text(axes.set_ylabel, ylabel, fontsize=FONT, color=INK)
    figure.colorbar(image, ax=axes, label="final return (IQM)").outline.set_visible(False)
    return figure


class Slice(NamedTuple):
    """The final returns of `K` jobs against one hyper-parameter.

    Attributes:
        values: of the hyper-parameter: numbers, or anything with a text.  # K
        middle: IQM of each job.  # [K]
        interval: of each IQM.  # [2, K]
        logarithmic: whether the axis is.
    """

    values: Sequence[Any]
    middle: np.ndarray
    interval: np.ndarray
    logarithmic: bool


def slices(panels: Mapping[str, Slice]) -> Figure:
    """One panel per hyper-parameter, by its name."""
    figure = new_figure(0.3 + 1.9 * math.ceil(len(panels) / 2))
    for axes, (name, panel) in zip(panel_grid(figure, len(panels), same_x=False), panels.items(), strict=True):
        style_axes(axes)
        _draw_slice(axes, panel)
        draw_text(axes.set_xlabel, shortened(name, 30), fontsize=FONT, color=INK)
    figure.supylabel("final return (IQM)", fontsize=FONT, color=INK)
    return figure


def _draw_slice(axes: Axes, panel: Slice) -> None:
    values, middle = panel.values, panel.middle
    numeric = all(is_number(v) for v in values)
    if numeric:
        x = np.array(values, np.float64)
        if panel.logarithmic:
            axes.set_xscale("log")
            decades = np.log10(x.max() / x.min())
            axes.xaxis.set_major_locator(
                LogLocator(subs=(1.0,) if decades > 3 else (1.0, 3.0) if decades > 1.5 else (1.0, 2.0, 5.0))
            )
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        kinds = sorted({str(v) for v in values})
        x = np.array([kinds.index(str(v)) for v in values], np.float64)
        axes.set_xticks(range(len(kinds)))
        axes.xaxis.set_major_formatter(TextTicks([shortened(kind, 14) for kind in kinds]))
        axes.set_xlim(-0.5, len(kinds) - 0.5)
    bars = np.nan_to_num(np.stack([middle - panel.interval[0], panel.interval[1] - middle]))
    axes.errorbar(
        x, middle, np.maximum(bars, 0), fmt="o", color=BLUE, ecolor=SKY, markersize=4, elinewidth=1.4, zorder=3
    )
    if numeric:
        groups = np.unique(x)
        axes.plot(groups, [np.mean(middle[x == g]) for g in groups], color=pale(BLUE), linewidth=1)


def is_number(value: Any) -> bool:
    """Whether a value of a configuration is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_logarithmic(values: Sequence[Any], searched: bool) -> bool:
    """Whether values belong on a logarithmic axis.

    Args:
        values: of one hyper-parameter.
        searched: whether its logarithm was searched.

    Returns:
        True for positive numbers whose logarithm was searched, or that span a decade more evenly than linearly.
    """
    if not all(is_number(v) and v > 0 for v in values):
        return False
    x = np.unique(np.array(values, np.float64))
    decade = bool(x[-1] >= 9.99 * x[0])
    if searched or len(x) < 3 or not decade:
        return searched or decade
    linear, logarithmic = np.diff(x), np.diff(np.log(x))
    return bool(logarithmic.std() / logarithmic.mean() < linear.std() / linear.mean())
