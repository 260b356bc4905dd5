"""Acrobot-v1 (Sutton 1996; Sutton and Barto 2018, "book" dynamics), Gymnasium's classic control in float32."""

from __future__ import annotations

import math

import tensorflow as tf

from rlexp.envs.tensor.base import TensorEnv, between

SECONDS, GRAVITY = 0.2, 9.8
MAX_VELOCITY_1, MAX_VELOCITY_2 = 4 * math.pi, 9 * math.pi
CENTRE = 0.5  # of mass, of each link; masses, lengths and moments of inertia are 1


class Acrobot(TensorEnv):
    """State: two angles and their velocities; the observation has cosines and sines of the angles. -1 per step."""

    state_size, reset_width = 4, 4

    def reset(self, u: tf.Tensor) -> tf.Tensor:
        return between(-0.1, 0.1, u)

    def step(self, state: tf.Tensor, a_tm1: tf.Tensor, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        torque = tf.cast(a_tm1 - 1, tf.float32)
        k_1 = _derivative(state, torque)  # [4], the classic Runge-Kutta method
        k_2 = _derivative(state + SECONDS / 2 * k_1, torque)
        k_3 = _derivative(state + SECONDS / 2 * k_2, torque)
        k_4 = _derivative(state + SECONDS * k_3, torque)
        theta_1, theta_2, dot_1, dot_2 = tf.unstack(state + SECONDS / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4))
        theta_1, theta_2 = _wrap(theta_1), _wrap(theta_2)
        dot_1 = tf.clip_by_value(dot_1, -MAX_VELOCITY_1, MAX_VELOCITY_1)
        dot_2 = tf.clip_by_value(dot_2, -MAX_VELOCITY_2, MAX_VELOCITY_2)
        terminated = -tf.cos(theta_1) - tf.cos(theta_2 + theta_1) > 1.0
        return tf.stack([theta_1, theta_2, dot_1, dot_2]), tf.where(terminated, 0.0, -1.0), terminated

    def observe(self, state: tf.Tensor) -> tf.Tensor:
        theta_1, theta_2, dot_1, dot_2 = tf.unstack(state)
        return tf.stack([tf.cos(theta_1), tf.sin(theta_1), tf.cos(theta_2), tf.sin(theta_2), dot_1, dot_2])


def _derivative(state: tf.Tensor, torque: tf.Tensor) -> tf.Tensor:
    theta_1, theta_2, dot_1, dot_2 = tf.unstack(state)
    cos_2, sin_2 = tf.cos(theta_2), tf.sin(theta_2)
    d_1 = CENTRE**2 + 1 + CENTRE**2 + 2 * CENTRE * cos_2 + 2
    d_2 = CENTRE**2 + CENTRE * cos_2 + 1
    phi_2 = CENTRE * GRAVITY * tf.sin(theta_1 + theta_2)  # cos(x - pi / 2) = sin(x)
    phi_1 = -CENTRE * (tf.square(dot_2) + 2 * dot_2 * dot_1) * sin_2 + (CENTRE + 1) * GRAVITY * tf.sin(theta_1) + phi_2
    acc_2 = (torque + d_2 / d_1 * phi_1 - CENTRE * tf.square(dot_1) * sin_2 - phi_2) / (
        CENTRE**2 + 1 - tf.square(d_2) / d_1
    )
    return tf.stack([dot_1, dot_2, -(d_2 * acc_2 + phi_1) / d_1, acc_2])


def _wrap(angle: tf.Tensor) -> tf.Tensor:
    """The angle shifted into [-pi, pi] by whole turns; angles in this range are not changed."""
    return angle - 2 * math.pi * tf.round(angle / (2 * math.pi))
