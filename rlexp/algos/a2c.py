"""Advantage actor-critic (Mnih et al. 2016, "Asynchronous methods for deep reinforcement learning", algorithm S3).

It is the synchronous form: the environments of a trial act together, and one update follows from all of them.

    A_t = sum_k (gamma lambda)^k delta_(t+k);   delta_t = r_t + d_t V(o_t; w) - V(o_tm1; w)
    loss = mean(-A_t log pi(a_tm1 | o_tm1; w)) + value_coef mean (V_target - V(o_tm1; w))^2 - entropy_coef mean(H(pi))

The difference to policy gradients with a baseline is in its settings: several environments (`num_envs`), of which each
has a few steps in a batch, so that an update comes soon and its rows are unlike each other.

Deviations from the paper: no threads; generalised advantages (`gae_lambda: 1` has the paper's n-step returns); the
policy and the value have networks of their own; the optimiser of `conf/algo/a2c.yaml`. With `optimizer.name=rmsprop`,
epsilon stands inside the root, as in TensorFlow and unlike in PyTorch, which moves results.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rlexp.algos.actor_critic import ActorCritic
from rlexp.algos.base import Batch, Losses, Params, Scalars
from rlexp.math import returns


class A2C(ActorCritic):
    """One update from a few steps of each environment."""

    metrics = (*ActorCritic.metrics, "explained_variance")

    def losses(self, params: Params, batch: Batch, target: Any, u: tf.Tensor, scalars: Scalars) -> Losses:
        """As of `PGBaseline`; and how well the values fit their targets."""
        parts = super().losses(params, batch, target, u, scalars).parts
        values = self.value(params, batch["o_tm1"])  # [R]
        return Losses(parts, {"explained_variance": returns.explained_variance(values, batch["target"], batch["mask"])})
