"""Tensor environments: the dynamics of one trial as pure functions, with all randomness given as data.

The uniform numbers `u` are those that Gymnasium's generator would draw, in its order: with the numbers of one seed, an
episode starts in the same state here and in Gymnasium. The state is one float32 vector, so that a replay ring can keep
states, which are never larger than the observations made of them.

Axes: D numbers of the state.
"""

from __future__ import annotations

import abc
from typing import Any

import gymnasium as gym
import numpy as np
import tensorflow as tf

from rlexp.envs.spec import Box


class TensorEnv(abc.ABC):
    """The dynamics of one trial.

    Attributes:
        state_size: D.
        reset_width, step_width: uniform numbers that a reset and a step take.
    """

    state_size: int
    reset_width: int
    step_width: int = 0

    @abc.abstractmethod
    def reset(self, u: tf.Tensor) -> tf.Tensor:
        """The first state of an episode [D], float32; u: uniform numbers in [0, 1) [reset_width]."""

    @abc.abstractmethod
    def step(self, state: tf.Tensor, a_tm1: tf.Tensor, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """One step, without any limit of time.

        Args:
            state: the trial's state.  # [D]
            a_tm1: the action: int32 [], or float32 of the shape of a Box.  # [*action shape]
            u: uniform numbers in [0, 1).  # [step_width]

        Returns:
            The next state, the reward (float32) and whether the episode has terminated (bool).  # [D], [], []
        """

    def observe(self, state: tf.Tensor) -> tf.Tensor:
        """The observation of a state [D]: the state itself unless overridden."""
        return state


class Clipped(TensorEnv):
    """Dynamics whose actions are taken as `Box.to_env` gives them to Gymnasium: within the bounds, 0 for NaN.

    Args:
        env: the dynamics.
        action: the spec of their actions.
    """

    def __init__(self, env: TensorEnv, action: Box) -> None:
        self._env, self._bounds = env, tuple(bound.astype(np.float32) for bound in action.bounds)
        self.state_size, self.reset_width, self.step_width = env.state_size, env.reset_width, env.step_width

    def reset(self, u: tf.Tensor) -> tf.Tensor:
        return self._env.reset(u)

    def step(self, state: tf.Tensor, a_tm1: tf.Tensor, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        taken = tf.where(tf.math.is_finite(a_tm1), a_tm1, 0.0)
        return self._env.step(state, tf.clip_by_value(taken, *self._bounds), u)

    def observe(self, state: tf.Tensor) -> tf.Tensor:
        return self._env.observe(state)


def limited_step(
    env: TensorEnv, limit: int | None, state: tf.Tensor, length: tf.Tensor, a_tm1: tf.Tensor, u: tf.Tensor
) -> tuple[tf.Tensor, Any, Any, Any]:
    """One step under the time limit of Gymnasium's `TimeLimit`: the last step may be both terminated and truncated.

    Args:
        env: the dynamics.
        limit: maximum number of steps of an episode; None: no limit.
        state: the trial's state.  # [D]
        length: steps of the episode before this one, int32.  # []
        a_tm1: the action.  # [*action shape]
        u: uniform numbers.  # [step_width]

    Returns:
        Next state, reward, terminated, truncated.  # [D], [], [], []
    """
    state, r_t, terminated = env.step(state, a_tm1, u)
    truncated = tf.zeros_like(terminated) if limit is None else length + 1 >= limit
    return state, r_t, terminated, truncated


def between(low: float, high: float, u: tf.Tensor) -> tf.Tensor:
    """Uniform numbers in [low, high), as NumPy's `Generator.uniform` makes them."""
    return low + (high - low) * u


def gymnasium_uniforms(seed: int, count: int) -> np.ndarray:
    """The first `count` uniform numbers that an environment reset with `seed` would draw.  # [count] float64"""
    return gym.utils.seeding.np_random(seed)[0].random(count)
