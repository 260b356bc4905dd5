"""Observations made of categories as numbered states: Blackjack and its like, for algorithms with tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

import rlexp
from rlexp.envs import inspection
from rlexp.envs.category_numbers import num_states, number
from rlexp.jobs.runner import compose, resolve
from rlexp.system.errors import Diverged, Refusal

CARDS = spaces.Tuple((spaces.Discrete(32), spaces.Discrete(11), spaces.Discrete(2)))  # Blackjack's


class Pairs(gym.Env):
    """Shows two of its categories; action 1 is right where they are equal. Episodes have one step."""

    observation_space = spaces.Dict({"a": spaces.Discrete(3, start=-1), "b": spaces.MultiDiscrete([3])})
    action_space = spaces.Discrete(2)

    def __init__(self, wrong: int | None = None) -> None:
        self.wrong, self.resets = wrong, 0  # the reset that shows what is not in the space

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        a, b = (int(x) for x in self.np_random.integers(3, size=2))
        self.equal = a == b
        self.resets += 1
        return {"a": a - 1, "b": np.array([b + 3 * (self.resets - 1 == self.wrong)])}, {}

    def step(self, action: int) -> Any:
        return {"a": 0, "b": np.array([0])}, float(action == self.equal), True, False, {}


class Vast(Pairs):
    """More states than fit in memory."""

    observation_space = spaces.MultiDiscrete([1000, 1000, 100])

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(3, int), {}


class Seen(gym.ObservationWrapper):
    """What a third party's wrapper makes of categories: numbers."""

    observation_space = spaces.Box(-1, 2, (2,), np.float32)

    def observation(self, observation: Any) -> np.ndarray:
        return np.array([observation["a"], observation["b"][0]], np.float32)


def wrapped() -> gym.Env:
    return Seen(Pairs())


gym.register("tests/Seen-v0", wrapped, max_episode_steps=5)
gym.register("tests/Vast-v0", "tests.envs.test_category_numbers:Vast", max_episode_steps=5)
gym.register("tests/Pairs-v0", "tests.envs.test_category_numbers:Pairs", max_episode_steps=5)


@pytest.mark.parametrize(
    ("space", "size", "observation", "state"),
    [
        (CARDS, 704, (20, 7, 1), 20 * 22 + 7 * 2 + 1),
        (CARDS, 704, (31, 10, 1), 703),
        (spaces.MultiDiscrete([[2, 3], [4, 5]]), 120, np.array([[1, 2], [3, 4]]), 119),
        (spaces.MultiDiscrete([4, 5], start=[2, -1]), 20, np.array([3, -1]), 5),
        (spaces.MultiBinary(3), 8, np.array([1, 0, 1], np.int8), 5),
        (spaces.Dict({"x": CARDS, "y": spaces.Discrete(2, start=5)}), 1408, {"y": 6, "x": (0, 0, 1)}, 3),
        (spaces.Discrete(6, start=2), 8, None, None),  # its numbers are the states
        (spaces.Tuple((spaces.Discrete(2), spaces.Box(0, 1))), None, None, None),
        (spaces.MultiDiscrete([10] * 12), None, None, None),  # no list of states
        (spaces.Box(0, 1), None, None, None),
    ],
)
def test_states_are_counted_and_the_last_category_varies_fastest(
    space: gym.Space, size: int | None, observation: Any, state: int | None
) -> None:
    assert num_states(space) == size
    if observation is not None:
        assert number(space, observation) == state


def test_every_observation_has_a_number_of_its_own() -> None:
    space = spaces.Tuple((spaces.Discrete(3, start=1), spaces.MultiBinary(2), spaces.MultiDiscrete([2, 3])))
    seen = {
        number(space, (a, np.array([b, c]), np.array([d, e])))
        for a in (1, 2, 3) for b in (0, 1) for c in (0, 1) for d in (0, 1) for e in (0, 1, 2)
    }  # fmt: skip
    assert seen == set(range(72)) and num_states(space) == 72


