"""The jobs of a study as commands list them: name, status, how far a running one is, score."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlexp.jobs.live import LiveJob
from rlexp.jobs.names import stored_configs, stored_names
from rlexp.system.folder_lock import in_use
from rlexp.system.stored_files import read_job, skipping
from rlexp.system.text import clean
from rlexp.system.tool import warn
from rlexp.tracking.folders import find_jobs

STATUSES = ("done", "running", "failed", "killed", "pruned")


@dataclass(frozen=True)
class Listed:
    """One row of the table of jobs.

    Attributes:
        folder: the job's.
        study, env: the job's.
        name: within its study.
        status: one of STATUSES; "killed" also if the process died without a word.
        score: IQM of the final returns, if there are any.
        trials: number of trials.
        started: seconds since 1970.
        unhealthy: if some trials did not finish, how many have a score, diverged or failed; else empty.
        error: one line about what went wrong; else empty.
        pruned_at: env step at which a search has ended it.
        live: of a running job, how far it is.
    """

    folder: Path
    study: str
    env: str
    name: str
    status: str
    score: float | None
    trials: int
    started: float
    unhealthy: str = ""
    error: str = ""
    pruned_at: int | None = None
    live: LiveJob | None = None

    @property
    def status_words(self) -> str:
        """The status; of a running job, also how much of the budget is done."""
        share = self.live.share if self.live is not None else None
        return f"{self.status} {share:.0%}" if share is not None else self.status


def listed(folder: Path) -> Listed:
    """The job in a folder, named after its folder; raises as `read_job` does."""
    job, ended = read_job(folder, "study", "name", "started")
    summary: dict[str, Any] = ended or {}
    status = summary.get("status") or ("running" if in_use(folder) else "killed")
    score = summary.get("final/return", {}).get("iqm")
    more = (unhealthy_trials(summary), summary.get("error") or "", summary.get("pruned_at"))
    return Listed(
        folder, job["study"], job.get("env", ""), job["name"], status, score, len(job["seeds"]), job["started"], *more
    )


def named_study(study: str, output_dir: Path) -> tuple[str, Path]:
    """The name of a study and its output folder, also if its folder is given: `outputs/ladder`."""
    path = Path(study).expanduser()
    return (study, output_dir) if study == path.name or not path.name else (path.name, path.parent)


class Warnings:
    """Prints each warning once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            warn(text)


def jobs(path: Path, warn_of: Callable[[str], None]) -> list[Listed]:
    """The jobs in a job's, a study's or an output folder, oldest first; a damaged one gets a warning."""
    found = []
    for folder in find_jobs(path):
        with skipping(warn_of):
            found.append(listed(folder))
    return sorted(found, key=lambda job: job.started)


def unhealthy_trials(summary: Mapping[str, Any]) -> str:
    """The note beside the score of a job with trials that diverged or failed; empty for any other job."""
    trials = summary.get("trials", [])
    count = Counter(trial.get("status") for trial in trials)
    told = [f"{count[word]} {word}" for word in ("diverged", "failed") if count[word]]
    if not told:
        return ""
    scored = sum(value is not None for value in summary.get("final/return", {}).get("per_trial", []))
    return f"({scored} of {len(trials)} trials scored; {', '.join(told)})"


class Listing:
    """The jobs of one study, looked at again and again: what has not changed is not read again.

    Args:
        study: its folder.
        warn_of: called with what is wrong with damaged jobs, at each look.
    """

    def __init__(self, study: Path, warn_of: Callable[[str], None]) -> None:
        self._study, self._warn = study, warn_of
        self._ended: dict[Path, tuple[Any, Listed]] = {}  # with the state of its files
        self._live: dict[Path, LiveJob] = {}
        self._names: dict[Path, str] = {}

    def jobs(self) -> list[Listed]:
        """The jobs of the study, oldest first, under their names within it; a damaged one gets a warning."""
        folders = find_jobs(self._study)
        if set(folders) != set(self._names):
            self._names = stored_names(folders)
        found = []
        for folder in folders:
            with skipping(self._warn):
                found.append(replace(self._seen(folder), name=self._names[folder]))
        return sorted(found, key=lambda job: job.started)

    def _seen(self, folder: Path) -> Listed:
        state = [_state(folder / name) for name in ("job.json", "summary.json")]
        if folder in self._ended and self._ended[folder][0] == state:
            return self._ended[folder][1]
        job = listed(folder)
        if job.status != "running":
            self._live.pop(folder, None)
            if state[1] is not None:
                self._ended[folder] = state, job
            return job
        if folder not in self._live or self._live[folder].started != job.started:
            config = stored_configs([folder]).get(folder, {})
            self._live[folder] = LiveJob(folder, job.started, job.trials, config)
        self._live[folder].look()
        return replace(job, live=self._live[folder])


def _state(path: Path) -> tuple[int, int] | None:
    """What changes when a file is written; None without the file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a plain table that other programs can parse: columns are two spaces apart."""
    table = [[clean(cell, newlines=False) for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(columns))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
