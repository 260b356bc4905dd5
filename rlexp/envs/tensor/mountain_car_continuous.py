"""MountainCarContinuous-v0 (Moore 1990; Gymnasium's classic control): the car's force is a number; in float32."""

from __future__ import annotations

import tensorflow as tf

from rlexp.envs.tensor.mountain_car import MountainCar

POWER = 0.0015


class MountainCarContinuous(MountainCar):
    """As `MountainCar`; 100 at the goal, less .1 force^2 per step."""

    goal = 0.45

    def step(self, state: tf.Tensor, a_tm1: tf.Tensor, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        state, terminated = self.pushed(state, tf.clip_by_value(a_tm1[0], -1.0, 1.0) * POWER)
        r_t = tf.where(terminated, 100.0, 0.0) - 0.1 * tf.square(a_tm1[0])  # of the action as it was given
        return state, r_t, terminated
