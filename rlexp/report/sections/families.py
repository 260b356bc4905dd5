"""The part of an environment's section that ranks the families of algorithms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rlexp.math.statistics import iqm
from rlexp.report.analysis import TaskAnalysis, interval_of
from rlexp.report.compare import Comparison
from rlexp.report.contenders import Contender
from rlexp.report.draft import Draft
from rlexp.report.drawing import Line, thinned
from rlexp.report.families import Family, compare_families, count_verdicts, families, sentence
from rlexp.report.family_figures import curves
from rlexp.report.page import Page
from rlexp.report.sections.comparisons import MARKS
from rlexp.system import words

EXPLANATION = (
    "A family is ranked by its best member. The same trials chose that member, so its interval leans to the high "
    "side, the more so the more members there are. Whether it is better than another algorithm is in the table of "
    "comparisons, whose correction is over all pairs and so over every choice among them. Families as wholes are "
    "compared by the mean of all members for each seed, in which nothing is chosen:"
)


def add_families(draft: Draft, analysis: TaskAnalysis, lines: Mapping[str, Line], stem: str) -> None:
    """Rank the families of an environment on the page, with their curves; nothing if fewer than two have finished.

    Args:
        draft: the report.
        analysis: of the environment.
        lines: the contenders' learning curves by label.
        stem: begins the names of the figures.
    """
    ranked = families(analysis.task)
    if len(ranked) < 2:
        return
    page, compared = draft.page, compare_families(ranked)
    page.heading(f"Families on {analysis.task.name}", 3)
    page.text(sentence(ranked, compared))
    rivals = [] if draft.baseline else ["against members of other families"]  # which are not compared then
    page.table(
        ["family", "best member", "its final return: IQM [95 % interval]", *rivals,
         "all members, the best first: IQM", "mean of all members: IQM [95 % interval]"],
        [_row(family, ranked, analysis, bool(rivals)) for family in ranked],
    )  # fmt: skip
    page.text(EXPLANATION, small=True)
    _add_comparisons(page, compared)
    regrets = [(f.name, [r for c in f.members if (r := _regret(c, lines[c.label])) is not None]) for f in ranked]
    regrets = [(name, members) for name, members in regrets if members]
    if pictures := _pictures(draft, analysis, ranked, lines, regrets, stem):
        page.pictures(pictures)
    if regrets:
        _add_regrets(page, ranked)


def _row(family: Family, ranked: Sequence[Family], analysis: TaskAnalysis, with_rivals: bool) -> list[str]:
    rivals = [c for other in ranked if other is not family for c in other.members]
    better, worse, undecided = count_verdicts(family.best, rivals, analysis.returns)
    interval = analysis.intervals.get(family.best.label, (math.nan,) * 3)
    return [
        family.name,
        family.best.label,
        words.interval(*interval),
        *([f"better than {better}, worse than {worse}, undecided against {undecided}"] if with_rivals else []),
        ", ".join(f"{c.label} {words.number(float(iqm(c.scores)))}" for c in family.members),
        words.interval(*interval_of(family.means)),
    ]


def _add_comparisons(page: Page, compared: Sequence[Comparison]) -> None:
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
    marks = [MARKS.get(c.verdict) for c in compared]
    page.table(["families", "mean difference", "p (Holm)", "trials", "verdict"], rows, marks)


def _pictures(
    draft: Draft,
    analysis: TaskAnalysis,
    ranked: Sequence[Family],
    lines: Mapping[str, Line],
    regrets: Sequence[tuple[str, list[Line]]],
    stem: str,
) -> list[tuple[Path, str]]:
    """The figures of the families with their captions."""
    task, pictures = analysis.task, []
    panels = [(f.name, [lines[c.label] for c in f.members if len(lines[c.label].steps)]) for f in ranked]
    panels = [(name, members) for name, members in panels if members]
    if panels:
        known = task.reference
        level = {f"solved {words.number(known.solved)}": known.solved} if known else {}
        path = draft.save(curves(panels, level, "evaluation return"), f"{stem}-families")
        caption = "IQM over trials, 95 % band; in grey the best member of each other family."
        pictures.append((path, f"Families on {task.name}: {caption}"))
    if regrets:
        path = draft.save(curves(regrets, {"optimum": 0.0}, "regret"), f"{stem}-regret")
        caption = "the expected return of the best policy minus that of the evaluation; IQM over trials."
        pictures.append((path, f"Regret on {task.name}: {caption}"))
    return pictures


def _regret(contender: Contender, line: Line) -> Line | None:
    """A contender's regret as a curve."""
    if "eval/regret" not in contender.curves:
        return None
    steps, values = contender.curves["eval/regret"]
    few = thinned(len(steps))
    steps, values = steps[few], values[few]
    middle = iqm(values)
    return replace(line, steps=steps, values=values, middle=middle, band=np.stack([middle, middle]))


def _add_regrets(page: Page, ranked: Sequence[Family]) -> None:
    rows = []
    for family in ranked:
        for c in family.members:
            if "eval/regret" not in c.curves:
                continue
            _, values = c.curves["eval/regret"]
            last = values[np.isfinite(values).any(axis=1)][-1]
            rows.append([family.name, c.label, *map(words.number, (float(iqm(values).mean()), float(iqm(last))))])
    page.table(["family", "member", "regret, mean of the curve (IQM)", "regret of the last evaluation (IQM)"], rows)
