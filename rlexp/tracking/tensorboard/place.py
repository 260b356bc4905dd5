"""Where the event files of a study's jobs are, and what they are called.

    <output_dir>/<study>/tensorboard/
        dqn lr=0.0001/               a job, by its name in the study
            delivered.json           the receipt: whose files these are, and what they hold
            iqm/                     run: the job's curves, interquartile means over its trials
            seed_3/                  run: one trial's curves
            final/                   run: the job's final scores and its hyper-parameters

A job's place is called like its folder first. Its name in the study depends on the study's other jobs, so places are
renamed once jobs have ended (`settle`). A place knows its job by its receipt, which moves with it.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rlexp.config.study_names import job_names
from rlexp.data.checkpoint import write_json
from rlexp.system import stored_files
from rlexp.system.links import LinkFound, check_folder, owned
from rlexp.system.stored_files import find_json
from rlexp.system.stored_schemas import CONFIG, COUNT, FLAG, NOTE, TEXT, Kind, Schema, mapping_of, maybe
from rlexp.system.stored_yaml import read_config
from rlexp.tracking.folders import find_jobs

ROOT = "tensorboard"
RECEIPT = "delivered.json"
LONGEST = 120  # characters of a name, whose bytes fit into a file name
SIZES = Kind("a mapping of sizes", mapping_of(COUNT).fits)
SCHEMA = Schema(job=TEXT, content=TEXT, status=maybe(NOTE), hyperparameters=FLAG, files=mapping_of(SIZES))


def root(study: Path) -> Path:
    """The folder that TensorBoard is shown."""
    return study / ROOT


def ui_command(study: Path) -> str:
    """The command that shows a study."""
    return f"tensorboard --logdir {shlex.quote(str(root(study)))}"


def sync_command(path: Path) -> str:
    """The command that writes the event files of a job or a study."""
    return f"rlexp sync --to tensorboard {shlex.quote(str(path))}"


def lock(folder: Path) -> FileLock:
    """The lock of the one process that writes the event files of a job."""
    return FileLock(folder / ".tensorboard.lock")


def find(folder: Path) -> Path:
    """The place of a job's event files, which need not exist yet."""
    usual = root(folder.parent) / folder.name
    owner = _job_of(usual)
    if owner == folder.name:
        return usual
    free = usual if owner is None else usual.with_name(f"{folder.name}.events")  # another job has that name
    return next((place for place, job in _places(folder.parent) if job == folder.name), free)


def check(place: Path) -> None:
    """Raise `LinkFound` for a place that is a link or holds one, so that nothing is written elsewhere."""
    study = place.parents[1]
    if not owned(place, study):
        raise LinkFound(f"{place}: expected a folder of its own, received a symbolic link.")
    check_folder(place)


def read_receipt(place: Path) -> dict[str, Any] | None:
    """The receipt of a place; None if there is none, or it is damaged."""
    try:
        return find_json(place / RECEIPT, SCHEMA, "job", "content", "files")
    except (OSError, ValueError):
        return None


def write_receipt(place: Path, receipt: Mapping[str, Any]) -> None:
    """Write the receipt of a place, atomically."""
    write_json(place / RECEIPT, dict(receipt))


def settle(study: Path) -> None:
    """Call the places of jobs that nobody writes by the names that the jobs have in their study now.

    Raises:
        OSError: if a folder cannot be renamed.
    """
    jobs = _configs(study)
    found = {job: place for place, job in _places(study)}
    places = {folder: found[folder.name] for folder in jobs if folder.name in found}
    names = [_as_folder(name) for name in job_names(list(jobs.values()))]
    number = Counter(name.casefold() for name in names)
    wanted = {
        folder: root(study) / (name if number[name.casefold()] == 1 and name else folder.name)
        for folder, name in zip(jobs, names, strict=True)
    }
    for folder in places:  # by their folders first, so that names are free for others
        if places[folder] not in (wanted[folder], root(study) / folder.name):
            places[folder] = _renamed(folder, places[folder], root(study) / folder.name)
    for folder in places:
        places[folder] = _renamed(folder, places[folder], wanted[folder])


def _renamed(folder: Path, place: Path, target: Path) -> Path:
    """The place of a job, called `target` now, unless that name is taken or a process writes there."""
    if place == target or target.exists():
        return place
    try:
        with lock(folder).acquire(timeout=0):
            return place.rename(target)
    except Timeout:
        return place


def _places(study: Path) -> Iterator[tuple[Path, str]]:
    """All places of a study, and the names of their jobs' folders."""
    if root(study).is_symlink():
        return
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for place in sorted(root(study).iterdir()):
            if (job := _job_of(place)) is not None:
                yield place, job


def _job_of(place: Path) -> str | None:
    receipt = None if place.is_symlink() else read_receipt(place)
    return None if receipt is None else receipt["job"]


def config_of(folder: Path) -> dict[str, Any]:
    """The configuration of a job; raises `ValueError` if it is not what rlexp writes."""
    config = read_config(folder)
    stored_files.check(folder / "config.yaml", config, CONFIG)
    return config


def _configs(study: Path) -> dict[Path, dict[str, Any]]:
    """The configurations of a study's jobs, but for those that cannot be read, which their own delivery reports."""
    found = {}
    for folder in find_jobs(study):
        with contextlib.suppress(ValueError):
            found[folder] = config_of(folder)
    return found


def _as_folder(name: str) -> str:
    """A job's name as that of a folder on any system; empty if nothing of it is left."""
    return re.sub(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|]', "-", name)[:LONGEST].strip(" .")
