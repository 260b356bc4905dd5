"""Distributions of returns: projection, losses and means of distributional algorithms, for one trial.

Axes: B batch, K atoms or quantiles, M numbers that a target has.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from rlexp.math.targets import huber


def atoms(low: float, high: float, number: int) -> np.ndarray:
    """The fixed support of a categorical distribution: `number` returns from `low` to `high`, equally spaced.  # [K]"""
    return np.linspace(low, high, number, dtype=np.float32)


def midpoints(number: int) -> np.ndarray:
    """The middles of `number` equal parts of [0, 1], (i + 1/2) / K: Dabney et al. 2018, lemma 2.  # [K]"""
    return ((np.arange(number) + 0.5) / number).astype(np.float32)


def cosines(taus: tf.Tensor, number: int) -> tf.Tensor:
    """cos(pi i tau) for i = 0 .. number - 1, as implicit quantile networks see a share: [..., K] -> [..., K, number]

    With whole turns taken off before pi comes in, 1 - 2 sin^2(pi r / 2) has an error below 1e-5, and the series of the
    sine one below 1e-7. XLA's own cosine takes six times as long on a CPU.
    """
    half_turns = taus[..., None] * tf.range(number, dtype=tf.float32)
    r = half_turns - 2.0 * tf.round(0.5 * half_turns)  # in [-1, 1]
    series = tf.zeros_like(r)
    for power in (11, 9, 7, 5, 3, 1):
        sign = 1.0 if power % 4 == 1 else -1.0
        series = series * r * r + sign * (0.5 * math.pi) ** power / math.factorial(power)
    return 1.0 - 2.0 * tf.square(series * r)


def project(z_t: tf.Tensor, p_t: tf.Tensor, support: np.ndarray) -> tf.Tensor:
    """A categorical distribution moved onto a fixed support (Bellemare et al. 2017, equation 7).

    A return between two atoms gives to each of them in proportion to how near it is, and one beyond the ends gives to
    the end. Written as a sum over all pairs, no probability is lost where a return meets an atom exactly, which code
    with floor and ceiling loses.

    Args:
        z_t: the returns that have the probabilities.  # [B, M]
        p_t: probabilities, which add up to 1.  # [B, M]
        support: equally spaced, ascending.  # [K]

    Returns:
        Probabilities of the support.  # [B, K]
    """
    width = float(support[1] - support[0])
    distance = tf.abs(tf.clip_by_value(z_t, support[0], support[-1])[:, None, :] - support[:, None])  # [B, K, M]
    return tf.reduce_sum(tf.clip_by_value(1.0 - distance / width, 0.0, 1.0) * p_t[:, None, :], axis=-1)


def cross_entropy(p: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """-sum_k p_k log softmax(logits)_k for each row: [B, K], [B, K] -> [B]"""
    return -tf.reduce_sum(p * tf.nn.log_softmax(logits), axis=-1)


def quantile_regression(q: tf.Tensor, taus: np.ndarray | tf.Tensor, y: tf.Tensor, kappa: float) -> tf.Tensor:
    """The loss of predicted quantiles: sum over them, mean over what the target has (Dabney et al. 2018, equation 10).

    rho(u) = |tau - 1[u < 0]| L(u),   u = y - q,   L the Huber loss with slope `kappa` at most, or |u| for kappa = 0

    Args:
        q: predicted quantiles.  # [B, K]
        taus: the shares that they are quantiles at.  # [K] or [B, K]
        y: samples or quantiles of the target, without gradient.  # [B, M]
        kappa: where the loss becomes linear; 0: it is linear throughout.

    Returns:
        One loss for each row.  # [B]
    """
    u = y[:, None, :] - q[:, :, None]  # [B, K, M]
    size = huber(u, kappa) if kappa > 0 else tf.abs(u)
    weight = tf.abs(tf.convert_to_tensor(taus)[..., None] - tf.cast(u < 0, tf.float32))
    return tf.reduce_sum(tf.reduce_mean(weight * size, axis=-1), axis=-1)
