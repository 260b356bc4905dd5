"""Learning curves as HTML: an SVG that stretches, and the values that the page's script shows where the pointer is.

Without the script the figure is complete but for toggling and reading. Lines are told apart by colour and dashes; text
stands beside the SVG, so that it keeps its size at any width.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.ticker import EngFormatter, MaxNLocator

from rlexp.jobs.plots import ROOM
from rlexp.report.colors import LIGHT, pale
from rlexp.report.drawing import Line, thinned
from rlexp.system.text import clean

LEVEL, THICK = 'class="level"', ' stroke-width="3"'
WIDTH, HEIGHT = 1000, 500  # of the SVG's own units, which are stretched
DASHES = ("", "9 3", "3 3", "9 3 2 3", "14 4", "5 2", "2 2")  # of lines, like the markers of the other figures
DIGITS = 5  # of values


def learning_curves(lines: Sequence[Line], levels: Mapping[str, float], quantity: str, caption: str) -> str:
    """The learning curves of the contenders of one environment.

    Args:
        lines: with at least one record each, the best first.
        levels: name -> return, drawn as horizontal lines.
        quantity: what the curves are.
        caption: of the figure, as the SVG's name.
    """
    frame = Frame(lines, levels)
    ys, xs = _ticks(6, frame.bottom, frame.top), [x for x in _ticks(5, frame.left, frame.right) if x >= 0]
    grid = "".join(f'<path class="grid" d="M0 {frame.y(y)}H{WIDTH}"/>' for y in ys)
    drawn = "".join(f'<path class="level" d="M0 {frame.y(level)}H{WIDTH}"/>' for level in levels.values())
    curves = [_curve(index, line, frame) for index, line in enumerate(lines)]
    engineering = EngFormatter(sep="")
    return (
        f'<div class="plot"><div class="quantity">{_text(quantity)}: IQM over trials, 95 % interval</div>'
        f'<div class="ys">{"".join(_tick("top", 100 * frame.y(y) / HEIGHT, f"{y:.6g}") for y in ys)}</div>'
        f'<div class="area" tabindex="0" role="group" data-limits="{_data(frame.limits)}" '
        f'data-levels="{_data(list(levels.values()))}" '
        f'aria-label="{_text(caption)} Arrow keys read the values.">'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{_text(caption)}">'
        f"{grid}{drawn}{''.join(reversed(curves))}</svg>"
        '<div class="cursor" hidden></div><div class="readout" aria-live="polite" hidden></div></div>'
        f'<div class="xs">{"".join(_tick("left", 100 * frame.x(x) / WIDTH, engineering(x)) for x in xs)}</div>'
        f'<div class="unit">env steps per trial</div></div>{_legend(lines, levels)}'
    )


class Frame:
    """The limits of a figure and the places in it.

    Args:
        lines: whose bands lie inside.
        levels: name -> return, which lies inside, too.
    """

    def __init__(self, lines: Sequence[Line], levels: Mapping[str, float]) -> None:
        last = max(1, max(int(line.steps[-1]) for line in lines))
        self.left, self.right = -ROOM * last, (1 + ROOM) * last
        every = [part[np.isfinite(part)] for line in lines for part in (line.middle, line.band)]
        values = np.concatenate([*every, np.array(list(levels.values()))])
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        room = 0.05 * (high - low) or 1.0
        self.bottom, self.top = low - room, high + room

    @property
    def limits(self) -> dict[str, float]:
        """The limits by name."""
        return {name: float(f"{getattr(self, name):.7g}") for name in ("left", "right", "bottom", "top")}

    def x(self, step: float) -> float:
        """The place of a step."""
        return round(WIDTH * (step - self.left) / (self.right - self.left), 1)

    def y(self, value: float) -> float:
        """The place of a value."""
        return round(HEIGHT * (self.top - value) / (self.top - self.bottom), 2)  # the script enlarges


def _curve(index: int, line: Line, frame: Frame) -> str:
    few = thinned(len(line.steps))
    steps, middle, (low, high) = line.steps[few], line.middle[few], line.band[:, few]
    places = [frame.x(step) for step in steps.tolist()]
    known = np.isfinite(low) & np.isfinite(high)
    bounds = [_path(places, [frame.y(v) if ok else None for v, ok in zip(b.tolist(), known, strict=True)])
              for b in (low, high)]  # fmt: skip
    around = [(x, frame.y(v)) for x, v, ok in zip(places, high.tolist(), known, strict=True) if ok]
    around += [(x, frame.y(v)) for x, v, ok in reversed(list(zip(places, low.tolist(), known, strict=True))) if ok]
    area = "M" + "L".join(f"{x:g} {y:g}" for x, y in around) + "Z" if around else ""
    center = _path(places, [frame.y(v) if math.isfinite(v) else None for v in middle.tolist()])
    values = {"steps": steps.tolist(), "middle": _rounded(middle), "low": _rounded(low), "high": _rounded(high)}
    return (
        f'<g data-curve="{index}" data-values="{_data(values)}" class="{"back" if line.color == LIGHT else "front"}">'
        f'<path class="band" style="fill:{line.color};fill-opacity:.13" d="{area}"/>'
        f'<path class="band" stroke="{pale(line.color)}" d="{"".join(bounds)}"/>'
        f'<path class="middle" {_stroke(index, line)} d="{center}"/></g>'
    )


def _path(places: Iterable[float], heights: Iterable[float | None]) -> str:
    """A line through the points that have a height; it is broken where one has none."""
    found, pen = [], "M"
    for x, y in zip(places, heights, strict=True):
        if y is None:
            pen = "M"
        else:
            found.append(f"{pen}{x:g} {y:g}")
            pen = "L"
    return "".join(found)


def _stroke(index: int, line: Line) -> str:
    dashes = "" if line.color == LIGHT else DASHES[index % len(DASHES)]
    return f'stroke="{line.color}"' + (f' stroke-dasharray="{dashes}"' if dashes else "")


def _legend(lines: Sequence[Line], levels: Mapping[str, float]) -> str:
    entries = [
        '<label><input type="checkbox" checked autocomplete="off">'
        f"{_swatch(_stroke(index, line) + THICK)}<span>{_text(line.label)}</span></label>"
        for index, line in enumerate(lines)
    ]
    entries += [f"<span>{_swatch(LEVEL)}<span>{_text(name)}</span></span>" for name in levels]
    if len(lines) > 2:
        entries = [
            *(f'<button type="button" data-show="{which}">{which}</button>' for which in ("all", "none")),
            *entries,
        ]
    return f'<div class="legend">{"".join(entries)}</div>'


def _swatch(look: str) -> str:
    return f'<svg class="swatch" viewBox="0 0 28 10" aria-hidden="true"><path fill="none" d="M0 5H28" {look}/></svg>'


def _ticks(number: int, low: float, high: float) -> list[float]:
    """Round values between two limits, about as many as asked for."""
    places = MaxNLocator(number, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [place for place in np.asarray(places).tolist() if low <= place <= high]


def _tick(side: str, percent: float, text: str) -> str:
    return f'<span style="{side}:{percent:.1f}%">{_text(text)}</span>'


def _rounded(values: np.ndarray) -> list[float | None]:
    """Numbers with `DIGITS` digits, None for missing ones; whole numbers stay whole."""
    rounded = [float(f"{v:.{DIGITS}g}") if math.isfinite(v) else None for v in values.tolist()]
    return [int(v) if v is not None and v == int(v) and abs(v) < 1e15 else v for v in rounded]


def _data(value: object) -> str:
    return html.escape(json.dumps(value, separators=(",", ":")))


def _text(text: str) -> str:
    return html.escape(clean(text, newlines=False))
