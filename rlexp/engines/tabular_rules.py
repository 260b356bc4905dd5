"""What the loops for agents with tables share on both engines: the update, scalars, random numbers, the greedy policy.

Axes: N trials, K tables of an agent, S states, A actions, E evaluation episodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rlexp.algos.q_learning import Array, QLearning
from rlexp.config.schema.algos import TabularSettings
from rlexp.data import seeding
from rlexp.engines.bookkeeping import Trials
from rlexp.engines.evaluation import Policy
from rlexp.envs import exact, transition_table
from rlexp.envs.discretizer import States, masked

ZERO = np.zeros(())  # an array, which NumPy need not convert


class Transition(NamedTuple):
    """One transition of each trial, with the action values that its update reads."""

    q_tm1: Array  # [N] float64, of the state and action in the table that learns
    r_t: Array  # [N] float32 or float64
    terminated: Array | None  # [N] bool; None where no episode has terminated
    q_t: Array  # [N, A] float64, of the next state in the table that learns; -inf for impossible actions
    other_t: Array  # [N, A] float64, of the next state in the other table, if there are two; else the same
    a_t: Array  # [N], the next action of on-policy agents
    visits: Array | None  # [N], earlier visits of the state and action; None where alpha does not depend on them


class Update(NamedTuple):
    """What one update changes."""

    q: Array  # [N] float64, the new value of the state and action
    visits: Array | None  # [N], its visits now, if they are counted
    td_error: Array  # [N] float64
    due: Array  # [N] bool, the trials that learned; the others keep their values


def update(
    rules: QLearning, transition: Transition, active: Array, gamma: float | Array, scalars: Mapping[str, Array]
) -> Update:
    """Update one value of each active trial: the same operations in the same order on both engines.

    Args:
        rules: the algorithm, on the array namespace of the engine.
        transition: what is learned from.
        active: trials that still train; of them, those whose TD error is finite learn.  # [N] bool
        gamma: discount factor.  # []
        scalars: "alpha", the learning rate, as float64, and "epsilon".  # [N] or [1] each
    """
    xp, (q_tm1, r_t, terminated, q_t, other_t, a_t, visits) = rules.xp, transition
    ends = terminated if rules.config.bootstrap == "unless_terminated" else None
    d_t = gamma if ends is None else xp.where(ends, ZERO, gamma)  # [] or [N]
    value_t = rules.next_value(q_t, other_t, a_t, scalars["epsilon"])  # [N]
    td_error = rules.td_error(q_tm1, r_t, d_t, value_t)  # [N]
    due, alpha = active & xp.isfinite(td_error), scalars["alpha"]
    if visits is not None:
        visits = xp.where(due, visits + 1, visits)
        alpha = rules.step_size(alpha, xp.maximum(visits, 1))
    return Update(q_tm1 + xp.where(due, alpha * td_error, ZERO), visits, td_error, due)


def choose_table(rules: QLearning, u: Array) -> Array:
    """The table that learns, for uniform numbers [N].  # [N] int32"""
    if rules.num_tables == 1:
        return rules.xp.zeros(u.shape, np.int32)
    return rules.xp.asarray(rules.xp.multiply(u, np.float64(rules.num_tables)), np.int32)  # rounded down


def recorded(rules: QLearning, scalars: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Scheduled scalars under the names of their records.  # name: [N]"""
    return {name: scalars[path] for path, name in rules.logged.items()}


def uniforms(rules: QLearning, seeds: Sequence[int]) -> seeding.Uniforms:
    """The numbers that the trials use in each step, `widths["act"]` each."""
    return seeding.Uniforms(seeds, "act", rules.widths["act"], seeding.LONG_BLOCK)


def initial_values(
    config: TabularSettings, table: transition_table.Table | None, num_states: int, num_actions: int
) -> np.ndarray:
    """The initial values of a table; -inf for actions that the environment's transition table lacks.  # [S, A]"""
    if table is not None:
        return table.initial_values(config.initial_value)
    return np.full((num_states, num_actions), config.initial_value)


def greedy_policy(q: np.ndarray, states: States) -> Policy:
    """The greedy policy of action values [N, S, A]."""
    n = np.arange(len(q))[:, None]  # [N, 1]

    def act(observation: np.ndarray) -> np.ndarray:  # [N, E, *shape] -> [N, E]
        s_t, mask = states(observation)
        return masked(q[n, s_t], mask).argmax(axis=-1)

    return lambda _: act


def set_optimum(trials: Trials, table: transition_table.Table) -> None:
    """Let evaluations record their regret: against the best policy within the time limit of an evaluation episode."""
    trials.optimum = table.optimal_return(exact.horizon(trials.settings, trials.services.info))
