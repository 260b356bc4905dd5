"""What environments and networks return is checked, and whether an environment does the same again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from rlexp.envs import guard, repeatability
from rlexp.envs.info import EnvInfo
from rlexp.jobs.runner import compose
from rlexp.system import stopping
from rlexp.system.errors import Refusal


def info(dtype: str, shape: tuple[int, ...] = (2,)) -> EnvInfo:
    return EnvInfo(shape, dtype, 2, None, False, num_states=3 if dtype == "int64" else None)


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
    check = guard.Check(info(dtype))
    if said is None:
        assert np.array_equal(check.read(observation), observation)
        return
    with pytest.raises(guard.Unfit) as error:
        check.read(observation)
    assert str(error.value) == said


@pytest.mark.parametrize(("reward", "number"), [(1, 1.0), (True, 1.0), (np.float32(2), 2.0), (np.array(3), 3.0)])
def test_rewards_are_one_number(reward: Any, number: float) -> None:
    assert guard.a_reward(reward) == number and type(guard.a_reward(reward)) is float
    for wrong in (np.ones(1), [1.0], "1", None, 1j, np.array("1")):
        with pytest.raises(guard.Unfit, match="expected a reward that is one number, received"):
            guard.a_reward(wrong)


def test_ends_are_true_or_false() -> None:
    assert [guard.a_boolean("x", value) for value in (True, np.False_, np.array(True), 0, np.int64(1))] == [
        True, False, True, False, True,
    ]  # fmt: skip
    for wrong in (2, 0.0, "False", None, np.zeros(1, bool), []):
        with pytest.raises(guard.Unfit, match="expected terminated to be true or false, received"):
            guard.a_boolean("terminated", wrong)


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
    assert guard.misfit(space, value) == said


def test_action_masks_have_a_number_for_each_action() -> None:
    assert guard.mask_of({"action_mask": [1, 0]}, 2) == [1, 0]
    for wrong in ({"action_mask": [1]}, {"action_mask": np.ones((2, 1))}, {}, None):
        with pytest.raises(guard.Unfit, match="expected an action_mask "):
            guard.mask_of(wrong, 2)


@pytest.mark.parametrize(
    "error", [SystemExit(0), KeyboardInterrupt(), GeneratorExit(), StopIteration(), RuntimeError()]
)
def test_whatever_a_call_raises_is_one_kind_of_error(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def act() -> None:
        raise error

    monkeypatch.setattr(stopping, "handles_signals", lambda: True)
    with pytest.raises(guard.Misbehaved, match=f"^reset raised {type(error).__name__}"):
        guard.call("reset", act)


def test_signals_are_no_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    def act(error: BaseException) -> None:
        raise error

    with pytest.raises(stopping.Interrupted):
        guard.call("reset", act, stopping.Interrupted(2))
    monkeypatch.setattr(stopping, "handles_signals", lambda: False)  # rlexp.run in somebody's process: a real Ctrl-C
    with pytest.raises(KeyboardInterrupt):
        guard.call("reset", act, KeyboardInterrupt())


def test_bounds_are_looked_at_many_steps_at_once() -> None:
    observations = np.zeros((3, 2), np.float32)
    bounds = guard.Bounds(spaces.Box(-1, 1, (2,), np.float32), observations)
    assert not bounds.none and bounds.period == guard.BOUNDS_STEPS
    bounds.recent += [observations, observations + 1.00000001]
    assert bounds.look() is None and bounds.recent == []
    bounds.recent.append(observations - [[0, 0], [0, 1.5], [0, 0]])
    assert bounds.look() == (
        "number 1 of an observation is -1.5, outside [-1, 1], which its Box declares; it is used as it is"
    )
    assert bounds.none  # said once
    for free in (spaces.Box(-np.inf, np.inf, (2,)), spaces.Box(0, 255, (2,), np.uint8), spaces.Discrete(2)):
        assert guard.Bounds(free, observations).none
    assert not guard.Bounds(spaces.Box(0, 10, (2,), np.uint8), observations).none


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["env=cartpole"], None),
        (["env=frozen_lake", "algo=q_learning"], None),
        (["env=three_state_mdp", "algo=q_learning"], None),
        (
            ["env=frozen_lake", "algo=q_learning", "+env.kwargs.desc=null", "+env.kwargs.map_name=null"],
            "FrozenLake-v1 is not repeatable: two instances have different transition tables; each instance draws what "
            "env.kwargs.desc=null, env.kwargs.map_name=null leaves open: give a value (FrozenLake: map_name=8x8)",
        ),
    ],
)
def test_whether_an_environment_does_the_same_again(
    overrides: list[str], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeatability, "_looked_at", set())
    settings = compose("algo=random", *overrides)
    before = np.random.get_state()[1].tobytes()
    assert repeatability.why_not_repeatable(settings.env, "algo=q_learning" in overrides) == said
    assert repeatability.why_not_repeatable(settings.env, "algo=q_learning" in overrides) is None  # said once
    assert np.random.get_state()[1].tobytes() == before


NETWORK = """
import keras
def make(shape, outputs, network):
    x = keras.Input({shape})
    return {result}
"""


@pytest.mark.parametrize(
    ("shape", "result", "said"),
    [
        ("shape", "keras.Model(x, keras.layers.Dense(3)(x))", "expected outputs of shape [B, 2], received 'net:make' with outputs of shape [B, 3]"),
        ("shape", "keras.Model(x, keras.ops.mean(x, axis=-1))", "expected outputs of shape [B, 2], received 'net:make' with outputs of shape [B]"),
        ("shape", "keras.Model(x, keras.layers.Dense(2, dtype='float16')(x))", "expected outputs of float32, received 'net:make' with outputs of float16"),
        ("shape", "keras.Model(x, [keras.layers.Dense(2)(x)] * 2)", "expected a functional Keras model with one input and one output, received"),
        ("(3,)", "keras.Model(x, keras.layers.Dense(2)(x))", "expected inputs of shape [B, 4], received 'net:make' with inputs of shape [B, 3]"),
        ("shape", "None", "expected a function that returns a keras.Model, received 'net:make', which returns NoneType"),
        ("shape", "{}['width']", "network: 'width'"),
    ],
)  # fmt: skip
def test_a_network_of_ones_own_is_refused_before_the_start(
    shape: str, result: str, said: str, tiny: Callable[..., Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.py").write_text(NETWORK.replace("{shape}", shape).replace("{result}", result))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "net", raising=False)
    with pytest.raises(Refusal) as error:
        tiny("dqn", "network.name=net:make")
    assert said in str(error.value)
    monkeypatch.delitem(sys.modules, "net", raising=False)
