"""Targets, losses and target-network updates against numbers computed by hand and against Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlexp.math import targets

NAN, INF = np.nan, np.inf
# Row 0: goes on; row 1: terminated; row 2: truncated, so not terminated; row 3: two equal values.
R_T = tf.constant([1.0, 2.0, 3.0, -1.0])  # [B]
TERMINATED = tf.constant([False, True, False, False])  # [B]
Q_T = tf.constant([[1.0, 5.0, 2.0], [7.0, 8.0, 9.0], [-4.0, -2.0, -3.0], [6.0, 0.0, 6.0]])  # [B, A]
Q_OTHER = tf.constant([[10.0, 20.0, 30.0], [1.0, 1.0, 1.0], [-1.0, -7.0, 0.0], [4.0, 5.0, 8.0]])  # [B, A]


def plain(r_t: tf.Tensor, d_t: tf.Tensor, q_t: tf.Tensor) -> tf.Tensor:
    """Q-learning's target: the network that values the next action chooses it."""
    return targets.bootstrap_target(r_t, d_t, q_t, tf.argmax(q_t, axis=-1))


def double(r_t: tf.Tensor, d_t: tf.Tensor, q_t_selector: tf.Tensor, q_t_value: tf.Tensor) -> tf.Tensor:
    """Double Q-learning's target."""
    return targets.bootstrap_target(r_t, d_t, q_t_value, tf.argmax(q_t_selector, axis=-1))


