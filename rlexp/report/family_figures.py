"""The figure of families: a panel for each, with its members in shades of one colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rlexp.report import drawing
from rlexp.report.colors import GREY, INK, LIGHT, SHADES
from rlexp.report.drawing import FONT, MARKERS, Line

PANEL_HEIGHT = 2.05  # inches


def curves(panels: Sequence[tuple[str, Sequence[Line]]], levels: Mapping[str, float], ylabel: str) -> Figure:
    """A panel for each family, all with the same limits: its members in shades of its colour, others' best in grey.

    Args:
        panels: the families' names and their members' curves, the best first.
        levels: name -> y of a horizontal line.
        ylabel: what the curves are.
    """
    figure = drawing.new_figure(0.35 + PANEL_HEIGHT * len(panels))
    grid = figure.subplots(len(panels), 1, sharex=True, sharey=True, squeeze=False)
    for axes, (name, members) in zip(grid[:, 0], panels, strict=True):
        drawing.style_steps(axes)
        axes.set_xlabel("")
        for other, theirs in panels:
            if other != name:
                axes.plot(theirs[0].steps, theirs[0].middle, color=LIGHT, linewidth=1.2, zorder=2)
        for level in levels.values():
            axes.axhline(level, color=GREY, linestyle=(0, (5, 2)), linewidth=1.0, zorder=1)
        _draw_members(axes, name, members)
        _text_title(axes, f"{name}", list(levels) if axes is grid[0, 0] else [])
    drawing.set_limits(grid[0, 0], [line for _, members in panels for line in members], levels)
    figure.supxlabel("env steps per trial", fontsize=FONT, color=INK)
    figure.supylabel(ylabel, fontsize=FONT, color=INK)
    return figure


def _draw_members(axes: Axes, family: str, members: Sequence[Line]) -> None:
    shades = SHADES.get(family, (INK,))
    handles: list[Any] = []
    for i, line in reversed(list(enumerate(members))):
        color, marker = (shades[i], MARKERS[i]) if i < min(len(shades), len(MARKERS)) else (LIGHT, ".")
        drawing.draw_line(axes, replace(line, color=color, marker=marker), trials=False)
        handles.insert(0, Line2D([], [], color=color, marker=marker, markersize=4, linewidth=1.8))
    legend = axes.legend(
        handles, ["."] * len(handles), loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=FONT - 1,
        handlelength=1.5,
    )  # fmt: skip
    for text, line in zip(legend.get_texts(), members, strict=True):
        text.set_parse_math(False)
        text.set_text(drawing.shortened(line.label, 26))


def _text_title(axes: Axes, name: str, levels: Sequence[str]) -> None:
    told = f"{name}   (dashed: {', '.join(levels)}; grey: the best of the others)" if levels else name
    drawing.draw_text(axes.set_title, told, loc="left", fontsize=FONT, color=INK)
