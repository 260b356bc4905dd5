"""The last sections: how the results were measured, and the jobs that they come from."""

from __future__ import annotations

from collections.abc import Sequence

from rlexp.jobs.results import JobData
from rlexp.report.compare import POWER
from rlexp.report.foreign import ForeignJob
from rlexp.report.page import Page
from rlexp.report.verdicts import CERTAIN
from rlexp.system import words

DEFINITIONS = (
    "A trial is one seed. Its final return is the mean return of fresh episodes (evaluation.final_episodes, 100 by "
    "default) with its best weights; all trials play the same episodes. IQM: mean of the middle half of the trials.",
    "Intervals of final returns cover the IQM of the trials' expected returns with 95 %. They include two kinds of "
    "luck: that of the trials (stratified bootstrap, Agarwal et al. 2021, percentiles expanded for few trials, "
    "Hesterberg 2015), and that of the final episodes, which all trials share (their common part, resampled beside "
    "the trials). With fewer than five trials they are too narrow. What none of the episodes has shown is not in "
    "them. Bands of learning curves and performance profiles include only the luck of the trials.",
    "Exact value: expected return (undiscounted, within the time limit) of the best weights, computed from the "
    "transition table; only for environments that are tables, and policies that draw no actions. It has no luck of "
    "episodes.",
    "Area under the curve: mean evaluation return over all env steps, by trapezoids. Steps to the threshold: the "
    "first evaluation that reaches it; median over trials, where a trial that never reaches it counts as infinite.",
    "Comparisons: two trials with the same seed are a pair (same episodes, same first weights if the network is the "
    "same); p is from Fisher's exact sign-flip test of their mean difference. If seeds differ, or pairs are too few "
    "for the signs to decide a table of so many comparisons, it is from the permutation test. Final returns share "
    "their episodes, too: if these have luck in common, their differences change signs as well, and p is the largest "
    "of three tests, over trials, over episodes and over both, so that a difference counts only if new trials and "
    "new episodes would show it. Areas are compared on the evaluation episodes, which are the same for all, so their "
    "verdicts hold for these episodes. Holm's correction takes all pairs of one table as one family: better and "
    f"worse are said with {CERTAIN} in the table. Too few trials decide nothing, whatever their results: the verdicts "
    "say how many are needed at least, which is more for a table with more pairs.",
    f"More trials needed: the number that finds the difference with a probability of {POWER:.0%}, if it is as large "
    "as it looks now. Such an estimate from few trials is rough. More trials: the same command with seed= set to the "
    "next seed.",
    "Probability of improvement: how often a trial of the first beats one of the second, where ties count half; "
    "interval by Newcombe's score method (2006).",
)  # fmt: skip


def add_definitions(page: Page) -> None:
    """Add the definitions of what the report measures."""
    page.heading("How it was measured")
    for definition in DEFINITIONS:
        page.text(definition, small=True)


def add_jobs(page: Page, jobs: Sequence[JobData], command: str) -> None:
    """Add the tags and the commands of the jobs, and the command that made the report."""
    page.heading("Where it comes from")
    own = [job for job in jobs if not isinstance(job, ForeignJob)]
    foreign = dict.fromkeys(job.folder for job in jobs if isinstance(job, ForeignJob))
    if foreign:
        page.text(f"Results of other programs: {', '.join(map(str, foreign))}.")
    if own:
        page.table(["what", "value (jobs, where they differ)"], _tag_rows(own))
        several = len({job.job["study"] for job in own}) > 1
        page.table(
            [*(["study"] if several else []), "job", "command", "started", "status"],
            [
                [*([str(job.job["study"])] if several else []), job.folder.name, str(job.job.get("command", "")),
                 words.date(job.job.get("started")), str((job.summary or {}).get("status", "unfinished"))]
                for job in own
            ],
        )  # fmt: skip
    if command:
        page.text("This page was made by:")
        page.command(command)


def _tag_rows(jobs: Sequence[JobData]) -> list[list[str]]:
    """Each tag with its value, or with its values and the number of jobs that have each."""
    counts: dict[str, dict[str, int]] = {}
    for job in jobs:
        for key, value in job.job.get("tags", {}).items():
            own = counts.setdefault(key, {})
            own[str(value)] = own.get(str(value), 0) + 1
    return [
        [
            key,
            next(iter(values))
            if len(values) == 1 and sum(values.values()) == len(jobs)
            else ", ".join(f"{value} ({count})" for value, count in values.items()),
        ]
        for key, values in sorted(counts.items())
    ]
