"""A check for observations outside the bounds that a Box declares: a warning, not a fault."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from rlexp.envs.space_check import integer_range

MAX_STEPS, MAX_BYTES = 512, 2**22  # of the observations that are compared at once


class BoundsCheck:
    """Compares observations with the bounds of their Box, many lock-steps at once.

    Args:
        space: as agents see it.
        observations: an example of those that will be added.  # [N, *shape]

    Attributes:
        recent: arrays of observations that are not checked yet, at most `period`.  # [N, *shape] each
        period: lock-steps between two checks.
        done: nothing can be outside, or a warning has been given.
    """

    def __init__(self, space: gym.Space, observations: np.ndarray) -> None:
        shape = observations.shape[1:]
        self.recent: list[np.ndarray] = []
        self.period = max(min(MAX_STEPS, MAX_BYTES // max(observations.nbytes, 1)), 1)
        low: Any = getattr(space, "low", -np.inf)
        high: Any = getattr(space, "high", np.inf)
        if space.shape != shape or not shape:  # a single number, or stacked by a wrapper: not a Box of floats
            low, high = -np.inf, np.inf
        self._low, self._high = (
            np.asarray(bound, np.float64) + sign * 1e-6 * np.abs(np.where(np.isfinite(bound), bound, 0))  # rounding
            for bound, sign in ((low, -1), (high, 1))
        )
        integer = np.issubdtype(space.dtype, np.integer)
        least, largest = integer_range(np.dtype(space.dtype)) if integer else (-np.inf, np.inf)
        self.done = bool((self._low <= least).all() and (self._high >= largest).all())

    def warning(self) -> str | None:
        """Check the recent observations.

        Returns:
            What is outside, in words; None if nothing is, or after the first warning.
        """
        if self.done or not self.recent:
            return None
        rows = np.concatenate(self.recent)  # [M, *shape]
        self.recent.clear()
        outside = (rows < self._low) | (rows > self._high)
        if not outside.any():
            return None
        self.done = True
        index = tuple(np.argwhere(outside)[0])
        low, high = self._low[index[1:]], self._high[index[1:]]
        place = f"number {', '.join(map(str, index[1:]))} of an observation"
        return f"{place} is {rows[index]:g}, outside [{low:g}, {high:g}], which its Box declares; it is used as it is"
