"""Spaces as data, and an algorithm of a third party with Box actions, from its environment to its policy."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

import rlexp
from rlexp.config import registry
from rlexp.config.schema.algos import RandomSettings
from rlexp.config.schema.env import EnvSettings
from rlexp.data.replay_ring import ReplayRing
from rlexp.data.rollout_buffer import RolloutBuffer
from rlexp.envs.inspection import inspect
from rlexp.envs.spaces import from_action_space, from_space
from rlexp.envs.spec import Box, Discrete, MultiDiscrete, from_json, to_json
from rlexp.envs.trial_envs import TrialEnvs
from rlexp.system.errors import Refusal
from tests.conftest import records

PENDULUM = EnvSettings(id="Pendulum-v1")


@pytest.mark.parametrize(
    ("space", "spec", "text"),
    [
        (spaces.Discrete(3), Discrete(3), "Discrete(3)"),
        (spaces.Discrete(3, start=-1), Discrete(3, -1), "Discrete(3, start=-1)"),
        (spaces.Box(-2, 2, (1,)), Box((1,), "float32", (-2.0,), (2.0,)), "Box(-2.0, 2.0, (1,), float32)"),
        (spaces.Box(0, 255, (4, 2), np.uint8), Box((4, 2), "uint8", (0.0,), (255.0,)), "Box(0.0, 255.0, (4, 2), uint8)"),
        (
            spaces.Box(np.array([-1, -np.inf], np.float32), np.array([np.inf, 3], np.float32)),
            Box((2,), "float32", (-1.0, None), (None, 3.0)),
            "Box([-1.0 -inf], [inf 3.0], (2,), float32)",
        ),
        (spaces.Box(-np.inf, np.inf, (2,)), Box((2,), "float32"), "Box(-inf, inf, (2,), float32)"),
        (spaces.MultiDiscrete([2, 3]), MultiDiscrete((2, 3), (2,)), "MultiDiscrete([2 3])"),
        (
            spaces.MultiDiscrete([[2], [3]], dtype=np.int8, start=[[0], [-1]]),
            MultiDiscrete((2, 3), (2, 1), (0, -1), env_dtype="int8"), "MultiDiscrete([2 3], start=[0, -1])",
        ),
        (spaces.MultiBinary(2), None, "None"),
    ],
)  # fmt: skip
def test_a_space_as_data(space: gym.Space, spec: Any, text: str) -> None:
    found = from_space(space)
    assert found == spec and str(found) == text
    if spec is not None:
        assert hash(found) == hash(spec)
        assert found is not None and from_json(json.loads(json.dumps(to_json(found), allow_nan=False))) == spec


@pytest.mark.parametrize("values", [{}, {"kind": "text"}, {"kind": "discrete"}, {"kind": "box", "n": 3}])
def test_what_is_no_spec(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected a spec of kind discrete or multi_discrete or box, received"):
        from_json(values)


def test_actions_as_the_environment_counts_them() -> None:
    given = Discrete(3, start=5).to_env(np.array([[0, 2]], np.int32))
    assert given.tolist() == [[5, 7]] and given.dtype == np.int64
    torques = np.array([[0.5]], np.float64)
    assert Box((1,), "float32").to_env(torques).dtype == np.float32
    assert (Discrete(3, start=5).output_shape, Box((2,), "float32").output_shape) == ((3,), (2,))


def test_actions_of_a_box_are_clipped_at_its_bounds_and_are_never_nan() -> None:
    spec = Box((2,), "float32", (-1.0, None), (0.5, None))
    given = np.array([[[-3.0, -3.0], [3.0, 3.0]], [[np.nan, np.nan], [0.25, np.inf]]], np.float32)
    assert spec.to_env(given).tolist() == [[[-1, -3], [0.5, 3]], [[0, 0], [0.25, 0]]]
    assert (spec.bounded, Box((2,), "float32", (-1.0,), (1.0,)).bounded, Box((1,), "float32").bounded) == (
        False, True, False,
    )  # fmt: skip
    above = Box((1,), "float32", (2.0,), (3.0,))
    assert above.to_env(np.array([[np.nan]], np.float32)).tolist() == [[2]]
    assert Box((1,), "int32", (0.0,), (3.0,)).to_env(np.array([[7], [-1]])).tolist() == [[3], [0]]
    assert above.to_env(np.zeros((4, 1), np.float32)).shape == (4, 1)


def test_uniform_numbers_choose_actions() -> None:
    assert Discrete(4).uniform(np.array([[0.0], [0.26], [0.999]], np.float32)).tolist() == [0, 1, 3]
    two = MultiDiscrete((2, 5), (2,)).uniform(np.array([[[0.5, 0.5], [0.49, 0.99]]], np.float32))
    assert two.tolist() == [[[1, 2], [0, 4]]] and two.dtype == np.int32
    torques = Box((2, 1), "float32", (-1.0, 2.0), (1.0, 4.0)).uniform(np.array([[0.0, 0.75], [0.25, 0.5]], np.float32))
    assert torques.tolist() == [[[-1], [3.5]], [[-0.5], [3]]] and torques.dtype == np.float32
    evenly = (np.arange(3000, dtype=np.float32) / 3000)[:, None]
    whole = Box((1,), "int32", (-1.0,), (1.0,)).uniform(evenly)
    assert [int((whole == number).sum()) for number in (-1, 0, 1)] == [1000, 1000, 1000]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_clipped_actions_belong_to_the_space(dtype: Any) -> None:
    """float32(.1) is above .1, so that the bound itself is taken in the environment's own dtype."""
    space = spaces.Box(np.array([-0.1, 0.3], dtype), np.array([0.1, 0.7], dtype), dtype=dtype)
    spec = from_action_space(space)
    assert isinstance(spec, Box) and spec.dtype == "float32"
    assert (spec.env_dtype or "float32") == np.dtype(dtype).name
    for given in ([0.1, 0.7], [-0.1, 0.3], [9.0, 9.0], [-9.0, -9.0], [np.nan, np.nan]):
        assert space.contains(spec.to_env(np.array(given, np.float32)))
    assert from_json(json.loads(json.dumps(to_json(spec)))) == spec


