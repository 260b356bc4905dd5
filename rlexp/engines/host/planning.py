"""The host engine's loop for algorithms that plan with a transition table.

A planning job takes no env steps: its steps, budget and records count sweeps. All trials plan with the same table; only
their scores differ.

Axes: N trials, S states, A actions, I sweeps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rlexp.algos.q_value_iteration import QValueIteration
from rlexp.data.checkpoint import write_npz
from rlexp.engines.bookkeeping import Trials
from rlexp.engines.evaluation import Policy, Scores
from rlexp.engines.services import Services
from rlexp.engines.tabular_rules import greedy_policy, set_optimum
from rlexp.envs import transition_table
from rlexp.envs.discretizer import States
from rlexp.envs.trial_envs import Step


class PlanningLoop:
    """Sweeps over all states and actions until no value changes."""

    def __init__(self, agent: QValueIteration, services: Services) -> None:
        self.agent, self.settings = agent, services.settings
        table = transition_table.load(self.settings.env)
        assert table is not None, "preflight refuses environments without a table"
        self.table, self.states = table, States(services.info, None)
        self.history = [table.initial_values()]  # [S, A] after each sweep
        self.trials = Trials(services, self._params())
        set_optimum(self.trials, table)

    def run(self) -> None:
        """Sweep until the values change by no more than the tolerance, or the iterations or the budget are spent."""
        trials, config = self.trials, self.agent.config
        while trials.active.any():
            q, moved = self.agent.sweep(self.table, self.history[-1])
            self.history.append(q)
            trials.advance(Step.empty(self.settings.trials, trials.envs.observation))
            trials.counts["update"] += trials.active
            trials.window.add("train/residual", np.full(self.settings.trials, moved), trials.active)
            if moved <= config.tolerance or len(self.history) > config.iterations:
                trials.finish(trials.active)
            trials.housekeeping(self._greedy(self._params()), self._params, {}, self.get_state)

    def final(self) -> Scores:
        """Score the greedy policy on fresh episodes, and save the values after each sweep in the job's folder."""
        write_npz(self.settings.folder / "history.npz", {"q": np.stack(self.history)})  # [I + 1, S, A]
        return self.trials.final(self._greedy)

    def get_state(self) -> dict[str, Any]:
        """The values after each sweep."""
        return {"history": np.stack(self.history)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` returned."""
        self.history = list(state["history"])

    def _params(self) -> np.ndarray:
        return np.tile(self.history[-1].ravel(), (self.settings.trials, 1))  # [N, S * A]

    def _greedy(self, params: np.ndarray) -> Policy:
        return greedy_policy(params.reshape(len(params), *self.table.reward.shape), self.states)