def random(*shape: int, seed: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("dtype", [tf.bool, tf.float32, tf.uint8])
def test_discount_is_zero_after_termination_alone(dtype: tf.DType) -> None:
    d_t = targets.discount(0.5, tf.cast(TERMINATED, dtype))
    assert d_t.dtype == tf.float32
    np.testing.assert_array_equal(d_t, [0.5, 0.0, 0.5, 0.5])


def test_q_learning_target_by_hand() -> None:
    d_t = targets.discount(0.5, TERMINATED)
    y_t = plain(R_T, d_t, Q_T)
    np.testing.assert_array_equal(y_t, [1 + 0.5 * 5, 2, 3 + 0.5 * -2, -1 + 0.5 * 6])


def test_double_q_target_by_hand() -> None:
    """The selector's best action is valued by the other network; of two equal ones the first is taken."""
    d_t = targets.discount(0.5, TERMINATED)
    y_t = double(R_T, d_t, Q_T, Q_OTHER)
    np.testing.assert_array_equal(y_t, [1 + 0.5 * 20, 2, 3 + 0.5 * -7, -1 + 0.5 * 4])


def test_double_q_is_q_learning_when_both_networks_agree_and_never_above_it() -> None:
    q_t, q_other, r_t, d_t = random(64, 5, seed=0), random(64, 5, seed=1), tf.zeros(64), tf.ones(64)
    np.testing.assert_array_equal(double(r_t, d_t, q_t, q_t), plain(r_t, d_t, q_t))
    other = double(r_t, d_t, q_t, q_other)
    single = plain(r_t, d_t, q_other)
    assert np.all(other <= single) and np.any(other < single)


def test_no_gradient_flows_into_a_target() -> None:
    d_t = targets.discount(0.5, TERMINATED)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([Q_T, Q_OTHER])
        max_target = plain(R_T, d_t, Q_T)
        double_target = double(R_T, d_t, Q_T, Q_OTHER)
    assert tape.gradient(max_target, Q_T) is None
    assert tape.gradient(double_target, [Q_T, Q_OTHER]) == [None, None]


def test_batched_index_and_its_gradient_leave_other_entries_alone() -> None:
    values, actions = tf.constant([[1.0, INF, 3.0], [NAN, 5.0, 6.0]]), tf.constant([2, 1])
    with tf.GradientTape() as tape:
        tape.watch(values)
        chosen = targets.batched_index(values, actions)
        loss = tf.reduce_sum(tf.square(chosen))
    np.testing.assert_array_equal(chosen, [3.0, 5.0])
    np.testing.assert_array_equal(tf.convert_to_tensor(tape.gradient(loss, values)), [[0, 0, 6], [0, 10, 0]])


ERRORS = np.array([-3.0, -1.0, -0.5, 0.0, 0.25, 1.0, 2.0], np.float32)


def test_losses_by_hand() -> None:
    np.testing.assert_array_equal(targets.mse(tf.constant(ERRORS)), [9, 1, 0.25, 0, 0.0625, 1, 4])
    np.testing.assert_array_equal(targets.huber(tf.constant(ERRORS)), [2.5, 0.5, 0.125, 0, 0.03125, 0.5, 1.5])
    np.testing.assert_array_equal(targets.huber(tf.constant([-3.0, 1.0]), delta=2.0), [4.0, 0.5])
    assert list(targets.LOSSES.items()) == [("mse", targets.mse), ("huber", targets.huber)]


@pytest.mark.parametrize(
    "loss, reference",
    [
        (targets.mse, keras.losses.MeanSquaredError()),
        (targets.huber, keras.losses.Huber()),
        (lambda td_error: targets.huber(td_error, 0.3), keras.losses.Huber(delta=0.3)),
    ],
    ids=["mse", "huber", "huber-0.3"],
)
def test_losses_and_gradients_equal_keras(loss: Callable[[tf.Tensor], tf.Tensor], reference: Any) -> None:
    y_true, y_pred = random(40, seed=2), random(40, seed=3)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(y_pred)
        ours, theirs = tf.reduce_mean(loss(y_true - y_pred)), reference(y_true, y_pred)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    our_grad, their_grad = tape.gradient(ours, y_pred), tape.gradient(theirs, y_pred)
    np.testing.assert_allclose(our_grad, their_grad, rtol=1e-5, atol=1e-8)


def test_huber_slope_is_at_most_delta() -> None:
    td_error = tf.constant(ERRORS)
    with tf.GradientTape() as tape:
        tape.watch(td_error)
        loss = targets.huber(td_error)
    np.testing.assert_array_equal(tape.gradient(loss, td_error), [-1, -1, -0.5, 0, 0.25, 1, 1])


def test_periodic_copy() -> None:
    online, target = tf.constant([1.0, 2.0]), tf.constant([3.0, NAN])
    np.testing.assert_array_equal(targets.periodic_copy(online, target, tf.constant(True)), [1.0, 2.0])
    np.testing.assert_array_equal(targets.periodic_copy(online, target, tf.constant(False)), [3.0, NAN])


def test_polyak_weighs_the_online_parameters_with_tau() -> None:
    online, target = tf.constant([1.0, 0.0]), tf.constant([0.0, 200.0])
    np.testing.assert_allclose(targets.polyak(online, target, 0.01), [0.01, 198.0], rtol=1e-6)
    np.testing.assert_array_equal(targets.polyak(online, target, 1.0), online)
    np.testing.assert_array_equal(targets.polyak(online, target, 0.0), target)


def one_trial(lane: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
    """Everything above as one update uses it, with the tape inside, as the engines map it."""
    r_t, terminated, q_tm1, q_t, q_other, a_tm1, due, tau = lane
    d_t = targets.discount(0.9, terminated)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(q_tm1)
        chosen = targets.batched_index(q_tm1, a_tm1)
        td_error = double(r_t, d_t, q_t, q_other) - chosen
        losses = [tf.reduce_mean(loss(td_error)) for loss in targets.LOSSES.values()]
    grads = [tape.gradient(loss, q_tm1) for loss in losses]
    online, target = tf.reshape(q_t, [-1]), tf.reshape(q_other, [-1])
    return (
        plain(r_t, d_t, q_t),
        td_error,
        *losses,
        *map(tf.convert_to_tensor, grads),
        targets.periodic_copy(online, target, due),
        targets.polyak(online, target, tau),
    )


@pytest.mark.parametrize("xla", [False, True])
def test_mapped_over_trials_equals_each_trial_alone(xla: bool) -> None:
    rng, n, b, a = np.random.default_rng(4), 5, 6, 3
    lanes = (
        random(n, b, seed=5),
        tf.constant(rng.random((n, b)) < 0.3),
        random(n, b, a, seed=6),
        random(n, b, a, seed=7),
        random(n, b, a, seed=8),
        tf.constant(rng.integers(a, size=(n, b)), tf.int32),
        tf.constant([True, False, True, False, False]),
        tf.constant([0.01, 0.1, 0.5, 1.0, 0.0]),
    )

    @tf.function(jit_compile=xla, autograph=False)
    def mapped(*lanes: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return tf.vectorized_map(one_trial, lanes, fallback_to_while_loop=False)

    results = mapped(*lanes)
    for k in range(n):
        for result, expected in zip(results, one_trial(tuple(lane[k] for lane in lanes)), strict=True):
            np.testing.assert_allclose(result[k], expected, rtol=1e-6, atol=1e-6)
