"""The fused engine's loop for agents that learn from whole batches of their own latest steps: policy gradients.

Acting is one XLA program of environment and policy, many lock-steps a call, which ends where the batch of some trial is
complete. Then the host engine's own code learns from it: updates are few beside steps, and their batches have shapes of
their own. Where several environments of each trial complete all batches together, learning is part of the program: see
`iterations`.

Axes: N trials, L lanes (>= N), T lock-steps of one call, E environments of a trial. With one environment per trial,
arrays have no axis E.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from rlexp.algos.base import Params, RolloutAgent
from rlexp.config import schedules
from rlexp.data import seeding
from rlexp.data.transition import FIELDS
from rlexp.engines import rules
from rlexp.engines.evaluation import Policy
from rlexp.engines.fused.base import (
    MAX_EPISODES,
    NEVER,
    Pace,
    Tables,
    TensorEnvs,
    call_size,
    compile_now,
    graph_key,
    program,
)
from rlexp.engines.fused.evaluation import FusedEvaluator
from rlexp.engines.fused.iterations import Iterations, suit
from rlexp.engines.fused.rollout_program import Given, IterationProgram, RolloutProgram, Row
from rlexp.engines.host.rollout import RolloutLoop
from rlexp.engines.rollout_lanes import RolloutLanes
from rlexp.engines.services import Services
from rlexp.engines.vectorized import pad_lanes
from rlexp.envs import tensor


class FusedRolloutLoop(RolloutLoop):
    """Acts with the agent's own policy, many lock-steps a call, and learns from each batch when it is complete."""

    def __init__(self, lanes: RolloutLanes, services: Services) -> None:
        settings, config, agent = services.settings, services.settings.algo, lanes.agent
        self.max_steps = call_size(settings, services.info)
        self.tables = Tables(
            schedules.parse_scalars(config, agent.scalars),
            {"step": self.max_steps, "episode": config.num_envs * MAX_EPISODES, "update": 0},  # none while it acts
            config.num_envs,
        )
        env = tensor.build(settings.env, services.info.action)
        shapes = {name: network.shapes for name, network in agent.networks.items()}
        more = [shapes, dataclasses.asdict(settings.network), self.max_steps]

        def key_of(num_lanes: int) -> str:
            return graph_key(settings, num_lanes, agent.scalars, self.tables.units, more)

        key = key_of(lanes.num_lanes)
        self.envs = TensorEnvs(
            env, lanes.num_lanes, settings.seeds, self.max_steps, MAX_EPISODES, num_envs=config.num_envs
        )
        kind = SampledEvaluator if settings.evaluation.policy == "sampled" else FusedEvaluator
        evaluator = kind(env, agent, lanes.num_lanes, services, key, self._host_policy)
        super().__init__(lanes, services, self.envs, evaluator)
        self.pace = Pace()
        limit = services.info.max_episode_steps
        parts = env, limit, config, self.tables.units
        built = RolloutProgram(agent, lanes.num_lanes, *parts, self.max_steps, services.info.action)
        self.program = program("rollout", key, built.run)
        self.iterations: Iterations | None = None
        if suit(settings):

            def make(num_lanes: int, length: int) -> IterationProgram:
                return IterationProgram(agent, num_lanes, *parts, length, services.info.action)

            self.iterations = Iterations(self, self.envs, make, key_of, self._policy)

    def run(self) -> None:
        """Train until every trial's budget is spent or it has diverged."""
        trials = self.trials
        if self.iterations is not None:
            self.iterations.train()
            return
        compile_now(lambda: self.act(0), trials.services.progress.say, "training")
        while trials.active.any():
            self.pace.start()
            steps, before = self.act(min(self.pace.steps, self.max_steps, trials.steps_left()))
            self.pace.stop(steps)
            scalars = self.lanes.logged({path: schedule(before) for path, schedule in self.schedules.items()})
            self.learn()
            policy = self._policy(self.lanes.acting, trials.t)
            trials.housekeeping(policy, self.lanes.params, scalars, self.get_state)

    def act(self, steps: int) -> tuple[int, dict[str, np.ndarray]]:
        """One call of the program, of `steps` lock-steps or of fewer where a batch is complete or a trial ends.

        Returns:
            How many were taken, and the trials' counts [N] before the last one.
        """
        trials, lanes, n = self.trials, self.lanes, len(self.trials.active)
        counts, first = trials.counts, trials.t // self.num_envs
        episode = counts["episode"] if self.num_envs == 1 else self.envs.episode
        active = np.zeros(lanes.num_lanes, bool)
        active[:n] = trials.active
        given = Given(
            steps=np.int32(steps),
            max_episodes=np.int32(trials.settings.budget.episodes or NEVER),
            active=active,
            held_steps=lanes.pad(self.buffer.num_steps.astype(np.int32)),
            held_episodes=lanes.pad(self.buffer.num_episodes.astype(np.int32)),
            first_episode=lanes.pad(counts["episode"].astype(np.int32)),
            act=lanes.pad(self.u_act.span(np.full(n, first), steps, self.max_steps)),
            scalars={path: lanes.pad(rows) for path, rows in self.tables.rows(counts).items()},
            **self.envs.numbers(first, episode, steps)._asdict(),
        )
        self.envs.state, out = self.program(lanes.acting, self.envs.state, given)
        taken = int(out.steps)
        if taken == 0:
            return 0, counts
        rows = Row(*(values.numpy()[:taken, :n] for values in out.rows))  # [T, N, E, ...] each
        rows = rows._replace(r_t=rules.learned_reward(self.config, rows.r_t, rows.truncated))
        lengths, began = trials.counted(rows.lengths), counts["step"].copy()
        trials.advance_many(rows.returns, lengths)
        whole = taken if trials.stepped == self.num_envs else taken - 1  # the rest of a budget completes no batch
        self.buffer.add_many(trials.active, {name: getattr(rows, name)[:whole] for name in FIELDS})
        if self.num_envs > 1:
            self.envs.note(rows.lengths)
        if trials.settings.evaluation.selection == "train_episode":
            self._offer(rows.returns, lengths, began)
        return taken, trials.before_last(lengths)

    def _offer(self, returns: np.ndarray, lengths: np.ndarray, began: np.ndarray) -> None:
        """Offer the weights to `best` for each episode that has ended.

        Args:
            returns, lengths: as `Counters.advance_many` takes them.  # [T, N, E]
            began: env steps of the trials before these lock-steps.  # [N]
        """
        trials = self.trials
        ended = np.where(lengths > 0, returns, np.nan).reshape(*lengths.shape[:2], -1)  # [T, N, E]
        for i in np.flatnonzero((lengths > 0).any(axis=tuple(range(1, lengths.ndim)))):
            steps = np.minimum(began + (i + 1) * self.num_envs * trials.active, trials.counts["step"])
            trials.best.offer(np.fmax.reduce(ended[i], axis=1), self.lanes.params, steps)

    def _policy(self, acting: Params, t: int) -> Any:
        """As the evaluator plays it."""
        return (acting, t) if self.trials.settings.evaluation.policy == "sampled" else acting

    def _host_policy(self, policy: Any) -> Policy:
        acting, t = policy if isinstance(policy, tuple) else (policy, 0)
        return super()._policy(acting, t)


class SampledEvaluator(FusedEvaluator):
    """Plays episodes whose actions are drawn, by the numbers of `evaluation.sampling`.

    Its policies are what acts [L, ...], and the iteration of their evaluation, which has numbers of its own.
    """

    def _act_of(self, agent: RolloutAgent) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
        self._num_uniforms = agent.widths["act"]  # of one action
        return agent.sample

    def _params_and_numbers(self, policy: Any, first_seed: int) -> tuple[tf.Tensor, np.ndarray]:
        params, t = policy
        draws = [seeding.generator(seed, "evaluate", t, first_seed) for seed in self._services.settings.seeds]
        size = self._limit, self._config.num_episodes, self._num_uniforms
        return params, pad_lanes(np.stack([draw.random(size, np.float32) for draw in draws]), self._num_lanes)
