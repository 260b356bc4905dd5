"""Probes whose actions are not one number, with known best actions, and the same as tensor environments.

One step each: the state, 0 or 1, is drawn at the reset and observed one-hot. An action outside the space raises an error.

Axes: S states, D numbers of an action.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import tensorflow as tf
from gymnasium import spaces

from rlexp.config.registry import Dynamics
from rlexp.envs.tensor.base import TensorEnv

OBSERVATIONS = np.eye(2, dtype=np.float32)


class OneStep(gym.Env[np.ndarray, Any]):
    """Draws a state, pays for one action, and terminates."""

    observation_space = spaces.Box(0.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.state = int(self.np_random.random() >= 0.5)
        return OBSERVATIONS[self.state].copy(), {}

    def step(self, action: Any) -> Any:
        if not self.action_space.contains(action):
            raise ValueError(f"expected an action of {self.action_space}, received {action!r}")
        return OBSERVATIONS[self.state].copy(), self.reward(action), True, False, {}

    def reward(self, action: np.ndarray) -> float:
        raise NotImplementedError


class Aim(OneStep):
    """Minus the squared distance from `aims` in halves of the bounds' width; one of them is beyond a bound.

    The best actions are `best`, with returns of 0 and -.25. Actions are float64.
    """

    low, high = np.array([-1.0, 0.0]), np.array([1.0, 4.0])
    aims = np.array([[0.5, 1.0], [-0.25, 5.0]])  # [S, D]
    best = np.array([[0.5, 1.0], [-0.25, 4.0]])  # [S, D]
    action_space = spaces.Box(low, high, dtype=np.float64)

    def reward(self, action: np.ndarray) -> float:
        return -float(np.square((action - self.aims[self.state]) / [1.0, 2.0]).sum())


class Choices(OneStep):
    """One for each of two choices that is the right one; the environment counts the first from 1 on."""

    best = np.array([[2, 0], [1, 2]])  # [S, D], as the environment counts them
    action_space = spaces.MultiDiscrete([2, 3], start=[1, 0])

    def reward(self, action: np.ndarray) -> float:
        return float((action == self.best[self.state]).sum())


class TensorOneStep(TensorEnv):
    """The state as one number."""

    state_size, reset_width = 1, 1
    best: ClassVar[np.ndarray]

    def reset(self, u: tf.Tensor) -> tf.Tensor:
        return tf.cast(u >= 0.5, tf.float32)

    def step(self, state: tf.Tensor, a_tm1: tf.Tensor, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return state, self.reward(tf.cast(state[0], tf.int32), a_tm1), tf.constant(True)

    def observe(self, state: tf.Tensor) -> tf.Tensor:
        return tf.one_hot(tf.cast(state[0], tf.int32), 2)

    def reward(self, state: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
        raise NotImplementedError


class TensorAim(TensorOneStep):
    """`Aim`."""

    def reward(self, state: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
        aim = tf.gather(tf.constant(Aim.aims, tf.float32), state)
        return -tf.reduce_sum(tf.square((action - aim) / [1.0, 2.0]))


class TensorChoices(TensorOneStep):
    """`Choices`, counted from 0."""

    def reward(self, state: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
        best = tf.gather(tf.constant(Choices.best - [1, 0], tf.int32), state)
        return tf.reduce_sum(tf.cast(tf.equal(action, best), tf.float32))


AIM, CHOICES = Dynamics(f"{__name__}:TensorAim"), Dynamics(f"{__name__}:TensorChoices")

for _class in (Aim, Choices):
    if (_id := f"probes/{_class.__name__}-v0") not in gym.registry:
        gym.register(_id, entry_point=f"{__name__}:{_class.__name__}")
