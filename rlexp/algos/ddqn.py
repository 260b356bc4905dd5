"""Double DQN (van Hasselt, Guez and Silver 2016, "Deep reinforcement learning with double Q-learning", eq. 4).

    y = r_t + d_t Q(o_t, argmax_a Q(o_t, a; w); w')

The difference to DQN with fixed targets: the online network w chooses the action that the target network w' values.
"""

from __future__ import annotations

import tensorflow as tf

from rlexp.algos.dqn import DQN, State
from rlexp.math import targets


class DoubleDQN(DQN):
    """DQN whose target is van Hasselt's."""

    def target(self, state: State, r_t: tf.Tensor, d_t: tf.Tensor, o_t: tf.Tensor) -> tf.Tensor:
        """What Q(o_tm1, a_tm1) is moved towards [B]."""
        selector, value = self.q_values(state["online"], o_t), self.q_values(state["target"], o_t)
        return targets.double_q_target(r_t, d_t, selector, value)
