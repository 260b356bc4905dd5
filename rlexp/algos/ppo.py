"""Proximal policy optimisation (Schulman et al. 2017, "Proximal policy optimization algorithms", eq. 7, algorithm 1).

    gain = min(rho A_t, clip(rho, 1 - c, 1 + c) A_t),   rho = pi(a_tm1 | o_tm1; w) / pi(a_tm1 | o_tm1; w_old)
    loss = mean(-gain) + value_coef mean (V_target - V(o_tm1; w))^2 - entropy_coef mean(H(pi)),   num_updates times

The difference to policy gradients with a baseline: a batch is learned from in several passes. Each pass is one update
from each of `num_minibatches` parts of the batch, shuffled; A_t is normalised over the part. The gradient is the same
in the first update, and zero for a row once rho has moved by c = `clip_ratio` in favour of A_t. w_old are the weights
that acted.

Deviations from the paper: one environment per trial; the policy and the value have networks of their own, as in the
paper's experiments on continuous control.

Axes: R rows.
"""

from __future__ import annotations

import tensorflow as tf

from rlexp.algos.base import Batch, Networks, Params, Scalars
from rlexp.algos.pg_baseline import PGBaseline
from rlexp.config.schema.algos import PPOSettings
from rlexp.envs.info import EnvInfo


class PPO(PGBaseline):
    """Policy gradients with a baseline that learn from a batch several times, near the policy that acted."""

    config: PPOSettings

    def __init__(self, config: PPOSettings, networks: Networks, info: EnvInfo) -> None:
        super().__init__(config, networks, info)
        self.num_updates, self.num_minibatches = config.num_updates, config.num_minibatches

    def prepare(self, params: Params, batch: Batch, scalars: Scalars) -> Batch:
        """As in `PGBaseline`, with `log_prob` [R] of the actions by the policy that acted."""
        return {**super().prepare(params, batch, scalars), "log_prob": self.log_prob(params, batch)}

    def gain(self, weight: tf.Tensor, log_prob: tf.Tensor, batch: Batch) -> tf.Tensor:
        """The clipped surrogate [R]."""
        clip_ratio = self.config.clip_ratio
        ratio = tf.exp(log_prob - batch["log_prob"])  # [R]
        return tf.minimum(ratio * weight, tf.clip_by_value(ratio, 1.0 - clip_ratio, 1.0 + clip_ratio) * weight)
