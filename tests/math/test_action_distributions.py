"""Distributions over actions: by hand, against sums and integrals, and their samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from rlexp.math.action_distributions import Categorical, Distribution, Gaussian, MultiCategorical, TanhGaussian

LOG_2 = math.log(2.0)


def row(mean: float, log_std: float) -> tf.Tensor:
    """Outputs of one row for an action of one number.  # [1, 1, 2]"""
    return tf.constant([[[mean, log_std]]], tf.float32)


def log_prob(distribution: Distribution, outputs: tf.Tensor, action: float) -> float:
    return float(distribution.log_prob(outputs, tf.constant([[action]]))[0])


def draws(number: int, width: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).random((number, width), np.float32))


@pytest.mark.parametrize(("z", "expected"), [(0.0, -0.918939), (1.0, -0.551377)])
def test_tanh_gaussian_log_probability_by_hand(z: float, expected: float) -> None:
    """log N(z) - log(1 - tanh(z)^2): at 1, -1.418939 + .867562; a scale of 2 subtracts log 2 = .693147."""
    unit, double = TanhGaussian((1,), -1.0, 1.0), TanhGaussian((1,), -2.0, 2.0)
    shifted = TanhGaussian((1,), [3.0], [7.0])
    assert log_prob(unit, row(0, 0), math.tanh(z)) == pytest.approx(expected, abs=1e-6)
    assert log_prob(double, row(0, 0), 2 * math.tanh(z)) == pytest.approx(expected - LOG_2, abs=1e-6)
    assert log_prob(shifted, row(0, 0), 5 + 2 * math.tanh(z)) == pytest.approx(expected - LOG_2, abs=1e-6)


def test_gaussian_by_hand() -> None:
    """mu 1, sigma 2: at 3 the density is e^-.5 / (2 sqrt(2 pi)); the entropy is log(2 sqrt(2 pi e))."""
    free, half = Gaussian((1,)), Gaussian((1,), 0.0, 1.0)
    outputs = row(1.0, LOG_2)
    assert log_prob(free, outputs, 3.0) == pytest.approx(-0.5 - LOG_2 - 0.918939, abs=1e-6)
    assert float(free.entropy(outputs)[0]) == pytest.approx(LOG_2 + 1.418939, abs=1e-6)
    # Bounds 0 and 1: an action is .5 + .5 z, so that z = 3 is 2, and density and entropy move by log .5.
    assert log_prob(half, outputs, 2.0) == pytest.approx(-0.5 - 0.918939, abs=1e-6)
    assert float(half.entropy(outputs)[0]) == pytest.approx(1.418939, abs=1e-6)
    assert free.mode(row(7, 0)).numpy().tolist() == [[7.0]]
    assert half.mode(row(0.5, 0)).numpy().tolist() == [[0.75]] and half.mode(row(7, 0)).numpy().tolist() == [[1.0]]


def test_numbers_of_an_action_are_independent_and_keep_its_shape() -> None:
    low, high = [-1.0, -2.0, -math.inf, 0.0], [1.0, 2.0, math.inf, math.inf]
    many = Gaussian((2, 2), low, high)
    assert (many.output_shape, many.num_uniforms) == ((4, 2), 4)
    assert many.centre.tolist() == [0, 0, 0, 0] and many.scale.tolist() == [1, 2, 1, 1]
    outputs = tf.constant(np.random.default_rng(1).normal(size=(5, 4, 2)).astype(np.float32))
    actions = many.sample(outputs, draws(5, 4))
    assert actions.shape == (5, 2, 2)
    single = [Gaussian((1,), *bounds) for bounds in zip(low, high, strict=True)]
    flat = tf.reshape(actions, (5, 4, 1))
    parts = [d.log_prob_and_entropy(outputs[:, i : i + 1], flat[:, i]) for i, d in enumerate(single)]
    for found, expected in zip(many.log_prob_and_entropy(outputs, actions), zip(*parts, strict=True), strict=True):
        np.testing.assert_allclose(found, tf.add_n(expected), rtol=1e-5)
    assert (many.mode(outputs).numpy().reshape(5, 4)[:, 3] >= 0).all()
    assert Gaussian((3,)).num_uniforms == 4 and TanhGaussian((), -1.0, 1.0).mode(row(0, 0)).shape == (1,)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.7, 0.3), (-2.0, 0.1), (1.0, 2.0), (4.0, 0.5)])
