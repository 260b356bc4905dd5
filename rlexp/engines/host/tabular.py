"""The host engine's loop for agents with a table: any environment with numbered states, or with numbers and bins.

All trials advance together as arrays. NumPy only: neither this module nor what it imports loads TensorFlow.

Axes: N trials, K tables of an agent, S states, A actions, E evaluation episodes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rlexp.algos.q_learning import QLearning
from rlexp.config import schedules
from rlexp.config.schema.algos import TabularSettings
from rlexp.engines import parts
from rlexp.engines.bookkeeping import Trials
from rlexp.engines.evaluation import Act, Scores
from rlexp.engines.services import Services
from rlexp.engines.tabular_rules import (
    Transition,
    choose_table,
    greedy_policy,
    initial_values,
    recorded,
    set_optimum,
    uniforms,
    update,
)
from rlexp.envs import transition_table
from rlexp.envs.discretizer import States, masked
from rlexp.envs.trial_envs import Step


class TabularLoop:
    """Acts epsilon-greedily and updates one value of each trial's table per step."""

    def __init__(self, agent: QLearning, services: Services) -> None:
        settings, info = services.settings, services.info
        config: TabularSettings = settings.algo
        self.agent, self.config, self.n = agent, config, np.arange(settings.trials)
        self.states = States(info, config.discretizer)
        table = transition_table.load(settings.env)
        initial = initial_values(config, table, self.states.num_states, info.num_actions)
        agent.all_possible = not info.masked and bool((initial > -np.inf).all())
        shape = (settings.trials, agent.num_tables, *initial.shape)
        self.q = np.broadcast_to(initial, shape).copy()  # [N, K, S, A]
        self.visits = np.zeros(shape, np.int64)  # [N, K, S, A]
        self.trials = Trials(services, self._params())
        if table is not None:
            set_optimum(self.trials, table)
        self.schedules = schedules.parse_scalars(config, agent.scalars)
        self.u_act = uniforms(agent, settings.seeds)
        self.s_t, self.mask_t = self.states(self.trials.envs.observation)
        self.a_t = self._act(self.s_t, self.mask_t)  # on-policy agents choose an action before they take it

    def run(self) -> None:
        """Train until each trial has spent its budget, has diverged or has failed."""
        trials, envs, on_policy = self.trials, self.trials.envs, self.agent.on_policy
        while trials.active.any():
            scalars = self._scalars()
            which = choose_table(self.agent, self.u_act.rows(trials.counts["step"])[:, 2])  # [N]
            s_tm1, a_tm1 = self.s_t, self.a_t if on_policy else self._act(self.s_t, self.mask_t)
            step = envs.step(a_tm1, trials.active)
            ended = trials.advance(step)
            s_t, mask_t = self.states(step.o_t)
            a_t = self._act(s_t, mask_t) if on_policy else a_tm1
            self._learn(which, s_tm1, a_tm1, step, s_t, mask_t, a_t, scalars)
            self.s_t, self.mask_t, self.a_t = s_t, mask_t, a_t
            if step.finished:
                self.s_t, self.mask_t = self.states(envs.observation)
                if on_policy:
                    self.a_t = np.where(np.isnan(ended), a_t, self._act(self.s_t, self.mask_t))
                if trials.settings.evaluation.selection == "train_episode":
                    trials.best.offer(ended, self._params, trials.counts["step"])
            trials.housekeeping(self._greedy_now, self._params, recorded(self.agent, scalars), self.get_state)

    def final(self) -> Scores:
        """Score the best tables on fresh episodes."""
        shape = (len(self.n), *self.q.shape[2:])
        return self.trials.final(lambda params: greedy_policy(params.reshape(shape), self.states))

    def get_state(self) -> dict[str, Any]:
        """Tables, visits, and the actions that are chosen but not yet taken.  # [N, ...] each

        Actions are chosen for trials that have ended, too, as long as others go on; those are left out.
        """
        return {"q": self.q, "visits": self.visits, "a_t": parts.without(self.a_t, ~self.trials.active)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` returned."""
        self.q, self.visits, self.a_t = state["q"], state["visits"], state["a_t"]
        self.s_t, self.mask_t = self.states(self.trials.envs.observation)
        self.a_t = np.where(self.trials.restarted, self._act(self.s_t, self.mask_t), self.a_t)

    def _learn(
        self,
        which: np.ndarray,
        s_tm1: np.ndarray,
        a_tm1: np.ndarray,
        step: Step,
        s_t: np.ndarray,
        mask_t: np.ndarray | None,
        a_t: np.ndarray,
        scalars: dict[str, np.ndarray],
    ) -> None:
        """Update table `which` [N] of each active trial."""
        trials, agent, at = self.trials, self.agent, (self.n, which, s_tm1, a_tm1)
        q_t = masked(self.q[self.n, which, s_t], mask_t)  # [N, A]
        other_t = masked(self.q[self.n, agent.num_tables - 1 - which, s_t], mask_t) if agent.num_tables > 1 else q_t
        transition = Transition(self.q[at], step.r_t, step.terminated, q_t, other_t, a_t, self.visits[at])
        new = update(agent, transition, trials.active, self.config.gamma, scalars)
        if (new.due != trials.active).any():
            trials.diverge(trials.active & ~new.due, "the TD error is not finite")
        self.q[at], self.visits[at] = new.q, new.visits
        trials.counts["update"] += new.due
        trials.window.add("train/td_error", np.abs(new.td_error), new.due)

    def _act(self, s_t: np.ndarray, mask_t: np.ndarray | None) -> np.ndarray:
        """Exploring actions [N] for the next env step."""
        counts = self.trials.counts
        q = masked(self.q[self.n, :, s_t].sum(axis=1) / self.agent.num_tables, mask_t)  # [N, A]
        return self.agent.act(q, self.u_act.rows(counts["step"])[:, :2], self.schedules["epsilon"](counts))

    def _scalars(self) -> dict[str, np.ndarray]:
        return {name: schedule(self.trials.counts) for name, schedule in self.schedules.items()}  # [N] each

    def _params(self) -> np.ndarray:
        return self.q.mean(axis=1).reshape(len(self.n), -1)  # [N, S * A]

    def _greedy_now(self, first_seed: int) -> Act:
        return greedy_policy(self.q.mean(axis=1), self.states)(first_seed)
