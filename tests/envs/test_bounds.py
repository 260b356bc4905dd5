"""Observations outside the bounds of their Box give a warning."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from rlexp.envs.bounds import MAX_STEPS, BoundsCheck


def test_bounds_are_checked_many_steps_at_once() -> None:
    observations = np.zeros((3, 2), np.float32)
    check = BoundsCheck(spaces.Box(-1, 1, (2,), np.float32), observations)
    assert not check.done and check.period == MAX_STEPS
    check.recent += [observations, observations + 1.00000001]
    assert check.warning() is None and check.recent == []
    check.recent.append(observations - [[0, 0], [0, 1.5], [0, 0]])
    assert check.warning() == (
        "number 1 of an observation is -1.5, outside [-1, 1], which its Box declares; it is used as it is"
    )
    assert check.done  # said once
    for free in (spaces.Box(-np.inf, np.inf, (2,)), spaces.Box(0, 255, (2,), np.uint8), spaces.Discrete(2)):
        assert BoundsCheck(free, observations).done
    assert not BoundsCheck(spaces.Box(0, 10, (2,), np.uint8), observations).done
