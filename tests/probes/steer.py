"""A probe with continuous actions, for both engines: nothing in it is left to chance, and the best actions are known.

Two states take turns for ten steps. The reward is minus the squared distance of both numbers of the action to the
state's best, in units of half the width of their bounds: with gamma = 0, q(s, a) is the reward.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import tensorflow as tf
from gymnasium import spaces

from rlexp.config.registry import Dynamics
from rlexp.envs.tensor.base import TensorEnv

LOW, HIGH = np.float32([-2.0, 0.0]), np.float32([4.0, 1.0])
HALF = (HIGH - LOW) / 2
BEST = np.float32([[2.5, 0.25], [-0.5, 0.625]])  # of each state: [1/2, -1/2] and [-1/2, 1/4] of the way to the bounds
LENGTH = 10


class Steer(gym.Env[np.ndarray, Any]):
    """The environment for Gymnasium."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Box(LOW, HIGH, dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._num_steps = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        if not self.action_space.contains(action):
            raise ValueError(f"expected an action in {self.action_space}, received {action!r}")
        apart = (action - BEST[self._num_steps % 2]) / HALF
        self._num_steps += 1
        return self._observation(), -float(np.square(apart).sum()), self._num_steps == LENGTH, False, {}

    def _observation(self) -> np.ndarray:
        return np.eye(2, dtype=np.float32)[self._num_steps % 2]


class TensorSteer(TensorEnv):
    """State: steps of the episode so far."""

    state_size, reset_width = 1, 1

    def reset(self, u: tf.Tensor) -> tf.Tensor:
        return 0.0 * u

    def step(self, state: tf.Tensor, a_tm1: tf.Tensor, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        apart = (a_tm1 - tf.tensordot(self.observe(state), tf.constant(BEST), 1)) / HALF
        return state + 1.0, -tf.reduce_sum(tf.square(apart)), state[0] + 1.0 >= LENGTH

    def observe(self, state: tf.Tensor) -> tf.Tensor:
        odd = tf.math.floormod(state[0], 2.0)
        return tf.stack([1.0 - odd, odd])


DYNAMICS = Dynamics(f"{__name__}:TensorSteer")

if "probes/Steer-v0" not in gym.registry:
    gym.register("probes/Steer-v0", entry_point=f"{__name__}:Steer")
