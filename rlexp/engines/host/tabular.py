"""The host engine's loop for agents with a table: any environment with numbered states, or with numbers and bins.

All trials advance together as arrays. NumPy only: neither this module nor what it imports loads TensorFlow.

Axes: N trials, K tables of an agent, S states, A actions, E evaluation episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlexp.algos.q_learning import QLearning
from rlexp.config import schedules
from rlexp.config.schema.algos import TabularSettings
from rlexp.data import seeding
from rlexp.engines.bookkeeping import Services, Trials
from rlexp.engines.evaluation import Act, Policy, Scores
from rlexp.envs import transition_table
from rlexp.envs.discretizer import States, masked
from rlexp.envs.trial_envs import Step


class TabularLoop:
    """Acts epsilon-greedily and moves one value of each trial's table a step."""

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
        self.schedules = parse_schedules(config)
        self.u_act = uniforms(settings.seeds)
        self.s_t, self.mask_t = self.states(self.trials.envs.observation)
        self.a_t = self._act(self.s_t, self.mask_t)  # of on-policy agents: chosen before it is taken

    def run(self) -> None:
        """Train until every trial's budget is spent or it has diverged."""
        trials, envs, on_policy = self.trials, self.trials.envs, self.agent.on_policy
        while trials.active.any():
            scalars = self._scalars()
            which = (self.u_act.rows(trials.counts["step"])[:, 2] * self.agent.num_tables).astype(np.int64)  # [N]
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
            trials.housekeeping(self._greedy_now, self._params, scalars, self.get_state)

    def final(self) -> Scores:
        """Score the best tables on fresh episodes."""
        shape = (len(self.n), *self.q.shape[2:])
        return self.trials.final(lambda params: greedy_policy(params.reshape(shape), self.states))

    def get_state(self) -> dict[str, Any]:
        """Everything that the trials do not hold: tables, visits and the actions that are chosen already."""
        return {"q": self.q, "visits": self.visits, "a_t": self.a_t}

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
        """One update of the table `which` [N] of each active trial."""
        trials, agent, at = self.trials, self.agent, (self.n, which, s_tm1, a_tm1)
        d_t = np.full(len(self.n), self.config.gamma)  # [N]
        if self.config.bootstrap == "unless_terminated":
            d_t[step.terminated] = 0.0
        q_t = masked(self.q[self.n, which, s_t], mask_t)  # [N, A]
        other_t = masked(self.q[self.n, agent.num_tables - 1 - which, s_t], mask_t) if agent.num_tables > 1 else q_t
        value_t = agent.next_value(q_t, other_t, a_t, scalars["epsilon"])  # [N]
        td_error = agent.td_error(self.q[at], step.r_t, d_t, value_t)  # [N]
        due = trials.active & np.isfinite(td_error)
        if (due != trials.active).any():
            trials.diverge(trials.active & ~due, "the TD error is not finite")
        self.visits[at] += due
        alpha = agent.step_size(scalars["lr"], np.maximum(self.visits[at], 1))
        self.q[at] += np.where(due, alpha * td_error, 0.0)
        trials.counts["update"] += due
        trials.window.add("train/td_error", np.abs(td_error), due)

    def _act(self, s_t: np.ndarray, mask_t: np.ndarray | None) -> np.ndarray:
        """Exploring actions [N] for the env step that comes next."""
        counts = self.trials.counts
        q = masked(self.q[self.n, :, s_t].sum(axis=1) / self.agent.num_tables, mask_t)  # [N, A]
        return self.agent.act(q, self.u_act.rows(counts["step"])[:, :2], self.schedules["epsilon"](counts))

    def _scalars(self) -> dict[str, np.ndarray]:
        return {name: schedule(self.trials.counts) for name, schedule in self.schedules.items()}  # [N] each

    def _params(self) -> np.ndarray:
        return self.q.mean(axis=1).reshape(len(self.n), -1)  # [N, S * A]

    def _greedy_now(self, first_seed: int) -> Act:
        return greedy_policy(self.q.mean(axis=1), self.states)(first_seed)


def initial_values(
    config: TabularSettings, table: transition_table.Table | None, num_states: int, num_actions: int
) -> np.ndarray:
    """The values that a table starts with; -inf for actions that the environment's own table lacks.  # [S, A]"""
    if table is not None:
        return table.initial_values(config.initial_value)
    return np.full((num_states, num_actions), config.initial_value)


def parse_schedules(config: TabularSettings) -> dict[str, schedules.Schedule | schedules.Stacked]:
    """What is scheduled, by the names under which it is recorded."""
    return {
        "epsilon": schedules.parse(config.epsilon, "algo.epsilon"),
        "lr": schedules.parse(config.alpha, "algo.alpha"),
    }


def uniforms(seeds: Sequence[int]) -> seeding.Uniforms:
    """The numbers by which the trials act: explore?, which action, which table."""
    return seeding.Uniforms(seeds, "act", 3, seeding.LONG_BLOCK)


def greedy_policy(q: np.ndarray, states: States) -> Policy:
    """The greedy policy of action values [N, S, A]."""
    n = np.arange(len(q))[:, None]  # [N, 1]

    def act(observation: np.ndarray) -> np.ndarray:  # [N, E, *shape] -> [N, E]
        s_t, mask = states(observation)
        return masked(q[n, s_t], mask).argmax(axis=-1)

    return lambda _: act


def set_optimum(trials: Trials, table: transition_table.Table) -> None:
    """Let evaluations log their regret: against the best policy in as many steps as an evaluation episode may take."""
    limit, cut = trials.services.info.max_episode_steps, trials.settings.evaluation.max_steps
    trials.optimum = table.optimal_return(min(limit or cut, cut))
