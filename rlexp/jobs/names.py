"""Names of stored jobs within their study, as `rlexp.config.study_names` makes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlexp.config.study_names import algorithm_name, env_settings, flat, job_names
from rlexp.system.stored_files import check
from rlexp.system.stored_schemas import CONFIG
from rlexp.system.stored_yaml import read_config
from rlexp.system.text import printable_tree
from rlexp.system.words import as_json


def stored_configs(folders: Iterable[Path]) -> dict[Path, dict[str, Any]]:
    """The configurations of jobs, without those whose config.yaml is missing or damaged."""
    found = {}
    for folder in folders:
        try:
            config = printable_tree(read_config(folder))
            check(folder / "config.yaml", config, CONFIG, "algo", "env")
        except (ValueError, OSError):
            continue
        found[folder] = config
    return found


def stored_names(folders: Sequence[Path]) -> dict[Path, str]:
    """The name of each of a study's jobs; that of its folder where the configuration cannot be read.

    Args:
        folders: of all jobs of one study.
    """
    configs = stored_configs(folders)
    return {folder: folder.name for folder in folders} | dict(
        zip(configs, job_names(list(configs.values())), strict=True)
    )


def planned_names(planned: Sequence[Mapping[str, Any]], stored: Iterable[Mapping[str, Any]]) -> list[str]:
    """The name of each job that is going to run, beside the jobs that its study has already.

    Args:
        planned: their configurations.
        stored: the configurations of the study's other jobs. Equal ones are left out: the job has run before.
    """
    chosen = {config.get("engine") for config in planned}
    # `auto` stands in a plan, the engine that it has chosen in a folder.
    plain = [{**config, "engine": "auto"} if "auto" in chosen else dict(config) for config in [*planned, *stored]]
    known = {_identity(config) for config in plain[: len(planned)]}
    others = [config for config in plain[len(planned) :] if _identity(config) not in known]
    return job_names([*plain[: len(planned)], *others])[: len(planned)]


def _identity(config: Mapping[str, Any]) -> str:
    """Text that is equal for configurations of the same job."""
    seeds = config.get("seed"), config.get("trials")
    return as_json([algorithm_name(config), env_settings(config), flat(config), seeds])
