"""Distributions of returns, against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from rlexp.math import distributions


def rows(*values: float) -> tf.Tensor:
    return tf.constant([values], tf.float32)


@pytest.mark.parametrize(
    ("z_t", "p_t", "expected"),
    [
        ([0.5, 1.0, 1.5], [0.2, 0.3, 0.5], [0.1, 0.65, 0.25]),  # r .5, gamma .5, atoms 0, 1, 2
        ([5.0, 5.0, 5.0], [0.2, 0.3, 0.5], [0, 0, 1]),  # terminal, beyond the end
        ([-5.0, -5.0, -5.0], [0.2, 0.3, 0.5], [1, 0, 0]),
        ([1.0, 1.0, 1.0], [0.2, 0.3, 0.5], [0, 1, 0]),  # terminal, on an atom: naive code has zeros
        ([2.0, 0.0, 1.0], [0.2, 0.3, 0.5], [0.3, 0.5, 0.2]),
    ],
)
def test_projection(z_t: list[float], p_t: list[float], expected: list[float]) -> None:
    found = distributions.project(rows(*z_t), rows(*p_t), distributions.atoms(0, 2, 3))
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def test_a_projection_keeps_all_probability() -> None:
    generator = np.random.default_rng(0)
    p_t = generator.dirichlet(np.ones(51), 200).astype(np.float32)
    support = distributions.atoms(-10, 10, 51)
    z_t = generator.normal(0, 8, (200, 1)).astype(np.float32) + np.float32(0.9) * support
    found = distributions.project(tf.constant(z_t), tf.constant(p_t), support).numpy()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    inside = (z_t.min(axis=1) >= -10) & (z_t.max(axis=1) <= 10)  # where nothing is cut, the mean stays
    np.testing.assert_allclose((found @ support)[inside], (z_t * p_t).sum(axis=1)[inside], atol=1e-4)
    assert inside.sum() > 5


@pytest.mark.parametrize(
    ("logits", "r_t", "d_t", "next_logits", "expected"),
    [([0, 9, 0], 0.5, 0.8, [0, 0, 9], 8.998915), ([9, 9, 0], 0.8, 0.0, [0, 0, 9], 0.693209)],
)
def test_the_loss_of_c51(
    logits: list[float], r_t: float, d_t: float, next_logits: list[float], expected: float
) -> None:
    support = distributions.atoms(0.5, 1.5, 3)
    p_t = tf.nn.softmax(rows(*next_logits))
    target = distributions.project(tf.constant([r_t + d_t * support]), p_t, support)
    assert float(distributions.cross_entropy(target, rows(*logits))[0]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("taus", "kappa", "expected"),
    [([0.2, 0.7], 0, 2.0), ([0.2, 0.7], 2, 2.5), ([0, 0.4], 0, 2.2), ([0, 0.4], 2, 8.5 / 3)],
)
def test_quantile_regression(taus: list[float], kappa: float, expected: float) -> None:
    """The sum is over what is predicted (-1, 3), the mean over the target (-3, 4, 2)."""
    taus_ = np.array(taus, np.float32)
    found = distributions.quantile_regression(rows(-1, 3), taus_, rows(-3, 4, 2), kappa)
    assert found.shape == (1,) and float(found[0]) == pytest.approx(expected, rel=1e-6)
    assert (distributions.quantile_regression(rows(-1, 3), taus_[None], rows(-3, 4, 2), kappa) == found).numpy().all()


def test_an_error_below_zero_weighs_one_less_the_share_however_small_it_is() -> None:
    share = np.array([0.25], np.float32)
    for error, expected in ((0.001, 0.00025), (-0.001, 0.00075), (0.0, 0.0)):
        found = distributions.quantile_regression(rows(0), share, rows(error), 0)
        assert float(found[0]) == pytest.approx(expected, rel=1e-5)


def test_the_shares_of_quantiles_are_midpoints() -> None:
    np.testing.assert_allclose(distributions.midpoints(4), [0.125, 0.375, 0.625, 0.875])


def test_quantile_regression_finds_quantiles() -> None:
    """Gradient descent on samples of 0 .. 99 ends at the quantiles of the shares."""
    taus = distributions.midpoints(4)
    samples = tf.constant(np.arange(100, dtype=np.float32)[None])
    q = tf.Variable([[50.0, 50.0, 50.0, 50.0]])
    for _ in range(500):
        with tf.GradientTape() as tape:
            loss = distributions.quantile_regression(q, taus, samples, 0.0)
        q.assign_sub(5.0 * tape.gradient(loss, q))
    np.testing.assert_allclose(q[0], 100 * taus - 0.5, atol=2.5)


def test_cosines_of_shares() -> None:
    taus = np.array([[0.0, 0.25, 0.5], [1 / 3, 0.999, 1.0]], np.float32)
    np.testing.assert_allclose(
        distributions.cosines(tf.constant(taus), 5)[0, 1], np.sqrt([1, 0.5, 0, 0.5, 1]) * [1, 1, 1, -1, -1], atol=1e-6
    )
    expected = np.cos(np.pi * np.arange(64) * taus.astype(np.float64)[..., None])
    np.testing.assert_allclose(distributions.cosines(tf.constant(taus), 64), expected, atol=1e-5)
