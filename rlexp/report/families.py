"""Families of algorithms side by side: policy gradients, tables, and DQN, each with its members.

A family stands where its best member stands. That member was chosen by the trials that score it, so its interval leans
to the high side, and no test follows from it. Families are compared by a number that no choice is in: of each seed, the
mean of all members' final returns. They are few, so that ten trials can tell them apart.

Axes: `N` trials, `T` records.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rlexp.config import registry
from rlexp.data import seeding
from rlexp.jobs.plots import BLUE, GREY, VERMILION
from rlexp.math.statistics import iqm
from rlexp.report import figures
from rlexp.report.analysis import TaskAnalysis, interval_of
from rlexp.report.compare import Comparison, Sample, compare
from rlexp.report.contenders import Contender, Task
from rlexp.report.figures import FONT, GREEN, INK, LIGHT, MARKERS, Line
from rlexp.report.page import Page
from rlexp.system import words
from rlexp.system.errors import Refusal

NAMES = {"rollout": "policy gradients", "tabular": "tables", "replay": "DQN"}  # those that learn, by registry key
SHADES = {  # from dark to light: the members of a family, the best first; its first colour is the family's own
    "policy gradients": (VERMILION, "#F4A582", "#8C3A00", "#FBC4A4"),
    "tables": (GREEN, "#00442F", "#66C2A4", "#B8860B", "#A6DBA0", "#4D7C0F"),
    "DQN": (BLUE, "#001F3F", "#6BAED6", "#7B61C4", "#B3CDE3"),
}
HEIGHT = 2.05  # inches, of a panel


@dataclass(frozen=True)
class Family:
    """Algorithms of one kind on one environment.

    Attributes:
        name: what it is called.
        members: its finished contenders, the best first.
    """

    name: str
    members: list[Contender]

    @property
    def best(self) -> Contender:
        """The member with the highest IQM of final returns."""
        return self.members[0]

    @property
    def seeds(self) -> list[int]:
        """Those that all members have."""
        return sorted(set.intersection(*(set(c.seeds) for c in self.members)))

    @property
    def means(self) -> np.ndarray:
        """Of each of `seeds`: the mean of all members' final returns.  # [N]"""
        return np.array([np.mean([c.scores[c.seeds.index(seed)] for c in self.members]) for seed in self.seeds])


def families(task: Task) -> list[Family]:
    """The families with a finished member, the one with the best member first."""
    found: dict[str, list[Contender]] = {}
    for c in task.finished:  # the best first, and so are the families
        if name := family_of(c.algo):
            found.setdefault(name, []).append(c)
    return [Family(name, members) for name, members in found.items()]


def family_of(algo: str) -> str | None:
    """What the family of an algorithm is called; None for what does not learn, and for what is not installed here."""
    try:
        return NAMES.get(registry.algo(algo).family)
    except Refusal:
        return None


def section(page: Page, analysis: TaskAnalysis, lines: Mapping[str, Line], stem: Path) -> None:
    """Rank the families of an environment on the page, with their curves; nothing where fewer than two have finished.

    Args:
        page: is written to.
        analysis: of the environment.
        lines: the contenders' curves by label.
        stem: of the pictures' files.
    """
    ranked = families(analysis.task)
    if len(ranked) < 2:
        return
    page.heading(f"Families on {analysis.task.name}", 3)
    compared = compare([Sample(f.name, [f.seeds], [f.means]) for f in ranked], seeding.generator(2, "report"))
    page.text(sentence(ranked, compared))
    page.table(
        ["family", "best member", "its final return: IQM [95 % interval]", "against members of other families",
         "all members, the best first: IQM", "mean of all members: IQM [95 % interval]"],
        [_row(family, ranked, analysis) for family in ranked],
    )  # fmt: skip
    page.text(
        "A family is ranked by its best member. The same trials chose that member, so its interval leans to the high "
        "side, the more so the more members there are; whether it is better than another algorithm says the table of "
        "comparisons, whose correction is over all pairs and so over every choice among them. Families as wholes are "
        "compared by the mean of all members of each seed, in which nothing is chosen:",
        small=True,
    )
    rows = [
        [
            f"{c.first} against {c.second}",
            words.signed(c.difference),
            f"{words.p_value(c.p)} ({words.p_value(c.adjusted)})",
            str(c.num_trials),
            c.reason,
        ]
        for c in compared
    ]
    marks = [{"better": True, "worse": False}.get(c.verdict) for c in compared]
    page.table(["families", "mean difference", "p (Holm)", "trials", "verdict"], rows, marks)
    pictures = []
    panels = [(f.name, [lines[c.label] for c in f.members if len(lines[c.label].steps)]) for f in ranked]
    panels = [(name, members) for name, members in panels if members]
    if panels:
        known = analysis.task.reference
        level = {f"solved {words.number(known.solved)}": known.solved} if known else {}
        path = figures.save(curves(panels, level, "evaluation return"), stem.with_name(f"{stem.name}-families"))
        told = "IQM over trials, 95 % band; in grey the best member of each other family."
        pictures.append((path, f"Families on {analysis.task.name}: {told}"))
    regrets = [(f.name, [r for c in f.members if (r := _regret(c, lines[c.label])) is not None]) for f in ranked]
    regrets = [(name, members) for name, members in regrets if members]
    if regrets:
        path = figures.save(curves(regrets, {"optimum": 0.0}, "regret"), stem.with_name(f"{stem.name}-regret"))
        told = "the expected return of the best policy minus that of the evaluation; IQM over trials."
        pictures.append((path, f"Regret on {analysis.task.name}: {told}"))
    if pictures:
        page.pictures(pictures)
    if regrets:
        _regret_table(page, ranked)


