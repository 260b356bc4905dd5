"""The interface of a tracker, and the trackers by name.

A tracker follows the job's folder: `metrics.jsonl` and the files beside it are the source of truth, so that no tracker
can lose a value or delay training. Importing this module does not import a tracker.
"""

from __future__ import annotations

import contextlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

TRACKERS = {
    "files": "rlexp.tracking.files:FilesTracker",
    "mlflow": "rlexp.tracking.follower:MLflowTracker",
    "tensorboard": "rlexp.tracking.tensorboard.tracker:TensorBoardTracker",
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
        ui_command: commands or addresses that show the results, one per line, if there are any.
        run_id: the tracker's id of the job's run, if there is one.
    """

    delivered: bool
    message: str
    ui_command: str | None = None
    run_id: str | None = None


class Tracker(Protocol):
    """Observes the folders of jobs that run together, usually one. No method raises; `close` alone may wait.

    Attributes:
        title: its name in messages; empty for one that never misses anything.
    """

    title: str

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

    def sync_command(self, path: Path) -> str:
        """The command that delivers a job or a study afterwards; empty for a tracker that never misses anything."""
        ...


class SeveralTrackers:
    """Trackers that follow the same jobs.

    Args:
        parts: the trackers.
    """

    def __init__(self, parts: Sequence[Tracker]) -> None:
        self.parts = list(parts)
        self.title = " and ".join(part.title for part in parts if part.title)

    def start(self) -> None:
        """Start each."""
        for part in self.parts:
            part.start()

    def end(self, folder: Path, status: str) -> None:
        """Tell each."""
        for part in self.parts:
            with contextlib.suppress(OSError):  # a full disk, which the job's own error names
                part.end(folder, status)

    def close(self, timeout: float, say: Callable[[str], None] = print) -> dict[Path, TrackingResult]:
        """Close each, and put together what they say of each folder."""
        found: dict[Path, list[TrackingResult]] = {}
        for part in self.parts:
            for folder, result in part.close(timeout, say).items():
                found.setdefault(folder, []).append(result)
        return {folder: _together(results) for folder, results in found.items()}

    def sync_command(self, path: Path) -> str:
        """The commands of all."""
        return "; ".join(filter(None, (part.sync_command(path) for part in self.parts)))


def _together(results: Sequence[TrackingResult]) -> TrackingResult:
    """The results of several trackers for one folder as one."""
    return TrackingResult(
        delivered=all(result.delivered for result in results),
        message="\n".join(result.message for result in results),
        ui_command="\n".join(result.ui_command for result in results if result.ui_command) or None,
        run_id=next((result.run_id for result in results if result.run_id), None),
    )


def parts(tracker: Tracker) -> list[Tracker]:
    """The trackers in a tracker: those of several, else itself."""
    return tracker.parts if isinstance(tracker, SeveralTrackers) else [tracker]


@contextlib.contextmanager
def started_early(names: Sequence[str], uri: str | None, output_dir: Path) -> Iterator[None]:
    """A context in which the trackers of the next job start, beside what else that job needs."""
    with contextlib.ExitStack() as contexts:
        for name in names:
            if name in EARLY:
                contexts.enter_context(pkgutil.resolve_name(EARLY[name])(uri, output_dir))
        yield


def open_tracker(names: Sequence[str], uri: str | None, folders: Sequence[Path], output_dir: Path) -> Tracker:
    """Create the trackers of jobs that run together.

    Args:
        names: keys of `TRACKERS`.
        uri: where results go, `tracking.uri` of the jobs' `config.yaml`; `None` for the default.
        folders: the jobs' folders.
        output_dir: the folder of the studies.

    Raises:
        ValueError: if there is no such tracker.
    """
    for name in names:
        if name not in TRACKERS:
            raise ValueError(f"tracking.name={name!r} is not a tracker; choose one of {', '.join(TRACKERS)}.")
    opened: list[Tracker] = [pkgutil.resolve_name(TRACKERS[name])(uri, folders, output_dir) for name in names]
    return opened[0] if len(opened) == 1 else SeveralTrackers(opened)
