"""What the runner sees of a tracker, and the names of the trackers.

A tracker follows the job's folder: `metrics.jsonl` and the files beside it are the source of truth, so that
no tracker can lose a value or hold up training. Importing this module imports no tracker.
"""

from __future__ import annotations

import os
import pkgutil
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rlexp.system import places
from rlexp.system.errors import refusal
from rlexp.system.text import MASK, USER_INFO_HINT, clean, mask, user_info
from rlexp.tracking import store
from rlexp.tracking.store import Unusable

TRACKERS = {
    "files": "rlexp.tracking.files:FilesTracker",
    "mlflow": "rlexp.tracking.follower:MLflowTracker",
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
    """The tracking URI in force: `uri`, else MLFLOW_TRACKING_URI, else SQLite in the output folder.

    A database's may hold a password, which MLflow needs: it is not to be written or printed but through `mask`.

    Raises:
        Refusal: for an address of a server with a user's name or password in it.
    """
    default = f"sqlite:///{(output_dir.absolute() / 'mlflow.db').as_posix()}"
    named = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if named and user_info(named):
        where = "tracking URI" if uri else "MLFLOW_TRACKING_URI"
        raise refusal(where, "an address without a user's name or password", named, USER_INFO_HINT)
    scheme = re.match(r"([a-z][a-z0-9.-]*)(?:\+\w+)?:", named or "", re.IGNORECASE)
    if scheme and scheme[1].lower() not in SCHEMES:
        where = "--tracking-uri" if uri else "MLFLOW_TRACKING_URI"
        raise refusal(where, "sqlite:///<file>, postgresql://..., or http(s)://<server>", mask(named or ""))
    path = store.store_path(named or "")
    if path is not None and (why := places.why_not(path.parent)):
        raise refusal("tracking URI", "a file in a folder that can be made", why)
    return named or default


SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "file")  # of MLflow's stores


def local_store(uri: str, output_dir: Path) -> bool:
    """Whether `uri` is a store of files inside an output folder: what is sent there goes nowhere else."""
    scheme, _, path = uri.partition(":")
    if scheme not in ("sqlite", "file") or not path.startswith("/") or any(sign in path for sign in "?#%\0"):
        return False
    if scheme == "sqlite":
        if not path.startswith("///"):
            return False
        path = path.removeprefix("///")
    elif path.startswith("//"):
        if not path.startswith("///"):
            return False  # on another machine
        path = path.removeprefix("//")
    try:
        return Path(path).resolve().is_relative_to(output_dir.resolve())
    except (OSError, RuntimeError, ValueError):
        return False


def sync_command(path: Path, uri: str | None = None, output_dir: Path | None = None) -> str:
    """What delivers a folder to `uri`, which it names where `rlexp.sync` would not send there by itself.

    Args:
        path: a job's folder, or one of several jobs.
        uri: None: the default.
        output_dir: the output folder; by default `path` is one.
    """
    command = f"python -m rlexp.sync {shlex.quote(str(path))}"
    if uri is None or uri == os.environ.get("MLFLOW_TRACKING_URI") or local_store(uri, output_dir or path):
        return command
    hidden = mask(uri)
    return f"{command} --tracking-uri {shlex.quote(hidden)}" + (f"   ({PUT_IN})" if hidden != uri else "")


PUT_IN = f"with the password in place of {MASK}, or all of it in MLFLOW_TRACKING_URI"


def ui_command(uri: str) -> str:
    """The command that shows what is at `uri`, or the address of the server itself; passwords are masked."""
    if uri.startswith("http"):
        return mask(uri)
    usual = resolve_uri(None, Path("outputs"))
    return "python -m rlexp.ui" if uri == usual else f"python -m rlexp.ui --tracking-uri {shlex.quote(mask(uri))}"


def one_line(error: Exception) -> str:
    """The first line of an error's message, short enough for a terminal; all of it where it was written for people."""
    if isinstance(error, Unusable):
        return clean(error)
    text = repr(error) if isinstance(error, KeyError) else str(error)
    lines = text.strip().splitlines() or [repr(error)]
    return clean(lines[0])[:160]
