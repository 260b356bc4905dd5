"""Policy gradients with a learned value baseline (Williams 1992; Sutton and Barto, chapters 13.4 and 13.5); with
lambda < 1 the advantage actor-critic of Schulman et al. 2016.

    A_t = sum_k (gamma lambda)^k delta_(t+k);   delta_t = r_t + d_t V(o_t; w) - V(o_tm1; w)
    loss = policy loss with A_t in the place of G_t + value_coef mean (A_t + V_old(o_tm1) - V(o_tm1; w))^2

A_t and V_old are of the weights that acted: with `clip_ratio`, several `num_updates` and `num_minibatches` this is PPO
(Schulman et al. 2017, algorithm 1).

The difference to REINFORCE: the advantage, and a value network of its own (shaped like the policy's, one output) in the
same parameter vector. With lambda = 1, A_t is the discounted return minus V. Only termination ends the future: an
episode cut by a time limit, or by the end of a batch, bootstraps from V (`truncation: terminate` counts a time limit as
an end).
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from rlexp.algos.pg import PG, Batch, Scalars, goes_on
from rlexp.config.schema.algos import PGBaselineSettings, PGSettings
from rlexp.math import returns, targets


class PGBaseline(PG):
    """REINFORCE with a baseline: its Keras model has two outputs, logits [B, A] and values [B, 1]."""

    config: PGBaselineSettings
    metrics = (*PG.metrics, "value_loss")

    @staticmethod
    def build(network: Callable[[int], keras.Model], num_actions: int, config: PGSettings) -> keras.Model:
        """The Keras model of one trial: two networks side by side on one input."""
        policy, value = PG.build(network, num_actions, config), network(1)
        return keras.Model(policy.input, [policy.output, value(policy.input)], name="policy_value")

    def logits(self, params: tf.Tensor, o_t: tf.Tensor) -> tf.Tensor:
        """Unnormalised log-probabilities [E, A] for observations [E, ...]."""
        return self.network(params, o_t)[0]

    def value(self, params: tf.Tensor, o_t: tf.Tensor) -> tf.Tensor:
        """Values [E] for observations [E, ...]."""
        return self.network(params, o_t)[1][:, 0]

    def prepare(self, params: tf.Tensor, batch: Batch, scalars: Scalars) -> Batch:
        """As in `PG`, with generalised advantage estimates, and `target` [R] for the values: the lambda-returns."""
        cut_ends = self.config.truncation == "terminate"
        over = batch["terminated"] | batch["truncated"] if cut_ends else batch["terminated"]
        d_t = targets.discount(scalars["gamma"], over)  # [R]
        v_tm1, v_t = self.value(params, batch["o_tm1"]), self.value(params, batch["o_t"])  # [R], [R]
        advantage = returns.gae(batch["r_t"], d_t, goes_on(batch), v_tm1, v_t, self.config.gae_lambda)
        return {**super().prepare(params, batch, scalars), "advantage": advantage, "target": advantage + v_tm1}

    def loss(self, params: tf.Tensor, rows: Batch, scalars: Scalars) -> tuple[tf.Tensor, Scalars]:
        """The policy's loss and the value's, and metrics."""
        loss, metrics = super().loss(params, rows, scalars)
        error = rows["target"] - self.value(params, rows["o_tm1"])  # [R]
        value_loss = returns.masked_mean(tf.square(error), rows["mask"])
        return loss + self.config.value_coef * value_loss, {**metrics, "value_loss": value_loss}
