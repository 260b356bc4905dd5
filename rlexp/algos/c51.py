"""Categorical DQN (Bellemare, Dabney and Munos 2017, "A distributional perspective on reinforcement learning").

    p(o, a) = softmax of K logits, the probabilities of returns z_1 .. z_K;   Q(o, a) = sum_k z_k p_k(o, a)
    y = the distribution of r_t + d_t z under p(o_t, a_t; w'), projected onto z      (algorithm 1)
    w <- w - optimiser step of d/dw mean cross-entropy(y, p(o_tm1, a_tm1; w))

Deviations: Adam's epsilon and the support are configured; `double: true` lets the online network choose a_t.

Axes: B batch, A actions, K atoms.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import tensorflow as tf

from rlexp.algos.base import Batch, Networks
from rlexp.algos.distributional import DistributionalDQN, ReturnModel
from rlexp.config.schema.algos import C51Settings
from rlexp.envs.info import EnvInfo
from rlexp.math import distributions


class C51(DistributionalDQN):
    """Learns the probabilities of fixed returns."""

    def __init__(self, config: C51Settings, networks: Networks, info: EnvInfo) -> None:
        super().__init__(config, networks, info)
        self.atoms = distributions.atoms(config.v_min, config.v_max, config.num_outputs)  # [K]

    def mean(self, outputs: tf.Tensor) -> tf.Tensor:
        """sum_k z_k p_k of logits [..., K]."""
        return tf.reduce_sum(tf.nn.softmax(outputs) * self.atoms, axis=-1)

    def bootstrapped(self, batch: Batch, d_t: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """Probabilities of the atoms [B, K]."""
        z_t = batch["r_t"][:, None] + d_t[:, None] * self.atoms  # [B, K]
        return distributions.project(z_t, tf.nn.softmax(outputs), self.atoms)

    def row_losses(self, outputs: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """The cross-entropy of each row [B]."""
        return distributions.cross_entropy(target, outputs)

    def policy_model(self, models: Mapping[str, keras.Model]) -> keras.Model:
        """The network with the mean as two layers more: softmax, and a product with the atoms."""
        model = models["q"]
        mean = keras.layers.Dense(1, use_bias=False, trainable=False, name="expected_return")
        values = mean(keras.layers.Softmax(name="return_probabilities")(model.output))  # [B, A, 1]
        mean.set_weights([self.atoms[:, None]])
        return keras.Model(
            model.input, keras.layers.Reshape((self.num_actions,), name="action_values")(values), name="c51"
        )

    @classmethod
    def return_model(cls, policy: keras.Model) -> ReturnModel:
        """The probabilities in a model that `policy_model` has made."""
        probabilities = policy.get_layer("return_probabilities").output
        (atoms,) = policy.get_layer("expected_return").get_weights()
        return ReturnModel(keras.Model(policy.inputs[0], probabilities), atoms[:, 0])
