"""Checks of what `reset` and `step` return; made for speed, since every result passes here."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rlexp.envs.faults import Misbehaved, Unfit, raised, shown, type_name
from rlexp.envs.info import EnvInfo
from rlexp.envs.space_check import fits_integers, range_text

FLOAT32_MAX = float(np.finfo(np.float32).max)


class ResultCheck:
    """Checks the results of one kind of environment.

    Attributes:
        read: returns an observation if it fits; raises `Unfit`, TypeError or ValueError otherwise.
        expected: what `is_sound` checks, in words.
    """

    def __init__(self, info: EnvInfo) -> None:
        self._shape, self._num_states = info.observation_shape, info.num_states or 0
        self._dtype = np.dtype(info.observation_dtype)
        numbered = info.observation_dtype == "int64"
        self._floats, self._masked_state = info.observation_dtype == "float32", numbered and bool(self._shape)
        self._doubles = np.dtype("float64") if self._floats else self._dtype
        self._zeros = np.zeros(0, np.float32)
        self.read: Callable[[Any], Any] = self._state if numbered and not self._shape else self._array
        self.expected = f"an observation in [0, {self._num_states})" if numbered else "an observation of finite numbers"

    def reset_result(self, result: Any) -> Any:
        """The first observation of an episode.

        Raises:
            Misbehaved: if `reset` has returned anything else than an observation and a dict.
        """
        try:
            if not isinstance(result, tuple) or len(result) != 2:
                raise Unfit(f"expected (observation, info) of reset, received {shown(result)}")
            check_info(result[1])
            return self.first(result[0])
        except Exception as error:
            raise Misbehaved(raised(error, "reset")) from None

    def first(self, observation: Any) -> Any:
        """The first observation of an episode, checked for finite numbers and possible states as well."""
        array = self.read(observation)
        if self._floats or self._masked_state:
            array = np.asarray(array)
            if not (np.isfinite(array).all() if self._floats else self.is_sound(array[None])):
                raise Unfit(f"expected {self.expected}, received {shown(array)}")
        return array

    def is_sound(self, observations: np.ndarray) -> bool:
        """Whether floats are finite, and states in front of an action mask are possible.  # [N, *shape]"""
        if self._floats:
            if self._zeros.size != observations.size:
                self._zeros = np.zeros(observations.size, np.float32)
            return math.isfinite(observations.ravel().dot(self._zeros))  # 0 * NaN and 0 * inf are NaN
        if self._masked_state:
            return bool(observations[:, 0].astype(np.uint64).max() < self._num_states)  # a negative one becomes huge
        return True

    def _state(self, observation: Any) -> int:
        """A numbered state."""
        state = operator.index(observation)
        if not 0 <= state < self._num_states:
            raise Unfit(f"expected {self.expected}, received {state}")
        return state

    def _array(self, observation: Any) -> Any:
        """An array of the declared shape, whose numbers its dtype can hold."""
        dtype = getattr(observation, "dtype", None)
        if (dtype is self._dtype or dtype is self._doubles) and observation.shape == self._shape:
            return observation
        return self._other_array(observation)

    def _other_array(self, observation: Any) -> np.ndarray:
        """As `_array`, for observations that are no arrays or of another dtype."""
        if np.shape(observation) != self._shape:
            raise Unfit(f"expected an observation of shape {self._shape}, received shape {np.shape(observation)}")
        array = np.asarray(observation)
        if array.dtype.kind not in "biuf":
            raise Unfit(f"expected an observation of numbers, received {shown(observation)}")
        if not self._floats and not fits_integers(array, self._dtype):
            raise Unfit(
                f"expected an observation of {self._dtype} ({range_text(self._dtype)}), received {shown(array)}"
            )
        return array


def check_info(info: Any) -> None:
    """Raise `Unfit` unless `info` is a mapping."""
    if info.__class__ is not dict and not isinstance(info, Mapping):
        raise Unfit(f"expected an info that is a dict, received {shown(info)}")


def to_reward(reward: Any) -> float:
    """A finite reward as a float; raises `Unfit` unless it is one number."""
    kind = reward.__class__
    if kind is not float:
        if kind is not int and not _is_number(reward):
            what = f"an array of shape {reward.shape}" if isinstance(reward, np.ndarray) else type_name(reward)
            raise Unfit(f"expected a reward that is one number, received {shown(reward)} ({what})")
        reward = float(reward)
    if not -FLOAT32_MAX <= reward <= FLOAT32_MAX:
        raise Unfit(f"expected a finite reward, received {reward}")
    number: float = reward
    return number


def to_bool(name: str, value: Any) -> bool:
    """`terminated` or `truncated` as a bool; raises `Unfit` unless it is true, false, 0 or 1."""
    if isinstance(value, bool | np.bool_) or (
        isinstance(value, np.ndarray) and value.shape == () and value.dtype == bool
    ):
        return bool(value)
    if isinstance(value, int | np.integer) and value in (0, 1):
        return bool(value)
    raise Unfit(f"expected {name} to be true or false, received {shown(value)} ({type_name(value)})")


def _is_number(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.shape == () and value.dtype.kind in "biuf"
    return isinstance(value, numbers.Real | np.number | np.bool_)
