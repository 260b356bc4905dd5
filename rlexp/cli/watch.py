"""`rlexp ls STUDY --watch`: the jobs of a study while they run."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlexp.cli.listing import STATUSES, Listed, Listing, Warnings, aligned
from rlexp.system.folder_lock import in_use
from rlexp.system.stored_files import read_json, skipping
from rlexp.system.stored_schemas import SWEEP
from rlexp.system.text import clean
from rlexp.system.tool import Terminated, warn
from rlexp.system.words import about, decimal, plural
from rlexp.tracking.folders import find_sweeps

COLUMNS = ("job", "status", "step", "last evaluation (IQM)", "left")
MOST = 12  # rows of failed, killed and pruned jobs, of each
EDGE = 8  # lines of a terminal that are not rows of the table


@dataclass(frozen=True)
class View:
    """What is seen of a study at one moment.

    Attributes:
        heading: the study, the time, and how many jobs there are of each status.
        rows: of running jobs, then of those that failed, were killed or pruned.
        best: a line for each environment.
        running: whether anything still runs.
    """

    heading: str
    rows: list[list[str]]
    best: list[str]
    running: bool


def view(study: Path, listing: Listing, now: float) -> View:
    """Look at a study.

    Args:
        study: its folder.
        listing: of its jobs; it remembers what has been read.
        now: seconds since 1970.
    """
    sweeping, jobs = sweeps(study), listing.jobs()
    count = Counter(job.status for job in jobs)
    waiting = _unfinished(sweeping) - count["running"]
    told = [
        f"{count[status]} {status}" for status in ("running", *(s for s in STATUSES if s != "running")) if count[status]
    ]
    if waiting > 0:
        told.append(f"{waiting} waiting")
    heading = (
        f"study {study.name}, {time.strftime('%H:%M:%S', time.localtime(now))}: {', '.join(told) or 'no jobs yet'}"
    )
    rows = [_row(job, now) for job in jobs if job.status == "running"]
    for status in ("failed", "killed", "pruned"):
        of_it = [job for job in jobs if job.status == status]
        rows += [_row(job, now) for job in of_it[-MOST:]]
        if len(of_it) > MOST:
            rows.append([f"... and {len(of_it) - MOST} more", status, "", "", ""])
    return View(heading, rows, _best(jobs), bool(count["running"] or sweeping))


def sweeps(study: Path) -> list[Path]:
    """The folders of a study's sweeps that run."""
    return [folder for folder in find_sweeps(study) if in_use(folder)]


def _unfinished(folders: Sequence[Path]) -> int:
    """How many jobs of sweeps have no outcome."""
    number = 0
    for folder in folders:
        with skipping(warn):
            total = read_json(folder / "sweep.json", SWEEP).get("total", 0)
            number += max(total - len(list(folder.glob("jobs/*/outcome.json"))), 0)
    return number


def _row(job: Listed, now: float) -> list[str]:
    live = job.live
    step = live.step if live is not None and live.step is not None else job.pruned_at
    left = live.left(now) if live is not None else None
    evaluation = decimal(live.evaluation) if live is not None else decimal(job.score)
    ending = live is not None and live.share is not None and live.share >= 1
    told = "scoring" if ending else about(left) if left is not None else "-"
    return [
        job.name,
        job.status_words,
        f"{step:,}" if step is not None else "-",
        f"{evaluation} {job.unhealthy}".rstrip(),
        told if job.status == "running" else (job.error or "-"),
    ]


def _best(jobs: Sequence[Listed]) -> list[str]:
    """The best job so far on each environment: by final returns, else by the last evaluations."""
    lines = []
    envs = list(dict.fromkeys(job.env for job in jobs))
    for env in envs:
        where = f" on {env}" if len(envs) > 1 else ""
        of_env = [job for job in jobs if job.env == env]
        done = [(job.score, job) for job in of_env if job.score is not None]
        live = [(e, job) for job in of_env if job.live is not None and (e := job.live.evaluation) is not None]
        if found := done or live:
            score, job = max(found, key=lambda pair: pair[0])
            what = "final return" if done else "last evaluation"
            lines.append(
                f"best so far{where}: {job.name}: {what} {decimal(score)} (IQM over {plural(job.trials, 'trial')})"
            )
    return lines


def watch(study: Path, interval: float, warnings: Warnings) -> int:
    """Show a study until nothing of it runs; returns the exit status, 0 also after Ctrl-C."""
    listing = Listing(study, warnings)
    look = lambda: view(study, listing, time.time())  # noqa: E731
    try:
        seen = _redrawn(look, interval) if sys.stdout.isatty() else _repeated(look, interval)
    except Terminated:
        raise
    except KeyboardInterrupt:
        return 0
    return seen


def _repeated(look: Callable[[], View], interval: float) -> int:
    """Print the table once per interval."""
    while True:
        seen = look()
        print(clean(seen.heading, newlines=False))
        aligned(COLUMNS, seen.rows)
        for line in seen.best:
            print(clean(line, newlines=False))
        if not seen.running:
            print("nothing of it runs any more")
            return 0
        print(flush=True)
        time.sleep(interval)


def _redrawn(look: Callable[[], View], interval: float) -> int:
    """Redraw the table in place."""
    from rich.console import Console
    from rich.live import Live

    # The commands' own stream escapes what moves the cursor; all texts of a view are cleaned one by one.
    console = Console(file=sys.__stdout__, highlight=False, markup=False)
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            seen = look()
            live.update(_drawn(seen, console.height), refresh=True)
            if not seen.running:
                return 0
            time.sleep(interval)


def _drawn(seen: View, height: int) -> Any:
    """The view for a terminal of so many lines."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    def text(line: str) -> Text:
        return Text(clean(line, newlines=False), no_wrap=True, overflow="ellipsis")

    most = max(height - EDGE - len(seen.best), 3)
    table = Table()
    for column in COLUMNS:
        table.add_column(column, justify="right" if column == "step" else "left", no_wrap=True, overflow="ellipsis")
    for row in seen.rows[:most]:
        table.add_row(*map(text, row))
    more = [text(f"... and {len(seen.rows) - most} more jobs")] if len(seen.rows) > most else []
    end = [] if seen.running else [text("nothing of it runs any more")]
    return Group(text(seen.heading), *([table] if seen.rows else []), *more, *map(text, seen.best), *end)
