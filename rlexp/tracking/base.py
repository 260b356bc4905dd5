"""The interface of a tracker, and the trackers by name.

A tracker follows the job's folder: `metrics.jsonl` and the files beside it are the source of truth, so that no tracker
can lose a value or delay training. Importing this module does not import a tracker.
"""

from __future__ import annotations

import contextlib
import pkgutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

TRACKERS = {
    "files": "rlexp.tracking.files:FilesTracker",
    "mlflow": "rlexp.tracking.follower:MLflowTracker",
}
EARLY = {  # of trackers that take seconds to start: a context that begins with it, before there is a folder
    "mlflow": "rlexp.tracking.follower:started_early",
}
HEARTBEAT = 30.0  # seconds between two signs of life of a run
SILENCE = 900.0  # seconds without one after which its process counts as dead, if its folder's lock cannot tell


@dataclass(frozen=True)
class TrackingResult:
    """The outcome of a delivery.

    Attributes:
        delivered: whether the tracker has everything.
        message: lines to print to the user.
        ui_command: command or address that shows the results, if there is one.
        run_id: the tracker's id of the job's run, if there is one.
    """

    delivered: bool
    message: str
    ui_command: str | None = None
    run_id: str | None = None


class Tracker(Protocol):
    """Observes the folders of jobs that run together, usually one. No method raises; `close` alone may wait."""

    def start(self) -> None:
        """Begin to follow the folders; each has its `job.json` and `config.yaml` already."""

    def end(self, folder: Path, status: str) -> None:
        """Report how a job has ended: "done", "failed", "killed" or "pruned"; all its files are in its folder."""

    def close(self, timeout: float, say: Callable[[str], None] = print) -> dict[Path, TrackingResult]:
        """Deliver what is missing of the jobs, all of which have ended, and stop.

        Args:
            timeout: longest wait, in seconds; the time for creating a store is not counted.
            say: called with a message about a wait that may be longer than `timeout`.

        Returns:
            Folder -> what was delivered, and what to do about what was not.
        """
        ...


def started_early(name: str, uri: str | None, output_dir: Path) -> AbstractContextManager[None]:
    """A context in which the tracker `name` of the next job starts, beside what else that job needs."""
    context: AbstractContextManager[None] = contextlib.nullcontext()
    if name in EARLY:
        context = pkgutil.resolve_name(EARLY[name])(uri, output_dir)
    return context


def open_tracker(name: str, uri: str | None, folders: Sequence[Path], output_dir: Path) -> Tracker:
    """Create the tracker `name` for jobs that run together.

    Args:
        name: a key of `TRACKERS`.
        uri: where results go, `tracking.uri` of the jobs' `config.yaml`; `None` for the default.
        folders: the jobs' folders.
        output_dir: the folder of the studies.

    Raises:
        ValueError: if there is no such tracker.
    """
    if name not in TRACKERS:
        raise ValueError(f"tracking.name={name!r} is not a tracker; choose one of {', '.join(TRACKERS)}.")
    tracker: Tracker = pkgutil.resolve_name(TRACKERS[name])(uri, folders, output_dir)
    return tracker
