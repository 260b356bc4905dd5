"""The page that compares our results of the chapter with the figures that the notebook prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlexp.book import figures, mdp
from rlexp.book.agreement import Verdict, spread, verdict
from rlexp.book.literal_loops import Run
from rlexp.book.printed_figures import (
    EXACT,
    NOTEBOOK_WAY,
    ONE_TRIAL,
    OTHERWISE,
    PLAN,
    STATISTICAL,
    TOTALS,
    TOTALS_COUNTED,
    Exact,
    Jobs,
    Statistical,
)
from rlexp.book.processes import Absent, unreadable
from rlexp.report.page import Page

STUDY = "chapter18"


@dataclass
class Lines:
    """Makes the rows of the tables, with their verdicts; a row without results gives the reason."""

    jobs: Jobs
    absent: dict[str, Absent]

    def measured(self, job: str, measure: Callable[[], Any]) -> Any:
        """The result of `measure`, or an `Absent` if the results of `job` are missing or do not contain it."""
        if not job:
            return measure()
        if job not in self.jobs:
            return self.absent.get(job, Absent("not run"))
        try:
            return measure()
        except Exception as error:  # whatever is wrong with the files of one job, the others are shown
            self.absent[job] = unreadable(error)
            return self.absent[job]

    def exact(self, row: Exact) -> tuple[list[str], bool | None]:
        """Cells: what, notebook, literal, ours, verdict."""
        ours = self.measured(row.job, lambda: row.ours(self.jobs))
        literal = row.literal() if row.literal else "ours is its code"
        cells = [row.what, row.printed + (f" ({row.note})" if row.note else ""), literal]
        if isinstance(ours, Absent):
            return [*cells, "-", ours.why], False if ours.failed else None
        return [*cells, ours, "equal" if row.printed == ours else "different"], row.printed == ours

    def statistical(self, row: Statistical, runs: Sequence[Run]) -> tuple[list[str], Verdict]:
        """Cells: preset, what, notebook, literal, ours, verdict."""
        values = [row.literal(run) for run in runs] if row.literal else []
        own = [row.own_seed()] if row.own_seed else []
        literal = np.array(values + own) if values or own else None
        shown = spread(literal, row.values) if literal is not None else "not run" if row.literal else "-"
        shown += ", its own seed 42 included" if own else ""
        cells = [row.job.removeprefix("book/"), row.what, row.printed or "-", shown]
        ours = self.measured(row.job, lambda: row.ours(self.jobs[row.job]))
        if isinstance(ours, Absent):
            return [*cells, "-", ours.why], Verdict(ours.why, False if ours.failed else None)
        found = verdict(row, ours, literal)
        return [*cells, spread(ours, row.values), found.text], found

    def pictures(self, name: str, folder: Path) -> list[tuple[Path, str]]:
        """The figures of a job and their captions; Figure 18-9 is that of Q-value iteration."""
        job, short = self.jobs[name], name.removeprefix("book/")
        best_seed = (job.data.summary or {}).get("best_seed")
        path = folder / ("q_value_plot.png" if name == PLAN else f"{short}.png")
        if name == PLAN:
            learned = mdp.mdp_q_learning()[:, 0, 0]
            if isinstance(self.measured(name, lambda: figures.q_values(job.history()[:, 0, 0], learned, path)), Absent):
                return []
            return [(path, "Figure 18-9: Q(s0, a0) by Q-value iteration, and by Q-learning")]
        if name in (*ONE_TRIAL, NOTEBOOK_WAY, "book/mdp_q_learning"):
            return []
        title = f"{short}, {len(job.seeds)} trials"
        if isinstance(self.measured(name, lambda: figures.episode_returns(job.training(), title, path)), Absent):
            return []
        number = "Figure 18-10: " if short == "dqn" else ""
        found = [(path, f"{number}{short}, return of each training episode")]
        if (job.folder / "animation.gif").exists():
            found.append((job.folder / "animation.gif", f"{short}, the best trial (seed {best_seed})"))
        return found


def write(jobs: Jobs, absent: dict[str, Absent], runs: Sequence[Run], output_dir: Path, command: str) -> Path:
    """Write report.html and report.md of the study; returns the path of the former.

    Args:
        jobs: their results by preset.
        absent: the reasons for those without results; unreadable ones are added.
        runs: of the notebook's loops, one per seed.
        output_dir: of the study, whose folder `report` exists.
        command: that made the report.
    """
    folder = output_dir / STUDY / "report"
    page, lines = Page("The chapter on reinforcement learning, reproduced"), Lines(jobs, absent)
    exact = [lines.exact(row) for row in EXACT]
    statistical = [lines.statistical(row, runs) for row in STATISTICAL]
    pictures = [picture for name in jobs for picture in lines.pictures(name, folder)]
    page.text(_headline(exact, [found for _, found in statistical], jobs), command)
    if absent:
        page.notice([f"{name}: {why.why}." for name, why in absent.items()])
    page.heading("Exact figures")
    page.table(
        ["what", "notebook", "notebook's loop, run literally", "ours", "verdict"],
        [cells for cells, _ in exact],
        [good for _, good in exact],
    )
    page.heading("Statistical figures")
    for text in _explanations(max((len(job.seeds) for job in jobs.values()), default=0), len(runs)):
        page.text(text)
    page.table(
        ["preset", "what", "notebook", "notebook's loop, run literally", "ours", "verdict"],
        [cells for cells, _ in statistical],
        [found.good for _, found in statistical],
    )
    page.text("How our presets differ from the notebook's loops that are run literally:")
    page.table(["preset", "difference"], [[name.removeprefix("book/"), text] for name, text in OTHERWISE.items()])
    page.heading("Figures")
    for path, caption in pictures:
        page.picture(path, caption)
    page.write(folder / "report.html")
    return folder / "report.html"


def _headline(exact: Sequence[tuple[list[str], bool | None]], found: Sequence[Verdict], jobs: Jobs) -> str:
    compared = [verdict for verdict in found if verdict.good is not None]
    others = [verdict for verdict in compared if not verdict.good]
    given, not_given = (sum(verdict.literal is gives for verdict in others) for gives in (True, False))
    rest = len(others) - given - not_given
    seconds = sum((job.data.summary or {}).get("wall_seconds", 0.0) for job in jobs.values())
    return (
        f"{sum(good is True for _, good in exact)} of {len(exact)} exact figures are equal to all printed digits; "
        f"{len(compared) - len(others)} of {len(compared)} statistical ones lie within the spread of our trials. "
        + (
            f"Of the other {len(others)}, literal runs of the notebook's code give {given} and do not give {not_given}"
            + (f"; those of networks ({rest}) are not run literally. " if rest else ". ")
            if others
            else ""
        )
        + f"The jobs took {seconds / 60:.1f} minutes, one after the other. Made by"
    )


def _explanations(trials: int, runs: int) -> list[str]:
    """The paragraphs above the table of statistical figures."""
    return [
        "Ours: mean and standard deviation over trials, smallest and largest trial. One trial is one seed, and the "
        "notebook is one more: of N + 1 equal runs, one lies outside the other N with probability 2 / (N + 1), here "
        f"{200 / (1 + trials):.0f} %. The smallest or largest episode of a run is one episode: such minima and maxima "
        "are shown by their median and range over trials.",
        f"Run literally: the notebook's printed loops, quirks included, with {runs} seeds. They bootstrap from where "
        "an episode ends, play on past the limit of 500 steps, reset with seed = episode, draw from one global "
        "generator, and the third goes on with the table of the second. Loops with networks are not run literally. "
        "A reason for a difference is named only where these runs give the notebook's figure, and none of ours lies "
        "among them.",
        "The third loop (q_log_alpha) never resets its total of rewards: what it prints are statistics of sums over "
        "all episodes so far, and its largest, 262570, is the sum over all of them. Its printed mean has the digits "
        f"of a mean of {TOTALS_COUNTED:,} whole numbers, not of 10,000: its list held more than one run of the loop "
        f"gives. An episode is then worth {TOTALS[-1] / TOTALS_COUNTED:.5g} to {TOTALS[-1] / 10_000:.5g}.",
    ]
