"""Transition tables `P` as dense arrays, and what follows from them exactly.

`P[s][a] = [(probability, s', reward, terminated), ...]` is the toy-text convention; an action that is absent from
`P[s]` is impossible there. What terminates has no next state, so its probability is missing from `transition`.

Axes: S states, A actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlexp.config.schema.env import EnvSettings
from rlexp.envs import making, toy_text


@dataclass(frozen=True)
class Table:
    """A finite decision process.

    Attributes:
        transition: probability of going on in each next state.  # [S, A, S]
        reward: expected reward of a step.  # [S, A]
        possible: the actions that exist.  # [S, A] bool
        start: probability of each first state, None where the environment does not tell.  # [S]
    """

    transition: np.ndarray
    reward: np.ndarray
    possible: np.ndarray
    start: np.ndarray | None

    def initial_values(self, value: float = 0.0) -> np.ndarray:
        """`value` for every possible action, -inf for the others.  # [S, A]"""
        return np.where(self.possible, value, -np.inf)

    def backup(self, v: np.ndarray, gamma: float) -> np.ndarray:
        """Action values of one step and then values `v` [S]; -inf for what is impossible.  # [S, A]"""
        return np.where(self.possible, self.reward + gamma * (self.transition @ v), -np.inf)

    def optimal_return(self, horizon: int) -> float | None:
        """The largest expected undiscounted return of `horizon` steps from the start distribution.

        By backward induction, over all policies, those that count the steps included: no stationary policy can do
        better.
        """
        v = np.zeros(len(self.reward))  # [S]
        for _ in range(horizon):
            v = self.backup(v, 1.0).max(axis=1)
        return None if self.start is None else float(self.start @ v)

    def policy_return(self, actions: np.ndarray, horizon: int) -> float | None:
        """The expected undiscounted return of `horizon` steps of the policy state -> `actions[state]` [S].

        NaN where it may come to choose an action that does not exist.
        """
        if self.start is None:
            return None
        states = np.arange(len(actions))
        transition, reward = self.transition[states, actions], self.reward[states, actions]  # [S, S], [S]
        reward = np.where(self.possible[states, actions], reward, np.nan)
        there, total = np.asarray(self.start, np.float64), 0.0  # the probability of each state [S]
        for _ in range(horizon):
            here = there > 0
            if not here.any():
                break
            total += float(there[here] @ reward[here])
            there = there @ transition
        return total


def dense(P: Mapping[int, Any], num_states: int, num_actions: int, start: np.ndarray | None = None) -> Table:
    """The arrays of a table in the toy-text convention (a mapping or a sequence of states)."""
    transition = np.zeros((num_states, num_actions, num_states))
    reward = np.zeros((num_states, num_actions))
    possible = np.zeros((num_states, num_actions), bool)
    for s in range(num_states):
        for a, lines in toy_text.actions_of(P, s).items():
            for probability, s2, r, terminated in lines:
                possible[s, a] = True
                reward[s, a] += probability * r
                if not terminated:
                    transition[s, a, int(s2)] += probability
    possible |= ~possible.any(axis=1, keepdims=True)  # a last state without actions: nothing happens there
    return Table(transition, reward, possible, None if start is None else np.asarray(start, np.float64))


def load(settings: EnvSettings) -> Table | None:
    """The table of an environment, or None where it has no `P` over numbered states."""
    if settings.wrappers:  # which may change what the table says
        return None
    env = making.make(settings, tabular=True)
    try:
        raw: Any = env.unwrapped
        states, actions = raw.observation_space, raw.action_space
        if not toy_text.has_table(env):
            return None
        return dense(raw.P, int(states.n), int(actions.n), getattr(raw, "initial_state_distrib", None))
    finally:
        env.close()
