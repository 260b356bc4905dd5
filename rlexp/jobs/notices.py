"""What is said once per command, however many jobs, trials and processes it has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rlexp.config.schema.job import Settings

if TYPE_CHECKING:
    from rlexp.envs.info import EnvInfo


def no_time_limit(settings: Settings, info: EnvInfo, sweep: Path | None) -> str | None:
    """What is cut where an environment declares no limit of an episode; None where it does, or where it has been said.

    Args:
        settings: a job.
        info: of its environment.
        sweep: folder of the sweep that the job belongs to, whose other jobs may run in other processes.
    """
    if info.max_episode_steps is not None or not _first(settings, sweep):
        return None
    most = f"{settings.evaluation.max_steps:,} steps (evaluation.max_steps)"
    return (
        f"{settings.env.id} declares no time limit: evaluation episodes that have not ended by themselves are cut at "
        f"{most}, with their return so far; training episodes are not cut. env.max_episode_steps=500 limits both"
    )


def _first(settings: Settings, sweep: Path | None) -> bool:
    """Whether this is the first job of its sweep that asks for this environment."""
    if sweep is None:
        return True
    mark = sweep / "jobs" / f"no_time_limit-{settings.env.name}"
    mark.parent.mkdir(parents=True, exist_ok=True)
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
