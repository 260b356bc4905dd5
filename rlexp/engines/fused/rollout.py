"""The fused engine's loop for agents that learn from whole batches of their own latest steps: policy gradients.

Acting is one XLA program of environment and policy, many lock-steps a call, which ends where the batch of some trial is
complete. Then the host engine's own code learns from it: updates are few beside steps, and their batches have shapes of
their own.

Axes: L lanes (>= N trials), T lock-steps of one call, E evaluation episodes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rlexp.algos.base import Params, RolloutAgent
from rlexp.config import schedules
from rlexp.config.schema.algos import PGSettings
from rlexp.data import seeding
from rlexp.data.transition import FIELDS
from rlexp.engines import rules
from rlexp.engines.evaluation import Policy
from rlexp.engines.fused.base import (
    MAX_EPISODES,
    NEVER,
    EnvState,
    Pace,
    Tables,
    TensorEnvs,
    Tree,
    begin_next,
    call_size,
    compile_now,
    graph_key,
    look_up,
    program,
    write,
)
from rlexp.engines.fused.evaluation import FusedEvaluator
from rlexp.engines.host.rollout import RolloutLoop
from rlexp.engines.services import Services
from rlexp.engines.vectorized import RolloutLanes, mapped, pad_lanes
from rlexp.envs import tensor
from rlexp.envs.spec import Spec
from rlexp.envs.tensor.base import TensorEnv, limited_step

Array = Any  # of NumPy on the host, of TensorFlow in a program


class Given(NamedTuple):
    """What the host hands to a call."""

    steps: Array  # int32 [], lock-steps to take
    max_episodes: Array  # int32 [], the budget of episodes
    active: Array  # bool [L], trials that still train
    held_steps: Array  # int32 [L], transitions that each trial's batch has at its start
    held_episodes: Array  # int32 [L], ended episodes likewise
    first_episode: Array  # int32 [L], episodes that each trial has ended by then
    act: Array  # uniform numbers of acting [L, T, W]
    scalars: dict[str, Array]  # path: schedules by counts since its start [L, T or M, + 1]
    reset: Array  # uniform numbers of resets [L, M, reset_width]
    dynamics: Array  # uniform numbers of steps [L, T, step_width]


class Row(NamedTuple):
    """What a call keeps of each lock-step: the fields of a transition, and the episodes that ended with it."""

    o_tm1: Array  # [T, L, *shape]
    a_tm1: Array  # [T, L, *action shape]
    r_t: Array  # float32 [T, L]
    terminated: Array  # bool [T, L]
    truncated: Array  # bool [T, L]
    o_t: Array  # [T, L, *shape]
    returns: Array  # float64 [T, L], of the episodes under way, this step included
    lengths: Array  # int32 [T, L], of the episodes that have ended, else 0


class Out(NamedTuple):
    """What a call has come to."""

    steps: Array  # int32 [], lock-steps taken
    rows: Row


class FusedRolloutLoop(RolloutLoop):
    """Acts with the agent's own policy, many lock-steps a call, and learns from each batch when it is complete."""

    def __init__(self, lanes: RolloutLanes, services: Services) -> None:
        settings, config, agent = services.settings, services.settings.algo, lanes.agent
        self.max_steps = call_size(settings, services.info)
        self.tables = Tables(
            schedules.parse_scalars(config, agent.scalars),
            {"step": self.max_steps, "episode": MAX_EPISODES, "update": 0},  # no updates while it acts
        )
        env = tensor.build(settings.env, services.info.action)
        shapes = {name: network.shapes for name, network in agent.networks.items()}
        more = [shapes, dataclasses.asdict(settings.network), self.max_steps]
        key = graph_key(settings, lanes.num_lanes, agent.scalars, self.tables.units, more)
        self.envs = TensorEnvs(env, lanes.num_lanes, settings.seeds, self.max_steps, MAX_EPISODES)
        kind = SampledEvaluator if settings.evaluation.policy == "sampled" else FusedEvaluator
        evaluator = kind(env, agent, lanes.num_lanes, services, key, self._host_policy)
        super().__init__(lanes, services, self.envs, evaluator)
        self.pace = Pace()
        limit = services.info.max_episode_steps
        built = RolloutProgram(
            agent, lanes.num_lanes, env, limit, config, self.tables.units, self.max_steps, services.info.action
        )
        self.program = program("rollout", key, built.run)

    def run(self) -> None:
        """Train until every trial's budget is spent or it has diverged."""
        trials = self.trials
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
        counts = trials.counts
        active = np.zeros(lanes.num_lanes, bool)
        active[:n] = trials.active
        given = Given(
            steps=np.int32(steps),
            max_episodes=np.int32(trials.settings.budget.episodes or NEVER),
            active=active,
            held_steps=lanes.pad(self.buffer.num_steps.astype(np.int32)),
            held_episodes=lanes.pad(self.buffer.num_episodes.astype(np.int32)),
            first_episode=lanes.pad(counts["episode"].astype(np.int32)),
            act=lanes.pad(self.u_act.span(np.full(n, trials.t), steps, self.max_steps)),
            scalars={path: lanes.pad(rows) for path, rows in self.tables.rows(counts).items()},
            **self.envs.numbers(trials.t, counts["episode"], steps)._asdict(),
        )
        self.envs.state, out = self.program(lanes.acting, self.envs.state, given)
        taken = int(out.steps)
        if taken == 0:
            return 0, counts
        rows = Row(*(values.numpy()[:taken, :n] for values in out.rows))  # [T, N, ...] each
        rows = rows._replace(r_t=rules.learned_reward(self.config, rows.r_t, rows.truncated))
        self.buffer.add_many(trials.active, {name: getattr(rows, name) for name in FIELDS})
        before = {unit: count.copy() for unit, count in counts.items()}
        trials.advance_many(rows.returns, rows.lengths)
        if trials.settings.evaluation.selection == "train_episode":
            for i in np.flatnonzero(rows.lengths.any(axis=1)):
                ended = np.where(rows.lengths[i] > 0, rows.returns[i], np.nan)
                trials.best.offer(ended, lanes.params, before["step"] + (i + 1) * trials.active)
        before["step"] = counts["step"] - trials.active
        before["episode"] = counts["episode"] - (rows.lengths[-1] > 0)
        return taken, before

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


