"""Quantile regression DQN (Dabney, Rowland, Bellemare and Munos 2018, "Distributional RL with quantile regression").

    theta(o, a) = K quantiles of the return at (i + 1/2) / K;   Q(o, a) = their mean
    y_j = r_t + d_t theta_j(o_t, a_t; w')      (algorithm 1)
    w <- w - optimiser step of d/dw mean of sum_i mean_j rho(y_j - theta_i(o_tm1, a_tm1; w))      (equation 10)

Deviation: `double: true` lets the online network choose a_t.

Axes: B batch, A actions, K quantiles.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import tensorflow as tf

from rlexp.algos.base import Batch, Networks
from rlexp.algos.distributional import DistributionalDQN, ReturnModel, before_mean
from rlexp.config.schema.algos import QRDQNSettings
from rlexp.envs.info import EnvInfo
from rlexp.math import distributions


class QRDQN(DistributionalDQN):
    """Learns quantiles of returns at fixed shares."""

    config: QRDQNSettings

    def __init__(self, config: QRDQNSettings, networks: Networks, info: EnvInfo) -> None:
        super().__init__(config, networks, info)
        self.taus = distributions.midpoints(config.num_outputs)  # [K]

    def mean(self, outputs: tf.Tensor) -> tf.Tensor:
        """The mean of quantiles [..., K]."""
        return tf.reduce_mean(outputs, axis=-1)

    def bootstrapped(self, batch: Batch, d_t: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """Quantiles [B, K]."""
        return batch["r_t"][:, None] + d_t[:, None] * outputs

    def row_losses(self, outputs: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """The quantile regression loss of each row [B]."""
        return distributions.quantile_regression(outputs, self.taus, target, self.config.kappa)

    def policy_model(self, models: Mapping[str, keras.Model]) -> keras.Model:
        """The network with the mean of its quantiles."""
        model = models["q"]
        return keras.Model(model.input, keras.ops.mean(model.output, axis=-1), name="qr_dqn")

    @classmethod
    def return_model(cls, policy: keras.Model) -> ReturnModel:
        """The quantiles in a model that `policy_model` has made."""
        return ReturnModel(keras.Model(policy.inputs[0], before_mean(policy)), None)
