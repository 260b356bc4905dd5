"""Proximal policy optimisation (Schulman et al. 2017, "Proximal policy optimization algorithms", eq. 7, algorithm 1).

    gain = min(rho A_t, clip(rho, 1 - c, 1 + c) A_t),   rho = pi(a_tm1 | o_tm1; w) / pi(a_tm1 | o_tm1; w_old)
    loss = mean(-gain) + value_coef mean (V_target - V(o_tm1; w))^2 - entropy_coef mean(H(pi)),   num_updates times

The difference to policy gradients with a baseline: a batch is learned from in several passes. Each pass is one update
from each of `num_minibatches` parts of the batch, shuffled; A_t is normalised over the part. The gradient is the same
in the first update, and zero for a row once rho has moved by c = `clip_ratio` in favour of A_t. w_old are the weights
that acted.

Options, all off by default (Huang et al. 2022, "The 37 implementation details of proximal policy optimization"):

    value_clip:  the value's loss is max((V_target - V)^2, (V_target - V')^2),
                 V' = V_old + clip(V - V_old, -value_clip, value_clip)
    target_kl:   once mean(rho - 1 - log rho), which estimates KL(pi_old, pi), is above 1.5 target_kl in the rows of an
                 update, neither this update nor the remaining ones of the batch are made
    normalize_observations, normalize_rewards, orthogonal:  see `actor_critic.py`

Deviation from the paper: the policy and the value have networks of their own, as in the paper's experiments on
continuous control.

Axes: R rows.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rlexp.algos.actor_critic import ActorCritic
from rlexp.algos.base import Batch, Losses, Networks, Params, Scalars, State, Update
from rlexp.config.schema.algos import PPOSettings
from rlexp.envs.info import EnvInfo
from rlexp.math import returns
from rlexp.math.action_distributions import Gaussian

KL_TOLERANCE = 1.5  # of target_kl
MAX_LOG_RATIO = 20.0


class PPO(ActorCritic):
    """Actor-critic that learns from a batch several times, near the policy that acted."""

    config: PPOSettings

    def __init__(self, config: PPOSettings, networks: Networks, info: EnvInfo) -> None:
        super().__init__(config, networks, info)
        self.num_updates, self.num_minibatches = config.num_updates, config.num_minibatches
        if config.target_kl is not None:
            self.metrics = (*self.metrics, "approx_kl", "clip_fraction", "explained_variance")

    def init(self, params: Params) -> State:
        """As of `ActorCritic`; with a target for the KL, whether the policy has moved enough."""
        state = super().init(params)
        return state if self.config.target_kl is None else {**state, "enough": tf.constant(False)}

    def prepare(self, params: Params, batch: Batch, scalars: Scalars) -> Batch:
        """As of `ActorCritic`, with `log_prob` [R] of the actions by the policy that acted, and `value` [R] where the
        value's changes are clipped."""
        prepared = super().prepare(params, batch, scalars)
        prepared["log_prob"] = self.log_prob(params, prepared)
        if self.config.value_clip is not None:
            prepared["value"] = self.value(params, prepared["o_tm1"])
        return prepared

    def gain(self, weight: tf.Tensor, log_prob: tf.Tensor, batch: Batch) -> tf.Tensor:
        """The clipped surrogate [R]."""
        clip_ratio = self.config.clip_ratio
        ratio = tf.exp(self._log_ratio(log_prob, batch))  # [R]
        return tf.minimum(ratio * weight, tf.clip_by_value(ratio, 1.0 - clip_ratio, 1.0 + clip_ratio) * weight)

    def losses(self, params: Params, batch: Batch, target: Any, u: tf.Tensor, scalars: Scalars) -> Losses:
        """As of `PGBaseline`; the value's may not gain by a change of more than `value_clip`.  # [R] each"""
        parts = dict(super().losses(params, batch, target, u, scalars).parts)
        if (clip := self.config.value_clip) is not None:
            change = self.value(params, batch["o_tm1"]) - batch["value"]  # [R]
            clipped = batch["target"] - batch["value"] - tf.clip_by_value(change, -clip, clip)  # [R]
            parts["value_loss"] = tf.maximum(parts["value_loss"], tf.square(clipped))
        return Losses(parts, {} if self.config.target_kl is None else self._changes(params, batch))

    def learn(self, state: State, batch: Batch, u: tf.Tensor, scalars: Scalars) -> Update:
        """As of `GradientAgent`, unless the policy has moved enough."""
        update = super().learn(state, batch, u, scalars)
        if self.config.target_kl is None:
            return update
        enough = state["enough"] | (update.metrics["approx_kl"] > KL_TOLERANCE * self.config.target_kl)
        new = tf.nest.map_structure(lambda old, new: tf.where(enough, old, new), state, update.state)
        return update._replace(state={**new, "enough": enough})

    def end_batch(self, state: State, batch: Batch, scalars: Scalars) -> State:
        """As of `ActorCritic`; the next batch is learned from again."""
        state = super().end_batch(state, batch, scalars)
        return {**state, "enough": tf.constant(False)} if "enough" in state else state

    def _log_ratio(self, log_prob: tf.Tensor, batch: Batch) -> tf.Tensor:
        """log rho [R]; densities may differ by any factor, which must not overflow."""
        log_ratio = log_prob - batch["log_prob"]
        if isinstance(self.distribution, Gaussian):
            log_ratio = tf.clip_by_value(log_ratio, -MAX_LOG_RATIO, MAX_LOG_RATIO)
        return log_ratio

    def _changes(self, params: Params, batch: Batch) -> dict[str, tf.Tensor]:
        """How far the policy has moved, and how well the values fit their targets.  # name: []"""
        mask, log_ratio = batch["mask"], self._log_ratio(self.log_prob(params, batch), batch)  # [R]
        ratio = tf.exp(log_ratio)
        clipped = tf.cast(tf.abs(ratio - 1.0) > self.config.clip_ratio, tf.float32)
        value, target = self.value(params, batch["o_tm1"]), batch["target"]
        return {
            "approx_kl": returns.masked_mean(ratio - 1.0 - log_ratio, mask),
            "clip_fraction": returns.masked_mean(clipped, mask),
            "explained_variance": returns.explained_variance(value, target, mask),
        }
