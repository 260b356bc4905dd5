"""Expected SARSA (van Seijen et al. 2009, "A theoretical and empirical analysis of Expected Sarsa", eq. 3).

    Q(s_tm1, a_tm1) <- Q(s_tm1, a_tm1) + alpha (r_t + d_t sum_a pi(a | s_t) Q(s_t, a) - Q(s_tm1, a_tm1))

pi is the epsilon-greedy policy at this step's epsilon.
"""

from __future__ import annotations

import numpy as np

from rlexp.algos.q_learning import Array, QLearning


class ExpectedSarsa(QLearning):
    """SARSA without the noise of the next action."""

    def next_value(self, q_t: Array, other_t: Array, a_t: Array, epsilon: Array) -> Array:
        """The mean of Q(s_t, .) under the epsilon-greedy policy, over possible actions."""
        xp = self.xp
        possible = q_t > -np.inf  # [N, A]
        mean = xp.sum(xp.where(possible, q_t, 0.0), axis=-1) / xp.sum(possible, axis=-1)
        return xp.multiply(epsilon, mean) + xp.multiply(1.0 - epsilon, xp.max(q_t, axis=-1))
