"""The compiled programs of the fused engine's loop for policy gradients: acting, and whole iterations.

Acting is a loop of lock-steps of environments and policy. An iteration acts until the batches of all trials are
complete, which several environments per trial do together, and makes all updates from them.

Axes: L lanes (>= N trials), T lock-steps of one call or of a batch, E environments of a trial, K iterations of one
call, R rows of a padded batch, U updates from a batch, M rows of a minibatch. With one environment per trial, arrays
have no axis E.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla

from rlexp.algos.base import Params, RolloutAgent
from rlexp.config.schema.algos import PGSettings
from rlexp.data.rollout_buffer import padded
from rlexp.data.transition import FIELDS, Column
from rlexp.engines import rules
from rlexp.engines.fused.base import MAX_EPISODES, EnvState, Tree, begin_next, look_up, write
from rlexp.engines.rollout_lanes import learn_batch
from rlexp.engines.vectorized import mapped
from rlexp.envs.tensor.base import TensorEnv, limited_step

Array = Any  # of NumPy on the host, of TensorFlow in a program


class Given(NamedTuple):
    """What the host hands to a call."""

    steps: Array  # int32 [], lock-steps to take
    max_episodes: Array  # int32 [], the budget of episodes
    active: Array  # bool [L], trials that still train
    held_steps: Array  # int32 [L], transitions of each environment that each trial's batch has at its start
    held_episodes: Array  # int32 [L], ended episodes likewise
    first_episode: Array  # int32 [L], episodes that each trial has ended by then
    act: Array  # uniform numbers of acting [L, T, E W]
    scalars: dict[str, Array]  # path: schedules by counts since its start [L, T or M, + 1]
    reset: Array  # uniform numbers of resets [L, E, M, reset_width]
    dynamics: Array  # uniform numbers of steps [L, E, T, step_width]


class Row(NamedTuple):
    """What a call keeps of each lock-step: the fields of a transition, and the episodes that ended with it."""

    o_tm1: Array  # [T, L, E, *shape]
    a_tm1: Array  # int32 [T, L, E]
    r_t: Array  # float32 [T, L, E]
    terminated: Array  # bool [T, L, E]
    truncated: Array  # bool [T, L, E]
    o_t: Array  # [T, L, E, *shape]
    returns: Array  # float64 [T, L, E], of the episodes under way, this step included
    lengths: Array  # int32 [T, L, E], of the episodes that have ended, else 0


class Out(NamedTuple):
    """What a call has come to."""

    steps: Array  # int32 [], lock-steps taken
    rows: Row


class RolloutProgram:
    """The compiled loop: pure, and made of nothing but what `fused.graph_key` names.

    Args:
        agent: of one trial.
        num_lanes: L.
        env, limit: the dynamics, and most steps of an episode.
        config: the agent's configuration.
        units: what the schedule of each scalar counts.
        max_steps: T.
        action: shape and dtype of one.
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
        action: Column,
    ) -> None:
        self.agent, self.num_lanes, self.env, self.limit = agent, num_lanes, env, limit
        self.config, self.units, self.max_steps, self.action = config, units, max_steps, action
        self.several = config.num_envs > 1

    def run(self, acting: Params, envs: EnvState, given: Given) -> tuple[EnvState, Out]:
        """Up to `given.steps` lock-steps; ends earlier with a step after which the host has to act.

        Args:
            acting: what acts in the lanes.  # tree of [L, ...]
            envs: where the environments stand, as `TensorEnvs.state`.
            given: see `Given`.

        Returns:
            Where they stand now, and what the call has come to.
        """
        weights = mapped(self.agent.unpack)(acting)

        def goes_on(i: tf.Tensor, episode: tf.Tensor, envs: EnvState, rows: Row) -> tf.Tensor:
            num = self.of_trial(episode)  # [L]
            complete = rules.batch_complete(self.config, given.held_steps + i, given.held_episodes + num)
            most = tf.reduce_max(episode, axis=1) if self.several else episode
            over = (given.first_episode + num >= given.max_episodes) | (most >= MAX_EPISODES)
            return (i < given.steps) & ~tf.reduce_any(given.active & (complete | over))

        def body(i: tf.Tensor, episode: tf.Tensor, envs: EnvState, rows: Row) -> Tree:
            return i + 1, *self.lock_step(weights, i, i, 0, episode, envs, rows, given)

        start = (0, tf.zeros_like(envs.length), envs, self.no_rows(envs))
        i, _, envs, rows = tf.while_loop(goes_on, body, start)
        return envs, Out(i, rows)

    def lock_step(
        self,
        weights: Tree,
        i: tf.Tensor,
        place: tf.Tensor,
        updates: tf.Tensor | int,
        episode: tf.Tensor,
        envs: EnvState,
        rows: Row,
        given: Given,
    ) -> tuple[tf.Tensor, EnvState, Row]:
        """One lock-step of all lanes.

        Args:
            weights: what acts, taken apart.  # tree of [L, ...]
            i: lock-steps of this call before it.  # []
            place: where its row goes.  # []
            updates: of this call before it, of each trial.  # []
            episode: that have ended in this call, of each environment.  # [L, E]
            envs, rows, given: see `run`.

        Returns:
            `episode`, `envs` and `rows` after it.
        """
        lanes = [self.num_lanes]
        since = {"step": tf.fill(lanes, i), "episode": self.of_trial(episode), "update": tf.fill(lanes, updates)}
        scalars = look_up(given.scalars, self.units, since)
        u_reset = tf.gather(given.reset, episode, batch_dims=len(episode.shape))
        u_step = given.dynamics[:, :, i] if self.several else given.dynamics[:, i]
        step = self.step_each if self.several else mapped(self.step)
        row, state, first = step(weights, envs, given.act[:, i], u_step, u_reset, scalars)
        env = EnvState(state, envs.returns + tf.cast(row["r_t"], tf.float64), envs.length + 1)
        over = row["terminated"] | row["truncated"]
        ended = over & (given.active[:, None] if self.several else given.active)
        now = Row(**row, returns=env.returns, lengths=tf.where(ended, env.length, 0))
        rows = tf.nest.map_structure(lambda rows, row: write(rows, place, row), rows, now)
        return episode + tf.cast(ended, tf.int32), begin_next(over, first, env), rows

    def of_trial(self, episode: tf.Tensor) -> tf.Tensor:
        """Episodes of all environments of each trial: [L, E] -> [L]"""
        return tf.reduce_sum(episode, axis=1) if self.several else episode

    def no_rows(self, envs: EnvState) -> Row:
        """The rows of a call before its first lock-step."""
        o_t, lanes = self.observe(envs.state), tuple(envs.length.shape)

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

    def observe(self, state: tf.Tensor) -> tf.Tensor:
        """What all environments show: states [L, E, D] -> observations [L, E, *shape]"""
        return self.each(self.env.observe)(state)

    def each(self, function: Callable[..., Tree]) -> Callable[..., Tree]:
        """`function` of one environment for those of all lanes: arguments and results are [L, E, ...]."""
        if not self.several:
            return mapped(function)
        lanes = self.num_lanes, self.config.num_envs

        def over_all(*args: Tree) -> Tree:
            flat = tf.nest.map_structure(lambda x: tf.reshape(x, (lanes[0] * lanes[1], *x.shape[2:])), args)
            return tf.nest.map_structure(lambda x: tf.reshape(x, (*lanes, *x.shape[1:])), mapped(function)(*flat))

        return over_all

    def step_each(
        self, weights: Tree, envs: EnvState, u_act: tf.Tensor, u_step: tf.Tensor, u_reset: tf.Tensor, scalars: Tree
    ) -> tuple[Tree, tf.Tensor, tf.Tensor]:
        """As `step`, but of all lanes with their E environments: every tensor is [L, E, ...], scalars are [L]."""

        def play(state: tf.Tensor, length: tf.Tensor, a_tm1: tf.Tensor, u_step: tf.Tensor, u_reset: tf.Tensor) -> Tree:
            new, r_t, terminated, truncated = limited_step(self.env, self.limit, state, length, a_tm1, u_step)
            row = {"r_t": r_t, "terminated": terminated, "truncated": truncated, "o_t": self.env.observe(new)}
            return row, new, self.env.reset(u_reset)

        o_tm1 = self.observe(envs.state)
        u = tf.reshape(u_act, (self.num_lanes, self.config.num_envs, -1))
        a_tm1 = mapped(self.agent.act_each)(weights, o_tm1, u, scalars)
        row, state, first = self.each(play)(envs.state, envs.length, a_tm1, u_step, u_reset)
        return {**row, "o_tm1": o_tm1, "a_tm1": a_tm1}, state, first

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


