"""Numbered states for observations made of several categories, for algorithms with tables.

Blackjack's observation (sum of the player, card of the dealer, usable ace) is Tuple(Discrete(32), Discrete(11),
Discrete(2)): 704 states. The last category varies fastest, as in Gymnasium's own `Taxi.encode`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

MAX_STATES = 2**31  # far more than any table holds


def num_states(space: gym.Space) -> int | None:
    """The number of states of a space made of categories; None for other spaces and for more than `MAX_STATES`.

    Args:
        space: a Discrete, whose numbers are the states, or a Tuple, Dict, MultiDiscrete or MultiBinary of categories.
    """
    if isinstance(space, spaces.Discrete):
        return int(space.start + space.n)
    sizes = _sizes(space)
    count = math.prod(sizes) if sizes else None
    return count if count is not None and count <= MAX_STATES else None


class NumberedObservation(gym.ObservationWrapper):
    """Replaces the categories of an observation by one number."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self._space = env.observation_space
        count = num_states(self._space)
        assert count is not None, "the space is made of categories"
        self.observation_space = spaces.Discrete(count)

    def observation(self, observation: Any) -> int:
        """The state of an observation; raises `ValueError` if its space does not contain it."""
        return number(self._space, observation)


def number(space: gym.Space, observation: Any) -> int:
    """The state of an observation made of categories; raises `ValueError` if the space does not contain it."""
    state = 0
    try:
        for category, size in zip(_categories(space, observation), _sizes(space) or [], strict=True):
            if not 0 <= category < size or category != int(category):
                raise ValueError(f"category {category} of {size}")
            state = state * size + int(category)
    except (TypeError, ValueError, LookupError) as error:  # too few categories, no number, a missing name, ...
        raise ValueError(f"expected an observation in {space}, received {observation!r}") from error
    return state


def _sizes(space: gym.Space) -> list[int] | None:
    """The sizes of all categories of a space; None for a space with anything else in it."""
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiDiscrete):
        return [int(n) for n in space.nvec.ravel()]
    if isinstance(space, spaces.MultiBinary):
        return [2] * math.prod(space.shape)
    if not isinstance(space, spaces.Tuple | spaces.Dict):
        return None
    parts = [_sizes(part) for part in _parts(space)]
    return None if None in parts else [size for part in parts for size in part or []]


def _categories(space: gym.Space, observation: Any) -> Iterator[Any]:
    """The categories of an observation, each counted from 0."""
    if isinstance(space, spaces.Tuple | spaces.Dict):
        values = [observation[key] for key in space.spaces] if isinstance(space, spaces.Dict) else observation
        for part, value in zip(_parts(space), values, strict=True):
            yield from _categories(part, value)
    else:
        first = getattr(space, "start", 0)  # MultiBinary has none
        yield from np.ravel(np.asarray(observation) - first)


def _parts(space: spaces.Tuple | spaces.Dict) -> list[gym.Space]:
    return list(space.spaces.values()) if isinstance(space, spaces.Dict) else list(space.spaces)
