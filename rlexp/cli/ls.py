"""The command `rlexp ls`: the studies of an output folder, or the jobs of one study, with status and score."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlexp.sweeps.sweep import labels
from rlexp.system.errors import did_you_mean
from rlexp.system.folder_lock import in_use
from rlexp.system.stored_files import read_job, skipping
from rlexp.system.text import clean
from rlexp.system.tool import Parser, tool, warn
from rlexp.system.words import decimal
from rlexp.tracking.folders import find_jobs

STATUSES = ("done", "running", "failed", "killed", "pruned")


@dataclass(frozen=True)
class Listed:
    """One row of the table of jobs.

    Attributes:
        study, name: the job's.
        status: one of STATUSES; "killed" also if the process died without a word.
        score: IQM of the final returns, if there are any.
        unhealthy: if some trials did not finish, how many have a score, diverged or failed; else empty.
        trials: number of trials.
        started: seconds since 1970.
        overrides: those that the job was composed from, if they are known.
    """

    study: str
    name: str
    status: str
    score: float | None
    trials: int
    started: float
    unhealthy: str = ""
    overrides: Sequence[str] = ()


def jobs(path: Path) -> list[Listed]:
    """The jobs in a job's, a study's or an output folder, oldest first; a damaged one gets a warning."""
    found = []
    for folder in find_jobs(path):
        with skipping(warn):
            found.append(_listed(folder))
    return sorted(found, key=lambda job: job.started)


def _listed(folder: Path) -> Listed:
    job, ended = read_job(folder, "study", "name", "started")
    summary: dict[str, Any] = ended or {}
    status = summary.get("status") or ("running" if in_use(folder) else "killed")
    score = summary.get("final/return", {}).get("iqm")
    overrides = job.get("overrides") or ()
    seeds, started = job["seeds"], job["started"]
    return Listed(job["study"], job["name"], status, score, len(seeds), started, unhealthy_trials(summary), overrides)


def unhealthy_trials(summary: dict[str, Any]) -> str:
    """The note beside the score of a job with trials that diverged or failed; empty for any other job."""
    trials = summary.get("trials", [])
    count = Counter(trial.get("status") for trial in trials)
    told = [f"{count[word]} {word}" for word in ("diverged", "failed") if count[word]]
    if not told:
        return ""
    scored = sum(value is not None for value in summary.get("final/return", {}).get("per_trial", []))
    return f"({scored} of {len(trials)} trials scored; {', '.join(told)})"


@tool
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, or 2 if there is no such study."""
    parser = Parser(
        prog="rlexp ls",
        description="List the studies of an output folder, or the jobs of one study, with status and score (the "
        "interquartile mean over the trials of the final returns).",
        examples=("rlexp ls", "rlexp ls dqn_ladder", "rlexp ls --output-dir /data/outputs"),
    )
    parser.add_argument("study", nargs="?", metavar="STUDY", help="name of a study; without it, all studies")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs"), metavar="DIR", help="default: outputs")
    args = parser.parse_args(argv)
    found = jobs(args.output_dir)
    if not found:
        print(f"refused: no jobs in {args.output_dir}; --output-dir names another folder", file=sys.stderr)
        return 2
    studies = list(dict.fromkeys(job.study for job in found))
    if args.study is None:
        _show(
            ["study", "jobs", *STATUSES, "last started"],
            [_study_row(name, [job for job in found if job.study == name]) for name in studies],
        )
        return 0
    chosen = [job for job in found if job.study == args.study]
    if not chosen:
        hint = did_you_mean(args.study, studies) or f"There are {', '.join(studies)}."
        print(
            f"refused: STUDY: expected a study in {args.output_dir}, received {args.study!r}. {hint}", file=sys.stderr
        )
        return 2
    differs = labels([job.overrides for job in chosen]) if len(chosen) > 1 else [""]
    rows = []
    for job, what in zip(chosen, differs, strict=True):
        score = f"{decimal(job.score)} {job.unhealthy}".rstrip()
        rows.append([job.name, job.status, score, str(job.trials), _when(job.started), what if job.overrides else ""])
    _show(["job", "status", "final return (IQM)", "trials", "started", "what differs"], rows)
    return 0


def _study_row(name: str, jobs_of_it: Sequence[Listed]) -> list[str]:
    count = Counter(job.status for job in jobs_of_it)
    last = max(job.started for job in jobs_of_it)
    return [name, str(len(jobs_of_it)), *(str(count[status] or "-") for status in STATUSES), _when(last)]


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _show(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a plain table that other programs can parse: columns are two spaces apart."""
    table = [[clean(cell, newlines=False) for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(columns))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
