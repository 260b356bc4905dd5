"""MountainCar-v0 (Moore 1990), the equations of Gymnasium's classic control in float32."""

from __future__ import annotations

import tensorflow as tf

from rlexp.envs.tensor.base import TensorEnv, between

MIN_POSITION, MAX_POSITION, MAX_SPEED = -1.2, 0.6, 0.07
FORCE, GRAVITY = 0.001, 0.0025


class MountainCar(TensorEnv):
    """State and observation: position, velocity. -1 per step.

    Args:
        goal_velocity: minimum velocity at the goal.
    """

    state_size, reset_width = 2, 1
    goal = 0.5  # position

    def __init__(self, goal_velocity: float = 0) -> None:
        self.goal_velocity = float(goal_velocity)

    def reset(self, u: tf.Tensor) -> tf.Tensor:
        return tf.concat([between(-0.6, -0.4, u), tf.zeros_like(u)], axis=0)

    def step(self, state: tf.Tensor, a_tm1: tf.Tensor, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        state, terminated = self.pushed(state, tf.cast(a_tm1 - 1, tf.float32) * FORCE)
        return state, tf.constant(-1.0), terminated

    def pushed(self, state: tf.Tensor, push: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The state after a push [], and whether the goal is reached.  # [2], []"""
        position, velocity = tf.unstack(state)
        velocity = tf.clip_by_value(velocity + push - tf.cos(3 * position) * GRAVITY, -MAX_SPEED, MAX_SPEED)
        position = tf.clip_by_value(position + velocity, MIN_POSITION, MAX_POSITION)
        velocity = tf.where((position <= MIN_POSITION) & (velocity < 0), 0.0, velocity)  # the wall on the left
        return tf.stack([position, velocity]), (position >= self.goal) & (velocity >= self.goal_velocity)