def test_actions_of_several_choices_belong_to_the_space() -> None:
    for space in (
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiDiscrete([[2], [3]], dtype=np.int8, start=[[4], [-1]]),
        spaces.MultiDiscrete([2, 3], dtype=np.uint16),
    ):
        spec = from_action_space(space)
        assert isinstance(spec, MultiDiscrete) and spec.output_shape == (5,)
        given = np.array([[0, 0], [1, 2]], spec.dtype).reshape(2, *spec.shape)
        taken = spec.to_env(given)
        assert all(space.contains(action) for action in taken)
        assert (taken[0] == space.start).all() and (taken[1] == space.start + space.nvec - 1).all()


@pytest.mark.parametrize("action", [Discrete(9), Box((3,), "float32")])
def test_buffers_hold_actions_of_their_spec(action: Discrete | Box) -> None:
    a_tm1 = np.arange(2 * math.prod(action.shape), dtype=action.dtype).reshape(2, *action.shape)
    transition = {
        "o_tm1": np.zeros((2, 1), np.float32), "a_tm1": a_tm1, "r_t": np.ones(2, np.float32),
        "terminated": np.zeros(2, bool), "truncated": np.zeros(2, bool), "o_t": np.ones((2, 1), np.float32),
    }  # fmt: skip
    ring, buffer = ReplayRing(2, 4, Box((1,), "float32"), action), RolloutBuffer(2, Box((1,), "float32"), action)
    everyone = np.ones(2, bool)
    ring.add(everyone, **transition)
    buffer.add(everyone, **transition)
    sampled = ring.sample(np.zeros((2, 1)), np.ones(2))["a_tm1"][:, 0]
    held = buffer.batch(np.arange(2), 128)["a_tm1"][:, 0]
    for found in (sampled, held):
        assert found.tolist() == a_tm1.tolist() and found.dtype == action.dtype
    assert ring.num_bytes(4, Box((1,), "float32"), action) * 2 == sum(x.nbytes for x in ring._data.values())


def test_an_environment_with_box_actions_goes_on_where_it_was() -> None:
    info = inspect(PENDULUM)
    assert info.action == Box((1,), "float32", (-2.0,), (2.0,)) and info.observation.shape == (3,)
    everyone, draw = np.ones(2, bool), np.random.default_rng(0)
    envs, again = (TrialEnvs(PENDULUM, info, [3, 4]) for _ in range(2))
    for _ in range(5):
        envs.step(draw.uniform(-2, 2, (2, 1)), everyone)
    state = envs.get_state()
    assert state["actions"].shape == (10, 1) and state["actions"].dtype == np.float32
    assert again.set_state(state).tolist() == [False, False]
    torques = np.array([[0.5], [-1.0]])
    assert np.array_equal(envs.step(torques, everyone).o_t, again.step(torques, everyone).o_t)


