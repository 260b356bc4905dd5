"""Returns and advantages of whole rollouts: pure functions for one trial.

A rollout is a batch of rows in the order of time: episodes one after the other, and padding at the end; with several
environments, the rows of one after those of the other. `c_t` is the weight of the next row: gamma inside an episode,
0 in its last row and in the last row of an environment. So nothing leaks from one episode or environment into the one
before, and the functions need no other mask.

Axes: `R` rows. Time indices: o_tm1, a_tm1, r_t, o_t.
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf


def discounted_sum(x_t: tf.Tensor, c_t: tf.Tensor) -> tf.Tensor:
    """Returns y with y_t = x_t + c_t y_(t+1), and 0 beyond the last row.

    Computed by recursive doubling (Hillis and Steele, 1986): after k rounds, y_t holds the sum over 2^k rows, and c_t
    the factor of the row after them. This takes log2 R rounds instead of a loop over R rows.

    Args:
        x_t: rewards, or temporal differences.  # [R]
        c_t: discounts.  # [R]
    """
    num_rows, reach = x_t.shape[0], 1
    while reach < num_rows:
        zeros = tf.zeros_like(x_t[:reach])
        x_t += c_t * tf.concat([x_t[reach:], zeros], axis=0)
        c_t *= tf.concat([c_t[reach:], zeros], axis=0)
        reach *= 2
    return x_t


def goes_on(batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Returns 1 for rows [R] whose next row is the next step of the same episode, else 0.

    Args:
        batch: "mask", "terminated" and "truncated"; with several environments also "cut": the last row of each.
            # [R] each
    """
    mask = tf.cast(batch["mask"], tf.float32)
    over = batch["terminated"] | batch["truncated"]
    ended = tf.cast(over | batch["cut"] if "cut" in batch else over, tf.float32)
    return (1.0 - ended) * tf.concat([mask[1:], tf.zeros_like(mask[:1])], axis=0)


def gae(r_t: tf.Tensor, d_t: tf.Tensor, goes_on: tf.Tensor, v_tm1: tf.Tensor, v_t: tf.Tensor, lam: float) -> tf.Tensor:
    """Returns generalised advantage estimates (Schulman et al. 2016, equation 16).

    delta_t = r_t + d_t v_t - v_tm1;   A_t = delta_t + d_t lam A_(t+1) inside an episode

    With lam = 1 it is the discounted return minus v_tm1; where an episode was cut, v_t stands for the rest.

    Args:
        r_t: rewards.  # [R]
        d_t: discounts, zero after termination.  # [R]
        goes_on: 1 where the next row is the next step of the same episode, else 0.  # [R]
        v_tm1, v_t: values of o_tm1 and of o_t.  # [R]
        lam: lambda, in [0, 1].
    """
    return discounted_sum(r_t + d_t * v_t - v_tm1, d_t * lam * goes_on)


def lambda_returns(r_t: tf.Tensor, d_t: tf.Tensor, goes_on: tf.Tensor, v_t: tf.Tensor, lam: float) -> tf.Tensor:
    """Returns lambda-returns (Sutton and Barto, 12.1; with v_t = max_a q_t, Q(lambda) of Peng and Williams 1996).

    G_t = r_t + d_t ((1 - lam) v_t + lam G_(t+1)) inside an episode;   r_t + d_t v_t in its last row

    With lam = 0 it is the target of one step. Where an episode was cut, v_t stands for the rest.

    Args:
        r_t: rewards.  # [R]
        d_t: discounts, zero after termination.  # [R]
        goes_on: 1 where the next row is the next step of the same episode, else 0.  # [R]
        v_t: values of o_t.  # [R]
        lam: lambda, in [0, 1].
    """
    share = lam * goes_on  # [R], of the return that was seen
    return discounted_sum(r_t + d_t * (1.0 - share) * v_t, d_t * share)


def running_sum(batch: Mapping[str, tf.Tensor], gamma: tf.Tensor, before: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns what each episode has paid up to each row, what is long ago discounted: R_t = r_t + gamma R_(t-1).

    Args:
        batch: "r_t", "mask", "terminated", "truncated", and "cut" where there are several environments.  # [R] each
        gamma: discount factor.  # []
        before: R of each environment's last step before the batch, 0 where its episode ended with it.  # [E]

    Returns:
        R of the rows, and `before` of the next batch.  # [R], [E]
    """
    mask = tf.cast(batch["mask"], tf.float32)  # [R]
    last = mask * (1.0 - tf.concat([mask[1:], tf.zeros_like(mask[:1])], axis=0))  # [R], of an environment
    if "cut" in batch:
        last = tf.cast(batch["cut"], tf.float32)
    first = tf.concat([tf.ones_like(last[:1]), last[:-1]], axis=0)
    env = tf.cumsum(last, exclusive=True)  # [R], whose row it is
    own = tf.cast(env[:, None] == tf.range(before.shape[0], dtype=tf.float32), tf.float32) * mask[:, None]  # [R, E]
    goes_on_from = tf.concat([tf.zeros_like(mask[:1]), goes_on(batch)[:-1]], axis=0)  # [R]
    x_t = batch["r_t"] + gamma * first * tf.reduce_sum(own * before, axis=1)
    total = discounted_sum(x_t[::-1], gamma * goes_on_from[::-1])[::-1]
    going = 1.0 - tf.cast(batch["terminated"] | batch["truncated"], tf.float32)
    return total, tf.reduce_sum(own * (last * going * total)[:, None], axis=0)


def normalize(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns values with mean 0 and (population) standard deviation 1 over the rows of `mask`, and 0 elsewhere.

    Where all values are equal, all become 0; a value without others stays as it is.

    Args:
        values: returns or advantages.  # [R]
        mask: 1 for rows that count, 0 for padding.  # [R]
    """
    count = tf.reduce_sum(mask)
    centred = (values - tf.reduce_sum(values * mask) / count) * mask
    std = tf.sqrt(tf.reduce_sum(tf.square(centred)) / count)
    return tf.where(count > 1.0, centred / (std + 1e-8), values * mask)


def masked_mean(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns the mean of the values [R] over the rows of `mask` [R]."""
    return tf.reduce_sum(values * mask) / tf.reduce_sum(mask)


def explained_variance(values: tf.Tensor, target: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns 1 - Var(target - values) / Var(target) over the rows of `mask`: 1 for perfect values, 0 for constants.

    Where the target does not vary it is 0.

    Args:
        values, target, mask: [R]
    """

    def variance(x: tf.Tensor) -> tf.Tensor:
        return masked_mean(tf.square(x - masked_mean(x, mask)), mask)

    of_target = variance(target)
    varies = of_target > 0.0
    return tf.where(varies, 1.0 - variance(target - values) / tf.where(varies, of_target, 1.0), 0.0)
