"""Prioritised replay inside the fused program: what `data/priorities.py` does, in tensors of L lanes.

Axes: L lanes, C slots of a ring, K blocks, B batch.
"""

from __future__ import annotations

import functools
import operator
from typing import NamedTuple

import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla

from rlexp.data.priorities import BLOCK

ROW = 16  # numbers that XLA sums one after another in a running sum


class Priorities(NamedTuple):
    """Priorities of all rings."""

    powers: tf.Tensor  # p^alpha of each slot, 0 of an empty one [L, K, BLOCK]
    sums: tf.Tensor  # of each block [L, K]
    highest: tf.Tensor  # p of any transition so far [L]


def empty(num_lanes: int, size: int) -> Priorities:
    """The priorities of rings of `size` slots before the first transition."""
    num_blocks = -(-size // BLOCK)
    return Priorities(tf.zeros((num_lanes, num_blocks, BLOCK)), tf.zeros((num_lanes, num_blocks)), tf.ones(num_lanes))


def add(now: Priorities, slot: tf.Tensor, alpha: float) -> Priorities:
    """A new transition in every lane, all at one `slot` []: it has the highest priority so far."""
    block, place = slot // BLOCK, slot % BLOCK
    power = tf.pow(now.highest, alpha)[:, None, None]  # [L, 1, 1]
    powers = xla.dynamic_update_slice(now.powers, power, tf.stack([0, block, place]))
    # Sliced by XLA's own operation: for the index of TensorFlow's, XLA compiles the program anew at each value.
    changed = xla.dynamic_slice(powers, tf.stack([0, block, 0]), [powers.shape[0], 1, BLOCK])  # [L, 1, BLOCK]
    total = tf.reduce_sum(changed, axis=[1, 2])  # [L]
    return now._replace(powers=powers, sums=xla.dynamic_update_slice(now.sums, total[:, None], tf.stack([0, block])))


def draw(now: Priorities, u: tf.Tensor, held: tf.Tensor, beta: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Slots and importance weights [L, B], as `data.priorities.Priorities.draw`.

    Args:
        now: the priorities.
        u: uniform numbers.  # [L, B]
        held: transitions in each ring, one number for all.  # []
        beta: exponents of the weights.  # [L]
    """
    batch = u.shape[1]
    ends = tf.cumsum(now.sums, axis=1)  # [L, K]
    total = ends[:, -1:]  # [L, 1]
    points = (tf.range(batch, dtype=tf.float32) + u) / batch * total  # [L, B]
    last = now.sums.shape[1] - 1
    block = tf.minimum(_count(ends[:, None, :] <= points[..., None]), last)  # [L, B]
    powers = tf.gather(now.powers, block, batch_dims=1)  # [L, B, BLOCK]
    rest = points - tf.gather(ends - now.sums, block, batch_dims=1)  # [L, B]
    place = tf.minimum(_count_running_sums(powers, rest), BLOCK - 1)  # [L, B]
    slots = tf.minimum(block * BLOCK + place, tf.maximum(held - 1, 0))
    share = tf.gather(tf.reshape(now.powers, (now.powers.shape[0], -1)), slots, batch_dims=1) / total
    weights = tf.where(share > 0, tf.pow(tf.cast(held, tf.float32) * share, -beta[:, None]), 1.0)
    return slots, weights / tf.reduce_max(weights, axis=1, keepdims=True)


def update(
    now: Priorities, due: tf.Tensor, slots: tf.Tensor, errors: tf.Tensor, alpha: float, epsilon: float
) -> Priorities:
    """The priorities after an update of the trials that are due [L] bool, from slots and errors [L, B]."""
    priorities = tf.abs(errors) + epsilon  # [L, B]
    good = tf.math.is_finite(priorities) & due[:, None]
    highest = tf.maximum(now.highest, tf.reduce_max(tf.where(good, priorities, 0.0), axis=1))
    lane = tf.broadcast_to(tf.range(now.powers.shape[0])[:, None], tf.shape(slots))
    block = slots // BLOCK
    where = tf.stack([lane, block, slots % BLOCK], axis=-1)  # [L, B, 3]
    before = tf.gather(tf.reshape(now.powers, (now.powers.shape[0], -1)), slots, batch_dims=1)
    powers = tf.tensor_scatter_nd_update(now.powers, where, tf.where(good, tf.pow(priorities, alpha), before))
    touched = tf.reduce_sum(tf.gather(powers, block, batch_dims=1), axis=-1)  # [L, B]
    sums = tf.tensor_scatter_nd_update(now.sums, where[..., :2], touched)
    return Priorities(powers, sums, highest)


def _count_running_sums(powers: tf.Tensor, rest: tf.Tensor) -> tf.Tensor:
    """How many running sums of `powers` [L, B, BLOCK] are at most `rest` [L, B].

    That is the count of `tf.cumsum(powers) <= rest` to the bit: XLA's running sums are those of rows of 16 numbers,
    each added to the sum of the rows before. They never fall, so that the sums of rows tell the row that the count ends
    in, and running sums are computed of this row alone.
    """
    rows = tf.reshape(powers, (*powers.shape[:2], BLOCK // ROW, ROW))  # [L, B, R, ROW]
    totals = functools.reduce(operator.add, tf.unstack(rows, axis=-1))  # from the first to the last [L, B, R]
    ends = tf.cumsum(totals, axis=-1)
    row = tf.minimum(_count(ends <= rest[..., None]), BLOCK // ROW - 1)  # [L, B]
    start = tf.gather(tf.pad(ends, [[0, 0], [0, 0], [1, 0]]), row, batch_dims=2)  # [L, B]
    inside = start[..., None] + tf.cumsum(tf.gather(rows, row, batch_dims=2), axis=-1)  # [L, B, ROW]
    return row * ROW + _count(inside <= rest[..., None])


def _count(true: tf.Tensor) -> tf.Tensor:
    """How many of the last axis are true, int32."""
    return tf.reduce_sum(tf.cast(true, tf.int32), axis=-1)