def sentence(ranked: Sequence[Family], compared: Sequence[Comparison]) -> str:
    """The families in the order of their best members, and what is certain of them as wholes."""
    order = ", then ".join(
        f"{family.name} ({family.best.label}, IQM {words.number(float(iqm(family.best.scores)))})" for family in ranked
    )
    told = f"By their best members: {order}."
    for family in ranked:
        beaten = [c.second for c in compared if c.first == family.name and c.verdict == "better"]
        beaten += [c.first for c in compared if c.second == family.name and c.verdict == "worse"]
        if beaten:
            told += f" The mean of all members of {family.name} is certainly better than that of {words.names(beaten)}."
    return told


def _row(family: Family, ranked: Sequence[Family], analysis: TaskAnalysis) -> list[str]:
    rivals = [c for other in ranked if other is not family for c in other.members]
    better, worse, open_ = _counts(family.best, rivals, analysis.returns)
    interval = analysis.intervals.get(family.best.label, (math.nan,) * 3)
    return [
        family.name,
        family.best.label,
        words.interval(*interval),
        f"better than {better}, worse than {worse}, undecided against {open_}",
        ", ".join(f"{c.label} {words.number(float(iqm(c.scores)))}" for c in family.members),
        words.interval(*interval_of(family.means)),
    ]


def _counts(one: Contender, others: Sequence[Contender], comparisons: Sequence[Comparison]) -> tuple[int, int, int]:
    """How many of `others` it is certainly better than, certainly worse than, and undecided against."""
    labels, counts = {c.label for c in others}, {"better": 0, "worse": 0, "undecided": 0}
    turned = {"better": "worse", "worse": "better", "undecided": "undecided"}
    for c in comparisons:
        if c.first == one.label and c.second in labels:
            counts[c.verdict] += 1
        elif c.second == one.label and c.first in labels:
            counts[turned[c.verdict]] += 1
    return counts["better"], counts["worse"], counts["undecided"]


def _regret(contender: Contender, line: Line) -> Line | None:
    """A contender's regret as a curve."""
    if "eval/regret" not in contender.curves:
        return None
    steps, values = contender.curves["eval/regret"]
    few = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), figures.NUM_POINTS)).astype(int))
    steps, values = steps[few], values[few]
    middle = iqm(values)
    return replace(line, steps=steps, values=values, middle=middle, band=np.stack([middle, middle]))


def _regret_table(page: Page, ranked: Sequence[Family]) -> None:
    rows = []
    for family in ranked:
        for c in family.members:
            if "eval/regret" not in c.curves:
                continue
            _, values = c.curves["eval/regret"]
            last = values[np.isfinite(values).any(axis=1)][-1]
            rows.append([family.name, c.label, *map(words.number, (float(iqm(values).mean()), float(iqm(last))))])
    page.table(["family", "member", "regret, mean of the curve (IQM)", "regret of the last evaluation (IQM)"], rows)


# Pictures.


def curves(panels: Sequence[tuple[str, Sequence[Line]]], levels: Mapping[str, float], ylabel: str) -> Figure:
    """A panel for each family, with one pair of axes: its members in shades of its colour, others' best in grey.

    Args:
        panels: a family's name and its members' curves, the best first.
        levels: name -> height of a horizontal line.
        ylabel: what the curves are.
    """
    figure = figures._figure(0.35 + HEIGHT * len(panels))
    grid = figure.subplots(len(panels), 1, sharex=True, sharey=True, squeeze=False)
    for axes, (name, members) in zip(grid[:, 0], panels, strict=True):
        figures._style_steps(axes)
        axes.set_xlabel("")
        for other, theirs in panels:
            if other != name:
                axes.plot(theirs[0].steps, theirs[0].middle, color=LIGHT, linewidth=1.2, zorder=2)
        for level in levels.values():
            axes.axhline(level, color=GREY, linestyle=(0, (5, 2)), linewidth=1.0, zorder=1)
        _draw_members(axes, name, members)
        _text_title(axes, f"{name}", list(levels) if axes is grid[0, 0] else [])
    figures._frame(grid[0, 0], [line for _, members in panels for line in members], levels)
    bottom, top = grid[0, 0].get_ylim()
    room = 0.03 * (top - bottom)
    grid[0, 0].set_ylim(min(bottom, *(level - room for level in levels.values()), bottom), top)  # a regret of 0, too
    figure.supxlabel("env steps per trial", fontsize=FONT, color=INK)
    figure.supylabel(ylabel, fontsize=FONT, color=INK)
    return figure


def _draw_members(axes: Axes, family: str, members: Sequence[Line]) -> None:
    shades = SHADES.get(family, (INK,))
    handles: list[Any] = []
    for i, line in reversed(list(enumerate(members))):
        color, marker = (shades[i], MARKERS[i]) if i < min(len(shades), len(MARKERS)) else (LIGHT, ".")
        figures._draw_line(axes, replace(line, color=color, marker=marker), trials=False)
        handles.insert(0, Line2D([], [], color=color, marker=marker, markersize=4, linewidth=1.8))
    legend = axes.legend(
        handles, ["."] * len(handles), loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=FONT - 1,
        handlelength=1.5,
    )  # fmt: skip
    for text, line in zip(legend.get_texts(), members, strict=True):
        text.set_parse_math(False)
        text.set_text(figures._short(line.label, 26))


def _text_title(axes: Axes, name: str, levels: Sequence[str]) -> None:
    told = f"{name}   (dashed: {', '.join(levels)}; grey: the best of the others)" if levels else name
    figures._text(axes.set_title, told, loc="left", fontsize=FONT, color=INK)
