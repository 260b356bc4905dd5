"""Advantage learning (Bellemare et al. 2016, "Increasing the action gap: new operators for reinforcement learning").

    y = r_t + d_t max_a Q(o_t, a; w') - alpha (max_a Q(o_tm1, a; w') - Q(o_tm1, a_tm1; w'))

persistent: the action a_tm1 counts in o_t too, and y is the larger of the two (equation 9).
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
    name: str = opt("advantage_dqn", "registry key")
    alpha: float = opt(0.9, "weight of the gap between the best action and the one taken", low=0, high=1)
    persistent: bool = opt(True, "the larger of this target and that of repeating the action")


class AdvantageDQN(DQN):
    def target(self, state: State, batch: Batch, u: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        q_tm1, q_t = (self.q_values(self.bootstrapping(state), batch[name]) for name in ("o_tm1", "o_t"))  # [B, A]
        gap = tf.reduce_max(q_tm1, axis=-1) - targets.batched_index(q_tm1, batch["a_tm1"])  # [B]
        r_t, d_t = batch["r_t"], self.discount(batch, scalars)
        y = r_t + d_t * tf.reduce_max(q_t, axis=-1) - self.config.alpha * gap
        repeated = r_t + d_t * targets.batched_index(q_t, batch["a_tm1"])
        return tf.maximum(y, repeated) if self.config.persistent else y


ALGO = Algo("replay", Settings, "advantage_learning:AdvantageDQN")
