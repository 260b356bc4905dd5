"""Notices that a command prints once, for any number of jobs, trials and processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rlexp.config.schema.job import Settings

if TYPE_CHECKING:
    from rlexp.envs.info import EnvInfo


def no_time_limit(settings: Settings, info: EnvInfo, sweep: Path | None) -> str | None:
    """The notice that an environment declares no time limit; None if it declares one, or after the first notice.

    Args:
        settings: a job.
        info: of its environment.
        sweep: folder of the job's sweep, whose other jobs may run in other processes.
    """
    if info.max_episode_steps is not None or not _is_first(settings, sweep):
        return None
    most = f"{settings.evaluation.max_steps:,} steps (evaluation.max_steps)"
    return (
        f"{settings.env.id} declares no time limit: evaluation episodes that have not ended by themselves are cut at "
        f"{most}, with their return so far; training episodes are not cut. env.max_episode_steps=500 limits both"
    )


def _is_first(settings: Settings, sweep: Path | None) -> bool:
    """Whether this is the first job of its sweep with this environment."""
    if sweep is None:
        return True
    mark = sweep / "jobs" / f"no_time_limit-{settings.env.name}"
    mark.parent.mkdir(parents=True, exist_ok=True)
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
