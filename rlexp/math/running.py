"""Running means and variances of a stream of batches: pure functions for one trial.

Axes: `R` rows of a batch, `D` numbers of a row.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class Moments(NamedTuple):
    """What is known of the rows seen so far; before any, a mean of 0 and a variance of 1.

    Attributes:
        count: rows.  # []
        mean, variance: population mean and variance.  # [...]
    """

    count: tf.Tensor
    mean: tf.Tensor
    variance: tf.Tensor


def start(shape: tuple[int, ...]) -> Moments:
    """The moments before the first row."""
    return Moments(tf.zeros(()), tf.zeros(shape), tf.ones(shape))


def add(moments: Moments, rows: tf.Tensor, mask: tf.Tensor) -> Moments:
    """Returns the moments with the rows of a batch added (Chan, Golub and LeVeque 1979), in any order of batches.

        share = n / (count + n);   delta = mean(rows) - mean
        mean <- mean + share delta;   variance <- (1 - share) variance + share var(rows) + share (1 - share) delta^2

    Args:
        moments: of the rows before.
        rows: [R, ...]
        mask: bool, or numbers that are 0 or 1: which rows count; with none the moments stay as they are.  # [R]
    """
    counts = tf.cast(mask, tf.float32)  # [R]
    number = tf.reduce_sum(counts)
    weights = tf.reshape(counts, (-1, *[1] * (len(rows.shape) - 1)))  # [R, 1...]
    divisor = tf.maximum(number, 1.0)
    mean = tf.reduce_sum(rows * weights, axis=0) / divisor
    variance = tf.reduce_sum(tf.square(rows - mean) * weights, axis=0) / divisor
    total = moments.count + number
    share, delta = number / tf.maximum(total, 1.0), mean - moments.mean
    spread = (1.0 - share) * moments.variance + share * variance + share * (1.0 - share) * tf.square(delta)
    return Moments(total, moments.mean + share * delta, spread)
