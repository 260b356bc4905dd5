"""The chapter's Markov decision process and Markov chain as Gymnasium environments with a transition table.

The table follows the toy-text convention (see `toy_text.py`): an action that is impossible in a state is absent from
`P[s]`. `info["action_mask"]` (int8 [A], 1: possible) is the mask of the state that was just observed, `action_mask(s)`
that of any state, and `step` raises ValueError for an action that the mask forbids.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

Table = dict[int, dict[int, list[tuple[float, int, float, bool]]]]

CHAIN = (  # Figure 18-7: probabilities from each state (row) to each state
    (0.7, 0.2, 0.0, 0.1),
    (0.0, 0.0, 0.9, 0.1),
    (0.0, 1.0, 0.0, 0.0),
    (0.0, 0.0, 0.0, 1.0),
)
CHAIN_END = 3

MDP_ACTIONS = ((0, 1, 2), (0, 2), (1,))  # possible actions of each state
MDP_PROBABILITIES = (  # Figure 18-8: [s][a][s'], None for impossible actions
    ((0.7, 0.3, 0.0), (1.0, 0.0, 0.0), (0.8, 0.2, 0.0)),
    ((0.0, 1.0, 0.0), None, (0.0, 0.0, 1.0)),
    (None, (0.8, 0.1, 0.1), None),
)
MDP_REWARDS = (  # [s][a][s']
    ((10, 0, 0), (0, 0, 0), (0, 0, 0)),
    ((0, 0, 0), (0, 0, 0), (0, 0, -50)),
    ((0, 0, 0), (40, 0, 0), (0, 0, 0)),
)


class TableEnv(gym.Env[Any, Any]):
    """An environment that is its transition table; every episode begins in state 0.

    Attributes:
        P: the table.
        initial_state_distrib: probability of each first state.  # [S]
    """

    P: ClassVar[Table]
    num_actions: ClassVar[int]

    def __init__(self) -> None:
        self.observation_space = spaces.Discrete(len(self.P))
        self.action_space = spaces.Discrete(self.num_actions)
        self.initial_state_distrib = np.eye(len(self.P))[0]
        possible = [[action in self.P[s] for action in range(self.num_actions)] for s in range(len(self.P))]
        self._masks = np.array(possible, np.int8)  # [S, A]
        self.s = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Begin an episode in state 0."""
        super().reset(seed=seed)
        self.s = 0
        return self.s, {"action_mask": self.action_mask(self.s)}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Draw an outcome from the table; raises `ValueError` for an action that is impossible in this state."""
        if action not in self.P[self.s]:
            raise ValueError(
                f"expected one of the actions {sorted(self.P[self.s])} in state {self.s}, received {action}; "
                "info['action_mask'] says which are possible"
            )
        u = self.np_random.random()
        for probability, s2, reward, terminated in self.P[self.s][action]:  # noqa: B007  (the last one is used)
            u -= probability
            if u < 0:
                break
        self.s = s2
        return s2, reward, terminated, False, {"action_mask": self.action_mask(s2)}

    def action_mask(self, state: int) -> np.ndarray:
        """1 for the possible actions of a state, 0 for the others.  # int8 [A]"""
        return self._masks[state].copy()


class ThreeStateMDP(TableEnv):
    """The decision process of Figure 18-8; it never terminates."""

    num_actions = 3
    P: ClassVar[Table] = {
        s: {
            a: [
                (p, s2, float(MDP_REWARDS[s][a][s2]), False)
                for s2, p in enumerate(MDP_PROBABILITIES[s][a] or ())
                if p > 0
            ]
            for a in MDP_ACTIONS[s]
        }
        for s in range(3)
    }


class MarkovChain(TableEnv):
    """The chain of Figure 18-7: one action, no rewards, terminated on arrival in state 3."""

    num_actions = 1
    P: ClassVar[Table] = {
        s: {0: [(p, s2, 0.0, s2 == CHAIN_END) for s2, p in enumerate(row) if p > 0]} for s, row in enumerate(CHAIN)
    }


for _id, _class in (("rlexp/ThreeStateMDP-v0", ThreeStateMDP), ("rlexp/MarkovChain-v0", MarkovChain)):
    if _id not in gym.registry:
        gym.register(_id, entry_point=f"{__name__}:{_class.__name__}")
