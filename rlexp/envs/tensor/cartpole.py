"""CartPole-v1 (Barto, Sutton and Anderson 1983), the equations of Gymnasium's classic control in float32."""

from __future__ import annotations

import math

import tensorflow as tf

from rlexp.envs.tensor.base import TensorEnv, between

GRAVITY, FORCE, SECONDS = 9.8, 10.0, 0.02
POLE_MASS, TOTAL_MASS, HALF_LENGTH = 0.1, 1.1, 0.5
MAX_POSITION, MAX_ANGLE = 2.4, 12 * 2 * math.pi / 360


class CartPole(TensorEnv):
    """State and observation: position, velocity, angle, angular velocity.

    Args:
        sutton_barto_reward: rewards are 0 per step and -1 at the end, instead of 1 per step.
    """

    state_size, reset_width = 4, 4

    def __init__(self, sutton_barto_reward: bool = False) -> None:
        self.rewards = (0.0, -1.0) if sutton_barto_reward else (1.0, 1.0)

    def reset(self, u: tf.Tensor) -> tf.Tensor:
        return between(-0.05, 0.05, u)

    def step(self, state: tf.Tensor, a_tm1: tf.Tensor, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        x, x_dot, theta, theta_dot = tf.unstack(state)
        force = tf.where(tf.equal(a_tm1, 1), FORCE, -FORCE)
        cos, sin = tf.cos(theta), tf.sin(theta)
        pole = POLE_MASS * HALF_LENGTH
        temp = (force + pole * tf.square(theta_dot) * sin) / TOTAL_MASS
        theta_acc = (GRAVITY * sin - cos * temp) / (HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * tf.square(cos) / TOTAL_MASS))
        x_acc = temp - pole * theta_acc * cos / TOTAL_MASS
        x, theta = x + SECONDS * x_dot, theta + SECONDS * theta_dot
        x_dot, theta_dot = x_dot + SECONDS * x_acc, theta_dot + SECONDS * theta_acc
        terminated = (tf.abs(x) > MAX_POSITION) | (tf.abs(theta) > MAX_ANGLE)
        going_on, ended = self.rewards
        return tf.stack([x, x_dot, theta, theta_dot]), tf.where(terminated, ended, going_on), terminated
