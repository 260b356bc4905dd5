"""Policy gradients, REINFORCE (Williams 1992; Sutton and Barto, chapter 13.3; the chapter's "Policy Gradients").

    act:     a_t ~ pi(. | o_t; w) = softmax of the network's outputs; head sigmoid: softmax([z, 0]) of one output z
    learn:   G_t = r_t + gamma G_(t+1) to the end of the episode, then normalised over the rows of the batch
             w <- w - optimiser step of d/dw mean(-G_t log pi(a_tm1 | o_tm1; w)) - entropy_coef mean(H(pi))

A batch is some whole episodes. -log pi is the cross-entropy with the sampled action as target, so that the gradient
is the mean of the notebook's per-step gradients, each times its normalised return. No factor gamma^t, as is usual.
Without a baseline nothing can be said of what lies beyond a time limit: the return of a truncated episode is what was
seen, less `truncation_penalty`.

Axes: R rows, E observations, A actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from rlexp.algos.base import Batch, GradientAgent, Losses, Make, Params, Scalars
from rlexp.config.schema.algos import PGSettings
from rlexp.envs.info import EnvInfo
from rlexp.math import returns, targets
from rlexp.networks.outputs import with_zero_logit


class PG(GradientAgent):
    """Makes actions more probable by the return that followed them."""

    metrics: tuple[str, ...] = ("loss", "grad_norm", "entropy")
    num_updates, num_minibatches = 1, 1

    @classmethod
    def models(cls, make: Make, info: EnvInfo, config: PGSettings) -> dict[str, keras.Model]:
        """One network: observations [B, ...] -> logits [B, A]."""
        return {"policy": make((info.num_actions,)) if config.head == "softmax" else with_zero_logit(make((1,)))}

    def logits(self, params: Params, o_t: tf.Tensor) -> tf.Tensor:
        """Unnormalised log-probabilities [E, A] for observations [E, ...]."""
        return self.networks["policy"](params["policy"], o_t)

    def act(self, params: Params, o_t: tf.Tensor, u: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        """Sampled action for one observation."""
        return self.sample(params, o_t[None], u)[0]

    def act_each(self, params: Params, o_t: tf.Tensor, u: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        """Sampled actions [E] for observations [E, ...] and uniform numbers [E, 1]."""
        return self.sample(params, o_t, u[:, 0])

    def sample(self, params: Params, o_t: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        """Sampled actions [E] for observations [E, ...] and uniform numbers [E]: action 0 where u <= pi(0)."""
        below = tf.cumsum(tf.nn.softmax(self.logits(params, o_t)), axis=-1)[:, :-1]  # [E, A - 1]
        return tf.reduce_sum(tf.cast(u[:, None] > below, tf.int32), axis=-1)

    def greedy(self, params: Params, o_t: tf.Tensor) -> tf.Tensor:
        """Most probable actions [E] for observations [E, ...]."""
        return tf.argmax(self.logits(params, o_t), axis=-1, output_type=tf.int32)

    def prepare(self, params: Params, batch: Batch, scalars: Scalars) -> Batch:
        """The rows, and `advantage` [R]: how good each action turned out to be, here the discounted return."""
        mask = tf.cast(batch["mask"], tf.float32)  # [R]
        advantage = returns.discounted_sum(batch["r_t"], scalars["gamma"] * returns.goes_on(batch))
        return {"o_tm1": batch["o_tm1"], "a_tm1": batch["a_tm1"], "mask": mask, "advantage": advantage}

    def losses(self, params: Params, batch: Batch, target: Any, u: tf.Tensor, scalars: Scalars) -> Losses:
        """The weighted cross-entropy of the sampled actions, and the entropy of the policy.  # [R] each"""
        mask, advantage = batch["mask"], batch["advantage"]  # [R], [R]
        weight = returns.normalize(advantage, mask) if self.config.normalize else advantage  # [R]
        log_pi = tf.nn.log_softmax(self.logits(params, batch["o_tm1"]))  # [R, A]
        gain = self.gain(weight, targets.batched_index(log_pi, batch["a_tm1"]), batch)  # [R]
        return Losses({"policy": -gain, "entropy": -tf.reduce_sum(tf.exp(log_pi) * log_pi, axis=-1)})

    def gain(self, weight: tf.Tensor, log_prob: tf.Tensor, batch: Batch) -> tf.Tensor:
        """What is made greater [R], from weights [R] and log pi(a_tm1 | o_tm1) [R]."""
        return weight * log_prob

    def coefficients(self, scalars: Scalars) -> Mapping[str, float | tf.Tensor]:
        """The loss less the entropy bonus."""
        return {"entropy": -scalars["entropy_coef"]}
