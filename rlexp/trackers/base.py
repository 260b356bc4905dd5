"""What the runner sees of a tracker, and the names of the trackers.

A tracker follows the job's folder: `metrics.jsonl` and the files beside it are the source of truth, so that
no tracker can lose a value or hold up training. Importing this module imports no tracker.
"""

from __future__ import annotations

import os
import pkgutil
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rlexp.trackers.store import Unusable

TRACKERS = {
    "files": "rlexp.trackers.files:FilesTracker",
    "mlflow": "rlexp.trackers.follower:MLflowTracker",
}


HEARTBEAT = 30.0  # seconds between two signs of life of a run
SILENCE = 900.0  # seconds without one after which its process is taken for dead, where its folder's lock cannot tell
DELIVERED = "Delivered."  # the last line of a job's tracking.log, once its tracker has everything
NOT_DELIVERED = "Not delivered: "  # so begins its line where the tracker has given it up
SET_ASIDE = "Set aside: "  # so begins its line where the tracker found a damaged store


@dataclass(frozen=True)
class TrackingResult:
    """What has become of a job's results.

    Attributes:
        delivered: whether the tracker has everything.
        message: lines to print to the user.
        ui_command: command (or address) that shows the results, if there is one.
        run_id: the tracker's name of the job's run, if there is one.
    """

    delivered: bool
    message: str
    ui_command: str | None = None
    run_id: str | None = None


class Tracker(Protocol):
    """An observer of the folders of jobs that run together, usually one. No method raises or waits for a server."""

    def start(self) -> None:
        """Begin to follow the folders; `job.json` and `config.yaml` are there already."""

    def end(self, folder: Path, status: str) -> None:
        """Say how a job has ended: "done", "failed", "killed" or "pruned"; everything is in its folder."""

    def close(self, timeout: float, say: Callable[[str], None] = print) -> dict[Path, TrackingResult]:
        """Deliver what is missing of the jobs, which have all ended, and stop.

        Args:
            timeout: longest wait, in seconds; the time that a store takes to be made is not counted.
            say: is told of a wait that `timeout` does not bound.

        Returns:
            Of each folder: what was delivered, and what to do about what was not.
        """
        ...


def open_tracker(name: str, uri: str | None, folders: Sequence[Path], output_dir: Path) -> Tracker:
    """Make the tracker `name` for jobs that run together.

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


def resolve_uri(uri: str | None, output_dir: Path) -> str:
    """The tracking URI in force: `uri`, else MLFLOW_TRACKING_URI, else SQLite in the output folder."""
    default = f"sqlite:///{(output_dir.absolute() / 'mlflow.db').as_posix()}"
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or default


def ui_command(uri: str) -> str:
    """The command that shows what is at `uri`, or the address of the server itself."""
    if uri.startswith("http"):
        return uri
    usual = resolve_uri(None, Path("outputs"))
    return "python -m rlexp.ui" if uri == usual else f"python -m rlexp.ui --tracking-uri {shlex.quote(uri)}"


def sync_command(folder: Path, uri: str | None = None) -> str:
    """The command that delivers a job, or all jobs of a folder, to `uri` where that is not the folder's default."""
    there = f" --tracking-uri {shlex.quote(uri)}" if uri is not None and uri != resolve_uri(None, folder) else ""
    return f"python -m rlexp.sync {shlex.quote(str(folder))}{there}"


def one_line(error: Exception) -> str:
    """The first line of an error's message, short enough for a terminal; all of it where it was written for people."""
    if isinstance(error, Unusable):
        return str(error)
    text = repr(error) if isinstance(error, KeyError) else str(error)
    lines = text.strip().splitlines() or [repr(error)]
    return lines[0][:160]