def test_box_actions_are_refused_by_the_word_of_the_algorithm(
    tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for algo in ("angle_policy", "dqn", "c51", "q_learning", "q_value_iteration"):
        with pytest.raises(Refusal) as refused:
            tiny(algo, "env=pendulum")
        assert str(refused.value).startswith(
            "env.id: expected an environment with a Discrete action space, received 'Pendulum-v1' with Box actions "
            "(Box(-2.0, 2.0, (1,), float32)).\nThese algorithms take them: algo="
        )
        named = str(refused.value).rpartition("algo=")[2].partition(". ")[0].split(", ")
        assert {"pg", "pg_baseline", "ppo"} <= set(named) == set(registry.algos_taking("box"))
        assert str(refused.value).endswith("numbers them: env.wrappers='[{name: DiscretizeAction, bins: 5}]'")
        with pytest.raises(Refusal) as refused:
            tiny(algo, "env.id=tests/TwoChoices-v0")
        assert "a Discrete action space, received 'tests/TwoChoices-v0' with MultiDiscrete actions" in str(
            refused.value
        )
        assert (
            f"These algorithms take them: algo={', '.join(registry.algos_taking('multi_discrete'))}. A wrapper"
            in str(refused.value)
        )
    monkeypatch.setitem(registry.ALGOS, "torque", registry.Algo("fixed", RandomSettings, "a:B", ("box",)))
    with pytest.raises(Refusal, match=r"These algorithms take them: algo=.*torque\. A"):
        tiny("dqn", "env.id=Pendulum-v1")
    with pytest.raises(Refusal, match=r"a Box action space, received 'CartPole-v1' with Discrete actions"):
        tiny("random", "algo.name=torque")
    with pytest.raises(
        Refusal, match=r"with a Discrete or MultiDiscrete or Box action space, received .* with MultiBinary"
    ):
        inspect(EnvSettings(id="tests/ManyActions-v0"))


def test_random_actions_of_a_box(tiny: Callable[..., Any]) -> None:
    options = ["env=pendulum", "budget.steps=250", "evaluation.max_steps=20"]
    job = tiny("random", *options, "trials=2")
    assert job["status"] == "done" and job["episodes"] == [1, 1]
    assert job["action"] == {"kind": "box", "shape": [1], "dtype": "float32", "low": [-2.0], "high": [2.0]}
    alone = tiny("random", *options, "trials=1", "seed=1", "study=alone")
    assert records(alone.folder)[-1]["metrics"]["final/return"][0] == job["final/return"]["per_trial"][1]
    policy = rlexp.load_policy(job.folder)
    observation, _ = policy.make_env().reset(seed=0)
    action = policy(observation)
    assert action.shape == (1,) and action.dtype == np.float32 and -2 <= action[0] <= 2
    assert policy(np.stack([observation] * 3)).shape == (3, 1)


def test_a_model_of_box_actions_gives_the_action_itself(
    tiny: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    from rlexp.jobs.policy import Policy
    from rlexp.jobs.runner import compose

    monkeypatch.setitem(registry.ALGOS, "torque", registry.Algo("rollout", RandomSettings, "a:B", ("box",)))
    settings = compose("algo=random", "algo.name=torque", "env.id=Pendulum-v1")
    x = keras.Input((3,))
    model = keras.Model(x, keras.layers.Dense(1, kernel_initializer="zeros", bias_initializer="ones")(x))
    assert Policy(settings, 0, model)(np.zeros(3)).tolist() == [1.0]
    wrong = keras.Model(x, keras.layers.Dense(2)(x))
    with pytest.raises(
        Refusal, match=r"weights for observations of shape \(3,\) and actions of shape \(1,\), received"
    ):
        Policy(settings, 0, wrong)


class ManyActions(gym.Env[Any, Any]):
    """Actions that no spec describes."""

    observation_space = spaces.Box(0, 1, (1,))
    action_space = spaces.MultiBinary(2)


class TwoChoices(ManyActions):
    """Two numbered actions at once."""

    action_space = spaces.MultiDiscrete([2, 3])


gym.register("tests/ManyActions-v0", entry_point=ManyActions)
gym.register("tests/TwoChoices-v0", entry_point=TwoChoices)
