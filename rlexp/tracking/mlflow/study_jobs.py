"""The jobs in a study's folder: their configurations, and the names that they have beside one another."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from rlexp.config.study_names import job_names
from rlexp.system.stored_files import check, folders_with, read_json
from rlexp.system.stored_schemas import CONFIG, JOB
from rlexp.system.stored_yaml import read_config
from rlexp.system.text import clean, mask_tree

MAX_NAME = 200  # characters of a job's name; MLflow permits 250, and a trial's name adds its seed

Stamp = tuple[tuple[int, int], ...]  # of files: time of the last change in nanoseconds, size

_configs: dict[Path, tuple[Stamp, float, dict[str, Any]]] = {}  # job folder -> stamp, time of the start, configuration
_names: dict[Path, tuple[tuple[tuple[Path, Stamp], ...], dict[str, str]]] = {}  # study -> its jobs, their names


def configs(study: Path) -> dict[str, dict[str, Any]]:
    """The configurations in a study's folder by the names of the job folders, oldest job first; secrets are masked.

    Jobs that cannot be read are left out: their own delivery reports them. Files that this process has read are read
    again only if they have changed.
    """
    found = []
    for folder in folders_with(study, "job.json", "*"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            stamp = _stamp(folder)
            if folder not in _configs or _configs[folder][0] != stamp:
                config = mask_tree(read_config(folder))
                check(folder / "config.yaml", config, CONFIG, "algo")
                _configs[folder] = stamp, read_json(folder / "job.json", JOB, "started")["started"], config
            found.append((_configs[folder][1], folder))
    return {folder.name: _configs[folder][2] for _, folder in sorted(found)}


def names(study: Path) -> dict[str, str]:
    """The names of a study's jobs by the names of their folders: those of `rlexp.config.study_names`, on one line."""
    known = configs(study)
    listed = tuple((study / folder, _configs[study / folder][0]) for folder in known)
    if study not in _names or _names[study][0] != listed:
        shown = [clean(name, newlines=False)[:MAX_NAME] for name in job_names(list(known.values()))]
        _names[study] = listed, dict(zip(known, shown, strict=True))
    return _names[study][1]


def trial_name(job: str, seed: int | str) -> str:
    """The name of a trial's run."""
    return f"{job} seed {seed}"


def _stamp(folder: Path) -> Stamp:
    stats = [(folder / name).stat() for name in ("job.json", "config.yaml")]
    return tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)
