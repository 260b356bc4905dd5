"""The convention of Gymnasium's toy-text environments: a transition table `P` over numbered states.

`P[s][a] = [(probability, s', reward, terminated), ...]`; an action that is absent from `P[s]` is impossible there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from rlexp.config.schema.env import EnvSettings
from rlexp.envs.action_mask import MaskedObservation
from rlexp.envs.making import make


def has_table(env: gym.Env) -> bool:
    """Whether an environment has a transition table `P` over numbered states that start at 0."""
    raw: Any = env.unwrapped
    space = raw.observation_space
    numbered = isinstance(space, gym.spaces.Discrete) and bool(space.start == 0)
    return hasattr(raw, "P") and numbered and isinstance(raw.action_space, gym.spaces.Discrete)


def is_table(env: gym.Env) -> bool:
    """Whether the table and the distribution of first states describe an environment completely."""
    raw: Any = env.unwrapped
    start = getattr(raw, "initial_state_distrib", None)
    if not has_table(env) or start is None or raw.action_space.start != 0:
        return False
    complete = all(len(outcomes) > 0 for s in range(len(start)) for outcomes in actions_of(raw.P, s).values())
    wrapped = raw.spec is not None and raw.spec.additional_wrappers  # which may change what the table says
    masks = not isinstance(env, MaskedObservation) or hasattr(raw, "action_mask")
    chance_beyond_table = getattr(raw, "fickle_passenger", False)  # of Taxi
    return complete and masks and not wrapped and not chance_beyond_table


def actions_of(P: Any, s: int) -> dict[int, Sequence[Any]]:
    """The possible actions of a state in a table `P` (a mapping or a sequence of states) and their outcomes."""
    actions = P[s].items() if isinstance(P[s], Mapping) else enumerate(P[s])
    return {int(a): outcomes for a, outcomes in actions if outcomes is not None}


class TableParts(NamedTuple):
    """What a tensor environment needs of an environment that `is_table`."""

    transitions: Any  # `P`
    initial: np.ndarray  # probabilities of the first states  # [S]
    num_actions: int
    drawn: bool  # whether a reset draws a number


def table_parts(settings: EnvSettings) -> TableParts:
    """The table of an environment that `is_table`."""
    env = make(settings)
    raw: Any = env.unwrapped
    env.reset(seed=0)
    untouched = gym.utils.seeding.np_random(0)[0].bit_generator.state
    drawn = raw.np_random.bit_generator.state != untouched
    env.close()
    return TableParts(raw.P, np.asarray(raw.initial_state_distrib, np.float64), int(raw.action_space.n), drawn)


def action_masks(settings: EnvSettings) -> np.ndarray | None:
    """The action mask of every state of an environment that `is_table`; None if it has none.  # [S, A] bool"""
    env = make(settings, tabular=True)
    raw: Any = env.unwrapped
    env.close()
    if not isinstance(env, MaskedObservation):
        return None
    return np.array([raw.action_mask(s) for s in range(raw.observation_space.n)], bool)