@pytest.mark.parametrize(
    "observation", [(32, 0, 0), (0, -1, 0), (0, 0, 2), (0, 0), (0, 0, 0, 0), (0, "a", 0), (0, 0.5, 0), None]
)
def test_what_is_not_in_the_space_has_no_number(observation: Any) -> None:
    with pytest.raises(ValueError, match=r"expected an observation in Tuple.*received"):
        number(CARDS, observation)


def test_learning_finds_the_best_actions_and_the_policy_takes_observations_as_they_are(
    tiny: Callable[..., Any],
) -> None:
    job = tiny("q_learning", "env.id=tests/Pairs-v0", "env.imports=[tests.envs.test_category_numbers]", "trials=2", "budget.steps=600",
               "algo.epsilon=1.0", "algo.alpha=0.5", "evaluation.final_episodes=20")  # fmt: skip
    assert job["final/return"]["per_trial"] == [1.0, 1.0]
    policy = rlexp.load_policy(job.folder, seed=0, allow_imports=True)  # this module is of no distribution
    for a in range(3):
        for b in range(3):
            assert policy({"a": a - 1, "b": np.array([b])}) == policy(3 * a + b) == (a == b)
    assert policy(np.arange(9)).tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 1]


def test_policies_of_bins_and_of_numbered_states_take_sequences_too(tiny: Callable[..., Any]) -> None:
    for options, batch in ([("+discretizer=cartpole",), np.zeros((2, 4))], [("env=frozen_lake",), np.array([0, 3])]):
        policy = rlexp.load_policy(tiny("q_learning", *options, "trials=1", "budget.steps=50").folder)
        assert policy(tuple(batch.tolist())).tolist() == policy(batch).tolist() and len(policy(batch)) == 2
    assert policy(3) in range(4)


def test_what_a_wrapper_makes_of_categories_is_what_counts(tiny: Callable[..., Any]) -> None:
    seen = ("env.id=tests/Seen-v0", "env.imports=[tests.envs.test_category_numbers]")
    info = inspection.inspect(compose(*seen).env, tabular=True)
    assert (info.observation_shape, info.observation_dtype, info.num_states) == ((2,), "float32", None)
    bins = ("dimensions=[0,1]", "low=[-1.5,-0.5]", "high=[1.5,2.5]", "num_bins=[3,3]")
    job = tiny("q_learning", *seen, *(f"algo.discretizer.{each}" for each in bins), "trials=1", "budget.steps=600",
               "algo.epsilon=1.0", "algo.alpha=0.5")  # fmt: skip
    assert job["final/return"]["per_trial"] == [1.0]


def test_a_network_still_gets_them_one_hot() -> None:
    env = compose("env.id=Blackjack-v1").env
    assert inspection.inspect(env).observation_shape == (45,) and inspection.inspect(env).num_states is None
    info = inspection.inspect(env, tabular=True)
    assert (info.observation_shape, info.observation_dtype, info.num_states) == ((), "int64", 704)


def test_an_observation_outside_its_space_is_told(tiny: Callable[..., Any]) -> None:
    pairs = ("q_learning", "env.id=tests/Pairs-v0", "env.imports=[tests.envs.test_category_numbers]")
    said = r"reset raised ValueError: expected an observation in Dict.*, received {'a': .*array\(\[[345]\]\)}"
    with pytest.raises(
        Refusal, match=rf"env.id: expected an environment that can be reset, .*tests/Pairs-v0' \({said}"
    ):
        tiny(*pairs, "+env.kwargs.wrong=0")
    with pytest.raises(Diverged, match=rf"tests/Pairs-v0.*step 0: {said}"):
        tiny(*pairs, "+env.kwargs.wrong=3")


def test_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(Refusal, match=r"env.id: expected tables that fit .*\nLower trials\."):
        resolve(compose("algo=q_learning", "env.id=tests/Vast-v0", "trials=100000"))
