"""Implicit quantile networks (Dabney, Ostrovski, Silver and Munos 2018: the paper of this name).

    Z(tau; o, a) = f(psi(o) * phi(tau))_a,   phi(tau) = relu(W cos(pi i tau) + b), i = 0 .. n - 1      (equation 4)
    Q(o, a) = mean of Z over K shares;   tau, tau' drawn uniformly, N and N' for each row
    y_j = r_t + d_t Z(tau'_j; o_t, a_t; w')
    w <- w - optimiser step of d/dw mean of sum_i mean_j rho(y_j - Z(tau_i; o_tm1, a_tm1; w))      (equation 3)

Deviations: Q is the mean at the middles of K equal parts, not at K draws, so that a policy has no noise (a_t is chosen
at the middles of N' parts: K of them for each row would take most of the time); psi ends in a linear layer; f has one
hidden layer, on which a dueling network (`network=dueling`) has its head: Z = V + A - mean A at
each tau. `cvar` below 1 acts by the mean of the worst share of returns (CVaR: section 3.2). `double: true` lets the
online network choose a_t.

Axes: B batch, A actions, F features, K shares of one distribution.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rlexp.algos.base import Batch, Losses, Make, Networks, Params, Scalars, State
from rlexp.algos.distributional import ReturnModel, before_mean
from rlexp.algos.dqn import DQN
from rlexp.config.schema.algos import IQNSettings
from rlexp.envs.info import EnvInfo
from rlexp.math import distributions
from rlexp.networks import dueling


class IQN(DQN):
    """Learns the quantile function of returns."""

    needs_target = True
    config: IQNSettings

    def __init__(self, config: IQNSettings, networks: Networks, info: EnvInfo) -> None:
        super().__init__(config, networks, info)
        worst = np.float32(config.cvar)
        self.taus = distributions.midpoints(config.num_greedy_taus) * worst  # [K]
        self.choice_taus = distributions.midpoints(config.num_target_taus) * worst  # [N']
        self.widths = {"act": 2, "learn": config.batch_size * (config.num_taus + config.num_target_taus)}

    @classmethod
    def models(cls, make: Make, info: EnvInfo, config: Any) -> dict[str, keras.Model]:
        """psi: observations [B, ...] -> [B, F]; phi: cosines [B, n] -> [B, F]; head: [B, F] -> quantiles [B, A]."""
        number, actions = config.num_features, info.num_actions
        phi = keras.Sequential([keras.layers.Input((config.num_cosines,)), keras.layers.Dense(number, "relu")])
        joint, hidden = keras.layers.Input((number,)), keras.layers.Dense(number, "relu")
        head: keras.Model
        if make.dueling is None:
            head = keras.Sequential([joint, hidden, keras.layers.Dense(actions)])
        else:
            head = keras.Model(joint, dueling.head(hidden(joint), (actions,), make.dueling), name="head")
        return {"psi": make.features(number), "phi": phi, "head": head}

    def quantiles(self, params: Params, o_t: tf.Tensor, taus: tf.Tensor) -> tf.Tensor:
        """Z(tau; o, a) [E, K, A] for observations [E, ...] and shares [E, K] or [K]."""
        psi = self.networks["psi"](params["psi"], o_t)  # [E, F]
        cosines = distributions.cosines(taus, self.config.num_cosines)  # [E, K, n] or [K, n]
        phi = self.networks["phi"](params["phi"], tf.reshape(cosines, (-1, cosines.shape[-1])))
        joint = psi[:, None] * tf.reshape(phi, (*cosines.shape[:-1], phi.shape[-1]))  # [E, K, F]
        outputs = self.networks["head"](params["head"], tf.reshape(joint, (-1, joint.shape[-1])))
        return tf.reshape(outputs, (-1, joint.shape[1], self.num_actions))

    def q_values(self, params: Params, o_t: tf.Tensor) -> tf.Tensor:
        """Mean returns [E, A], of the worst share of them for `cvar` below 1."""
        return tf.reduce_mean(self.quantiles(params, o_t, tf.constant(self.taus)), axis=1)

    def bootstrap_action(self, state: State, o_t: tf.Tensor) -> tf.Tensor:
        """The next actions [B] whose values count, by means at N' shares."""
        params = state["online"] if self.double else self.bootstrapping(state)
        means = tf.reduce_mean(self.quantiles(params, o_t, tf.constant(self.choice_taus)), axis=1)  # [B, A]
        return tf.argmax(means, axis=-1, output_type=tf.int32)

    def target(self, state: State, batch: Batch, u: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        """Samples of the target distribution [B, N']."""
        _, taus = self._draw(u)
        every = self.quantiles(self.bootstrapping(state), batch["o_t"], taus)  # [B, N', A]
        chosen = tf.gather(every, self.bootstrap_action(state, batch["o_t"]), axis=2, batch_dims=1)  # [B, N']
        return batch["r_t"][:, None] + self.discount(batch, scalars)[:, None] * chosen

    def losses(self, params: Params, batch: Batch, target: Any, u: tf.Tensor, scalars: Scalars) -> Losses:
        """The quantile regression loss of each row [B], which is its priority too."""
        taus, _ = self._draw(u)
        every = self.quantiles(params, batch["o_tm1"], taus)  # [B, N, A]
        quantiles = tf.gather(every, batch["a_tm1"], axis=2, batch_dims=1)  # [B, N]
        losses = distributions.quantile_regression(quantiles, taus, target, self.config.kappa)
        return Losses({"td": losses}, {"q_mean": tf.reduce_mean(quantiles)}, losses)

    def policy_model(self, models: Mapping[str, keras.Model]) -> keras.Model:
        """The network with the mean at K fixed shares: phi of these is a constant."""
        cosines = distributions.cosines(tf.constant(self.taus), self.config.num_cosines)  # [K, n]
        phi = np.asarray(models["phi"](cosines))  # [K, F]
        times = keras.layers.EinsumDense("bf,kf->bkf", phi.shape, trainable=False, name="times_phi")
        joint = times(models["psi"].output)  # [B, K, F]
        times.set_weights([phi])
        head = models["head"]
        if isinstance(head, keras.Sequential):
            for layer in head.layers:
                joint = layer(joint)
        else:  # dueling: of rows alone
            rows = head(keras.ops.reshape(joint, (-1, phi.shape[1])))  # [B * K, A]
            joint = keras.ops.reshape(rows, (-1, len(phi), self.num_actions))
        return keras.Model(models["psi"].input, keras.ops.mean(joint, axis=1), name="iqn")

    @classmethod
    def return_model(cls, policy: keras.Model) -> ReturnModel:
        """The quantiles in a model that `policy_model` has made; for `cvar` below 1 those of the worst share."""
        quantiles = keras.layers.Permute((2, 1))(before_mean(policy))  # [B, A, K]
        return ReturnModel(keras.Model(policy.inputs[0], quantiles), None)

    def _draw(self, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """tau [B, N] and tau' [B, N'] from the uniform numbers of an update."""
        rows = tf.reshape(u, (self.config.batch_size, -1))
        taus, target_taus = tf.split(rows, [self.config.num_taus, self.config.num_target_taus], axis=1)
        return taus, target_taus
