"""The section over all environments: normalised scores, performance profiles and comparisons."""

from __future__ import annotations

import numpy as np

from rlexp.math.statistics import iqm, performance_profile
from rlexp.report import figures
from rlexp.report.analysis import Overall
from rlexp.report.colors import COLORS
from rlexp.report.draft import Draft
from rlexp.report.sections.comparisons import add_comparisons
from rlexp.report.tables import ProfileRow
from rlexp.system import words

NUM_THRESHOLDS = 201  # of a performance profile
LOWEST_SCORE = -1.0  # of a performance profile: one catastrophic trial would squeeze the rest


def add_overall(draft: Draft, overall: Overall) -> None:
    """Add the section to the page, and the table `profiles`."""
    page = draft.page
    page.heading("Over all environments")
    scale = "; ".join(
        f"{task.name}: 0 is a return of {words.number(low)}, 1 is {words.number(high)} ({why})"
        for task in overall.tasks
        for low, high, why in [task.scale]
    )
    page.text(f"Normalised score = (return - random play) / (solved - random play). {scale}.", small=True)
    if overall.absent:
        page.text(f"Left out because they are not on every environment: {', '.join(overall.absent)}.")
    page.table(
        ["algorithm", "normalised score: IQM [95 % interval]", *(task.name for task in overall.tasks)],
        [
            [
                label,
                words.interval(*overall.intervals[label]),
                *(words.number(float(iqm(v))) for v in overall.scores[label]),
            ]
            for label in overall.scores
        ],
    )
    _add_profiles(draft, overall)
    if overall.comparisons:
        than = f" than {draft.baseline}" if draft.baseline else ""
        page.heading(f"Which is better{than} over all environments: normalised score", 3)
        add_comparisons(page, overall.comparisons)


def _add_profiles(draft: Draft, overall: Overall) -> None:
    drawn = list(overall.scores)[: len(COLORS)]
    every = np.concatenate([v for label in drawn for v in overall.scores[label]])
    low, high = max(min(0.0, float(every.min())), LOWEST_SCORE), max(1.0, float(every.max()))
    thresholds = np.linspace(low - 0.02, high + 0.02, NUM_THRESHOLDS)
    profiles = {label: performance_profile(overall.scores[label], thresholds, draft.generator) for label in drawn}
    colored = {label: (draft.looks[label][0], profile) for label, profile in profiles.items()}
    path = draft.save(figures.profiles(colored, thresholds), "0-profiles")
    draft.page.pictures([(path, "Performance profiles: higher is better; bands are 95 % intervals.")])
    draft.write_rows(
        "profiles",
        ProfileRow,
        (
            ProfileRow(label, score, *profile[:, i])
            for label, profile in profiles.items()
            for i, score in enumerate(thresholds)
        ),
    )
