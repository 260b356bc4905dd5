"""`python -m rlexp.sync --rebuild DIR`: make MLflow's store anew from the folders of all jobs.

The folders hold everything that rlexp has ever delivered, so that a store which is damaged, or has another version of
MLflow's schema, can be replaced. The old one is renamed and stays. An interrupted rebuild is finished by the same
command without `--rebuild`, since what is delivered is not sent again.
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
from rlexp.tracking import store
from rlexp.tracking.base import SILENCE, one_line, resolve_uri, sync_command, ui_command


def rebuild(paths: Sequence[Path], uri: str | None) -> int:
    """Set the store of some output folders aside and deliver all their jobs and sweeps to a new one.

    Args:
        paths: output folders; of one store.
        uri: tracking URI of the store; None for the default of the first output folder.

    Returns:
        The exit status: 0 all delivered, 1 something not delivered.

    Raises:
        Refusal: where nothing was changed.
    """
    from rlexp.tracking.mlflow import delivery  # noqa: F401  (its settings come before MLflow's)

    target = resolve_uri(uri, paths[0])
    path = store.store_path(target)
    if path is None:
        raise refusal("--rebuild", "a store in an SQLite file", f"{target}, which is a server's to make")
    folders, elsewhere = _folders(paths, target, asked=uri is not None)
    try:
        with store.lock(target):  # no job can open the store from here on
            for folder in folders:
                _check_idle(folder)
            _check_ours(path)
            aside = store.renew(path)
    except Refusal:
        raise
    except Exception as error:  # no room, no permission
        raise refusal(
            "--rebuild", f"room for a new store at {path}", one_line(error), "Nothing was changed."
        ) from error
    if aside is not None:
        print(f"{path} is set aside as {aside.name}; what was added to it by hand (notes, registered models) is there.")
    delivered = _deliver(folders, target)
    for folder, own in elsewhere.items():
        print(f"{folder}: left out, its results are at {own}")
    if aside is not None:
        _compare(aside, path)
    print(f"See: {ui_command(target)}")
    if not delivered:
        print(f"This delivers the rest: {sync_command(paths[0], target)}", file=sys.stderr)
    return 0 if delivered else 1


def _folders(paths: Sequence[Path], target: str, asked: bool) -> tuple[list[Path], dict[Path, str]]:
    """The jobs and sweeps whose store it is, and the URIs of the others."""
    from rlexp.tracking.sync import NotNamed, find_jobs, find_sweeps, job_uri, place

    ours: dict[Path, None] = {}
    elsewhere: dict[Path, str] = {}
    for path in paths:
        found = [*find_jobs(path), *find_sweeps(path)]
        strange = [folder for folder in found if place(folder)[0] != path.absolute()]
        if strange:
            output_dir = place(strange[0])[0]
            raise refusal("PATH", "an output folder, whose store holds all its studies", f"{path}, which is in one",
                          f"python -m rlexp.sync --rebuild {shlex.quote(str(output_dir))}")  # fmt: skip
        for folder in found:
            try:
                own = target if asked else job_uri(folder, None)
            except NotNamed as error:
                own = error.asked
            except (OSError, ValueError, KeyError, TypeError, OmegaConfBaseException, yaml.YAMLError):
                own = target  # its delivery says what is wrong with it
            if own == target:
                ours[folder] = None
            else:
                elsewhere[folder] = own
    return list(ours), elsewhere


def _check_ours(path: Path) -> None:
    """Raise `Refusal` for a file that is no business of MLflow's; its version and its damages do not matter."""
    try:
        store.examine(path)
    except store.Foreign as error:
        raise refusal("--rebuild", "a store of MLflow", str(error)) from error
    except store.Unusable:
        return


def _check_idle(folder: Path) -> None:
    """Raise `Refusal` for a job or a sweep that somebody works on, or delivers."""
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
    """Deliver everything, a line for each folder; whether all has arrived."""
    from rlexp.tracking.sync import sync

    complete = True
    for number, folder in enumerate(folders, start=1):
        delivered, line = sync(folder, target)
        print(f"[{number}/{len(folders)}] {folder}: {line}", flush=True)
        complete &= delivered
    return complete


def _compare(old: Path, new: Path) -> None:
    """Say how many jobs of the old store have no folder any more."""
    try:
        left = _job_runs(old) - _job_runs(new)
    except sqlite3.Error:  # it was set aside for that
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


def main(paths: Sequence[Path], uri: str | None) -> int:
    """`rebuild` as a command: a refusal is two lines and exit status 2."""
    try:
        return rebuild(paths, uri)
    except Refusal as refused:
        print(f"refused: {refused}", file=sys.stderr)
        return 2
