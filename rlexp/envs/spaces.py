"""From Gymnasium's spaces to specs: the one place where a space becomes data."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlexp.envs.spec import Box, Discrete, Limits, Spec


def from_space(space: gym.Space, dtype: str | None = None) -> Spec | None:
    """The spec of a Gymnasium space.

    Args:
        space: Discrete or Box.
        dtype: of the arrays that will hold its numbers; default: int32 for a Discrete, its own for a Box.

    Returns:
        The spec, or None for a space of another type.
    """
    if isinstance(space, spaces.Discrete):
        return Discrete(int(space.n), int(space.start), dtype or Discrete.dtype)
    if isinstance(space, spaces.Box):
        low, high = _limits(space.low), _limits(space.high)
        return Box(tuple(map(int, space.shape)), dtype or np.dtype(space.dtype).name, low, high)
    return None


def _limits(values: np.ndarray) -> Limits:
    numbers = values.ravel()
    if (numbers == numbers[:1]).all():
        numbers = numbers[:1]
    limits = tuple(float(number) if math.isfinite(number) else None for number in numbers)
    return None if limits in ((), (None,)) else limits
