"""What the host loops and the fused ones must agree on, once, for arrays of NumPy and tensors of TensorFlow alike.

`xp` is the array namespace, `numpy` or `tensorflow`; where there is none, operators do.

Axes: N trials (lanes in a program).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlexp.config.schema.algos import PGSettings, ReplaySettings

Array = Any  # of the namespace
Counts = Mapping[str, Array]  # "step", "episode" and "update" of each trial: [N] integers


def learning_due(config: ReplaySettings, now: Counts, before: Counts, active: Array) -> Array:
    """Trials in which a learning phase is due with this step: a period has ended with it, after `learn_start`.

    Args:
        config: the algorithm's settings.
        now, before: counts after the step and before it.
        active: trials that still train.  # [N] bool

    Returns:
        Which of those are due.  # [N] bool
    """
    unit, period = config.learn_unit, config.learn_period
    crossed = now[unit] // period > before[unit] // period
    return active & crossed & (now[unit] > config.learn_start)


def target_due(config: ReplaySettings, counts: Counts, copied: Array, learning: Array, xp: Any) -> tuple[Array, Array]:
    """Trials whose hard target is renewed after this update: a period has ended since the last time.

    Args:
        config: the algorithm's settings.
        counts: this update included.
        copied: target periods that have ended in a copy.  # [N]
        learning: trials that make this update.  # [N] bool

    Returns:
        Which are due, and `copied` after it.  # [N] bool, [N]
    """
    periods = counts[config.target_unit] // config.target_period
    due = learning & (periods > copied)
    return due, xp.where(due, periods, copied)


def clipped_reward(config: ReplaySettings, r_t: Array, xp: Any) -> Array:
    """Rewards as they are learned from; NaN stays NaN.  # [N]"""
    clip = config.reward_clip
    return r_t if clip is None else xp.where(r_t > clip, clip, xp.where(r_t < -clip, -clip, r_t))


def ends(config: ReplaySettings, terminated: Array, truncated: Array) -> Array:
    """Steps after which nothing is to be had, in learning.  # [N] bool"""
    return terminated | truncated if config.truncation == "terminate" else terminated


def batch_complete(config: PGSettings, num_steps: Array, num_episodes: Array) -> Array:
    """Trials that hold a whole batch.

    Args:
        config: the algorithm's settings.
        num_steps: steps that they hold of each of their environments.  # [N]
        num_episodes: ended episodes that they hold, of all.  # [N]

    Returns:
        # [N] bool
    """
    if config.batch_unit == "episode":
        return num_episodes >= config.batch_size
    return num_steps >= config.batch_size // config.num_envs


def complete_together(config: PGSettings) -> bool:
    """Whether all trials that train complete their batches with the same lock-step."""
    return config.batch_unit == "step"


def learned_reward(config: PGSettings, r_t: Array, truncated: Array) -> Array:
    """Rewards as policy gradients learn from them: scaled, less the penalty of a truncated episode.  # [...]"""
    return config.reward_scale * (r_t - config.truncation_penalty * truncated)
