"""Q-value iteration (Bellman 1957; Sutton and Barto 2018, eq. 4.10 for action values): planning with a known table.

    Q(s, a) <- sum_s' p(s' | s, a) (r + gamma max_a' Q(s', a'))     for all (s, a) at once, until nothing moves

Impossible actions have the value -inf. A transition that terminates has no next value.

Axes: S states, A actions, I iterations.
"""

from __future__ import annotations

import numpy as np

from rlexp.config.schema.algos import QValueIterationSettings
from rlexp.envs.info import EnvInfo
from rlexp.envs.transition_table import Table


def sweep(table: Table, q: np.ndarray, gamma: float) -> tuple[np.ndarray, float]:
    """All values [S, A] after one more sweep, and the largest change of one."""
    new = table.backup(q.max(axis=1), gamma)
    return new, float(np.abs(new[table.possible] - q[table.possible]).max())


def q_value_iteration(table: Table, gamma: float, iterations: int, tolerance: float = 0.0) -> np.ndarray:
    """All iterates from zero on.

    Args:
        table: the decision process.
        gamma: discount factor.
        iterations: the most sweeps.
        tolerance: stop after a sweep in which no value moved by more than this.

    Returns:
        The values before the first sweep and after each; the last one is the result.  # [I + 1, S, A]
    """
    history = [table.initial_values()]  # [S, A]
    for _ in range(iterations):
        q, moved = sweep(table, history[-1], gamma)
        history.append(q)
        if moved <= tolerance:
            break
    return np.stack(history)


class QValueIteration:
    """The rule, as `engines/host/planning.py` calls it."""

    def __init__(self, config: QValueIterationSettings, info: EnvInfo) -> None:
        self.config = config

    def sweep(self, table: Table, q: np.ndarray) -> tuple[np.ndarray, float]:
        """All values [S, A] after one more sweep, and the largest change of one."""
        return sweep(table, q, self.config.gamma)
