"""Animations with the distribution of returns of each action, drawn for the best trials of a study's contenders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rlexp.config import registry
from rlexp.config.schema.algos import DistributionalSettings
from rlexp.data import checkpoint
from rlexp.jobs.stored_models import reason
from rlexp.report.contenders import Contender, Task
from rlexp.system import words
from rlexp.system.errors import Refusal, refusal
from rlexp.system.links import check_folder
from rlexp.system.tool import warn

RETURNS = "distribution.gif"  # in a job's folder, beside animation.gif


def draw_missing(tasks: Sequence[Task]) -> None:
    """Write the animation of each distributional contender that has none, into the folder of its best job.

    What cannot be drawn is a warning: the report does without it.

    Args:
        tasks: the environments.

    Raises:
        Refusal: if no contender's algorithm learns the distribution of returns.
    """
    every = [c for task in tasks for c in task.contenders if not c.is_foreign]
    found = [c for c in every if _is_distributional(c)]
    if not found:
        known = ", ".join(registry.distributional())
        raise refusal(
            "--distributions",
            f"a study with an algorithm that learns the distribution of returns ({known})",
            words.names(sorted({c.algo for c in every})) or "none of rlexp's own jobs",
        )
    for c in found:
        path = c.best_job.folder / RETURNS
        if c.finished and not os.path.lexists(path):
            try:
                _draw(path)
            except Exception as error:  # an environment may raise anything
                warn(f"{path.parent}: no distribution of returns: {reason(error)}")


def _is_distributional(c: Contender) -> bool:
    try:
        return issubclass(registry.algo(c.algo).schema, DistributionalSettings)
    except Refusal:  # not installed here
        return False


def _draw(path: Path) -> None:
    from rlexp.jobs.policy import load_policy  # these import TensorFlow
    from rlexp.jobs.return_animation import animate_returns

    policy = load_policy(path.parent)
    settings, beside = policy.settings, path.with_name(checkpoint.BESIDE + path.name)
    check_folder(path.parent)
    beside.unlink(missing_ok=True)  # whatever it is, nothing is written through it
    try:
        animate_returns(policy, settings.evaluation.final_seed, beside, settings.animation.max_steps)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
