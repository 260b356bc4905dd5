"""What policies are worth exactly, where the environment is a table: their expected returns, without any luck.

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

HARMLESS = (  # wrappers that change neither states, rewards nor ends, but for the time limit, which is counted here
    gym.wrappers.PassiveEnvChecker,
    gym.wrappers.OrderEnforcing,
    gym.wrappers.TimeLimit,
    gym.wrappers.FlattenObservation,
    NumberedObservation,
    MaskedObservation,
    SpaceCheck,
)


def horizon(settings: Settings, info: EnvInfo) -> int:
    """As many env steps as an evaluation episode may take."""
    limit, cut = info.max_episode_steps, settings.evaluation.max_steps
    return min(limit or cut, cut)


def returns(
    settings: Settings, info: EnvInfo, act: Callable[[np.ndarray], np.ndarray], num_trials: int
) -> tuple[np.ndarray, float] | None:
    """The expected undiscounted return of each trial's policy within the time limit, and that of the best policy.

    Args:
        settings, info: of the job.
        act: observations [N, E, *shape] -> actions [N, E], of a policy that draws no numbers.
        num_trials: N.

    Returns:
        The policies' [N] and the best one's; NaN for a policy that may choose an action which does not exist. None
        where the environment has more than its table, or observations are more than its states.
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
    found = {row.tobytes(): table.policy_return(row, steps) for row in actions}  # many trials find the same policy
    return np.array([found[row.tobytes()] for row in actions], np.float64), best


def _plain(settings: Settings) -> bool:
    """Whether nothing stands between the table and the agent but what is known to change nothing."""
    if settings.env.frame_stack > 1:
        return False
    env = made = making.make(settings.env)
    plain = True
    while isinstance(env, gym.Wrapper):
        plain, env = plain and type(env) in HARMLESS, env.env
    made.close()
    return plain


def _every_state(settings: Settings, info: EnvInfo, num_states: int) -> np.ndarray:
    """The observation of each state, as the agent sees it.  # [S, *shape]"""
    if not info.tabular:
        return np.eye(num_states, dtype=np.float32)  # as Gymnasium flattens a category
    states = np.arange(num_states)
    masks = toy_text.action_masks(settings.env) if info.masked else None
    return states if masks is None else np.concatenate([states[:, None], masks], axis=1)
