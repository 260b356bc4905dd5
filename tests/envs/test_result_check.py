"""What reset and step return is checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlexp.envs import faults, result_check
from rlexp.envs.info import EnvInfo
from rlexp.envs.spec import Box, Discrete


def info(dtype: str, shape: tuple[int, ...] = (2,)) -> EnvInfo:
    return EnvInfo(Box(shape, dtype), Discrete(2), None, False, num_states=3 if dtype == "int64" else None)


@pytest.mark.parametrize(
    ("dtype", "observation", "said"),
    [
        ("uint8", np.array([0, 255]), None),
        ("uint8", [1, 2], None),
        ("uint8", np.array([0.0, 7.0]), None),
        ("uint8", np.array([0, 300]), "expected an observation of uint8 (0 to 255), received [0, 300]"),
        ("uint8", np.array([-1, 0]), "expected an observation of uint8 (0 to 255), received [-1, 0]"),
        ("uint8", np.array([0.5, 0]), "expected an observation of uint8 (0 to 255), received [0.5, 0.0]"),
        ("float32", np.array([300, 0]), None),
        ("float32", np.zeros(2), None),
        ("float32", np.zeros(2, complex), "expected an observation of numbers, received [0j, 0j]"),
        ("float32", np.zeros(3), "expected an observation of shape (2,), received shape (3,)"),
    ],
)
def test_observations_fit_their_dtype(dtype: str, observation: Any, said: str | None) -> None:
    check = result_check.ResultCheck(info(dtype))
    if said is None:
        assert np.array_equal(check.read(observation), observation)
        return
    with pytest.raises(faults.Unfit) as error:
        check.read(observation)
    assert str(error.value) == said


@pytest.mark.parametrize(("reward", "number"), [(1, 1.0), (True, 1.0), (np.float32(2), 2.0), (np.array(3), 3.0)])
def test_rewards_are_one_number(reward: Any, number: float) -> None:
    assert result_check.to_reward(reward) == number and type(result_check.to_reward(reward)) is float
    for wrong in (np.ones(1), [1.0], "1", None, 1j, np.array("1")):
        with pytest.raises(faults.Unfit, match="expected a reward that is one number, received"):
            result_check.to_reward(wrong)


def test_ends_are_true_or_false() -> None:
    assert [result_check.to_bool("x", value) for value in (True, np.False_, np.array(True), 0, np.int64(1))] == [
        True, False, True, False, True,
    ]  # fmt: skip
    for wrong in (2, 0.0, "False", None, np.zeros(1, bool), []):
        with pytest.raises(faults.Unfit, match="expected terminated to be true or false, received"):
            result_check.to_bool("terminated", wrong)
