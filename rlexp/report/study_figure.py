"""A study in a notebook: its learning curves in one figure, and its jobs in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D

from rlexp.data import seeding
from rlexp.jobs.html import shown, table, text
from rlexp.jobs.job import Job
from rlexp.jobs.pictures import Picture, image_tag, png
from rlexp.jobs.results import JobData
from rlexp.math.statistics import bootstrap_band, iqm
from rlexp.report.contenders import Contender
from rlexp.report.drawing import (
    DPI,
    FONT,
    INK,
    LIGHT,
    WIDTH,
    Line,
    appearance,
    draw_legend,
    draw_line,
    draw_text,
    set_limits,
    style_steps,
    thinned,
)
from rlexp.report.grouping import tasks
from rlexp.system import words

HEIGHT = 3.4  # inches of a panel


def study_figure(jobs: Sequence[JobData]) -> Picture:
    """The learning curves of all configurations: one panel per environment."""
    every = tasks(jobs)
    looks = appearance(list(dict.fromkeys(c.label for task in every for c in task.contenders)))
    generator = seeding.generator(1, "report")
    figure = Picture(figsize=(WIDTH, HEIGHT * len(every)), dpi=DPI, facecolor="white", layout="constrained")
    panels = figure.subplots(len(every), 1, squeeze=False)[:, 0]
    for axes, task in zip(panels, every, strict=True):
        lines = [_line(c, looks[c.label], generator) for c in task.contenders]
        lines = [line for line in lines if len(line.steps)]
        style_steps(axes)
        for line in reversed(lines):
            draw_line(axes, line, trials=len(lines) == 1)
        if lines:
            colored = [line for line in lines if line.color != LIGHT]
            handles = [Line2D([], [], color=x.color, marker=x.marker, markersize=4.5, linewidth=2) for x in colored]
            draw_legend(axes, handles, [line.label for line in colored])
            set_limits(axes, lines, {})
        metrics = {c.curve_name for c in task.contenders} - {None}
        what = "evaluation return" if metrics <= {"eval/return"} else "return"
        draw_text(axes.set_ylabel, f"{what} on {shown(task.name)}", fontsize=FONT, color=INK)
    return figure


def _line(c: Contender, look: tuple[str, str], generator: np.random.Generator) -> Line:
    name = c.curve_name
    steps, values = c.curves[name] if name else (np.zeros(0, np.int64), np.zeros((0, len(c.seeds))))
    few = thinned(len(steps)) if len(steps) else np.zeros(0, np.int64)
    steps, values = steps[few], values[few]
    band = bootstrap_band(values, generator) if len(steps) else np.zeros((2, 0))
    missing = (np.nan, np.nan)
    return Line(c.label, *look, steps, values, iqm(values), band, c.final, np.nan, missing)


def study_html(name: str, folder: Path, jobs: Sequence[Job], problems: Mapping[str, str]) -> str:
    """The jobs of a study in their order, with their learning curves; whatever comes from files is escaped.

    Args:
        name, folder: of the study.
        jobs: sorted by score.
        problems: name of a folder -> why the job in it could not be read.
    """
    header = ["job", "status", "final return: IQM [95 % interval]", "min", "max", "trials", "env steps", "time"]
    parts = [f"<p><b>Study {text(name)}</b>: {words.plural(len(jobs), 'job')}</p>", table(header, map(_row, jobs))]
    if jobs:
        curves = png(study_figure([job.data for job in jobs]))
        parts.append(image_tag(curves, "png", f"Learning curves of study {shown(name)}"))
    parts += [f"<p>Not read: {text(place)}: {text(why)}</p>" for place, why in problems.items()]
    return "".join([*parts, f"<p><code>{text(folder)}</code></p>"])


def _row(job: Job) -> list[str]:
    final = job.get("final/return") or {}
    scored = sum(value is not None for value in final.get("per_trial", []))
    number = f"{scored} of {len(job.seeds)} scored" if final and scored < len(job.seeds) else str(len(job.seeds))
    steps, wall = job.get("steps"), job.get("wall_seconds")
    return [
        job.name,
        job.status,
        job.score_in_words,
        words.number(final.get("min")),
        words.number(final.get("max")),
        number,
        "-" if steps is None else words.steps(steps),
        "-" if wall is None else words.seconds(wall),
    ]
