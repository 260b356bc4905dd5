"""Tensor environments against Gymnasium's own step, on at least 10,000 random transitions each."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf

from rlexp.config.schema.env import EnvSettings
from rlexp.engines.vectorized import mapped
from rlexp.envs import tensor
from rlexp.envs.spaces import from_action_space
from rlexp.envs.spec import Box
from rlexp.envs.tensor.base import gymnasium_uniforms, limited_step

NUM = 10_000
# float32 here, float64 there: greatest difference as a share of the largest number of a state. Acrobot's Runge-Kutta step
# of 0.2 seconds at up to 28 rad/s multiplies rounding errors.
TOLERANCES = {
    "CartPole-v1": 1e-6,
    "MountainCar-v0": 1e-6,
    "Acrobot-v1": 1e-4,
    "Pendulum-v1": 1e-6,
    "MountainCarContinuous-v0": 1e-6,
}

CLASSIC = [
    ("CartPole-v1", {}, [(-2.6, 2.6), (-3, 3), (-0.25, 0.25), (-3, 3)]),
    ("CartPole-v1", {"sutton_barto_reward": True}, [(-2.6, 2.6), (-3, 3), (-0.25, 0.25), (-3, 3)]),
    ("MountainCar-v0", {}, [(-1.2, 0.6), (-0.07, 0.07)]),
    ("MountainCar-v0", {"goal_velocity": 0.03}, [(-1.2, 0.6), (-0.07, 0.07)]),
    ("Acrobot-v1", {}, [(-np.pi, np.pi), (-np.pi, np.pi), (-12, 12), (-28, 28)]),
]
CONTINUOUS = [
    ("Pendulum-v1", {}, [(-np.pi, np.pi), (-8, 8)]),
    ("Pendulum-v1", {"g": 9.81}, [(-np.pi, np.pi), (-8, 8)]),
    ("MountainCarContinuous-v0", {}, [(-1.2, 0.6), (-0.07, 0.07)]),
    ("MountainCarContinuous-v0", {"goal_velocity": 0.03}, [(-1.2, 0.6), (-0.07, 0.07)]),
]
TABLES = [
    ("FrozenLake-v1", {}),
    ("FrozenLake-v1", {"map_name": "8x8", "is_slippery": False}),
    ("CliffWalking-v1", {}),
    ("CliffWalking-v1", {"is_slippery": True}),
    ("Taxi-v4", {"is_rainy": True}),
]


def settings(env_id: str, kwargs: dict[str, Any]) -> EnvSettings:
    return EnvSettings(id=env_id, kwargs=kwargs)


def transitions(env: Any, states: np.ndarray, actions: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, ...]:
    """States, observations, rewards, terminations of one step each."""

    def one(state: tf.Tensor, action: tf.Tensor, u: tf.Tensor) -> tuple[tf.Tensor, ...]:
        state, r_t, terminated = env.step(state, action, u)
        return state, env.observe(state), r_t, terminated

    return tuple(x.numpy() for x in mapped(one)(*map(tf.constant, (states, actions, u))))


@pytest.mark.parametrize(("env_id", "kwargs", "ranges"), CLASSIC)
def test_classic_control_steps_as_gymnasium_does(env_id: str, kwargs: dict[str, Any], ranges: Any) -> None:
    rng = np.random.default_rng(0)
    states = np.stack([rng.uniform(low, high, NUM) for low, high in ranges], axis=1).astype(np.float32)
    theirs = gym.make(env_id, **kwargs).unwrapped
    actions = rng.integers(theirs.action_space.n, size=NUM).astype(np.int32)
    states_t, observations, rewards, terminated = transitions(
        tensor.build(settings(env_id, kwargs)), states, actions, np.zeros((NUM, 0), np.float32)
    )
    scale = np.array([high for _, high in ranges])
    expected = {"state": np.zeros_like(states, np.float64), "observation": np.zeros_like(observations)}
    expected |= {"reward": np.zeros(NUM), "terminated": np.zeros(NUM, bool)}
    theirs.reset(seed=0)
    for i in range(NUM):
        theirs.state = states[i].astype(np.float64)
        theirs.steps_beyond_terminated = None
        observation, expected["reward"][i], expected["terminated"][i], _, _ = theirs.step(int(actions[i]))
        expected["state"][i], expected["observation"][i] = np.asarray(theirs.state), observation
    apart = np.abs(states_t - expected["state"]) / scale
    if env_id == "Acrobot-v1":  # an angle of pi is one of -pi
        apart[:, :2] = np.minimum(apart[:, :2], np.abs(apart[:, :2] - 2))
    assert apart.max() < TOLERANCES[env_id]
    assert np.abs(observations - expected["observation"]).max() / scale.max() < TOLERANCES[env_id]
    assert (terminated == expected["terminated"]).all() and 0 < terminated.sum() < NUM
    np.testing.assert_array_equal(rewards, expected["reward"].astype(np.float32))


@pytest.mark.parametrize(("env_id", "kwargs", "ranges"), CONTINUOUS)
def test_continuous_control_steps_as_gymnasium_does(env_id: str, kwargs: dict[str, Any], ranges: Any) -> None:
    """A third of the actions lie beyond the bounds: what reaches Gymnasium is clipped by the spec, here by `Clipped`."""
    rng = np.random.default_rng(0)
    states = np.stack([rng.uniform(low, high, NUM) for low, high in ranges], axis=1).astype(np.float32)
    theirs = gym.make(env_id, **kwargs).unwrapped
    spec = from_action_space(theirs.action_space)
    assert isinstance(spec, Box) and spec.bounded
    actions = (1.5 * rng.uniform(*spec.bounds, (NUM, 1))).astype(np.float32)
    ours = tensor.build(settings(env_id, kwargs), spec)
    states_t, observations, rewards, terminated = transitions(ours, states, actions, np.zeros((NUM, 0), np.float32))
    expected = {"state": np.zeros_like(states, np.float64), "observation": np.zeros_like(observations)}
    expected |= {"reward": np.zeros(NUM), "terminated": np.zeros(NUM, bool)}
    theirs.reset(seed=0)
    taken = spec.to_env(actions)
    for i in range(NUM):
        theirs.state = states[i].astype(np.float64)
        observation, expected["reward"][i], expected["terminated"][i], _, _ = theirs.step(taken[i])
        expected["state"][i], expected["observation"][i] = np.asarray(theirs.state), observation
    scale = np.array([high for _, high in ranges])
    apart = np.abs(states_t - expected["state"]) / scale
    if env_id == "Pendulum-v1":  # whole turns do not count here
        apart[:, 0] = np.abs((apart[:, 0] + 1) % 2 - 1)
    assert apart.max() < TOLERANCES[env_id]
    assert np.abs(observations - expected["observation"]).max() / scale.max() < TOLERANCES[env_id]
    assert (terminated == expected["terminated"]).all()
    assert terminated.any() == (env_id != "Pendulum-v1")
    np.testing.assert_allclose(rewards, expected["reward"], rtol=1e-6, atol=1e-6)


def test_actions_beyond_the_bounds_are_those_at_the_bounds_and_nan_is_none() -> None:
    spec = Box((1,), "float32", (-1.0,), (1.0,))
    env = tensor.build(settings("MountainCarContinuous-v0", {}), spec)
    state, start = tf.constant([-0.5, 0.0]), tf.zeros(0)
    for given, taken in ((7.0, 1.0), (-1.5, -1.0), (np.nan, 0.0), (np.inf, 0.0)):
        assert spec.to_env(np.array([given], np.float32)).tolist() == [taken]
        found, expected = (env.step(state, tf.constant([a], tf.float32), start) for a in (given, taken))
        assert found[1] == expected[1] == np.float32(-0.1 * taken**2)
        assert (found[0].numpy() == expected[0].numpy()).all()
    bare = tensor.build(settings("MountainCarContinuous-v0", {}))
    assert bare.step(state, tf.constant([2.0]), start)[1] == np.float32(-0.4)  # Gymnasium's own: the force is clipped


@pytest.mark.parametrize(("env_id", "kwargs"), TABLES)
def test_tables_step_as_gymnasium_does_with_its_own_numbers(env_id: str, kwargs: dict[str, Any]) -> None:
    """Whole episodes from seeds: the same uniform numbers lead through the same states."""
    ours, theirs = tensor.build(settings(env_id, kwargs)), gym.make(env_id, **kwargs).unwrapped
    rng, length = np.random.default_rng(1), 20
    states, actions, u, expected = [], [], [], []
    for seed in range(NUM // length):
        numbers = gymnasium_uniforms(seed, 1 + length).astype(np.float32)
        state, _ = theirs.reset(seed=seed)
        assert state == ours.reset(tf.constant(numbers[:1])).numpy()[0]
        for t in range(length):
            action = int(rng.integers(theirs.action_space.n))
            following, reward, terminated, _, _ = theirs.step(action)
            states.append([state])
            actions.append(action)
            u.append(numbers[1 + t : 2 + t])
            expected.append((following, reward, terminated))
            state = following
    got = transitions(ours, np.float32(states), np.int32(actions), np.stack(u))
    following, reward, terminated = (np.array(column) for column in zip(*expected, strict=True))
    assert (got[0][:, 0] == following).all() and (got[1].argmax(axis=1) == following).all()
    assert (got[2] == reward.astype(np.float32)).all() and (got[3] == terminated).all()
    assert len(set(following.tolist())) > 10


def test_an_impossible_last_outcome_is_never_drawn() -> None:
    from rlexp.envs.tensor.table import Table

    rows = {
        0: {0: [(0.5, 0, 0.0, False), (0.0, 1, 0.0, False), (0.5, 1, 1.0, True), (0.0, 0, 9.0, True)]},
        1: {0: [(1.0, 1, 0.0, True)]},
    }
    table = Table(rows, [0.0, 1.0], 1)
    assert table.reset(tf.constant([0.999999])).numpy().tolist() == [1.0]
    almost_one = np.nextafter(np.float32(1), np.float32(0))
    for u, expected in ((0.0, 0.0), (0.49, 0.0), (0.5, 1.0), (almost_one, 1.0)):
        assert table.step(tf.constant([0.0]), tf.constant(0), tf.constant([u]))[0].numpy().tolist() == [expected]


@pytest.mark.parametrize("env_id", TOLERANCES)
def test_resets_are_gymnasiums(env_id: str) -> None:
    env, theirs = tensor.build(settings(env_id, {})), gym.make(env_id)
    for seed in range(20):
        state = env.reset(tf.constant(gymnasium_uniforms(seed, env.reset_width).astype(np.float32)))
        np.testing.assert_allclose(env.observe(state), theirs.reset(seed=seed)[0], atol=5e-7)


def test_time_limit_truncates_as_gymnasium_does_also_with_the_step_that_terminates() -> None:
    env = tensor.build(settings("CartPole-v1", {}))
    upright, falling = [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.2, 3.0]
    for state in (upright, falling):
        for length in (8, 9):
            theirs = gym.make("CartPole-v1", max_episode_steps=10)
            theirs.reset(seed=0)
            theirs.unwrapped.state = np.array(state)
            theirs._elapsed_steps = length
            _, _, *expected, _ = theirs.step(1)
            got = limited_step(env, 10, tf.constant(state), tf.constant(length), tf.constant(1), tf.zeros(0))[2:]
            assert [bool(flag) for flag in got] == expected == [state == falling, length == 9]
    unlimited = limited_step(env, None, tf.constant(upright), tf.constant(10**6), tf.constant(1), tf.zeros(0))
    assert not unlimited[3]
