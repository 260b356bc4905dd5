"""Checks of values against a Gymnasium space, before a wrapper flattens them.

A flattening wrapper makes numbers of anything: also of a state beyond its Discrete.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlexp.envs.faults import Unfit, shown


class SpaceCheck(gym.ObservationWrapper):
    """Raises `Unfit` for an observation that its space does not contain."""

    def observation(self, observation: Any) -> Any:
        """The observation itself."""
        if (problem := mismatch(self.observation_space, observation)) is not None:
            raise Unfit(problem)
        return observation


def mismatch(space: gym.Space, value: Any, name: str = "an observation") -> str | None:
    """Why a space does not contain a value, in words; None if it does.

    Bounds of a Box are not checked here (see `bounds.py`), nor spaces that are not flattened.

    Args:
        space: any space.
        value: what is held against it.
        name: what the value is, for the sentence.
    """
    if isinstance(space, spaces.Discrete):
        low, high = int(space.start), int(space.start + space.n)
        whole = isinstance(value, int | np.integer) or (isinstance(value, np.ndarray) and value.shape == ())
        if whole and low <= value < high and value == int(value):
            return None
        return f"expected {name} in [{low}, {high}), received {shown(value)}"
    if isinstance(space, spaces.Dict):
        if not isinstance(value, Mapping) or set(value) != set(space.spaces):
            return f"expected {name} with the keys {', '.join(map(str, space.spaces))}, received {shown(value)}"
        parts = [(inner, value[key], f"{name} whose {key} is") for key, inner in space.spaces.items()]
        return next(filter(None, (mismatch(*part) for part in parts)), None)
    if isinstance(space, spaces.Tuple):
        if not isinstance(value, tuple | list) or len(value) != len(space.spaces):
            return f"expected {name} of {len(space.spaces)} parts, received {shown(value)}"
        pairs = zip(space.spaces, value, strict=True)
        return next(filter(None, (mismatch(inner, part, name) for inner, part in pairs)), None)
    if isinstance(space, spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary):
        return _array_mismatch(space, value, name)
    return None


def _array_mismatch(space: spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary, value: Any, name: str) -> str | None:
    """As `mismatch`, for spaces of arrays."""
    if np.shape(value) != space.shape:
        return f"expected {name} of shape {space.shape}, received shape {np.shape(value)}"
    array, dtype = np.asarray(value), np.dtype(space.dtype)
    if array.dtype.kind not in "biuf":
        return f"expected {name} of numbers, received {shown(value)}"
    if dtype.kind in "iu" and not fits_integers(array, dtype):
        return f"expected {name} of {dtype} ({range_text(dtype)}), received {shown(value)}"
    if not isinstance(space, spaces.Box) and not space.contains(array.astype(dtype)):
        return f"expected {name} in {space}, received {shown(value)}"
    return None


def fits_integers(array: np.ndarray, dtype: np.dtype) -> bool:
    """Whether an integer dtype can hold all numbers of an array."""
    if array.dtype == dtype or not array.size:
        return True
    low, high = integer_range(dtype)
    whole = array.dtype.kind != "f" or bool((array == np.floor(array)).all())
    return whole and bool(low <= array.min() and array.max() <= high)


def integer_range(dtype: np.dtype) -> tuple[int, int]:
    """The least and the largest number of an integer dtype."""
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def range_text(dtype: np.dtype) -> str:
    """The numbers of an integer dtype in words: `0 to 255`."""
    low, high = integer_range(dtype)
    return f"{low} to {high}"