class Learning(NamedTuple):
    """What the host hands to a call that learns, beside `Given`."""

    iterations: Array  # int32 [], batches to act and learn, at most K
    order: Array  # int32 [L, K, U, M], the rows that each update learns from
    learn: Array  # uniform numbers of updates [L, K, U, W]


class Learned(NamedTuple):
    """What a call of whole iterations has come to."""

    returns: Array  # float64 [K T, L, E], as those of `Row`
    lengths: Array  # int32 [K T, L, E]
    metrics: Array  # [K, L, H], the agent's, in their order: means over the updates of an iteration
    acting: Params  # what acted in the last iteration: tree of [L, ...]


class IterationProgram(RolloutProgram):
    """Whole iterations: T lock-steps, which complete the batches of all trials, and all updates from these.

    T is `max_steps`. Arguments are those of `RolloutProgram`.
    """

    def iterate(self, state: Tree, envs: EnvState, given: Given, learning: Learning) -> tuple[Tree, EnvState, Learned]:
        """`learning.iterations` batches of all trials. A trial whose loss is not finite keeps its state from then on.

        Args:
            state: of the agents.  # tree of [L, ...]
            envs: where the environments stand.
            given: see `Given`; numbers for K T lock-steps.
            learning: see `Learning`.

        Returns:
            Both states after them, and what the call has come to.
        """
        size, num_updates = learning.order.shape[1:3]  # K, U
        metrics = tf.zeros((size, self.num_lanes, len(self.agent.metrics)))
        rows = (size * self.max_steps, *envs.length.shape)
        out = Learned(tf.zeros(rows, tf.float64), tf.zeros(rows, tf.int32), metrics, self.agent.acting(state))

        def iteration(
            k: tf.Tensor, state: Tree, envs: EnvState, episode: tf.Tensor, training: tf.Tensor, out: Learned
        ) -> Tree:
            """`training`: trials whose losses have been finite.  # [L] bool"""
            acting, first = self.agent.acting(state), k * self.max_steps
            episode, envs, rows = self.act(acting, k, num_updates, episode, envs, given)
            since = {"step": first + self.max_steps, "update": k * num_updates}
            since = {unit: tf.fill([self.num_lanes], count) for unit, count in since.items()}
            scalars = look_up(given.scalars, self.units, {**since, "episode": self.of_trial(episode)})
            order, u = learning.order[:, k], learning.learn[:, k]
            new, means = learn_batch(self.agent, mapped, state, self.batch(rows), order, u, scalars)
            state = tf.nest.map_structure(lambda a, b: tf.where(_like(training, a), a, b), new, state)
            out = Learned(
                _write_at(out.returns, first, rows.returns),
                _write_at(out.lengths, first, rows.lengths),
                write(out.metrics, k, tf.stack([means[name] for name in self.agent.metrics], axis=1)),
                acting,
            )
            return k + 1, state, envs, episode, training & tf.math.is_finite(means["loss"]), out

        start = (0, state, envs, tf.zeros_like(envs.length), given.active, out)
        _, state, envs, _, _, out = tf.while_loop(lambda k, *_: k < learning.iterations, iteration, start)
        return state, envs, out

    def act(
        self, acting: Params, k: tf.Tensor, num_updates: int, episode: tf.Tensor, envs: EnvState, given: Given
    ) -> tuple[tf.Tensor, EnvState, Row]:
        """The lock-steps of iteration `k`: `episode` and `envs` after them, and their rows."""
        weights = mapped(self.agent.unpack)(acting)

        def body(i: tf.Tensor, episode: tf.Tensor, envs: EnvState, rows: Row) -> Tree:
            place = k * self.max_steps + i
            return i + 1, *self.lock_step(weights, place, i, k * num_updates, episode, envs, rows, given)

        start = (0, episode, envs, self.no_rows(envs))
        return tf.while_loop(lambda i, *_: i < self.max_steps, body, start)[1:]

    def batch(self, rows: Row) -> dict[str, tf.Tensor]:
        """What is learned from: as `RolloutBuffer.batch` gives it for the same transitions.  # field: [L, R, ...]"""
        num_rows = self.max_steps * self.config.num_envs
        missing = padded(num_rows) - num_rows
        r_t, truncated = (tf.cast(values, tf.float64) for values in (rows.r_t, rows.truncated))  # as on the host
        rows = rows._replace(r_t=tf.cast(rules.learned_reward(self.config, r_t, truncated), tf.float32))

        def field(values: tf.Tensor) -> tf.Tensor:
            """[T, L, E, *shape] -> [L, R, *shape]"""
            shape = values.shape[3:] if self.several else values.shape[2:]
            values = tf.reshape(values, (self.max_steps, self.num_lanes, self.config.num_envs, *shape))
            values = tf.transpose(values, (1, 2, 0, *range(3, len(values.shape))))
            values = tf.reshape(values, (self.num_lanes, num_rows, *shape))
            return tf.pad(values, [(0, 0), (0, missing), *[(0, 0)] * len(shape)])

        batch = {name: field(getattr(rows, name)) for name in FIELDS}
        number = tf.range(num_rows + missing)
        flags = {"mask": number < num_rows}
        if self.several:
            flags["cut"] = (number < num_rows) & (number % self.max_steps == self.max_steps - 1)
        return {**batch, **{name: tf.tile(flag[None], (self.num_lanes, 1)) for name, flag in flags.items()}}


def _like(trials: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Trials [L] with as many axes as their values [L, ...]."""
    return tf.reshape(trials, (-1, *[1] * (len(values.shape) - 1)))


def _write_at(rows: tf.Tensor, first: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
    """`rows` [M, ...] with `part` [T, ...] from row `first` on."""
    return xla.dynamic_update_slice(rows, part, tf.stack([first, *[0] * (len(rows.shape) - 1)]))