class RolloutProgram:
    """The compiled loop: pure, and made of nothing but what `fused.graph_key` names.

    Args:
        agent: of one trial.
        num_lanes: L.
        env, limit: the dynamics, and most steps of an episode.
        config: the agent's configuration.
        units: what the schedule of each scalar counts.
        max_steps: T.
        action: what agents choose.
    """

    def __init__(
        self,
        agent: RolloutAgent,
        num_lanes: int,
        env: TensorEnv,
        limit: int | None,
        config: PGSettings,
        units: Mapping[str, str],
        max_steps: int,
        action: Spec,
    ) -> None:
        self.agent, self.num_lanes, self.env, self.limit = agent, num_lanes, env, limit
        self.config, self.units, self.max_steps, self.action = config, units, max_steps, action

    def run(self, acting: Params, envs: EnvState, given: Given) -> tuple[EnvState, Out]:
        """Up to `given.steps` lock-steps; ends earlier with a step after which the host has to act.

        Args:
            acting: what acts in the lanes.  # tree of [L, ...]
            envs: where the environments stand, as `TensorEnvs.state`.
            given: see `Given`.

        Returns:
            Where they stand now, and what the call has come to.
        """
        weights, lanes = mapped(self.agent.unpack)(acting), self.num_lanes

        def goes_on(i: tf.Tensor, episode: tf.Tensor, envs: EnvState, rows: Row) -> tf.Tensor:
            """`episode`: that have ended in this call.  # [L]"""
            complete = rules.batch_complete(self.config, given.held_steps + i, given.held_episodes + episode)
            over = (given.first_episode + episode >= given.max_episodes) | (episode >= MAX_EPISODES)
            return (i < given.steps) & ~tf.reduce_any(given.active & (complete | over))

        def body(i: tf.Tensor, episode: tf.Tensor, envs: EnvState, rows: Row) -> Tree:
            since = {"step": tf.fill([lanes], i), "episode": episode, "update": tf.zeros(lanes, tf.int32)}
            scalars = look_up(given.scalars, self.units, since)
            u_reset = tf.gather(given.reset, episode, batch_dims=1)
            row, state, first = mapped(self.step)(
                weights, envs, given.act[:, i], given.dynamics[:, i], u_reset, scalars
            )
            env = EnvState(state, envs.returns + tf.cast(row["r_t"], tf.float64), envs.length + 1)
            over = row["terminated"] | row["truncated"]
            ended = over & given.active
            now = Row(**row, returns=env.returns, lengths=tf.where(ended, env.length, 0))
            envs = begin_next(over, first, env)
            rows = tf.nest.map_structure(lambda rows, row: write(rows, i, row), rows, now)
            return i + 1, episode + tf.cast(ended, tf.int32), envs, rows

        start = (0, tf.zeros(lanes, tf.int32), envs, self.no_rows(envs))
        i, _, envs, rows = tf.while_loop(goes_on, body, start)
        return envs, Out(i, rows)

    def no_rows(self, envs: EnvState) -> Row:
        """The rows of a call before its first lock-step."""
        o_t, lanes = mapped(self.env.observe)(envs.state), (self.num_lanes,)

        def zeros(shape: tuple[int, ...], kind: tf.DType) -> tf.Tensor:
            return tf.zeros((self.max_steps, *shape), kind)

        return Row(
            o_tm1=zeros(o_t.shape, o_t.dtype),
            a_tm1=zeros((*lanes, *self.action.shape), tf.as_dtype(self.action.dtype)),
            r_t=zeros(lanes, tf.float32),
            terminated=zeros(lanes, tf.bool),
            truncated=zeros(lanes, tf.bool),
            o_t=zeros(o_t.shape, o_t.dtype),
            returns=zeros(lanes, tf.float64),
            lengths=zeros(lanes, tf.int32),
        )

    def step(
        self, weights: Tree, lane: EnvState, u_act: tf.Tensor, u_step: tf.Tensor, u_reset: tf.Tensor, scalars: Tree
    ) -> tuple[Tree, tf.Tensor, tf.Tensor]:
        """One step of one trial: its transition, the environment's state after it, and where a next episode would
        start."""
        o_tm1 = self.env.observe(lane.state)
        a_tm1 = self.agent.act(weights, o_tm1, u_act, scalars)
        state, r_t, terminated, truncated = limited_step(self.env, self.limit, lane.state, lane.length, a_tm1, u_step)
        row = {"o_tm1": o_tm1, "a_tm1": a_tm1, "r_t": r_t, "terminated": terminated, "truncated": truncated}
        return {**row, "o_t": self.env.observe(state)}, state, self.env.reset(u_reset)
