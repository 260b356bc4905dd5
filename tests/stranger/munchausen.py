"""Munchausen DQN (Vieillard, Pietquin and Geist 2020, "Munchausen reinforcement learning", algorithm 1).

    y = r_t + alpha clip(tau log pi(a_tm1 | o_tm1), l_0, 0) + d_t sum_a pi(a | o_t) (Q(o_t, a; w') - tau log pi(a | o_t))

pi = softmax(Q(.; w') / tau). Actions are epsilon-greedy, as in the paper's experiments.
"""

from dataclasses import dataclass

import tensorflow as tf

from rlexp.algos.base import Batch, Scalars, State
from rlexp.algos.dqn import DQN
from rlexp.config.registry import Algo
from rlexp.config.schema.algos import FixedDQNSettings
from rlexp.config.schema.fields import opt
from rlexp.math import targets


@dataclass
class Settings(FixedDQNSettings):
    name: str = opt("munchausen_dqn", "registry key")
    temperature: float = opt(0.03, "tau, of the softmax policy", above=0)
    alpha: float = opt(0.9, "weight of the policy's logarithm in the reward", low=0, high=1)
    clip: float = opt(-1.0, "l_0, the least that tau log pi counts", high=0)


class MunchausenDQN(DQN):
    def target(self, state: State, batch: Batch, u: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        config, tau = self.config, self.config.temperature
        q_tm1, q_t = (self.q_values(self.bootstrapping(state), batch[name]) for name in ("o_tm1", "o_t"))  # [B, A]
        log_pi_tm1, log_pi_t = tau * tf.nn.log_softmax(q_tm1 / tau), tau * tf.nn.log_softmax(q_t / tau)  # times tau
        bonus = tf.clip_by_value(targets.batched_index(log_pi_tm1, batch["a_tm1"]), config.clip, 0.0)  # [B]
        value_t = tf.reduce_sum(tf.nn.softmax(q_t / tau) * (q_t - log_pi_t), axis=-1)  # [B]
        return batch["r_t"] + config.alpha * bonus + self.discount(batch, scalars) * value_t


ALGO = Algo("replay", Settings, "munchausen:MunchausenDQN")
