"""The compiled loop for agents with tables: environment, acting and learning as one XLA program.

A lock-step does what one of `engines/host/tabular.py` does, in the same order, by the same rules in the same float64
arithmetic. What a mask forbids is -inf in the program's tables, so that it looks up no masks.

Axes: L lanes of a shard, K tables of an agent, S states, A actions, T lock-steps of one call at most, M resets of one
call at most, D numbers of an environment's state, E evaluation episodes.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from rlexp.algos.q_learning import QLearning
from rlexp.engines.fused.base import NEVER, EnvState, Numbers, begin_next, offer, write
from rlexp.engines.tabular_rules import Transition, choose_table, update
from rlexp.engines.vectorized import mapped
from rlexp.envs.discretizer import States
from rlexp.envs.tensor.base import TensorEnv, limited_step

Scalars = Mapping[str, tf.Tensor]
Nothing = tuple[()]  # stands for a tensor that the job does not need; `tf.nest` would treat None as a tensor


class Numbered(TensorEnv):
    """An environment whose observation is the number of its state in the agent's tables, int32 [].

    Args:
        env: a table, or an environment whose observation is a vector of numbers.
        states: how the host engine numbers these observations.
    """

    def __init__(self, env: TensorEnv, states: States) -> None:
        self._env, self._bins = env, states.bins
        self.state_size, self.reset_width, self.step_width = env.state_size, env.reset_width, env.step_width

    def reset(self, u: tf.Tensor) -> tf.Tensor:
        """See `TensorEnv`."""
        return self._env.reset(u)

    def step(self, state: tf.Tensor, a_tm1: tf.Tensor, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """See `TensorEnv`."""
        return self._env.step(state, a_tm1, u)

    def observe(self, state: tf.Tensor) -> tf.Tensor:
        """The number of a state [D]."""
        if self._bins is None:
            return tf.cast(state[0], tf.int32)
        numbers, s = self._env.observe(state), tf.constant(0)
        for dimension, edges, size in zip(self._bins.dimensions, self._bins.edges, self._bins.num_bins, strict=True):
            # A float32 is >= an edge exactly where it is >= the least float32 that is not below the edge.
            edges32 = edges.astype(np.float32)
            edges32 = np.where(edges32 < edges, np.nextafter(edges32, np.float32(np.inf)), edges32)
            s = s * size + tf.reduce_sum(tf.cast(numbers[dimension] >= edges32, tf.int32))
        return s


class TablePolicy:
    """The greedy policy of one trial's tables, as `base.episodes` plays it.

    Args:
        rules: the algorithm, on `tensor_numpy`.
        shape: K, S, A.
    """

    def __init__(self, rules: QLearning, shape: tuple[int, ...]) -> None:
        self._rules, self._shape = rules, shape

    def greedy(self, params: tf.Tensor, s_t: tf.Tensor) -> tf.Tensor:
        """Best actions [E] of tables [K * S * A] in states [E]."""
        rows = tf.gather(tf.reshape(params, self._shape), s_t, axis=1)  # [K, E, A]
        return self._rules.greedy(tf.reduce_sum(rows, axis=0) / self._shape[0])


class BestTables(NamedTuple):
    """The tables with the best training episode so far."""

    q: tf.Tensor  # [L, K * S * A] float64
    score: tf.Tensor  # [L] float64, the return of that episode
    step: tf.Tensor  # [L] int32, env steps of the trial when it ended


class Carry(NamedTuple):
    """What is carried from call to call."""

    env: EnvState
    q: tf.Tensor  # [L, K * S * A] float64
    a_t: tf.Tensor  # [L] int32, the next action of on-policy agents; 0 for others
    visits: tf.Tensor | Nothing  # [L, K * S * A] float64, where the step size depends on them
    best: BestTables | Nothing  # where training episodes choose the best tables


class Shared(NamedTuple):
    """Inputs of one call that all lanes share."""

    t: np.int32  # [], lock-steps before the call
    steps: np.int32  # [], lock-steps of the call at most
    max_episodes: np.int32  # [], episodes of a trial's budget
    gamma: np.float64  # []
    scalars: dict[str, np.ndarray]  # [1, T + 1] float64 each: scalars that count steps or updates


class Rows(NamedTuple):
    """Inputs of one call with a row for each lane."""

    active: np.ndarray  # [L] bool
    first_episode: np.ndarray  # [L] int32, episodes finished before the call
    act: np.ndarray  # [L, T + 1, 3] float32, see `tabular_rules.uniforms`
    scalars: dict[str, np.ndarray]  # [L, M + 1 or T + 1] float64 each: the other scalars
    td_error: np.ndarray  # [L] float64, sum of absolute TD errors since the last record
    numbers: Numbers  # [L, M, reset_width], [L, T, step_width]


class Out(NamedTuple):
    """What happened in one call; rows beyond the lock-steps taken are zero."""

    returns: tf.Tensor  # [T, L] float64, of episodes that ended with each lock-step
    lengths: tf.Tensor  # [T, L] float64, of these episodes, 0 where none ended
    td_error: tf.Tensor  # [1, L] float64, sum of absolute TD errors since the last record
    broken_at: tf.Tensor  # [1, L] int32, lock-step whose TD error was not finite, counted from 1; else `NEVER`


class BestScores(NamedTuple):
    """`BestTables` in the loop, where the tables themselves follow later."""

    score: tf.Tensor  # [L] float64
    step: tf.Tensor  # [L] int32
    new: tf.Tensor  # [L] bool, lanes whose tables are the best since this lock-step


class Moving(NamedTuple):
    """What the loop carries from lock-step to lock-step.

    Numbers of one kind are one array: a kernel for each would cost more than the arithmetic.
    """

    q: tf.Tensor  # [L * K * S * A] float64
    visits: tf.Tensor | Nothing  # [L * K * S * A] float64
    state: tf.Tensor  # [L, D] float32
    counts: tf.Tensor  # [5, L] int32: s_t, a_t, length of the episode, episodes ended in the call, `broken_at` or 0
    sums: tf.Tensor  # [2, L] float64: return of the episode, absolute TD errors
    episodes: tf.Tensor  # [T, 2, L] float64: `returns` and `lengths` of `Out`
    best: BestScores | Nothing


class Resets(NamedTuple):
    """The episodes that may begin in a call."""

    state: tf.Tensor  # [L * M, D] float32, their first states
    s: tf.Tensor  # [L * M] int32, the numbers of these
    left: tf.Tensor  # [L] int32, episodes after which the call ends


class TabularProgram:
    """The compiled loop: pure, and made of nothing but what `base.graph_key` names.

    Args:
        rules: the algorithm, on `tensor_numpy`.
        shape: L, K, S, A.
        env: the dynamics of one trial.
        limit: most steps of an episode; None: no limit.
        max_steps: T.
        max_resets: M.
        units: what the schedule of each scalar counts.
    """

    def __init__(
        self,
        rules: QLearning,
        shape: tuple[int, int, int, int],
        env: TensorEnv,
        limit: int | None,
        max_steps: int,
        max_resets: int,
        units: Mapping[str, str],
    ) -> None:
        self.rules, self.shape, self.env, self.limit = rules, shape, env, limit
        self.max_steps, self.max_resets, self.units = max_steps, max_resets, units

    def run(self, carry: Carry, shared: Shared, rows: Rows) -> tuple[Carry, tf.Tensor, Out]:
        """Take up to `shared.steps` lock-steps; end earlier with one that ends a trial's last episode or reset.

        Returns:
            What is carried on, the number of lock-steps taken [], and what happened in them.
        """
        resets, moving = self.resets(shared, rows), self.moving(carry, rows)

        def goes_on(i: tf.Tensor, moving: Moving) -> tf.Tensor:
            return (i < shared.steps) & ~tf.reduce_any(moving.counts[3] >= resets.left)

        def step(i: tf.Tensor, moving: Moving) -> tuple[tf.Tensor, Moving]:
            return i + 1, self.step(i, moving, shared, rows, resets)

        def until_best(i: tf.Tensor, moving: Moving, best_q: tf.Tensor) -> tuple[tf.Tensor, Moving, tf.Tensor]:
            """Lock-steps up to one after which some tables are the best so far; these are then kept."""
            i, moving = tf.while_loop(
                lambda i, moving: goes_on(i, moving) & ~tf.reduce_any(moving.best.new), step, (i, moving)
            )
            assert isinstance(moving.best, BestScores)
            score, when, new = moving.best
            kept = tf.where(new[:, None], self.unflat(moving.q), self.unflat(best_q))
            return i, moving._replace(best=BestScores(score, when, tf.zeros_like(new))), flat(kept)

        if not isinstance(carry.best, BestTables):
            i, moving = tf.while_loop(goes_on, step, (0, moving))
            return self.carried(moving), i, self.out(moving)
        loop = (0, moving, flat(carry.best.q))
        i, moving, best_q = tf.while_loop(lambda i, moving, _: goes_on(i, moving), until_best, loop)
        assert isinstance(moving.best, BestScores)
        best = BestTables(self.unflat(best_q), moving.best.score, moving.best.step)
        return self.carried(moving)._replace(best=best), i, self.out(moving)

    def resets(self, shared: Shared, rows: Rows) -> Resets:
        """The episodes that may begin in a call."""
        numbers = tf.reshape(rows.numbers.reset, (self.shape[0] * self.max_resets, self.env.reset_width))
        states = mapped(self.env.reset)(numbers)  # [L * M, D]
        left = tf.minimum(shared.max_episodes - rows.first_episode, self.max_resets)
        return Resets(states, mapped(self.env.observe)(states), tf.where(rows.active, left, NEVER))

    def moving(self, carry: Carry, rows: Rows) -> Moving:
        """What the first lock-step of a call begins with."""
        env, best, lanes = carry.env, carry.best, self.shape[0]
        none = tf.zeros(lanes, tf.int32)
        return Moving(
            q=flat(carry.q),
            visits=carry.visits if isinstance(carry.visits, tuple) else flat(carry.visits),
            state=env.state,
            counts=tf.stack([mapped(self.env.observe)(env.state), carry.a_t, env.length, none, none]),
            sums=tf.stack([env.returns, rows.td_error]),
            episodes=tf.zeros((self.max_steps, 2, lanes), tf.float64),
            best=BestScores(best.score, best.step, tf.zeros(lanes, tf.bool)) if isinstance(best, BestTables) else (),
        )

    def carried(self, moving: Moving) -> Carry:
        """What a call carries on, without the best tables."""
        _, a_t, length, _, _ = tf.unstack(moving.counts)
        visits = moving.visits if isinstance(moving.visits, tuple) else self.unflat(moving.visits)
        a_t = a_t if self.rules.on_policy else tf.zeros_like(a_t)
        return Carry(EnvState(moving.state, moving.sums[0], length), self.unflat(moving.q), a_t, visits, ())

    def out(self, moving: Moving) -> Out:
        """What happened in a call."""
        broken_at = moving.counts[4]
        return Out(
            returns=moving.episodes[:, 0],
            lengths=moving.episodes[:, 1],
            td_error=moving.sums[1][None],
            broken_at=tf.where(broken_at > 0, broken_at, NEVER)[None],
        )

    def step(self, i: tf.Tensor, moving: Moving, shared: Shared, rows: Rows, resets: Resets) -> Moving:
        """One lock-step of all trials: act, step, learn, count."""
        rules, q = self.rules, moving.q
        s_tm1, a_tm1, length, episode, broken_at = tf.unstack(moving.counts)  # [L] each
        returns, td_errors = tf.unstack(moving.sums)
        active, u, scalars = rows.active & (broken_at == 0), rows.act[:, i], self.scalars(i, episode, shared, rows)
        rows_tm1 = self.rows(q, s_tm1)  # [L, K, A]
        if not rules.on_policy:
            a_tm1 = self.act(rows_tm1, u, scalars["epsilon"])
        state, r_t, terminated, truncated = mapped(lambda *lane: limited_step(self.env, self.limit, *lane))(
            moving.state, length, a_tm1, rows.numbers.dynamics[:, i]
        )
        over, r_t = terminated | truncated, tf.cast(r_t, tf.float64)
        ended = over & active
        env, episodes = EnvState(state, returns + r_t, length + 1), episode + tf.cast(ended, tf.int32)
        s_t = mapped(self.env.observe)(state)
        rows_t, a_t = self.rows(q, s_t), a_tm1
        if rules.on_policy:
            next_u, epsilon = rows.act[:, i + 1], self.scalars(i + 1, episodes, shared, rows)["epsilon"]
            a_t = self.act(rows_t, next_u, epsilon)

        which = choose_table(rules, u[:, 2])  # [L]
        place = (self.row(s_tm1, which) * self.shape[-1] + a_tm1)[:, None]  # [L, 1]
        q_tm1 = rules.xp.take_along_axis(choose(rows_tm1, which), a_tm1[:, None], axis=-1)[:, 0]
        q_t, other_t = choose(rows_t, which), choose(rows_t, rules.num_tables - 1 - which)
        visits = None if isinstance(moving.visits, tuple) else tf.gather(moving.visits, place[:, 0])
        transition = Transition(q_tm1, r_t, terminated, q_t, other_t, a_t, visits)
        alpha = tf.cast(scalars["alpha"], tf.float64)
        new = update(rules, transition, active, shared.gamma, {**scalars, "alpha": alpha})
        q = tf.tensor_scatter_nd_update(q, place, new.q)
        visits = () if visits is None else tf.tensor_scatter_nd_update(moving.visits, place, new.visits)

        reset = tf.range(self.shape[0]) * self.max_resets + episode
        first, first_s = tf.gather(resets.state, reset), tf.gather(resets.s, reset)
        if rules.on_policy:
            a_t = tf.where(over, self.act(self.rows(q, first_s), next_u, epsilon), a_t)
        after = begin_next(over, first, env)
        broken_at = tf.where(active & ~new.due, i + 1, broken_at)
        counts = [tf.where(over, first_s, s_t), a_t, after.length, episodes, broken_at]
        td_errors += tf.where(new.due, tf.abs(new.td_error), tf.zeros_like(new.td_error))
        finished = tf.stack([env.returns, tf.cast(env.length, tf.float64)])
        return Moving(
            q=q,
            visits=visits,
            state=after.state,
            counts=tf.stack(counts),
            sums=tf.stack([after.returns, td_errors]),
            episodes=write(moving.episodes, i, tf.where(ended, finished, tf.zeros_like(finished))),
            best=self.offer(moving.best, ended, env.returns, shared.t + i + 1),
        )

    def offer(
        self, best: BestScores | Nothing, ended: tf.Tensor, returns: tf.Tensor, now: tf.Tensor
    ) -> BestScores | Nothing:
        """Offer the tables of lanes whose episode has just ended [L], where training episodes choose them."""
        if not isinstance(best, BestScores):
            return ()
        new, score, step = offer(best.score, best.step, ended, returns, now)
        return BestScores(score, step, new)

    def act(self, rows: tf.Tensor, u: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
        """Exploring actions [L] for the rows of all tables [L, K, A]."""
        q = functools.reduce(operator.add, tf.unstack(rows, axis=1)) / self.shape[1]  # [L, A]
        return self.rules.act(q, u[:, :2], epsilon)

    def scalars(self, i: tf.Tensor, episode: tf.Tensor, shared: Shared, rows: Rows) -> Scalars:
        """Scheduled scalars after `i` lock-steps of this call and `episode` [L] ends of episodes.  # [1] or [L] each"""
        tables, lane = {**shared.scalars, **rows.scalars}, tf.range(self.shape[0])
        return {
            name: tf.gather_nd(tables[name], tf.stack([lane, episode], 1)) if unit == "episode" else tables[name][:, i]
            for name, unit in self.units.items()
        }

    def unflat(self, values: tf.Tensor) -> tf.Tensor:
        """Tables [L * K * S * A] as a call carries them on, [L, K * S * A]."""
        return tf.reshape(values, (self.shape[0], -1))

    def row(self, s: tf.Tensor, k: int | tf.Tensor) -> tf.Tensor:
        """Index of the row of state `s` [L] in table `k` among all rows.  # [L]"""
        _, num_tables, num_states, _ = self.shape
        return (tf.range(self.shape[0]) * num_tables + k) * num_states + s

    def rows(self, q: tf.Tensor, s: tf.Tensor) -> tf.Tensor:
        """The rows [L, K, A] of states [L] in all tables."""
        _, num_tables, _, num_actions = self.shape
        places = tf.stack([self.row(s, k) for k in range(num_tables)], axis=1)  # [L, K]
        return tf.gather(tf.reshape(q, (-1, num_actions)), places)


def flat(values: tf.Tensor) -> tf.Tensor:
    """Tables [L, K * S * A] as the loop carries them, [L * K * S * A]."""
    return tf.reshape(values, [-1])


def choose(rows: tf.Tensor, which: tf.Tensor) -> tf.Tensor:
    """The rows [L, A] of table `which` [L] among those of all tables [L, K, A]."""
    first, *others = tf.unstack(rows, axis=1)
    for k, other in enumerate(others, start=1):
        first = tf.where(tf.equal(which, k)[:, None], other, first)
    return first
