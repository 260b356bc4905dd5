"""Munchausen DQN (Vieillard, Pietquin and Geist 2020, "Munchausen reinforcement learning", algorithm 1).

    pi = softmax(Q(.; w') / tau)
    y  = r_t + alpha [tau log pi(a_tm1 | o_tm1)] + d_t sum_a pi(a | o_t) (Q(o_t, a; w') - tau log pi(a | o_t))

[.] is clipped to [l_0, 0]. Both policies are the target network's. Actions are epsilon-greedy, as in the paper's
experiments. The addition to the reward is of one step: more than one (`n_step`) would add it once for all of them.

Axes: B batch, A actions.
"""

from __future__ import annotations

import tensorflow as tf

from rlexp.algos.base import Batch, Scalars, State
from rlexp.algos.dqn import DQN
from rlexp.config.schema.algos import MunchausenDQNSettings
from rlexp.math import targets


class MunchausenDQN(DQN):
    """DQN with its own policy's logarithm in the reward, and a soft maximum in the target."""

    needs_target = True
    config: MunchausenDQNSettings

    def target(self, state: State, batch: Batch, u: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        """What Q(o_tm1, a_tm1) is moved towards [B]."""
        config, tau = self.config, self.config.temperature
        q_tm1, q_t = (self.q_values(self.bootstrapping(state), batch[name]) for name in ("o_tm1", "o_t"))  # [B, A]
        log_pi_tm1, log_pi_t = (tau * tf.nn.log_softmax(q / tau) for q in (q_tm1, q_t))  # tau log pi
        bonus = tf.clip_by_value(targets.batched_index(log_pi_tm1, batch["a_tm1"]), config.clip, 0.0)  # [B]
        value_t = tf.reduce_sum(tf.nn.softmax(q_t / tau) * (q_t - log_pi_t), axis=-1)  # [B]
        return batch["r_t"] + config.alpha * bonus + self.discount(batch, scalars) * value_t
