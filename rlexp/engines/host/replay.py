"""The host engine's loop for agents that learn from a replay ring: any Gymnasium environment, one per trial; acting and
learning compiled for all trials at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rlexp.config import schedules
from rlexp.config.schema.algos import DQNSettings
from rlexp.data import seeding
from rlexp.data.replay_ring import ring_type
from rlexp.engines.bookkeeping import Trials
from rlexp.engines.evaluation import Policy, Scores
from rlexp.engines.services import Services
from rlexp.envs.trial_envs import Step


class ReplayLoop:
    """Acts with an exploring policy, stores transitions, and learns from the ring: the DQN family."""

    def __init__(self, lanes: Any, services: Services) -> None:
        settings, info = services.settings, services.info
        config: DQNSettings = settings.algo
        self.lanes, self.config = lanes, config
        self.trials = Trials(services, lanes.online())
        ring = ring_type(settings.env.frame_stack)
        self.ring = ring(settings.trials, config.replay_size, info.observation, info.action, config.n_step)
        self.u_act = seeding.Uniforms(settings.seeds, "act", 2)
        self.u_replay = seeding.Uniforms(settings.seeds, "replay", config.batch_size)
        self.schedules = schedules.parse_scalars(config, lanes.agent.scalars)
        self.copied = np.zeros(settings.trials, np.int64)  # target periods that have ended in a copy

    def run(self) -> None:
        """Train until every trial's budget is spent or it has diverged."""
        trials, envs = self.trials, self.trials.envs
        while trials.active.any():
            before = {unit: count.copy() for unit, count in trials.counts.items()}
            scalars = {name: schedule(before) for name, schedule in self.schedules.items()}  # [N] each
            o_tm1 = envs.observation.copy()
            u = self.u_act.rows(before["step"])
            a_tm1 = self.lanes.act(o_tm1, u, np.stack(list(scalars.values()), axis=1))
            step = envs.step(a_tm1, trials.active)
            self.ring.add(trials.active, o_tm1=o_tm1, a_tm1=a_tm1, **self._outcome(step))
            ended = trials.advance(step)
            if step.finished and trials.settings.evaluation.selection == "train_episode":
                trials.best.offer(ended, self.lanes.online, trials.counts["step"])
            self.learn(before)
            trials.housekeeping(
                self._greedy(self.lanes.state["online"]),
                self.lanes.online,
                {"epsilon": scalars["epsilon"], "lr": scalars["lr"]},
                self.get_state,
            )

    def learn(self, before: dict[str, np.ndarray]) -> None:
        """The updates that have become due with this step; `before`: the counts before it."""
        trials, config = self.trials, self.config
        now = trials.counts[config.learn_unit]
        crossed = now // config.learn_period > before[config.learn_unit] // config.learn_period
        due = trials.active & crossed & (now > config.learn_start)
        if not due.any():
            return
        for _ in range(config.num_updates):
            counts = trials.counts
            scalars = {name: schedule(counts) for name, schedule in self.schedules.items()}  # [N] each
            batch = self.ring.sample(self.u_replay.rows(counts["update"]), scalars["gamma"])
            counts["update"] += due
            periods = counts[config.target_unit] // config.target_period
            copy = due & (periods > self.copied)
            self.copied = np.where(copy, periods, self.copied)
            metrics = self.lanes.learn(batch, np.stack(list(scalars.values()), axis=1), due, copy)
            broken = due & ~np.isfinite(metrics["loss"])
            if broken.any():
                trials.diverge(broken, "the loss is not finite")
                due = due & ~broken
            for name, values in metrics.items():
                trials.window.add(f"train/{name}", values, due)

    def final(self) -> Scores:
        """Score the best weights on fresh episodes."""
        return self.trials.final(lambda params: self._greedy(self.lanes.tensor(params)))

    def get_state(self) -> dict[str, Any]:
        """Everything that the trials do not hold: agent, ring, target counters."""
        return {"lanes": self.lanes.get_state(), "ring": self.ring.get_state(), "copied": self.copied}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` returned."""
        self.lanes.set_state(state["lanes"])
        self.ring.set_state(state["ring"])
        self.ring.break_off(self.trials.restarted)
        self.copied = state["copied"]

    def _outcome(self, step: Step) -> dict[str, np.ndarray]:
        clip = self.config.reward_clip
        r_t = step.r_t if clip is None else np.clip(step.r_t, -clip, clip)
        terminated = step.terminated | step.truncated if self.config.truncation == "terminate" else step.terminated
        return {"r_t": r_t, "terminated": terminated, "truncated": step.truncated, "o_t": step.o_t}

    def _greedy(self, params: Any) -> Policy:
        return lambda _: lambda observation: self.lanes.greedy(params, observation)
