"""`tests.probes.catch` as a tensor environment: pictures for the fused engine."""

from __future__ import annotations

import tensorflow as tf

from rlexp.config.registry import Dynamics
from rlexp.envs.tensor.base import TensorEnv
from tests.probes.catch import SIZE


class TensorCatch(TensorEnv):
    """State: row and column of the ball, column of the paddle. The observation is the picture of two channels."""

    state_size, reset_width = 3, 1

    def reset(self, u: tf.Tensor) -> tf.Tensor:
        return tf.concat([[0.0], tf.floor(SIZE * u), [float(SIZE // 2)]], axis=0)

    def step(self, state: tf.Tensor, a_tm1: tf.Tensor, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        row, column, paddle = tf.unstack(state)
        paddle = tf.clip_by_value(paddle + tf.cast(a_tm1, tf.float32) - 1, 0.0, SIZE - 1.0)
        over = row + 1 >= SIZE - 1
        r_t = tf.where(over, tf.where(tf.equal(paddle, column), 1.0, -1.0), 0.0)
        return tf.stack([row + 1, column, paddle]), r_t, over

    def observe(self, state: tf.Tensor) -> tf.Tensor:
        row, column, paddle = tf.unstack(tf.one_hot(tf.cast(state, tf.int32), SIZE))  # [10] each
        last = tf.one_hot(SIZE - 1, SIZE)
        return tf.stack([row[:, None] * column, last[:, None] * paddle], axis=-1)


DYNAMICS = Dynamics(f"{__name__}:TensorCatch")
