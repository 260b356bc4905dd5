"""Exact expected returns of policies, for environments that are described by their transition table.

Axes: N trials, S states.
"""

from __future__ import annotations

from collections.abc import Callable

import gymnasium as gym
import numpy as np

from rlexp.config.schema.job import Settings
from rlexp.envs import making, toy_text, transition_table
from rlexp.envs.action_mask import MaskedObservation
from rlexp.envs.category_numbers import NumberedObservation
from rlexp.envs.info import EnvInfo
from rlexp.envs.space_check import SpaceCheck

HARMLESS = (  # wrappers that change neither states, rewards nor ends, except for the time limit (see `horizon`)
    gym.wrappers.PassiveEnvChecker,
    gym.wrappers.OrderEnforcing,
    gym.wrappers.TimeLimit,
    gym.wrappers.FlattenObservation,
    NumberedObservation,
    MaskedObservation,
    SpaceCheck,
)


def horizon(settings: Settings, info: EnvInfo) -> int:
    """The largest number of env steps in an evaluation episode."""
    limit, cut = info.max_episode_steps, settings.evaluation.max_steps
    return min(limit or cut, cut)


def returns(
    settings: Settings, info: EnvInfo, act: Callable[[np.ndarray], np.ndarray], num_trials: int
) -> tuple[np.ndarray, float] | None:
    """The expected undiscounted return of each trial's policy within the time limit, and that of the best policy.

    Args:
        settings, info: of the job.
        act: observations [N, E, *shape] -> actions [N, E], of a deterministic policy.
        num_trials: N.

    Returns:
        The returns of the policies [N] and of the best policy; NaN for a policy that may choose an impossible action.
        None if the table does not describe the environment completely, or if agents observe more than its states.
    """
    if not info.is_table or not _plain(settings):
        return None
    table = transition_table.load(settings.env)
    if table is None or table.start is None:
        return None
    steps = horizon(settings, info)
    best = table.optimal_return(steps)
    assert best is not None
    observations = _every_state(settings, info, len(table.reward))
    width = min(settings.evaluation.num_episodes, settings.evaluation.final_episodes)  # as programs are compiled for
    actions = np.zeros((num_trials, len(observations)), np.int64)  # [N, S]
    for first in range(0, len(observations), width):
        rows = (first + np.arange(width)) % len(observations)
        batch = np.repeat(observations[rows][None], num_trials, axis=0)  # [N, E, *shape]
        actions[:, rows] = act(batch)
    found = {row.tobytes(): table.policy_return(row, steps) for row in actions}  # trials often find the same policy
    return np.array([found[row.tobytes()] for row in actions], np.float64), best


def _plain(settings: Settings) -> bool:
    """Whether all wrappers between the table and the agent are harmless."""
    if settings.env.frame_stack > 1:
        return False
    env = made = making.make(settings.env)
    plain = True
    while isinstance(env, gym.Wrapper):
        plain, env = plain and type(env) in HARMLESS, env.env
    made.close()
    return plain


def _every_state(settings: Settings, info: EnvInfo, num_states: int) -> np.ndarray:
    """The agent's observation of each state.  # [S, *shape]"""
    if not info.tabular:
        return np.eye(num_states, dtype=np.float32)  # as Gymnasium flattens a category
    states = np.arange(num_states)
    masks = toy_text.action_masks(settings.env) if info.masked else None
    return states if masks is None else np.concatenate([states[:, None], masks], axis=1)
