"""Tabular Q-learning (Watkins 1989; Sutton and Barto 2018, section 6.5).

    act:    a_t = a random possible action with probability epsilon, else argmax_a Q(s_t, a)
    learn:  Q(s_tm1, a_tm1) <- Q(s_tm1, a_tm1) + alpha (r_t + d_t max_a Q(s_t, a) - Q(s_tm1, a_tm1))

d_t = gamma (1 - terminated). With `visit_power` p the learning rate is alpha / n(s_tm1, a_tm1)^p, where n counts this
visit.

Here are the rules for the rows of the states that the trials are in. `engines/tabular_rules.py` puts an update together
from them, and the loop of each engine gathers the rows and scatters the new values. `xp` is the array namespace:
`engines/host/plain_numpy.py` on the host engine, `engines/fused/tensor_numpy.py` on the fused one (where `xp.multiply`
rounds a product before it is added to something, as NumPy does). Impossible actions have the value -inf.

Axes: N trials (or any leading axes), A actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from rlexp.config.schema.algos import TabularSettings
from rlexp.envs.info import EnvInfo

Array = Any  # of the namespace `xp`


class QLearning:
    """The rules; the other tabular algorithms override what differs.

    Attributes:
        scalars: settings that may be scheduled.
        logged: the scalars that records show, and their names there: train/<name>.
        widths: uniform numbers of one step: whether to explore, by which action, and which table learns.
        num_tables: K.
        on_policy: whether the next action is chosen before the update, and taken.
        all_possible: whether every action is possible in every state; possible actions are then not counted.
    """

    scalars: tuple[str, ...] = ("epsilon", "alpha")
    logged: Mapping[str, str] = MappingProxyType({"epsilon": "epsilon", "alpha": "lr"})
    widths: Mapping[str, int] = MappingProxyType({"act": 3})
    num_tables = 1
    on_policy = False

    def __init__(self, config: TabularSettings, info: EnvInfo, xp: Any = np) -> None:
        self.config, self.xp, self.all_possible = config, xp, False

    def act(self, q: Array, u: Array, epsilon: Array) -> Array:
        """Epsilon-greedy actions [N] for action values [N, A] and uniform numbers [N, 2]."""
        xp = self.xp
        if self.all_possible:
            random = xp.asarray(xp.multiply(u[..., 1], np.float64(q.shape[-1])), np.int32)  # rounded down
            return xp.where(u[..., 0] < epsilon, random, self.greedy(q))
        possible = q > -np.inf  # [N, A]
        # [N]: the rank-th possible action is the random one
        rank = xp.floor(xp.multiply(u[..., 1], xp.sum(possible, axis=-1)))
        random = xp.argmax(xp.cumsum(possible, axis=-1) > rank[..., None], axis=-1)
        return xp.where(u[..., 0] < epsilon, random, self.greedy(q))

    def greedy(self, q: Array) -> Array:
        """Best actions [N] for action values [N, A]; the first among equals."""
        return self.xp.argmax(q, axis=-1)

    def next_value(self, q_t: Array, other_t: Array, a_t: Array, epsilon: Array) -> Array:
        """What the next state is worth.

        Args:
            q_t: its values in the table that is updated.  # [N, A]
            other_t: its values in the other table, where there are two; else the same.  # [N, A]
            a_t: the action that is taken there, if `on_policy`.  # [N]
            epsilon: probability of a random action there.  # [N]
        """
        return self.xp.max(q_t, axis=-1)

    def td_error(self, q_tm1: Array, r_t: Array, d_t: Array, value_t: Array) -> Array:
        """What the value of the last action is moved towards, minus that value.  # [N]"""
        return r_t + self.xp.multiply(d_t, value_t) - q_tm1

    def step_size(self, alpha: Array, visits: Array) -> Array:
        """The learning rate of a state and action on its `visits`-th visit.  # [N]"""
        return alpha / visits**self.config.visit_power
