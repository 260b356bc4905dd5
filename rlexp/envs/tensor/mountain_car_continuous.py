"""MountainCarContinuous-v0 (Moore 1990; Gymnasium's classic control): the car's force is a number; in float32."""

from __future__ import annotations

import tensorflow as tf

from rlexp.envs.tensor.base import TensorEnv
from rlexp.envs.tensor.mountain_car import GRAVITY, MAX_POSITION, MAX_SPEED, MIN_POSITION, reset

POWER, GOAL = 0.0015, 0.45


class MountainCarContinuous(TensorEnv):
    """State and observation: position, velocity. 100 at the goal, less .1 force^2 per step.

    Args:
        goal_velocity: minimum velocity at the goal.
    """

    state_size, reset_width = 2, 1

    def __init__(self, goal_velocity: float = 0) -> None:
        self.goal_velocity = float(goal_velocity)

    def reset(self, u: tf.Tensor) -> tf.Tensor:
        return reset(u)

    def step(self, state: tf.Tensor, a_tm1: tf.Tensor, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        position, velocity = tf.unstack(state)
        force = tf.clip_by_value(a_tm1[0], -1.0, 1.0)
        velocity = tf.clip_by_value(velocity + force * POWER - tf.cos(3 * position) * GRAVITY, -MAX_SPEED, MAX_SPEED)
        position = tf.clip_by_value(position + velocity, MIN_POSITION, MAX_POSITION)
        velocity = tf.where((position <= MIN_POSITION) & (velocity < 0), 0.0, velocity)  # the wall on the left
        terminated = (position >= GOAL) & (velocity >= self.goal_velocity)
        r_t = tf.where(terminated, 100.0, 0.0) - 0.1 * tf.square(a_tm1[0])  # of the action as it was given
        return tf.stack([position, velocity]), r_t, terminated
