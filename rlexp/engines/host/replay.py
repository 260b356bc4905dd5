"""The host engine's loop for agents that learn from a replay ring: any Gymnasium environment, one per trial; acting and
learning compiled for all trials at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rlexp.algos.base import Agent, Params
from rlexp.config import registry, schedules
from rlexp.data import seeding
from rlexp.data.priorities import Priorities
from rlexp.engines import rules
from rlexp.engines.bookkeeping import Trials
from rlexp.engines.evaluation import Policy, Scores
from rlexp.engines.services import Services
from rlexp.engines.vectorized import PRIORITIES, Lanes
from rlexp.envs.trial_envs import Step


class ReplayLoop:
    """Acts with an exploring policy, stores transitions, and learns from the ring: the DQN family."""

    def __init__(self, lanes: Lanes[Agent], services: Services) -> None:
        settings, info = services.settings, services.info
        config: Any = settings.algo  # a `ReplaySettings`, with DQN's keys where batches are drawn by priorities
        self.lanes, self.config, widths = lanes, config, lanes.agent.widths
        self.trials = Trials(services, lanes.params())
        ring = registry.replay(config.name)(settings.env.frame_stack)
        self.ring = ring(settings.trials, config.replay_size, info.observation, info.action, config.n_step)
        self.priorities = None
        if lanes.agent.prioritized:
            how = config.priority_alpha, config.priority_epsilon
            self.priorities = Priorities(settings.trials, config.replay_size, *how)
        self.u_act = seeding.Uniforms(settings.seeds, "act", widths["act"])
        self.u_learn = seeding.Uniforms(settings.seeds, "learn", widths["learn"])
        self.u_replay = seeding.Uniforms(settings.seeds, "replay", config.batch_size)
        parsed = schedules.parse_scalars(config, lanes.agent.scalars)
        self.schedules = {path: schedules.Ahead(schedule, settings.trials) for path, schedule in parsed.items()}
        self.copied = np.zeros(settings.trials, np.int64)  # target periods that have ended in a copy

    def run(self) -> None:
        """Train until every trial's budget is spent or it has diverged."""
        trials, envs = self.trials, self.trials.envs
        while trials.active.any():
            before = {self.config.learn_unit: trials.counts[self.config.learn_unit].copy()}
            scalars = self._scalars()
            o_tm1 = envs.observation.copy()
            u = self.u_act.step(trials.t)
            a_tm1 = self.lanes.act(o_tm1, u, scalars)
            step = envs.step(a_tm1, trials.active)
            if self.priorities is not None:
                self.priorities.add(trials.active, self.ring.next_slot)
            self.ring.add(trials.active, o_tm1=o_tm1, a_tm1=a_tm1, **self._outcome(step))
            ended = trials.advance(step)
            if step.finished and trials.settings.evaluation.selection == "train_episode":
                trials.best.offer(ended, self.lanes.params, trials.counts["step"])
            self.learn(before)
            now = self.lanes.logged(scalars)
            trials.housekeeping(self._greedy(self.lanes.acting), self.lanes.params, now, self.get_state)

    def learn(self, before: dict[str, np.ndarray]) -> None:
        """The updates that have become due with this step; `before`: what `learn_unit` counted before it."""
        trials, counts = self.trials, self.trials.counts
        due = rules.learning_due(self.config, counts, before, trials.active)
        if not due.any():
            return
        for _ in range(self.config.num_updates):
            scalars = self._scalars()
            batch, slots = self._batch(self.u_replay.rows(counts["update"]), scalars)
            u = self.u_learn.rows(counts["update"])
            counts["update"] += due
            copy, self.copied = rules.target_due(self.config, counts, self.copied, due, np)
            metrics = self.lanes.learn(batch, u, scalars, due, copy)
            if self.priorities is not None:
                self.priorities.update(due, slots, metrics.pop(PRIORITIES))
            broken = due & ~np.isfinite(metrics["loss"])
            if broken.any():
                trials.diverge(broken, "the loss is not finite")
                due = due & ~broken
            for name, values in metrics.items():
                trials.window.add(f"train/{name}", values, due)

    def final(self) -> Scores:
        """Score the best weights on fresh episodes."""
        return self.trials.final(lambda rows: self._greedy(self.lanes.acting_of(rows)))

    def get_state(self) -> dict[str, Any]:
        """Everything that the trials do not hold: agent, ring, target counters."""
        state = {"lanes": self.lanes.get_state(), "ring": self.ring.get_state(), "copied": self.copied}
        if self.priorities is not None:
            state["priorities"] = self.priorities.get_state(int(self.ring.held.max(initial=0)))
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` returned."""
        self.lanes.set_state(state["lanes"])
        self.ring.set_state(state["ring"])
        self.ring.break_off(self.trials.restarted)
        self.copied = state["copied"]
        if self.priorities is not None:
            self.priorities.set_state(state["priorities"])

    def _batch(self, u: np.ndarray, scalars: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], Any]:
        """A batch for uniform numbers [N, B], and the slots [N, B] that priorities have drawn, where there are any."""
        if self.priorities is None:
            return self.ring.sample(u, scalars["gamma"]), None
        slots, weights = self.priorities.draw(u, self.ring.held, scalars["priority_beta"])
        return {**self.ring.at(slots, scalars["gamma"]), "weight": weights}, slots

    def _scalars(self) -> dict[str, np.ndarray]:
        """What is scheduled, now.  # path: [N]"""
        return {path: schedule(self.trials.t, self.trials.counts) for path, schedule in self.schedules.items()}

    def _outcome(self, step: Step) -> dict[str, np.ndarray]:
        r_t = rules.clipped_reward(self.config, step.r_t, np)
        terminated = rules.ends(self.config, step.terminated, step.truncated)
        return {"r_t": r_t, "terminated": terminated, "truncated": step.truncated, "o_t": step.o_t}

    def _greedy(self, acting: Params) -> Policy:
        return lambda _: lambda observation: self.lanes.greedy(acting, observation)
