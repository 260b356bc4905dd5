"""The host engine's loop for agents that learn from whole batches of their own latest steps: any Gymnasium environment,
one per trial or several; acting compiled for all trials at once, learning for the trials whose batch is complete.

Axes: N trials, E environments of a trial, n trials that learn, U updates, M rows of a minibatch, W uniform numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rlexp.algos.base import Params
from rlexp.config import schedules
from rlexp.config.schema.algos import PGSettings
from rlexp.data import seeding
from rlexp.data.rollout_buffer import RolloutBuffer, minibatches
from rlexp.engines import rules
from rlexp.engines.bookkeeping import Trials
from rlexp.engines.evaluation import Policy, Scores, sampling
from rlexp.engines.rollout_lanes import RolloutLanes
from rlexp.engines.services import Services


class RolloutLoop:
    """Acts with the agent's own policy, and learns from each batch when it is complete: policy gradients.

    Args:
        lanes: the trials' agents.
        services: the job around them.
        envs, evaluator: the fused engine's own, as `Trials` takes them.
    """

    def __init__(self, lanes: RolloutLanes, services: Services, envs: Any = None, evaluator: Any = None) -> None:
        settings, info = services.settings, services.info
        config: PGSettings = settings.algo
        self.lanes, self.config, self.seeds = lanes, config, settings.seeds
        self.trials = Trials(services, lanes.params(), envs, evaluator)
        self.num_envs = config.num_envs
        self.buffer = RolloutBuffer(settings.trials, info.observation, info.action, config.num_envs)
        self.u_act = seeding.Uniforms(settings.seeds, "act", config.num_envs * lanes.agent.widths["act"])
        self.u_learn = seeding.Uniforms(settings.seeds, "learn", lanes.agent.widths["learn"])
        self.schedules = schedules.parse_scalars(config, lanes.agent.scalars)
        self.ahead = {path: schedules.Ahead(schedule, settings.trials) for path, schedule in self.schedules.items()}

    def run(self) -> None:
        """Train until every trial's budget is spent or it has diverged."""
        trials, envs = self.trials, self.trials.envs
        while trials.active.any():
            scalars, width = self._scalars(), trials.width
            o_tm1 = envs.observation.copy()
            a_tm1 = self._act(o_tm1, scalars)
            step = envs.step(a_tm1, trials.active, width)
            if width == self.num_envs:  # the rest of a budget completes no batch
                r_t = rules.learned_reward(self.config, step.r_t, step.truncated)
                flags = {"terminated": step.terminated, "truncated": step.truncated}
                self.buffer.add(trials.active, o_tm1=o_tm1, a_tm1=a_tm1, r_t=r_t, o_t=step.o_t, **flags)
            ended = trials.advance(step)
            if step.finished and trials.settings.evaluation.selection == "train_episode":
                trials.best.offer(ended, self.lanes.params, trials.counts["step"])
            self.learn()
            now = self.lanes.logged(scalars)
            trials.housekeeping(self._policy(self.lanes.acting, trials.t), self.lanes.params, now, self.get_state)

    def learn(self) -> None:
        """Update the trials whose batch is complete; trials with equally many rows, padded, go together."""
        held = rules.batch_complete(self.config, self.buffer.num_steps, self.buffer.num_episodes)
        complete = self.trials.active & held
        if not complete.any():
            return
        due = np.flatnonzero(complete)
        num_rows = self.buffer.num_rows(due)
        for rows in np.unique(num_rows):
            self._update(due[num_rows == rows], int(rows))
        self.buffer.clear(complete)

    def final(self) -> Scores:
        """Choose the best weights and score them on fresh episodes."""
        return self.trials.final(lambda rows: self._policy(self.lanes.acting_of(rows), 0))

    def get_state(self) -> dict[str, Any]:
        """Everything that the trials do not hold: agent and batches under way."""
        return {"lanes": self.lanes.get_state(), "buffer": self.buffer.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` returned."""
        self.lanes.set_state(state["lanes"])
        self.buffer.set_state(state["buffer"])
        self.buffer.forget_episode(self.trials.restarted)

    def _act(self, o_tm1: np.ndarray, scalars: dict[str, np.ndarray]) -> np.ndarray:
        """Exploring actions [N, E, ...] for observations [N, E, ...], and by numbers of the streams' next row."""
        u = self.u_act.step(self.trials.t // self.num_envs)  # [N, E W]
        if self.num_envs == 1:
            return self.lanes.act(o_tm1, u, scalars)
        return self.lanes.act_each(o_tm1, u.reshape(len(u), self.num_envs, -1), scalars)

    def _update(self, due: np.ndarray, num_rows: int) -> None:
        """Update some trials [n] from their batches."""
        trials, num_updates = self.trials, self.lanes.agent.num_updates * self.lanes.agent.num_minibatches
        order = np.stack([self._order(k, num_rows) for k in due.tolist()])  # [n, U, M]
        u = self.u_learn.span(trials.counts["update"], num_updates, num_updates)  # [N, U, W]
        scalars = {path: values[due] for path, values in self._scalars().items()}  # [n] each
        batch, together = self.buffer.batch(due, num_rows), rules.complete_together(self.config)
        self.learned(due, self.lanes.learn_some(due, batch, order, u[due], scalars, together))

    def learned(self, due: np.ndarray, metrics: dict[str, np.ndarray]) -> None:
        """Count all updates from a batch of some trials [n], and their metrics; name: [n]."""
        trials, agent = self.trials, self.lanes.agent
        trials.counts["update"][due] += agent.num_updates * agent.num_minibatches
        good, broken = np.zeros((2, len(trials.active)), bool)
        finite = np.isfinite(metrics["loss"])
        good[due], broken[due] = finite, ~finite
        if broken.any():
            trials.diverge(broken, "the loss is not finite")
        for name, values in metrics.items():
            everyone = np.full(len(good), np.nan)
            everyone[due] = values
            trials.window.add(f"train/{name}", everyone, good)

    def _order(self, k: int, num_rows: int) -> np.ndarray:
        """The rows that each of the updates from trial k's batch learns from.  # [U, M]"""
        held, update = int(self.buffer.num_steps[k]) * self.num_envs, int(self.trials.counts["update"][k])
        return self.order_of(k, held, num_rows, update)

    def order_of(self, k: int, num_steps: int, num_rows: int, update: int) -> np.ndarray:
        """The rows that the updates from a batch of trial k learn from, `update` updates before them.  # [U, M]"""
        agent, shuffle = self.lanes.agent, None
        if agent.num_minibatches > 1:
            shuffle = seeding.generator(self.seeds[k], "minibatch", update)
        return minibatches(num_steps, num_rows, agent.num_updates, agent.num_minibatches, shuffle)

    def _scalars(self) -> dict[str, np.ndarray]:
        """What is scheduled, now.  # name: [N]"""
        return {name: schedule(self.trials.t, self.trials.counts) for name, schedule in self.ahead.items()}

    def _policy(self, acting: Params, t: int) -> Policy:
        if self.trials.settings.evaluation.policy == "sampled":
            width = self.lanes.agent.widths["act"]
            return sampling(lambda o, u: self.lanes.sample(acting, o, u), self.seeds, t, width)
        return lambda _: lambda observation: self.lanes.greedy(acting, observation)
