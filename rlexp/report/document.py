"""The document of a report: its sections in order, and the tables beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rlexp.data import seeding
from rlexp.jobs.results import StudyData
from rlexp.report.analysis import Analysis
from rlexp.report.contenders import Contender, Task
from rlexp.report.draft import MAX_ANIMATIONS, Draft, Origin
from rlexp.report.drawing import Line, appearance
from rlexp.report.page import Page
from rlexp.report.sections.components import add_components
from rlexp.report.sections.configurations import add_configurations, add_hyper_parameters
from rlexp.report.sections.environment import add_environment, learning_curves, result_rows
from rlexp.report.sections.overall import add_overall
from rlexp.report.sections.sources import add_definitions, add_jobs
from rlexp.report.tables import ComparisonRow, CurveRow, ResultRow, TrialRow


def write_document(data: StudyData, analysis: Analysis, folder: Path, origin: Origin) -> Path:
    """Write the page, the figures and the tables of a report.

    Args:
        data: the study, or several as one.
        analysis: of it.
        folder: of the report.
        origin: of the report.

    Returns:
        The path of `index.html`.
    """
    page, tasks = Page(origin.title), [a.task for a in analysis.tasks]
    generator, room = seeding.generator(1, "report"), MAX_ANIMATIONS // max(1, len(tasks))
    draft = Draft(page, folder, appearance(_labels(analysis)), generator, origin, analysis.baseline, room)
    page.lead(analysis.headline)
    if analysis.warnings:
        page.notice(analysis.warnings)
    if analysis.overall:
        add_overall(draft, analysis.overall)
    if analysis.ablation:
        add_components(draft, analysis.ablation)
    add_hyper_parameters(draft, analysis.tasks)
    results: list[ResultRow] = []
    curves: list[CurveRow] = []
    for number, a in enumerate(analysis.tasks, start=1):
        lines = learning_curves(draft, a)
        rows = result_rows(a.task, lines)
        add_environment(draft, a, lines, rows, number)
        results += rows
        curves += [row for c in a.task.contenders for row in _curve_rows(c, lines[c.label])]
    add_configurations(draft, [c for task in tasks for c in task.contenders], several=len(tasks) > 1)
    add_definitions(page)
    add_jobs(page, data.jobs, origin.command)
    draft.write_rows("results", ResultRow, results)
    draft.write_rows("trials", TrialRow, (row for task in tasks for row in _trial_rows(task)))
    draft.write_rows("curves", CurveRow, curves)
    draft.write_rows("comparisons", ComparisonRow, _comparison_rows(analysis))
    page.write(folder / "index.html")
    return folder / "index.html"


def _labels(analysis: Analysis) -> list[str]:
    """The labels of all contenders, in the order in which they get their colours."""
    labels = [c.label for a in analysis.tasks for c in a.task.contenders]
    return list(dict.fromkeys([*(analysis.overall.scores if analysis.overall else ()), *labels]))


def _curve_rows(c: Contender, line: Line) -> Iterator[CurveRow]:
    counts = np.isfinite(line.values).sum(axis=1).tolist()
    for step, middle, low, high, trials in zip(line.steps.tolist(), line.middle, *line.band, counts, strict=True):
        yield CurveRow(c.task.name, c.label, c.curve_name, step, middle, low, high, trials)


def _trial_rows(task: Task) -> Iterator[TrialRow]:
    for c in task.contenders:
        reached = c.steps_to(task.reference.solved) if task.reference else np.full(len(c.seeds), np.nan)
        columns = zip(c.seeds, c.statuses, c.final, c.area, reached, c.value, strict=True)
        for seed, status, final, area, steps, value in columns:
            yield TrialRow(task.name, c.label, seed, status, final, area, steps, value)


def _comparison_rows(analysis: Analysis) -> Iterator[ComparisonRow]:
    for a in analysis.tasks:
        yield from (ComparisonRow.of(a.task.name, "final return", c) for c in a.returns)
        yield from (ComparisonRow.of(a.task.name, "area under the curve", c) for c in a.speed)
    if analysis.overall:
        yield from (ComparisonRow.of("all", "normalised score", c) for c in analysis.overall.comparisons)
