"""Normal numbers: their distribution, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from rlexp.math.normal import normal


def test_normal_numbers() -> None:
    numbers = normal(tf.constant(np.random.default_rng(0).random(200_000, np.float32))).numpy()
    assert abs(numbers.mean()) < 0.01 and numbers.std() == pytest.approx(1, abs=0.01)
    assert (np.abs(numbers) < 1.96).mean() == pytest.approx(0.95, abs=0.003)
    assert np.isfinite(normal(tf.constant([0.0, 1 - 2.0**-24, 0.0, 0.5]))).all()
    # A radius of 1 at a quarter and a third of a turn.
    first = 1 - np.exp(-0.5)
    turned = normal(tf.constant([first, first, 1 / 4, 1 / 3], tf.float32))
    np.testing.assert_allclose(turned, [0, -1 / 2, 1, np.sqrt(3) / 2], atol=1e-6)
    both = normal(tf.constant([[0.3, 0.9], [0.6, 0.2]]))
    np.testing.assert_array_equal(both, [normal(tf.constant(row)) for row in ([0.3, 0.9], [0.6, 0.2])])
