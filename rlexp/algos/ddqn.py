"""Double DQN (van Hasselt, Guez and Silver 2016, "Deep reinforcement learning with double Q-learning", eq. 4).

    y = r_t + d_t Q(o_t, argmax_a Q(o_t, a; w); w')

The difference to DQN with fixed targets: the online network w chooses the action that the target network w' values.
"""

from __future__ import annotations

from rlexp.algos.dqn import DQN


class DoubleDQN(DQN):
    """DQN whose target is van Hasselt's."""

    needs_target = True
    double = True
