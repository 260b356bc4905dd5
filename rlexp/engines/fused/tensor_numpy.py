"""The part of NumPy that the rules of tabular algorithms use, on TensorFlow inside an XLA program, along the last axis.

The last axis, the actions, is short and is unrolled: XLA on a CPU makes each reduction a kernel of its own, and in a
loop a kernel costs more than this arithmetic. Other names are looked up in `tf.experimental.numpy`.

Axes: A actions.
"""

from __future__ import annotations

import functools
import itertools
import operator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

asarray = tf.cast  # of an array, to a dtype; `np.asarray` takes less time than `np.astype`
floor = tf.floor
where = tf.where


def multiply(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """The product in float64, rounded before anything is added to it.

    XLA lets the processor multiply and add with one rounding, where NumPy rounds twice. A `where` between the two keeps
    them apart. (NaN becomes -inf, which is not finite either.)
    """
    product = tf.cast(x, tf.float64) * tf.cast(y, tf.float64)
    infinite = tf.constant(float("-inf"), tf.float64)
    return tf.where(product > infinite, product, infinite)


def sum(x: tf.Tensor, axis: int) -> tf.Tensor:
    """Sums [...] of numbers or truth values [..., A], from the first to the last, in float64."""
    return functools.reduce(operator.add, _columns(x, axis))


@dataclass(frozen=True)
class Columns:
    """An array [..., A] as its A columns [...], which are never stacked."""

    columns: list[tf.Tensor]

    def __gt__(self, other: tf.Tensor) -> Columns:
        """Whether each number is greater than that of `other`.  # [..., 1] -> [..., A]"""
        return Columns([column > other[..., 0] for column in self.columns])


def cumsum(x: tf.Tensor, axis: int) -> Columns:
    """Cumulative sums [..., A] of numbers or truth values [..., A], in float64."""
    return Columns(list(itertools.accumulate(_columns(x, axis))))


def max(x: tf.Tensor, axis: int) -> tf.Tensor:
    """Greatest values [...] of numbers [..., A]."""
    return functools.reduce(tf.maximum, _columns(x, axis))


def argmax(x: tf.Tensor | Columns, axis: int) -> tf.Tensor:
    """Indices [...] of the greatest numbers or truth values [..., A], int32; the first among equals."""
    first, *others = _columns(x, axis)
    best, index = first, tf.zeros_like(first, tf.int32)
    for i, column in enumerate(others, start=1):
        better = column > best
        best, index = tf.where(better, column, best), tf.where(better, i, index)
    return index


def take_along_axis(x: tf.Tensor, indices: tf.Tensor, axis: int) -> tf.Tensor:
    """The numbers [..., 1] at indices [..., 1] of numbers [..., A]."""
    chosen, *others = _columns(x, axis)
    for i, column in enumerate(others, start=1):
        chosen = tf.where(tf.equal(indices[..., 0], i), column, chosen)
    return chosen[..., None]


def _columns(x: tf.Tensor | Columns, axis: int) -> list[tf.Tensor]:
    assert axis == -1, "along the last axis"
    columns = x.columns if isinstance(x, Columns) else tf.unstack(x, axis=-1)
    return [tf.cast(column, tf.float64) for column in columns]


def __getattr__(name: str) -> Any:
    return getattr(tf.experimental.numpy, name)
