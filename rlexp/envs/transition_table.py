"""Transition tables `P` (see `toy_text.py`) as dense arrays, and exact values of policies from them.

A transition that terminates has no next state, so its probability is missing from `transition`.

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
        transition: probability of each next state.  # [S, A, S]
        reward: expected reward of a step.  # [S, A]
        possible: the possible actions.  # [S, A] bool
        start: probability of each first state; None if it is not known.  # [S]
    """

    transition: np.ndarray
    reward: np.ndarray
    possible: np.ndarray
    start: np.ndarray | None

    def initial_values(self, value: float = 0.0) -> np.ndarray:
        """`value` for every possible action, -inf for the others.  # [S, A]"""
        return np.where(self.possible, value, -np.inf)

    def backup(self, v: np.ndarray, gamma: float) -> np.ndarray:
        """Action values of one step that is followed by the values `v` [S]; -inf for impossible actions.  # [S, A]"""
        return np.where(self.possible, self.reward + gamma * (self.transition @ v), -np.inf)

    def optimal_return(self, horizon: int) -> float | None:
        """The largest expected undiscounted return of `horizon` steps from the start distribution.

        By backward induction over all policies, including those that depend on the time step: an upper bound for
        stationary policies. None if the start distribution is not known.
        """
        v = np.zeros(len(self.reward))  # [S]
        for _ in range(horizon):
            v = self.backup(v, 1.0).max(axis=1)
        return None if self.start is None else float(self.start @ v)

    def policy_return(self, actions: np.ndarray, horizon: int) -> float | None:
        """The expected undiscounted return of `horizon` steps of the policy state -> `actions[state]` [S].

        NaN if it may choose an impossible action; None if the start distribution is not known.
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
    """The arrays of a table `P` in the toy-text convention (a mapping or a sequence of states)."""
    transition = np.zeros((num_states, num_actions, num_states))
    reward = np.zeros((num_states, num_actions))
    possible = np.zeros((num_states, num_actions), bool)
    for s in range(num_states):
        for a, outcomes in toy_text.actions_of(P, s).items():
            for probability, s2, r, terminated in outcomes:
                possible[s, a] = True
                reward[s, a] += probability * r
                if not terminated:
                    transition[s, a, int(s2)] += probability
    possible |= ~possible.any(axis=1, keepdims=True)  # a last state without actions: nothing happens there
    return Table(transition, reward, possible, None if start is None else np.asarray(start, np.float64))


def load(settings: EnvSettings) -> Table | None:
    """The table of an environment; None if it has no `P` over numbered states, or wrappers that may change it."""
    if settings.wrappers:
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
