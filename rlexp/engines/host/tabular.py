"""The host engine's loop for agents with a table: any environment with numbered states, or with numbers and bins.

All trials advance together as arrays. NumPy only: neither this module nor what it imports loads TensorFlow.

Axes: N trials, K tables of an agent, S states, A actions, E evaluation episodes.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

import numpy as np

from rlexp.algos.q_learning import QLearning
from rlexp.config import schedules
from rlexp.config.schema.algos import TabularSettings
from rlexp.engines import parts
from rlexp.engines.bookkeeping import Trials
from rlexp.engines.evaluation import Act, Scores
from rlexp.engines.host import plain_numpy
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
        self.agent, self.n = agent, settings.trials
        self.gamma = np.asarray(config.gamma, np.float64)  # an array, which NumPy need not convert
        agent.xp = plain_numpy
        self.states = States(info, config.discretizer)
        table = transition_table.load(settings.env)
        initial = initial_values(config, table, self.states.num_states, info.num_actions)
        agent.all_possible = not info.masked and bool((initial > -np.inf).all())
        shape = (self.n, agent.num_tables, *initial.shape)
        self.q = np.broadcast_to(initial, shape).copy()  # [N, K, S, A]
        self.visits = np.zeros(shape, np.int64) if config.visit_power else None  # [N, K, S, A]
        # Views: one index into these takes a fraction of the time of an index for each axis.
        self.rows, self.flat = self.q.reshape(-1, shape[-1]), self.q.reshape(-1)  # [N * K * S, A], [N * K * S * A]
        self.first = np.arange(self.n) * (agent.num_tables * self.states.num_states)  # [N], each trial's first row
        self.trials = Trials(services, self._params())
        if table is not None:
            set_optimum(self.trials, table)
        parsed = schedules.parse_scalars(config, agent.scalars)
        self.schedules = {name: schedules.Ahead(schedule, self.n) for name, schedule in parsed.items()}
        self.u_act = uniforms(agent, settings.seeds)
        self._see(self.trials.envs.observation)
        self.a_t = self._next_act()  # on-policy agents choose an action before they take it

    def run(self) -> None:
        """Train until each trial has spent its budget, has diverged or has failed."""
        trials, envs, on_policy = self.trials, self.trials.envs, self.agent.on_policy
        while np.count_nonzero(trials.active):
            scalars = {name: schedule(trials.t, trials.counts) for name, schedule in self.schedules.items()}  # [N] each
            u = self.u_act.step(trials.t)  # [N, 3]
            row_tm1 = self.row_t
            a_tm1 = self.a_t if on_policy else self._act(u, scalars["epsilon"])
            step = envs.step(a_tm1, trials.active)
            ended = trials.advance(step)
            self._see(step.o_t)
            self.a_t = self._next_act() if on_policy else a_tm1
            self._learn(u, row_tm1, a_tm1, step, scalars)
            if step.finished:
                self._see(envs.observation)
                if on_policy:
                    self.a_t = np.where(np.isnan(ended), self.a_t, self._next_act())
                if trials.settings.evaluation.selection == "train_episode":
                    trials.best.offer(ended, self._params, trials.counts["step"])
            trials.housekeeping(self._greedy_now, self._params, recorded(self.agent, scalars), self.get_state)

    def final(self) -> Scores:
        """Score the best tables on fresh episodes."""
        shape = (self.n, *self.q.shape[2:])
        return self.trials.final(lambda params: greedy_policy(params.reshape(shape), self.states))

    def get_state(self) -> dict[str, Any]:
        """Tables, visits, and the actions that are chosen but not yet taken.  # [N, ...] each

        Actions are chosen for trials that have ended, too, as long as others go on; those are left out.
        """
        visits = {} if self.visits is None else {"visits": self.visits}
        return {"q": self.q, **visits, "a_t": parts.without(self.a_t, ~self.trials.active)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` returned."""
        self.q[:], self.a_t = state["q"], state["a_t"]
        if self.visits is not None:
            self.visits[:] = state["visits"]
        self._see(self.trials.envs.observation)
        self.a_t = np.where(self.trials.restarted, self._next_act(), self.a_t)

    def _see(self, observation: np.ndarray) -> None:
        """Let the trials be in the states of observations [N, *shape]."""
        s_t, self.mask_t = self.states(observation)
        self.row_t = self.first + s_t  # [N], the rows of these states in the first table of each trial

    def _learn(
        self, u: np.ndarray, row_tm1: np.ndarray, a_tm1: np.ndarray, step: Step, scalars: dict[str, np.ndarray]
    ) -> None:
        """Update one table of each active trial, chosen by `u` [N, 3], after a step from the states of rows [N]."""
        trials, agent, row = self.trials, self.agent, row_tm1
        if agent.num_tables > 1:
            which = choose_table(agent, u[:, 2])
            q_t, other_t = self._q_t(which), self._q_t(agent.num_tables - 1 - which)
            row = row_tm1 + which * self.states.num_states
        else:
            q_t = other_t = self._q_t(0)
        at = row * self.q.shape[-1] + a_tm1  # [N], in the flat tables
        terminated = step.terminated if step.finished else None
        visits = None if self.visits is None else self.visits.reshape(-1)  # a view
        n_tm1 = None if visits is None else visits[at]
        transition = Transition(self.flat[at], step.r_t, terminated, q_t, other_t, self.a_t, n_tm1)
        new = update(agent, transition, trials.active, self.gamma, scalars)
        if np.count_nonzero(new.due != trials.active):
            trials.diverge(trials.active & ~new.due, "the TD error is not finite")
        self.flat[at] = new.q
        if visits is not None:
            visits[at] = new.visits
        trials.counts["update"] += new.due
        trials.window.add("train/td_error", np.abs(new.td_error), new.due)

    def _act(self, u: np.ndarray, epsilon: np.ndarray) -> np.ndarray:
        """Exploring actions [N] in the states that the trials are in."""
        q, num_tables = self._q_t(0), self.agent.num_tables  # [N, A]
        if num_tables > 1:
            q = functools.reduce(operator.add, [self._q_t(k) for k in range(1, num_tables)], q) / num_tables
        return self.agent.act(q, u, epsilon)

    def _next_act(self) -> np.ndarray:
        """Exploring actions [N] for the next env step."""
        t, counts = self.trials.t, self.trials.counts
        return self._act(self.u_act.step(t), self.schedules["epsilon"](t, counts))

    def _q_t(self, k: int | np.ndarray) -> np.ndarray:
        """Values [N, A] of the actions in the states that the trials are in, in table `k` of each."""
        row = self.row_t if self.agent.num_tables == 1 else self.row_t + k * self.states.num_states
        return masked(self.rows.take(row, axis=0), self.mask_t)

    def _params(self) -> np.ndarray:
        return self.q.mean(axis=1).reshape(self.n, -1)  # [N, S * A]

    def _greedy_now(self, first_seed: int) -> Act:
        return greedy_policy(self.q.mean(axis=1), self.states)(first_seed)
