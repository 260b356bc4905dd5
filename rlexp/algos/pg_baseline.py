"""Policy gradients with a learned value baseline (Williams 1992; Sutton and Barto, chapters 13.4 and 13.5); with
lambda < 1 the advantage actor-critic of Schulman et al. 2016.

    A_t = sum_k (gamma lambda)^k delta_(t+k);   delta_t = r_t + d_t V(o_t; w) - V(o_tm1; w)
    loss = policy loss with A_t in the place of G_t + value_coef mean (A_t + V_old(o_tm1) - V(o_tm1; w))^2

The difference to REINFORCE: the advantage, and a value network of its own (shaped like the policy's, one output) in the
same parameter vector, so that one norm clips the gradient of both. A_t and V_old are of the weights that acted. With
lambda = 1, A_t is the discounted return minus V. Only termination ends the future: an episode cut by a time limit, or
by the end of a batch, bootstraps from V (`truncation: terminate` counts a time limit as an end).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from rlexp.algos.base import Batch, Losses, Make, Params, Scalars, rollout_discount
from rlexp.algos.pg import PG
from rlexp.config.schema.algos import PGBaselineSettings, PGSettings
from rlexp.envs.info import EnvInfo
from rlexp.math import returns


class PGBaseline(PG):
    """REINFORCE with a baseline: its Keras model has two outputs, those of the policy and values [B, 1]."""

    config: PGBaselineSettings
    metrics = (*PG.metrics, "value_loss")

    @classmethod
    def models(cls, make: Make, info: EnvInfo, config: PGSettings) -> dict[str, keras.Model]:
        """Two networks side by side on one input, as one model; the policy alone is deployed."""
        return {"policy": side_by_side(PG.models(make, info, config)["policy"], make((1,)))}

    def outputs(self, params: Params, o_t: tf.Tensor) -> tf.Tensor:
        """Parameters of the distributions [E, *output_shape] for observations [E, ...]."""
        return self.networks["policy"](params["policy"], o_t)[0]

    def value(self, params: Params, o_t: tf.Tensor) -> tf.Tensor:
        """Values [E] for observations [E, ...]."""
        return self.networks["policy"](params["policy"], o_t)[1][:, 0]

    def prepare(self, params: Params, batch: Batch, scalars: Scalars) -> Batch:
        """As in `PG`, with generalised advantage estimates, and `target` [R] for the values: the lambda-returns."""
        d_t = rollout_discount(self.config, batch, scalars)  # [R]
        v_tm1, v_t = self.value(params, batch["o_tm1"]), self.value(params, batch["o_t"])  # [R], [R]
        advantage = returns.gae(batch["r_t"], d_t, returns.goes_on(batch), v_tm1, v_t, self.config.gae_lambda)
        return {**super().prepare(params, batch, scalars), "advantage": advantage, "target": advantage + v_tm1}

    def losses(self, params: Params, batch: Batch, target: Any, u: tf.Tensor, scalars: Scalars) -> Losses:
        """The policy's losses, and the value's.  # [R] each"""
        error = batch["target"] - self.value(params, batch["o_tm1"])  # [R]
        parts = super().losses(params, batch, target, u, scalars).parts
        return Losses({**parts, "value_loss": tf.square(error)})

    def coefficients(self, scalars: Scalars) -> Mapping[str, float | tf.Tensor]:
        """The loss less the entropy bonus, and the value's."""
        return {**super().coefficients(scalars), "value_loss": self.config.value_coef}


def side_by_side(policy: keras.Model, value: keras.Model) -> keras.Model:
    """Two networks on one input as one model with two outputs."""
    return keras.Model(policy.input, [policy.output, value(policy.input)], name="policy_value")
