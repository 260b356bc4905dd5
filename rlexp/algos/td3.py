"""Twin delayed deep deterministic policy gradient (Fujimoto et al. 2018, "Addressing function approximation error in
actor-critic methods", algorithm 1).

    act:     a_t = clip(mu(o_t; phi) + sigma e, -1, 1),  e normal
    learn:   a'  = clip(mu(o_t; phi') + clip(sigma' e, -c, c), -1, 1)
             y   = r_t + d_t min_i Q(o_t, a'; w'_i)
             w_i <- w_i - optimiser step of d/dw_i mean (y - Q(o_tm1, a_tm1; w_i))^2
             every `policy_delay` updates:
             phi  <- phi - optimiser step of d/dphi mean -Q(o_tm1, mu(o_tm1; phi); w_1)
             w'_i <- (1 - tau) w'_i + tau w_i,   phi' <- (1 - tau) phi' + tau phi
    greedy:  mu(o_t; phi)

mu ends in a tanh; sigma, sigma' and c are shares of half of the space's range.

Deviation from the paper: the policy's gradient is of the critic before the update.

Axes: B batch, E observations, D numbers of an action.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rlexp.algos.base import Batch, Losses, Networks, Params, Scalars, State, Update
from rlexp.algos.twin_critics import TwinCritics
from rlexp.config.schema.twin_critics import TD3Settings
from rlexp.envs.info import EnvInfo
from rlexp.math.normal import normal


class TD3(TwinCritics):
    """Makes a policy without noise better, and lets its critics go ahead of it."""

    config: TD3Settings
    metrics = ("loss", "critic_loss", "policy_loss", "q_mean", "grad_norm")

    def __init__(self, config: TD3Settings, networks: Networks, info: EnvInfo) -> None:
        super().__init__(config, networks, info)
        numbers = config.batch_size * self.size
        self.widths = {"act": self.size + self.size % 2, "learn": numbers + numbers % 2}

    def init(self, params: Params) -> State:
        """As of `TwinCritics`, and how many updates the policy has waited for."""
        return {**super().init(params), "waited": tf.zeros((), tf.int32)}

    def mu(self, params: Params, o_t: tf.Tensor) -> tf.Tensor:
        """The policy's actions in [-1, 1] [E, D] for observations [E, ...]."""
        return tf.tanh(self.outputs(params, o_t)[..., 0])

    def explore(self, params: Params, o_t: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        """An action of the policy, with noise."""
        noise = self.config.exploration_noise * normal(u)[:, : self.size]  # [E, D]
        return tf.clip_by_value(self.mu(params, o_t) + noise, -1.0, 1.0)

    def target(self, state: State, batch: Batch, u: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        """What both critics are moved towards [B]."""
        config, params = self.config, self.bootstrapping(state)
        normals = tf.reshape(normal(u)[: config.batch_size * self.size], (config.batch_size, self.size))
        noise = tf.clip_by_value(config.target_noise * normals, -config.target_noise_clip, config.target_noise_clip)
        a_t = tf.clip_by_value(self.mu(params, batch["o_t"]) + noise, -1.0, 1.0)  # [B, D]
        q_t = tf.reduce_min(self.q_values(params, batch["o_t"], a_t), axis=0)  # [B]
        return self.bootstrapped(batch, q_t, scalars)

    def losses(self, params: Params, batch: Batch, target: Any, u: tf.Tensor, scalars: Scalars) -> Losses:
        """The critics' loss and the policy's; each moves its own parameters alone.  # [B] each"""
        o_tm1, fixed = batch["o_tm1"], tf.nest.map_structure(tf.stop_gradient, params)
        q_tm1 = self.q_values(params, o_tm1, self.unscaled(batch["a_tm1"]))  # [2, B]
        q = self.q_values(fixed, o_tm1, self.mu(params, o_tm1))[0]  # [B], of the first critic
        parts = {"critic_loss": self.critic_loss(q_tm1, target), "policy_loss": -q}
        return Losses(parts, {"q_mean": tf.reduce_mean(q_tm1)})

    def learn(self, state: State, batch: Batch, u: tf.Tensor, scalars: Scalars) -> Update:
        """An update, in which the policy and the target networks move only where they have waited long enough."""
        update = super().learn(state, batch, u, scalars)
        waited = state["waited"] + 1
        due = waited >= self.config.policy_delay
        new = dict(update.state)
        for part in ("online", "optimizer"):
            new[part] = {**new[part], "policy": _where(due, new[part]["policy"], state[part]["policy"])}
        if self.target_update == "soft":
            new["target"] = _where(due, new["target"], state["target"])
        return update._replace(state={**new, "waited": tf.where(due, 0, waited)})


def _where(due: tf.Tensor, new: Any, old: Any) -> Any:
    return tf.nest.map_structure(lambda a, b: tf.where(due, a, b), new, old)
