"""Parallelised Q-network (Gallici et al. 2024, "Simplifying deep temporal difference learning", algorithm 1).

Q-learning from the latest steps of several environments, without a replay ring and without a target network.

    act:     a_t = a random action with probability epsilon, else argmax_a Q(o_t, a; w), in each environment
    learn:   G_t = r_t + d_t ((1 - lambda) max_a Q(o_t, a; w) + lambda G_(t+1)) inside an episode,
             G_t = r_t + d_t max_a Q(o_t, a; w) in its last row and where the batch ends;   d_t = gamma (1 - terminated)
             w <- w - optimiser step of d/dw mean loss(G_t - Q(o_tm1, a_tm1; w)),   num_updates passes over the batch

What keeps it stable in the place of ring and target network is layer normalisation, which `network=mlp` has by default.
The targets are of the weights that acted, and stay as they are for all updates from a batch.

Deviations from the official code: its lambda-returns bootstrap from the value of the step before (its issue 12); a
truncated episode bootstraps from its final observation; the loss has no factor 1/2.

Axes: R rows, E environments.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rlexp.algos.base import Batch, Losses, Networks, Params, Scalars, rollout_discount
from rlexp.algos.dqn import DQN
from rlexp.config.schema.rollouts import PQNSettings
from rlexp.envs.info import EnvInfo
from rlexp.math import returns, targets


class PQN(DQN):
    """Acts by its action values, and moves them towards the lambda-returns of its latest steps."""

    config: PQNSettings

    def __init__(self, config: Any, networks: Networks, info: EnvInfo) -> None:
        super().__init__(config, networks, info)
        self.num_updates, self.num_minibatches = config.num_updates, config.num_minibatches

    def act_each(self, params: Params, o_t: tf.Tensor, u: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        """Epsilon-greedy actions [E] for observations [E, ...] and uniform numbers [E, 2]."""
        random_action = tf.cast(u[:, 1] * self.num_actions, tf.int32)  # [E]
        return tf.where(u[:, 0] < scalars["epsilon"], random_action, self.greedy(params, o_t))

    def prepare(self, params: Params, batch: Batch, scalars: Scalars) -> Batch:
        """The rows, and `target` [R]: their lambda-returns."""
        d_t = rollout_discount(self.config, batch, scalars)  # [R]
        v_t = tf.reduce_max(self.q_values(params, batch["o_t"]), axis=-1)  # [R]
        target = returns.lambda_returns(batch["r_t"], d_t, returns.goes_on(batch), v_t, self.config.q_lambda)
        mask = tf.cast(batch["mask"], tf.float32)  # [R]
        return {"o_tm1": batch["o_tm1"], "a_tm1": batch["a_tm1"], "mask": mask, "target": target}

    def target(self, state: Any, batch: Batch, u: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        """What `prepare` has made of the whole batch.  # [R]"""
        return batch["target"]

    def losses(self, params: Params, batch: Batch, target: Any, u: tf.Tensor, scalars: Scalars) -> Losses:
        """The loss of each row's error.  # [R]"""
        q_tm1 = targets.batched_index(self.q_values(params, batch["o_tm1"]), batch["a_tm1"])  # [R]
        q_mean = returns.masked_mean(q_tm1, batch["mask"])
        return Losses({"td": targets.LOSSES[self.config.loss](target - q_tm1)}, {"q_mean": q_mean})
