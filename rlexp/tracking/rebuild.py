"""Replacing MLflow's store by a new one with everything that is in the jobs' folders: `rlexp sync --rebuild DIR`.

The folders hold everything that rlexp has ever delivered, so a store that is damaged, or has the schema of another
version of MLflow, can be replaced. The old store is renamed and stays. After an interruption, the same command without
`--rebuild` finishes the work: what was delivered is not sent again.
"""

from __future__ import annotations

import contextlib
import shlex
import sqlite3
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import yaml
from filelock import FileLock, Timeout
from omegaconf.errors import OmegaConfBaseException

from rlexp.system.errors import Refusal, refusal
from rlexp.system.folder_lock import in_use, lock_holder, owner_elsewhere
from rlexp.tracking import store_file
from rlexp.tracking.addresses import resolve_uri, sync_command, ui_command
from rlexp.tracking.base import SILENCE
from rlexp.tracking.folders import NotNamed, find_jobs, find_sweeps, job_uri, place
from rlexp.tracking.log import one_line
from rlexp.tracking.sync import sync


def rebuild(paths: Sequence[Path], uri: str | None) -> int:
    """Replace the store of some output folders by a new one, and deliver all their jobs and sweeps to it.

    Args:
        paths: output folders that share a store.
        uri: tracking URI of the store; None for the default of the first output folder.

    Returns:
        The exit status: 0 all delivered, 1 something not delivered.

    Raises:
        Refusal: before anything was changed.
    """
    target = resolve_uri(uri, paths[0])
    path = store_file.store_path(target)
    if path is None:
        raise refusal("--rebuild", "a store in an SQLite file", f"{target}, which is a server's to make")
    folders, elsewhere = _folders(paths, target, asked=uri is not None)
    aside = _replace_store(path, target, folders)
    if aside is not None:
        print(f"{path} was set aside as {aside.name}, with what was added to it by hand (notes, registered models).")
    delivered = _deliver(folders, target)
    for folder, own in elsewhere.items():
        print(f"{folder}: left out, its results are at {own}")
    if aside is not None:
        _report_lost_jobs(aside, path)
    print(f"See: {ui_command(target)}")
    if not delivered:
        print(f"This delivers the rest: {sync_command(paths[0], target)}", file=sys.stderr)
    return 0 if delivered else 1


def _folders(paths: Sequence[Path], target: str, asked: bool) -> tuple[list[Path], dict[Path, str]]:
    """The jobs and sweeps whose store is `target`, and the URIs of the others."""
    ours: dict[Path, None] = {}
    elsewhere: dict[Path, str] = {}
    for path in paths:
        found = [*find_jobs(path), *find_sweeps(path)]
        strange = [folder for folder in found if place(folder)[0] != path.absolute()]
        if strange:
            output_dir = place(strange[0])[0]
            raise refusal("PATH", "an output folder, whose store holds all its studies", f"{path}, which is in one",
                          f"rlexp sync --rebuild {shlex.quote(str(output_dir))}")  # fmt: skip
        for folder in found:
            own = target if asked else _own_uri(folder, target)
            if own == target:
                ours[folder] = None
            else:
                elsewhere[folder] = own
    return list(ours), elsewhere


def _own_uri(folder: Path, default: str) -> str:
    try:
        return job_uri(folder, None)
    except NotNamed as error:
        return error.asked
    except (OSError, ValueError, KeyError, TypeError, OmegaConfBaseException, yaml.YAMLError):
        return default  # its delivery says what is wrong with it


def _replace_store(path: Path, target: str, folders: Sequence[Path]) -> Path | None:
    """Replace the store by an empty one; returns the new path of the old one, if there was one."""
    from rlexp.tracking.mlflow import store

    try:
        with store_file.lock(target):  # no job can open the store from here on
            for folder in folders:
                _check_idle(folder)
            with contextlib.suppress(store_file.Unusable):  # of another version, which does not matter here
                _check_ours(path)
            return store.replace(path)
    except Refusal:
        raise
    except Exception as error:  # no space, no permission
        raise refusal(
            "--rebuild", f"room for a new store at {path}", one_line(error), "Nothing was changed."
        ) from error


def _check_ours(path: Path) -> None:
    """Raise `Refusal` for a file that is not MLflow's; a damaged store is."""
    from rlexp.tracking.mlflow import store

    try:
        store.examine(path)
    except store_file.Foreign as error:
        raise refusal("--rebuild", "a store of MLflow", str(error)) from error


def _check_idle(folder: Path) -> None:
    """Raise `Refusal` for a job or a sweep on which a process works, or which is being delivered."""
    alive = in_use(folder)
    if not alive and owner_elsewhere(folder):  # this machine cannot see its lock
        records = folder / "metrics.jsonl"
        alive = records.is_file() and time.time() - records.stat().st_mtime < SILENCE
    if alive:
        raise refusal("--rebuild", "no job that runs", f"{folder}, where {lock_holder(folder)}", "Wait for it.")
    try:
        if (folder / ".tracking.lock").exists():
            with contextlib.suppress(PermissionError), FileLock(folder / ".tracking.lock", timeout=0):
                pass
    except Timeout as error:
        raise refusal("--rebuild", "no job that is being delivered", str(folder), "Wait for it.") from error


def _deliver(folders: Sequence[Path], target: str) -> bool:
    """Deliver all folders, with a line for each; returns whether MLflow has everything."""
    complete = True
    for number, folder in enumerate(folders, start=1):
        delivered, line = sync(folder, target)
        print(f"[{number}/{len(folders)}] {folder}: {line}", flush=True)
        complete &= delivered
    return complete


def _report_lost_jobs(old: Path, new: Path) -> None:
    """Print how many jobs of the old store no longer have a folder."""
    try:
        left = _job_runs(old) - _job_runs(new)
    except sqlite3.Error:  # the old store is damaged
        return
    if left:
        print(f"{len(left)} jobs and sweeps of the old store have no folder here: they are only in {old.name}.")


def _job_runs(path: Path) -> set[str]:
    """The local ids of the jobs and sweeps in a store."""
    query = (
        "SELECT a.value FROM tags a JOIN tags b ON a.run_uuid = b.run_uuid "
        "WHERE a.key = 'rlexp.local_id' AND b.key = 'rlexp.kind' AND b.value IN ('job', 'sweep')"
    )
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return {value for (value,) in connection.execute(query)}
