"""Bootstrapped targets, losses and target-network updates: pure functions for one trial.

`d_t = gamma * (1 - terminated)` carries both the discount and the end of an episode. Only termination makes
it zero: a truncated episode would continue, so its last step bootstraps like any other.

Axes: `B` batch, `A` actions, `P` parameters. Time indices: o_tm1, a_tm1, r_t, d_t, o_t.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def discount(gamma: float | tf.Tensor, terminated: tf.Tensor) -> tf.Tensor:
    """Returns d_t = gamma * (1 - terminated).

    Args:
        gamma: discount factor in [0, 1].  # []
        terminated: bool, or numbers that are 0 or 1; true where o_t has no future. Never `truncated`.  # [B]

    Returns:
        float32 discounts.  # [B]
    """
    return gamma * (1.0 - tf.cast(terminated, tf.float32))


def bootstrap_target(r_t: tf.Tensor, d_t: tf.Tensor, q_t: tf.Tensor, a_t: tf.Tensor) -> tf.Tensor:
    """Returns r_t + d_t q_t(a_t), without gradient.

    With the best action by q_t itself it is the target of Q-learning (Watkins, 1989; Mnih et al., 2015). With the best
    action by another network it is that of double Q-learning (van Hasselt et al., 2016, equation 4): the maximum of
    noisy values is too high on average, the value of an action that other noise chose is not.

    Args:
        r_t: rewards.  # [B]
        d_t: discounts, zero after termination.  # [B]
        q_t: action values in o_t, of the target network where there is one.  # [B, A]
        a_t: the actions in o_t whose values count.  # [B]

    Returns:
        Targets for q_tm1(a_tm1).  # [B]
    """
    return tf.stop_gradient(r_t + d_t * batched_index(q_t, a_t))


def batched_index(values: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    """Returns values[b, indices[b]] for each row b: q_tm1(a_tm1) from the values of all actions.

    Values that are not selected affect neither the result nor its gradient, even if they are infinite or NaN.

    Args:
        values: one row of values for each member of the batch.  # [B, A]
        indices: integers in [0, A).  # [B]

    Returns:
        The selected values.  # [B]
    """
    return tf.gather(values, indices, axis=1, batch_dims=1)


def mse(td_error: tf.Tensor) -> tf.Tensor:
    """Returns td_error^2, elementwise; its mean is `keras.losses.MeanSquaredError` (no factor 1/2)."""
    return tf.square(td_error)


def huber(td_error: tf.Tensor, delta: float = 1.0) -> tf.Tensor:
    """Returns the Huber loss (1964), elementwise; its mean is `keras.losses.Huber(delta)`.

    td_error^2 / 2 up to |td_error| = delta, delta |td_error| - delta^2 / 2 beyond: a slope of at most
    `delta`. For small errors the slope is half that of `mse`, which matters when a learning rate is carried
    over.
    """
    size = tf.abs(td_error)
    return tf.where(size <= delta, 0.5 * tf.square(td_error), delta * size - 0.5 * delta**2)


LOSSES: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {"mse": mse, "huber": huber}


def periodic_copy(online: tf.Tensor, target: tf.Tensor, due: tf.Tensor) -> tf.Tensor:
    """Returns the online parameters when a copy is due, else the target's (Mnih et al., 2015).

    Args:
        online: parameters that are learned.  # [P]
        target: parameters that give the targets.  # [P]
        due: whether to copy now, bool.  # []
    """
    return tf.where(due, online, target)


def polyak(online: tf.Tensor, target: tf.Tensor, tau: float | tf.Tensor) -> tf.Tensor:
    """Returns tau * online + (1 - tau) * target (Lillicrap et al., 2015).

    Args:
        online: parameters that are learned.  # [P]
        target: parameters that give the targets.  # [P]
        tau: weight of the online parameters in [0, 1]; 0.01 moves the target by one percent.  # []
    """
    return tau * online + (1.0 - tau) * target
