"""From Gymnasium's spaces to specs: the one place where a space becomes data."""

from __future__ import annotations

import math
from dataclasses import replace

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlexp.envs.spec import Box, Discrete, Limits, MultiDiscrete, Spec


def from_space(space: gym.Space, dtype: str | None = None) -> Spec | None:
    """The spec of a Gymnasium space.

    Args:
        space: Discrete, MultiDiscrete or Box.
        dtype: of the arrays that will hold its numbers; default: int32 for whole numbers, its own for a Box.

    Returns:
        The spec, or None for a space of another type.
    """
    if isinstance(space, spaces.Discrete):
        return Discrete(int(space.n), int(space.start), dtype or Discrete.dtype)
    if isinstance(space, spaces.MultiDiscrete):
        sizes, starts = (tuple(map(int, numbers.ravel())) for numbers in (space.nvec, space.start))
        own, shape = np.dtype(space.dtype).name, tuple(map(int, space.shape))
        return MultiDiscrete(sizes, shape, starts if any(starts) else None, dtype or MultiDiscrete.dtype, own)
    if isinstance(space, spaces.Box):
        low, high = _limits(space.low), _limits(space.high)
        return Box(tuple(map(int, space.shape)), dtype or np.dtype(space.dtype).name, low, high)
    return None


def from_action_space(space: gym.Space) -> Spec | None:
    """The spec of an action space: floats are kept as float32, whatever the environment takes."""
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        spec, own = from_space(space, "float32"), np.dtype(space.dtype).name
        return spec if own == "float32" or not isinstance(spec, Box) else replace(spec, env_dtype=own)
    return from_space(space)


def _limits(values: np.ndarray) -> Limits:
    numbers = values.ravel()
    if (numbers == numbers[:1]).all():
        numbers = numbers[:1]
    limits = tuple(float(number) if math.isfinite(number) else None for number in numbers)
    return None if limits in ((), (None,)) else limits
