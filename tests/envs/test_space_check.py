"""Observations are checked against their space before they are flattened."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from rlexp.envs import space_check


@pytest.mark.parametrize(
    ("space", "value", "said"),
    [
        (spaces.Discrete(3, start=1), 3, None),
        (spaces.Discrete(3, start=1), np.array(1), None),
        (spaces.Discrete(3, start=1), 0, "expected an observation in [1, 4), received 0"),
        (spaces.Discrete(3), 0.5, "expected an observation in [0, 3), received 0.5"),
        (spaces.MultiDiscrete([2, 3]), [1, 2], None),
        (spaces.MultiDiscrete([2, 3]), [1, 3], "expected an observation in MultiDiscrete([2 3]), received [1, 3]"),
        (spaces.Tuple([spaces.Discrete(2)]), (2,), "expected an observation in [0, 2), received 2"),
        (spaces.Tuple([spaces.Discrete(2)]), (1, 1), "expected an observation of 1 parts, received (1, 1)"),
        (spaces.Dict({"a": spaces.Discrete(2)}), {}, "expected an observation with the keys a, received {}"),
        (spaces.Box(0, 9, (2,), np.int8), np.array([1, 200]), "expected an observation of int8 (-128 to 127), received [1, 200]"),
        (spaces.Box(-1, 1, (2,), np.float32), np.array([1, 2.0]), None),  # a warning's affair
        (spaces.Text(3), 7, None),
    ],
)  # fmt: skip
def test_what_is_flattened_is_of_its_space(space: gym.Space, value: Any, said: str | None) -> None:
    assert space_check.mismatch(space, value) == said
