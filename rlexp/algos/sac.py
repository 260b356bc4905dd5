"""Soft actor-critic (Haarnoja et al. 2018, "Soft actor-critic"; 2018b, "... algorithms and applications").

    act:     a_t ~ pi(. | o_t; phi):  a = tanh(mu + sigma e),  e normal
    learn:   y = r_t + d_t (min_i Q(o_t, a'; w'_i) - alpha log pi(a' | o_t; phi)),  a' ~ pi(. | o_t; phi)
             w_i   <- w_i - optimiser step of d/dw_i mean 1/2 (y - Q(o_tm1, a_tm1; w_i))^2
             phi   <- phi - optimiser step of d/dphi mean (alpha log pi(a | o_tm1; phi) - min_i Q(o_tm1, a; w_i)),
                      a = tanh(mu + sigma e), through which the gradient passes
             alpha <- exp(log alpha - optimiser step of d/dlog alpha mean -log alpha (log pi(a | o_tm1) + H))
             w'_i  <- (1 - tau) w'_i + tau w_i
    greedy:  tanh(mu)

H is the entropy that the temperature alpha is to hold, -D where nothing else is said. log pi and H are of actions in
[-1, 1], whatever the space's bounds are.

Deviations from the papers: log alpha stands for alpha in the temperature's loss, as in the authors' code; all three
steps are taken from the parameters before the update, as there. More than one step (`n_step`) leaves out the entropies
of those between.

Axes: B batch, E observations, D numbers of an action, W uniform numbers.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from rlexp.algos.base import Batch, Losses, Networks, Params, Scalars, State, recorded_mean
from rlexp.algos.twin_critics import CRITICS, TwinCritics
from rlexp.config.schema.twin_critics import SACSettings
from rlexp.envs.info import EnvInfo
from rlexp.math.action_distributions import TanhGaussian


class SAC(TwinCritics):
    """Makes a policy better that keeps its entropy."""

    config: SACSettings
    num_outputs = 2  # mu and log sigma
    target_networks = CRITICS
    metrics = ("loss", "critic_loss", "policy_loss", "temperature", "entropy", "q_mean", "grad_norm")

    def __init__(self, config: SACSettings, networks: Networks, info: EnvInfo) -> None:
        super().__init__(config, networks, info)
        self.optimizers["log_temperature"] = self._optimizer("log_temperature")
        self.target_entropy = float(-self.size if config.target_entropy is None else config.target_entropy)
        self.policy = TanhGaussian((self.size,), -1.0, 1.0, clip_std=True)
        numbers = self.policy.num_uniforms
        self.widths = {"act": numbers, "learn": 2 * config.batch_size * numbers}

    def init(self, params: Params) -> State:
        """As of `TwinCritics`, with the temperature's logarithm as a parameter of its own."""
        return super().init({**params, "log_temperature": tf.fill([1], math.log(self.config.temperature))})

    def sample(self, params: Params, o_t: tf.Tensor, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Actions in [-1, 1] [E, D] and their log-probabilities [E], for observations and uniform numbers [E, W]."""
        return self.policy.sample_and_log_prob(self.outputs(params, o_t), u)

    def explore(self, params: Params, o_t: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        """An action from the policy."""
        return self.policy.sample(self.outputs(params, o_t), u)

    def target(self, state: State, batch: Batch, u: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        """What both critics are moved towards [B]."""
        a_t, log_pi = self.sample(state["online"], batch["o_t"], self._numbers(u)[0])
        q_t = tf.reduce_min(self.q_values(self.bootstrapping(state), batch["o_t"], a_t), axis=0)  # [B]
        temperature = tf.exp(state["online"]["log_temperature"])  # [1]
        return self.bootstrapped(batch, q_t - temperature * log_pi, scalars)

    def losses(self, params: Params, batch: Batch, target: Any, u: tf.Tensor, scalars: Scalars) -> Losses:
        """The critics' loss, the policy's and the temperature's; each moves its own parameters alone.  # [B] each"""
        o_tm1, fixed = batch["o_tm1"], tf.nest.map_structure(tf.stop_gradient, params)
        q_tm1 = self.q_values(params, o_tm1, self.unscaled(batch["a_tm1"]))  # [2, B]
        action, log_pi = self.sample(params, o_tm1, self._numbers(u)[1])
        q = tf.reduce_min(self.q_values(fixed, o_tm1, action), axis=0)  # [B]
        temperature = tf.exp(fixed["log_temperature"])  # [1]
        too_sure = tf.stop_gradient(log_pi + self.target_entropy)  # [B]
        parts = {
            "critic_loss": 0.5 * self.critic_loss(q_tm1, target),
            "policy_loss": temperature * log_pi - q,
            "temperature_loss": -params["log_temperature"] * too_sure,
        }
        metrics = {
            "temperature": temperature[0],
            "entropy": recorded_mean(-log_pi, batch),
            "q_mean": tf.reduce_mean(q_tm1),
        }
        return Losses(parts, metrics)

    def _numbers(self, u: tf.Tensor) -> tf.Tensor:
        """The uniform numbers of an update: for the actions in o_t, and for those in o_tm1.  # [2, B, W]"""
        return tf.reshape(u, (2, self.config.batch_size, self.policy.num_uniforms))
