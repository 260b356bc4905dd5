"""The section of one environment: its figures, the results of its contenders, and their comparisons."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rlexp.math.statistics import bootstrap_band, iqm
from rlexp.report import figures, interactive
from rlexp.report.analysis import TaskAnalysis
from rlexp.report.contenders import Contender, Task
from rlexp.report.draft import Draft, file_name
from rlexp.report.drawing import Line, thinned
from rlexp.report.sections import contenders, families, published
from rlexp.report.sections.comparisons import add_comparisons
from rlexp.report.tables import ResultRow
from rlexp.system import words

MAX_DRAWN = 24  # contenders with a row in a figure
MAX_PANELS, PANELS = 12, 6  # contenders with a panel for their single trials; panels per figure


def learning_curves(draft: Draft, analysis: TaskAnalysis) -> dict[str, Line]:
    """The learning curve of each contender by label, thinned to what can be seen."""
    return {c.label: _line(draft, c, analysis) for c in analysis.task.contenders}


def _line(draft: Draft, c: Contender, analysis: TaskAnalysis) -> Line:
    color, marker = draft.looks[c.label]
    name = c.curve_name
    steps, values = c.curves[name] if name else (np.zeros(0, np.int64), np.zeros((0, len(c.seeds))))
    few = thinned(len(steps))
    steps, values = steps[few], values[few]
    band = bootstrap_band(values, draft.generator) if len(steps) else np.zeros((2, 0))
    interval = analysis.intervals.get(c.label, (math.nan, math.nan, math.nan))
    return Line(c.label, color, marker, steps, values, iqm(values), band, c.final, interval[0], interval[1:])


def result_rows(task: Task, lines: Mapping[str, Line]) -> list[ResultRow]:
    """The results of an environment, one row per contender."""
    return [_result_row(task, c, lines[c.label]) for c in task.contenders]


def _result_row(task: Task, c: Contender, line: Line) -> ResultRow:
    finite = c.final[np.isfinite(c.final)]
    reached = c.steps_to(task.reference.solved) if task.reference else np.full(len(c.seeds), math.nan)
    known = reached[~np.isnan(reached)]
    low, high = line.final_interval
    return ResultRow(
        environment=task.name,
        contender=c.label,
        trials=len(c.seeds),
        with_final_return=len(finite),
        iqm=line.final_iqm,
        low=low,
        high=high,
        mean=float(finite.mean()) if len(finite) else math.nan,
        worst=float(finite.min()) if len(finite) else math.nan,
        area_under_curve_iqm=float(iqm(c.area)),
        steps_to_threshold_median=float(np.median(known)) if len(known) else math.nan,
        reached_threshold=int(np.isfinite(known).sum()) if len(known) else None,
        env_steps=c.steps,
        wall_seconds=c.wall_seconds,
        steps_per_second=c.steps_per_second,
        status=c.status,
        exact_value_iqm=float(iqm(c.value)),
    )


def add_environment(
    draft: Draft, analysis: TaskAnalysis, lines: Mapping[str, Line], rows: list[ResultRow], number: int
) -> None:
    """Add the section of one environment to the page.

    Args:
        draft: the report.
        analysis: of the environment.
        lines: the contenders' learning curves by label.
        rows: of the contenders, in their order.
        number: of the environment, which begins the names of its figures.
    """
    page, task = draft.page, analysis.task
    stem = f"{number}-{file_name(task.name)}"
    page.heading(f"Results on {task.name if task.env_id in task.name else f'{task.name} ({task.env_id})'}")
    _add_pictures(draft, analysis, lines, stem)
    threshold = f"steps to {words.number(task.reference.solved)}" if task.reference else "steps to threshold"
    with_exact_value = task.optimum is not None
    exact = [f"exact value: IQM (the best policy: {words.number(task.optimum)})"] if with_exact_value else []
    page.table(
        ["algorithm", "trials", "final return: IQM [95 % interval]", *exact, "mean", "worst trial",
         "area under curve: IQM", threshold, "env steps", "time and speed", "status"],
        [row.cells(with_exact_value) for row in rows],
    )  # fmt: skip
    published.add_published(page, task)
    families.add_families(draft, analysis, lines, stem)
    than = f" than {draft.baseline}" if draft.baseline else ""
    if analysis.returns:
        page.heading(f"Which is better{than} on {task.name}: final return", 3)
        add_comparisons(page, analysis.returns)
    if len(task.finished) > 1:
        page.heading(f"Which learns faster{than} on {task.name}: area under the curve", 3)
        if analysis.speed:
            add_comparisons(page, analysis.speed)
        else:
            page.text(f"Not compared: {analysis.no_speed}.")
    contenders.add_contenders(draft, analysis)


def _add_pictures(draft: Draft, analysis: TaskAnalysis, lines: Mapping[str, Line], stem: str) -> None:
    """Add the figures of an environment: the curves across the page, the others side by side."""
    task, pictures = analysis.task, []
    levels, theirs = _levels(task), published.marks(task)
    with_curve = [line for c in task.contenders if len((line := lines[c.label]).steps)]
    metrics = {c.curve_name for c in task.contenders} - {None}
    ylabel = "evaluation return" if metrics <= {"eval/return"} else "return (of training where nothing is evaluated)"
    if with_curve:
        path = draft.save(figures.learning_curves(with_curve, levels, ylabel), f"{stem}-curves")
        caption = f"Learning curves on {task.name}: IQM over trials, 95 % bootstrap band."
        markup = interactive.learning_curves(with_curve, levels, ylabel, caption)
        draft.page.interactive(markup, path, caption)
    if task.finished:
        shown = [lines[c.label] for c in task.finished][:MAX_DRAWN]
        if draft.baseline in analysis.intervals:
            levels |= {f"baseline {draft.baseline}": analysis.intervals[draft.baseline][0]}
        path = draft.save(figures.final_returns(shown, levels, theirs), f"{stem}-final")
        which = f" The best {MAX_DRAWN} of {len(task.finished)}." if len(task.finished) > MAX_DRAWN else ""
        hollow = " Hollow: published results of the same algorithm." if theirs else ""
        caption = f"Final returns on {task.name}: one dot per trial, diamond: IQM, bar: 95 % interval.{hollow}{which}"
        pictures.append((path, caption))
    if len(with_curve) > 1:  # the trials of a single contender are in the figure above
        pictures += _single_trials(draft, task, with_curve, ylabel, stem)
    if pictures:
        draft.page.pictures(pictures)


def _single_trials(draft: Draft, task: Task, lines: list[Line], ylabel: str, stem: str) -> list[tuple[Path, str]]:
    which = f" The best {MAX_PANELS} of {len(lines)}." if len(lines) > MAX_PANELS else ""
    pictures = []
    for first in range(0, min(len(lines), MAX_PANELS), PANELS):
        part = lines[first : min(first + PANELS, MAX_PANELS)]
        path = draft.save(figures.single_trials(part, lines, ylabel), f"{stem}-trials-{first // PANELS + 1}")
        pictures.append((path, f"Single trials on {task.name} (thin) and their IQM.{which}"))
    return pictures


def _levels(task: Task) -> dict[str, float]:
    """The threshold of "solved" by its name, if there is one."""
    return {f"solved {words.number(task.reference.solved)}": task.reference.solved} if task.reference else {}
