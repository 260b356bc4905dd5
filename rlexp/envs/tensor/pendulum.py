"""Pendulum-v1 (Gymnasium's classic control): swing a pendulum up and hold it there; its equations in float32."""

from __future__ import annotations

import math

import tensorflow as tf

from rlexp.envs.tensor.base import TensorEnv, between

MAX_SPEED, MAX_TORQUE, SECONDS = 8.0, 2.0, 0.05


class Pendulum(TensorEnv):
    """State: angle from upright, in [-pi, pi], and its velocity; the observation has cosine and sine of the angle.

    The reward is -(angle^2 + .1 velocity^2 + .001 torque^2) of the state before the step. Nothing terminates.

    Args:
        g: acceleration of gravity.
    """

    state_size, reset_width = 2, 2

    def __init__(self, g: float = 10.0) -> None:
        self.g = float(g)

    def reset(self, u: tf.Tensor) -> tf.Tensor:
        return between(-1.0, 1.0, u) * tf.constant([math.pi, 1.0])

    def step(self, state: tf.Tensor, a_tm1: tf.Tensor, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        theta, velocity = tf.unstack(state)
        torque = tf.clip_by_value(a_tm1[0], -MAX_TORQUE, MAX_TORQUE)
        cost = tf.square(theta) + 0.1 * tf.square(velocity) + 0.001 * tf.square(torque)
        velocity += (1.5 * self.g * tf.sin(theta) + 3.0 * torque) * SECONDS  # mass and length are 1
        velocity = tf.clip_by_value(velocity, -MAX_SPEED, MAX_SPEED)
        theta += velocity * SECONDS
        theta -= 2 * math.pi * tf.round(theta / (2 * math.pi))
        return tf.stack([theta, velocity]), -cost, tf.constant(False)

    def observe(self, state: tf.Tensor) -> tf.Tensor:
        theta, velocity = tf.unstack(state)
        return tf.stack([tf.cos(theta), tf.sin(theta), velocity])
