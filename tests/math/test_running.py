"""Running moments of batches against those of all rows together."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from rlexp.math import running


def test_batches_one_after_the_other_are_all_rows_together() -> None:
    generator = np.random.default_rng(0)
    rows = generator.normal([5.0, -100.0, 0.0], [1.0, 0.01, 30.0], size=(1000, 3)).astype(np.float32)
    moments, first = running.start((3,)), 0
    for size in (1, 7, 500, 492):
        batch = np.full((512, 3), 1e6, np.float32)  # padding, which must not count
        batch[:size] = rows[first : first + size]
        moments = running.add(moments, tf.constant(batch), tf.range(512) < size)
        first += size
    assert float(moments.count) == 1000
    np.testing.assert_allclose(moments.mean, rows.mean(axis=0), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(moments.variance, rows.var(axis=0, dtype=np.float64), rtol=2e-2)


def test_two_batches_by_hand() -> None:
    """1, 3 and then 8: mean 4, variance (9 + 1 + 16) / 3. Before the first row: mean 0, variance 1."""
    moments = running.start(())
    empty = running.add(moments, tf.constant([7.0]), tf.constant([0.0]))
    assert (float(empty.count), float(empty.mean), float(empty.variance)) == (0.0, 0.0, 1.0)
    for rows in ([1.0, 3.0], [8.0]):
        moments = running.add(moments, tf.constant(rows), tf.ones(len(rows)))
    assert float(moments.mean) == pytest.approx(4.0) and float(moments.variance) == pytest.approx(26 / 3)
