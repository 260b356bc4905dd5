"""What SAC and TD3 share: a policy of continuous actions, and two critics of observation and action.

The critics of one observation and action differ by their initial weights alone. The lesser of their values counts in
what is bootstrapped (clipped double Q-learning, Fujimoto et al. 2018): the greater of two errors would be sought out by
the policy. Inside, actions are in [-1, 1]; the environment and the replay have them in the space's bounds. Until the
first update actions are uniformly random in these bounds.

Axes: B batch, E observations, D numbers of an action.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rlexp.algos.base import Batch, GradientAgent, Make, Networks, Params, Scalars, State, Update
from rlexp.config.schema.twin_critics import TwinCriticsSettings
from rlexp.envs.info import EnvInfo
from rlexp.envs.spec import Box
from rlexp.math import targets

CRITICS = ("q1", "q2")


class TwinCritics(GradientAgent):
    """Learns two action values, and a policy that goes up them."""

    config: TwinCriticsSettings
    num_outputs = 1  # of the policy's network, for each number of an action; the first is where the best one is
    optimizer_paths: Mapping[str, str] = {"policy": "policy_optimizer"}

    def __init__(self, config: TwinCriticsSettings, networks: Networks, info: EnvInfo) -> None:
        super().__init__(config, networks, info)
        assert isinstance(info.action, Box), "preflight refuses others"
        self.action_shape, self.size = info.action.shape, math.prod(info.action.shape)
        self.low, self.high = (bound.ravel().astype(np.float32) for bound in info.action.bounds)  # [D]
        self.center, self.half = self.high / 2 + self.low / 2, self.high / 2 - self.low / 2  # [D]

    @classmethod
    def models(cls, make: Make, info: EnvInfo, config: Any) -> dict[str, keras.Model]:
        """The policy: observations [B, ...] -> [B, outputs * D]; the critics: both as one vector -> values [B, 1]."""
        policy = make.features(cls.num_outputs * math.prod(info.action.shape))
        return {"policy": policy, **{name: make.with_action(1) for name in CRITICS}}

    def init(self, params: Params) -> State:
        """As of `GradientAgent`, and whether there has been an update: 0 or 1."""
        return {**super().init(params), "learned": tf.zeros(())}

    def acting(self, state: State) -> Params:
        """The policy, and whether it has learned anything."""
        return {"policy": state["online"]["policy"], "learned": state["learned"]}

    def deploy(self, params: Params) -> Params:
        """The policy alone."""
        return {"policy": params["policy"]}

    def policy_model(self, models: Mapping[str, keras.Model]) -> keras.Model:
        """Observations [B, ...] -> the best actions [B, *action shape], within the space's bounds."""
        ops, outputs = keras.ops, keras.layers.Reshape((self.size, self.num_outputs))(models["policy"].output)
        action = ops.tanh(outputs[..., 0]) * self.half + self.center
        action = ops.minimum(ops.maximum(action, self.low), self.high)
        return keras.Model(models["policy"].input, keras.layers.Reshape(self.action_shape)(action), name="policy")

    @abc.abstractmethod
    def explore(self, params: Params, o_t: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        """Exploring actions in [-1, 1] [E, D] for observations [E, ...] and uniform numbers [E, W]."""

    def act(self, params: Params, o_t: tf.Tensor, u: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        """An exploring action for one observation; a uniformly random one as long as nothing has been learned."""
        chosen = tf.where(
            params["learned"] > 0.0, self.explore(params, o_t[None], u[None])[0], 2.0 * u[: self.size] - 1.0
        )
        return self.scaled(chosen)

    def greedy(self, params: Params, o_t: tf.Tensor) -> tf.Tensor:
        """The policy's best actions [E, *action shape] for observations [E, ...]."""
        return self.scaled(tf.tanh(self.outputs(params, o_t)[..., 0]))

    def outputs(self, params: Params, o_t: tf.Tensor) -> tf.Tensor:
        """Of the policy's network [E, D, outputs]."""
        outputs = self.networks["policy"](params["policy"], o_t)
        return tf.reshape(outputs, (-1, self.size, self.num_outputs))

    def q_values(self, params: Params, o_t: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
        """Both critics' values [2, B] of observations [B, ...] and actions in [-1, 1] [B, D]."""
        both = tf.concat([tf.reshape(o_t, (o_t.shape[0], -1)), action], axis=1)  # [B, S + D]
        return tf.stack([self.networks[name](params[name], both)[:, 0] for name in CRITICS])

    def scaled(self, action: tf.Tensor) -> tf.Tensor:
        """Actions in [-1, 1] [..., D] in the space's bounds, as the environment takes them.  # [..., *action shape]"""
        within = tf.clip_by_value(self.center + self.half * action, self.low, self.high)
        return tf.reshape(within, (*action.shape[:-1], *self.action_shape))

    def unscaled(self, action: tf.Tensor) -> tf.Tensor:
        """The inverse of `scaled` for actions of a batch: [B, *action shape] -> [B, D]"""
        half = np.where(self.half > 0, self.half, np.float32(1))  # of a number that has no choice
        return (tf.reshape(action, (action.shape[0], -1)) - self.center) / half

    def critic_loss(self, q_tm1: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """The squared TD errors [B] of both critics, for values [2, B] and targets [B]."""
        return tf.reduce_sum(tf.square(target - q_tm1), axis=0)

    def bootstrapped(self, batch: Batch, value_t: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        """r_t + gamma^m (1 - terminated) v(o_t)  # [B]"""
        return batch["r_t"] + targets.discount(scalars["gamma"] ** batch["num_steps"], batch["terminated"]) * value_t

    def learn(self, state: State, batch: Batch, u: tf.Tensor, scalars: Scalars) -> Update:
        update = super().learn(state, batch, u, scalars)
        return update._replace(state={**update.state, "learned": tf.ones_like(state["learned"])})
