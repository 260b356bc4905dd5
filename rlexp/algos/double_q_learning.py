"""Double Q-learning (van Hasselt 2010, "Double Q-learning", algorithm 1).

    with probability 1/2:  Q1(s_tm1, a_tm1) <- Q1(..) + alpha (r_t + d_t Q2(s_t, argmax_a Q1(s_t, a)) - Q1(..))
    else the same with Q1 and Q2 exchanged;  it acts on their mean.

One table chooses the best next action and the other one values it, so that noise is not mistaken for value.
"""

from __future__ import annotations

from rlexp.algos.q_learning import Array, QLearning


class DoubleQLearning(QLearning):
    """Q-learning with two tables."""

    num_tables = 2

    def next_value(self, q_t: Array, other_t: Array, a_t: Array, epsilon: Array) -> Array:
        """The other table's value of this table's best action."""
        return self.xp.take_along_axis(other_t, self.greedy(q_t)[..., None], axis=-1)[..., 0]