def test_tanh_gaussian_against_integrals(mean: float, std: float) -> None:
    """Its density adds up to 1, and its entropy is the integral of -p log p."""
    distribution = TanhGaussian((1,), -2.0, 2.0)
    z = np.linspace(mean - 10 * std, mean + 10 * std, 200_001)
    p = np.exp(-0.5 * ((z - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))
    slope = 2 * (LOG_2 - z - np.logaddexp(0, -2 * z)) + LOG_2
    entropy = np.trapezoid(p * (slope - np.log(p)), z)
    assert float(distribution.entropy(row(mean, math.log(std)))[0]) == pytest.approx(entropy, abs=0.004)
    t = np.tanh(np.linspace(-6, 6, 20_001))  # as near to the bounds as the inverse goes
    outputs = tf.repeat(row(mean, math.log(std)), len(t), axis=0)
    density = np.exp(distribution.log_prob(outputs, tf.constant(2 * t[:, None], tf.float32)).numpy().astype(float))
    held = np.trapezoid(p[np.abs(z) < 6], z[np.abs(z) < 6])
    assert np.trapezoid(density, 2 * t) == pytest.approx(held, abs=2e-3)


def test_log_probabilities_of_samples_need_no_inverse() -> None:
    outputs = tf.constant(np.random.default_rng(2).normal(size=(1000, 3, 2)).astype(np.float32))
    for distribution in (TanhGaussian((3,), -1.0, 3.0), Gaussian((3,), -1.0, 3.0)):
        actions, exact = distribution.sample_and_log_prob(outputs, draws(1000, 4))
        assert (actions.numpy() == distribution.sample(outputs, draws(1000, 4)).numpy()).all()
        inverted = distribution.log_prob(outputs, actions).numpy()
        inside = (np.abs((actions - distribution.centre) / distribution.scale) < 0.999).all(axis=1)
        np.testing.assert_allclose(inverted[inside], exact.numpy()[inside], atol=2e-3)


def test_saturated_actions_have_finite_log_probabilities_and_gradients() -> None:
    distribution = TanhGaussian((1,), -1.0, 1.0, clip_std=True)
    for mean in (-50.0, 20.0, 50.0):
        outputs = row(mean, -30.0)
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            actions, log_probs = distribution.sample_and_log_prob(outputs, draws(1, 2))
            total = log_probs + sum(distribution.log_prob_and_entropy(row(0, 0) + 0 * outputs, actions))
        assert abs(float(actions[0, 0])) == 1 and np.isfinite(total).all()
        assert np.isfinite(tape.gradient(total, outputs)).all()
    far = row(9.0, -2.0)  # its actions are 1 to float32: as probable as the best of a policy within reach
    assert log_prob(distribution, far, 1.0) > log_prob(distribution, row(6.0, -2.0), math.tanh(6.0)) - 1
    edge = row(0.0, 0.0)
    assert log_prob(distribution, edge, 1.0) == log_prob(distribution, edge, 1 - 1e-7) > -20  # by float32, one number


def test_gaussian_samples_follow_their_density() -> None:
    u, outputs = draws(100_000, 2), tf.repeat(row(0.5, math.log(0.5)), 100_000, axis=0)
    free, squashed = Gaussian((1,), -2.0, 2.0), TanhGaussian((1,), -2.0, 2.0)
    actions = free.sample(outputs, u).numpy()
    assert actions.mean() == pytest.approx(1, abs=0.01) and actions.std() == pytest.approx(1, abs=0.01)
    assert (actions > 2).mean() == pytest.approx(0.1587, abs=0.004)  # beyond the bound: one sigma from the mean
    assert float(-tf.reduce_mean(free.log_prob(outputs, tf.constant(actions)))) == pytest.approx(
        float(free.entropy(outputs)[0]), abs=0.01
    )
    actions, log_probs = squashed.sample_and_log_prob(outputs, u)
    assert np.abs(actions).max() <= 2
    assert float(-tf.reduce_mean(log_probs)) == pytest.approx(float(squashed.entropy(outputs)[0]), abs=0.01)


def test_categorical_by_hand() -> None:
    """Probabilities 1/2, 1/3, 1/6."""
    probabilities = np.array([1 / 2, 1 / 3, 1 / 6], np.float32)
    outputs = tf.repeat(tf.math.log(probabilities)[None], 4, axis=0)
    distribution = Categorical(3)
    u = tf.constant([[0.0], [0.4], [0.6], [0.9]])
    assert distribution.sample(outputs, u).numpy().tolist() == [0, 0, 1, 2]
    assert distribution.mode(outputs).numpy().tolist() == [0] * 4
    np.testing.assert_allclose(
        distribution.log_prob(outputs, tf.constant([0, 1, 2, 0])), np.log(probabilities[[0, 1, 2, 0]]), rtol=1e-6
    )
    np.testing.assert_allclose(distribution.entropy(outputs), 1.011404, rtol=1e-6)


def test_a_product_of_categoricals_by_hand() -> None:
    """1/4, 3/4 and 1/2, 1/3, 1/6: (1, 2) has 3/4 * 1/6 = 1/8; entropies add up."""
    logits = np.log(np.array([[1 / 4, 3 / 4, 1 / 2, 1 / 3, 1 / 6]], np.float32))
    outputs, distribution = tf.constant(logits), MultiCategorical((2, 3))
    assert (distribution.output_shape, distribution.num_uniforms) == ((5,), 2)
    assert distribution.sample(outputs, tf.constant([[0.3, 0.9]])).numpy().tolist() == [[1, 2]]
    assert distribution.sample(outputs, tf.constant([[0.2, 0.6]])).numpy().tolist() == [[0, 1]]
    assert distribution.mode(outputs).numpy().tolist() == [[1, 0]]
    log_probs, entropy = distribution.log_prob_and_entropy(outputs, tf.constant([[1, 2]]))
    assert float(log_probs[0]) == pytest.approx(math.log(1 / 8), abs=1e-6)
    assert float(entropy[0]) == pytest.approx(0.562335 + 1.011404, abs=1e-5)
    np.testing.assert_allclose(distribution.entropy(outputs), entropy)
    assert MultiCategorical((2, 3, 2, 2), (2, 2)).mode(tf.zeros((3, 9))).shape == (3, 2, 2)
