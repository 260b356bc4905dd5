"""SARSA (Rummery and Niranjan 1994; Sutton and Barto 2018, section 6.4): Q-learning on the policy that acts.

    Q(s_tm1, a_tm1) <- Q(s_tm1, a_tm1) + alpha (r_t + d_t Q(s_t, a_t) - Q(s_tm1, a_tm1))

a_t is chosen from Q as it is before the update, and is the action that is taken. (Where an episode is truncated, a_t
would have been taken.)
"""

from __future__ import annotations

from rlexp.algos.q_learning import Array, QLearning


class Sarsa(QLearning):
    """Q-learning that values the next action, not the best one."""

    on_policy = True

    def next_value(self, q_t: Array, other_t: Array, a_t: Array, epsilon: Array) -> Array:
        """Q(s_t, a_t)."""
        return self.xp.take_along_axis(q_t, a_t[..., None], axis=-1)[..., 0]
