"""The progress of a sweep as each of its jobs shows it: its place, the time left, and one line at its end.

Jobs may run in other processes and on other machines: what they need stands in the sweep's folder.

    <sweep's folder>/jobs/<index>/place.json      number, name and number of jobs, written before the job starts
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rlexp.jobs.place import Place
from rlexp.sweeps.outcome import FILE as OUTCOME_FILE
from rlexp.sweeps.outcome import Outcome
from rlexp.system.stored_files import find_json, read_json
from rlexp.system.stored_schemas import PLACE, SWEEP
from rlexp.system.text import clean
from rlexp.system.words import about, decimal

FILE = "place.json"
MOST = 100  # characters of what went wrong; all of it is on stderr and in the job's folder
LEAST = 0.1  # jobs done; with less, an estimate would count the start of the first one many times


def announce(folder: Path, number: int, total: int, name: str) -> None:
    """Write the place of a job that is about to start.

    Args:
        folder: the job's in its sweep.
        number: counted from 1.
        total: number of jobs in the sweep.
        name: of the job.
    """
    from rlexp.data.checkpoint import write_json

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, {"number": number, "total": total, "name": name})


def place_of(folder: Path, beside: bool) -> Place | None:
    """The place of a job in its sweep; None if it cannot be read.

    Args:
        folder: the job's in its sweep.
        beside: whether other jobs run at the same time.
    """
    try:
        found = find_json(folder / FILE, PLACE, "number", "total", "name")
        if found is None:
            return None
        started = read_json(folder.parents[1] / "sweep.json", SWEEP, "started")["started"]
        clock = _Clock(folder.parent, started, found["total"], beside)
    except (OSError, ValueError):  # a disk that fails: the sweep's process has just written them
        return None
    return Place(found["number"], found["total"], found["name"], beside, clock.left)


class _Clock:
    """Estimates how long a sweep will take: the jobs that are left take as long as those that were trained did.

    Args:
        jobs: the folder of the sweep's jobs.
        started: when the sweep was started, seconds since 1970.
        total: number of its jobs.
        beside: whether jobs run beside each other: how far the others are is not known.
    """

    def __init__(self, jobs: Path, started: float, total: int, beside: bool) -> None:
        self._started, self._total, self._beside = started, total, beside
        outcomes = list(jobs.glob(f"*/{OUTCOME_FILE}"))
        self._ended = len(outcomes)
        fresh = [path.parent for path in outcomes if path.stat().st_mtime >= started]
        trained = (Outcome.read(folder) for folder in fresh)
        self._trained = sum(one is not None and one.ran and one.status != "refused" for one in trained)

    def left(self, here: float) -> float | None:
        """Seconds until the sweep ends; `here`: how many jobs are done here besides those with an outcome."""
        done = self._trained + (0.0 if self._beside else here)
        if done < LEAST:
            return None
        return max(self._total - self._ended - here, 0.0) * (time.time() - self._started) / done


def ended_line(place: Place, folder: Path, outcome: Outcome, final: Any) -> str:
    """One line about a job that has ended.

    Args:
        place: the job's.
        folder: the job's in its sweep; its outcome is written.
        outcome: how it ended.
        final: the aggregates of its final returns, None without any.
    """
    from rlexp.jobs.console import score_words

    told = [outcome.status]
    if outcome.status == "done" and not outcome.ran:
        told = ["already done, nothing was run"]
    elif outcome.status in ("failed", "refused", "pruned") and outcome.error:
        error = outcome.error.rstrip(".")
        error = error if len(error) <= MOST else f"{error[: MOST - 3]}..."
        told = [error if outcome.status == "pruned" else f"{outcome.status}: {error}"]
    if final is not None:
        told.append(f"final return {score_words(final)}")
    elif outcome.score is not None:
        told.append(f"final return {decimal(outcome.score)}")
    if outcome.ran:
        told.append(seconds_words(outcome))
    now = place_of(folder, place.beside)  # with this job's outcome
    left = now.time_left(0.0) if now is not None else None
    # The others of a group have no outcomes yet, though they are trained.
    after = f"; {about(left)} left for the sweep" if left and outcome.grouped == 1 else ""
    return clean(f"{place.heading}: {', '.join(told)}{after}", newlines=False)


def seconds_words(outcome: Outcome) -> str:
    """How long a job took; of jobs that were trained together, the equal share."""
    shared = f" (its share: {outcome.grouped} jobs trained together)" if outcome.grouped > 1 else ""
    return f"{outcome.seconds:.1f} s{shared}"
