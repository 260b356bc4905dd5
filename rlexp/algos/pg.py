"""Policy gradients, REINFORCE (Williams 1992; Sutton and Barto, chapter 13.3; the chapter's "Policy Gradients").

    act:     a_t ~ pi(. | o_t; w) = softmax of the network's outputs; head sigmoid: softmax([z, 0]) of one output z;
             a product of such for MultiDiscrete actions, a Gaussian for those of a Box (see `policies.py`)
    learn:   G_t = r_t + gamma G_(t+1) to the end of the episode, then normalised over the rows of the batch
             w <- w - optimiser step of d/dw mean(-G_t log pi(a_tm1 | o_tm1; w)) - entropy_coef mean(H(pi))

A batch is some whole episodes. -log pi is the cross-entropy with the sampled action as target, so that the gradient
is the mean of the notebook's per-step gradients, each times its normalised return. No factor gamma^t, as is usual.
Without a baseline nothing can be said of what lies beyond a time limit: the return of a truncated episode is what was
seen, less `truncation_penalty`.

Axes: R rows, E observations, W uniform numbers of an action.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from rlexp.algos import policies
from rlexp.algos.base import Batch, GradientAgent, Losses, Make, Networks, Params, Scalars
from rlexp.config.schema.algos import PGSettings
from rlexp.envs.info import EnvInfo
from rlexp.envs.spec import Box
from rlexp.math import returns
from rlexp.math.action_distributions import Gaussian


class PG(GradientAgent):
    """Makes actions more probable by the return that followed them."""

    metrics: tuple[str, ...] = ("loss", "grad_norm", "entropy")
    num_updates, num_minibatches = 1, 1

    def __init__(self, config: PGSettings, networks: Networks, info: EnvInfo) -> None:
        super().__init__(config, networks, info)
        self.distribution = policies.distribution_of(info.action, config)
        self.widths = {"act": self.distribution.num_uniforms, "learn": 0}

    @classmethod
    def models(cls, make: Make, info: EnvInfo, config: PGSettings) -> dict[str, keras.Model]:
        """One network: observations [B, ...] -> parameters of the distribution over actions."""
        return {"policy": policies.policy_network(make, info, config)}

    def policy_model(self, models: Mapping[str, keras.Model]) -> keras.Model:
        """The policy's network; for actions of a Box, the model that gives the action itself."""
        model = super().policy_model(models)
        action, distribution = self.info.action, self.distribution
        if isinstance(action, Box) and isinstance(distribution, Gaussian):
            return policies.action_model(model, action, distribution)
        return model

    def outputs(self, params: Params, o_t: tf.Tensor) -> tf.Tensor:
        """Parameters of the distributions [E, *output_shape] for observations [E, ...]."""
        return self.networks["policy"](params["policy"], o_t)

    def act(self, params: Params, o_t: tf.Tensor, u: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        """Sampled action for one observation."""
        return self.sample(params, o_t[None], u[None])[0]

    def act_each(self, params: Params, o_t: tf.Tensor, u: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        """Sampled actions [E] for observations [E, ...] and uniform numbers [E, W]."""
        return self.sample(params, o_t, u)

    def sample(self, params: Params, o_t: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        """Sampled actions [E, ...] for observations [E, ...] and uniform numbers [E, W]."""
        return self.distribution.sample(self.outputs(params, o_t), u)

    def greedy(self, params: Params, o_t: tf.Tensor) -> tf.Tensor:
        """Most probable actions [E, ...] for observations [E, ...]."""
        return self.distribution.mode(self.outputs(params, o_t))

    def log_prob(self, params: Params, batch: Batch) -> tf.Tensor:
        """log pi(a_tm1 | o_tm1) of the rows of a batch.  # [R]"""
        return self.distribution.log_prob(self.outputs(params, batch["o_tm1"]), batch["a_tm1"])

    def prepare(self, params: Params, batch: Batch, scalars: Scalars) -> Batch:
        """The rows, and `advantage` [R]: how good each action turned out to be, here the discounted return."""
        mask = tf.cast(batch["mask"], tf.float32)  # [R]
        advantage = returns.discounted_sum(batch["r_t"], scalars["gamma"] * returns.goes_on(batch))
        return {"o_tm1": batch["o_tm1"], "a_tm1": batch["a_tm1"], "mask": mask, "advantage": advantage}

    def losses(self, params: Params, batch: Batch, target: Any, u: tf.Tensor, scalars: Scalars) -> Losses:
        """The weighted cross-entropy of the sampled actions, and the entropy of the policy.  # [R] each"""
        mask, advantage = batch["mask"], batch["advantage"]  # [R], [R]
        weight = returns.normalize(advantage, mask) if self.config.normalize else advantage  # [R]
        outputs = self.outputs(params, batch["o_tm1"])
        log_prob, entropy = self.distribution.log_prob_and_entropy(outputs, batch["a_tm1"])  # [R], [R]
        return Losses({"policy": -self.gain(weight, log_prob, batch), "entropy": entropy})

    def gain(self, weight: tf.Tensor, log_prob: tf.Tensor, batch: Batch) -> tf.Tensor:
        """What is made greater [R], from weights [R] and log pi(a_tm1 | o_tm1) [R]."""
        return weight * log_prob

    def coefficients(self, scalars: Scalars) -> Mapping[str, float | tf.Tensor]:
        """The loss less the entropy bonus."""
        return {"entropy": -scalars["entropy_coef"]}
