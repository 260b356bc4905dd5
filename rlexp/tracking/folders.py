"""The folders that are delivered: finding them, the store that each goes to, and how each ended."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from filelock import FileLock

from rlexp.system.stored_files import find_json, folders_with, read_json
from rlexp.system.stored_schemas import SUMMARY, SWEEP, TRACKING
from rlexp.system.stored_yaml import read_config, select
from rlexp.system.text import clean, same_address
from rlexp.tracking.addresses import local_store, resolve_uri


class NotNamed(ValueError):
    """A folder asks to be delivered to a place that its reader has not named.

    Attributes:
        asked: the tracking URI.
    """

    def __init__(self, asked: str) -> None:
        super().__init__(
            f"not sent: its folder asks for {clean(asked, newlines=False)}, which this command does not name"
        )
        self.asked = asked


def find_jobs(path: Path) -> list[Path]:
    """The job folders at `path`, sorted: itself, those of a study, or those of an output folder's studies."""
    return folders_with(path, "job.json", "*", "*/*")


def find_sweeps(path: Path) -> list[Path]:
    """The sweep folders at `path`, sorted: itself, those of a study, or those of an output folder's studies."""
    return folders_with(path, "sweep.json", "sweeps/*", "*/sweeps/*")


def is_sweep(folder: Path) -> bool:
    """Whether a folder is a sweep's, and not a job's."""
    return os.path.lexists(folder / "sweep.json")


def place(folder: Path) -> tuple[Path, str]:
    """The output folder and the study of a job's or a sweep's folder."""
    study = folder.absolute().parents[1 if is_sweep(folder) else 0]
    return study.parent, study.name


def asked_trackers(folder: Path) -> list[Any]:
    """The trackers that a job's folder names; earlier versions wrote one name, not a list.

    Raises:
        ValueError: if its configuration cannot be read.
    """
    names = select(read_config(folder), "tracking", "name")
    return names if isinstance(names, list) else [names]


def asked_uri(folder: Path) -> str | None:
    """The tracking URI that a folder asks for, with a password masked; None if it names none.

    Raises:
        ValueError: if it is no text; OSError, KeyError and the like for files that cannot be read.
    """
    if is_sweep(folder):
        own = read_json(folder / "sweep.json", SWEEP, "tracking_uri")["tracking_uri"]
    else:
        own = select(read_config(folder), "tracking", "uri")
    if own is not None and not isinstance(own, str):
        raise ValueError(f"expected a text as tracking.uri in {folder}, received {own!r}")
    return own or None


def job_uri(folder: Path, uri: str | None) -> str:
    """The store to which a job or a sweep is delivered: `uri`, else its own one in the output folder, else the default.

    A folder is data, perhaps somebody else's: it does not choose the server to which its reader sends.

    Raises:
        NotNamed: if it asks for a store that its reader has named neither by `uri` nor by MLFLOW_TRACKING_URI.
    """
    output_dir = place(folder)[0]
    asked = None if uri else asked_uri(folder)
    named = os.environ.get("MLFLOW_TRACKING_URI")
    if asked is None:
        chosen = resolve_uri(uri, output_dir)
        if uri or named or (output_dir / "mlflow.db").resolve().is_relative_to(output_dir.resolve()):
            return chosen
        raise NotNamed(chosen)  # its store is a link to another one
    if named and same_address(asked, named):
        return resolve_uri(None, output_dir)
    if local_store(asked, output_dir):
        return asked
    raise NotNamed(asked)


def find_experiment(folder: Path) -> str | None:
    """The id of a study's experiment in MLflow, from the receipt of a job or a sweep; None if it is not known."""
    receipt = find_json(folder / "tracking.json", TRACKING)
    experiment_id = receipt.get("experiment_id") if receipt is not None else None
    return experiment_id if experiment_id and experiment_id.isdecimal() else None


def final_status(folder: Path) -> str:
    """How a job or a sweep ended according to its files; "killed" if it did not report an end."""
    if is_sweep(folder):
        status: str = read_json(folder / "sweep.json", SWEEP, "status")["status"]
        return "killed" if status == "running" else status
    summary = find_json(folder / "summary.json", SUMMARY, "status")
    return summary["status"] if summary is not None else "killed"


def delivery_lock(folder: Path) -> FileLock:
    """The lock of the one process that delivers this folder."""
    return FileLock(folder / ".tracking.lock")
