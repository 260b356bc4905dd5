"""The fused engine's loop for agents with a table: environment, acting and learning as one XLA program.

What happens in one lock-step, and in which order, is what `engines/host/tabular.py` does, by the same rules in the same
float64 arithmetic. What a mask forbids stands in the program's tables as -inf, so that no mask is looked up.

Axes: L lanes (>= N trials; in a program those of its shard), K tables of an agent, S states, A actions, T lock-steps of
one call, M resets of one call, D numbers of an environment's state, E evaluation episodes.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from rlexp.algos.q_learning import QLearning
from rlexp.config.schedules import Stacked
from rlexp.config.schema.algos import TabularSettings
from rlexp.data import seeding
from rlexp.engines.bookkeeping import Services, Trials
from rlexp.engines.evaluation import Policy, Scores
from rlexp.engines.fused import tensor_numpy as xp
from rlexp.engines.fused.base import (
    NEVER,
    FusedEvaluator,
    Pace,
    Tables,
    TensorEnvs,
    Tree,
    call_size,
    compile_now,
    graph_key,
    program,
    write,
)
from rlexp.engines.fused.shards import Shards, num_cores
from rlexp.engines.host.tabular import greedy_policy, initial_values, parse_schedules, set_optimum, uniforms
from rlexp.engines.vectorized import MIN_EXACT_LANES, mapped, pad_lanes
from rlexp.envs import tensor, toy_text, transition_table
from rlexp.envs.discretizer import States, masked
from rlexp.envs.tensor.base import TensorEnv, limited_step

MIN_STEPS, MAX_STEPS = 1024, 16_384  # lock-steps of one call at most, by `call_size`
STEPS_PER_RESET = 8  # T / M where there is one shard: a call in which a trial's episodes are shorter ends earlier
COLUMNS = ("return", "length", "broken_at", "td_error")  # of what a call returns: [T or 1, L]


class FusedTabularLoop:
    """Acts epsilon-greedily and moves one value of each trial's table a step, many lock-steps a call."""

    def __init__(self, agent: QLearning, services: Services) -> None:
        settings, info = services.settings, services.info
        config: TabularSettings = settings.algo
        self.agent, self.config, self.n = agent, config, settings.trials
        self.num_lanes = max(self.n, MIN_EXACT_LANES) if settings.exact_trials else self.n
        self.states = States(info, config.discretizer)
        table = transition_table.load(settings.env)
        self.initial = initial_values(config, table, self.states.num_states, info.num_actions)  # [S, A]
        self.allowed = masked(np.ones_like(self.initial), toy_text.action_masks(settings.env)) > 0  # [S, A]
        q = np.where(self.allowed, self.initial, -np.inf)
        self.shape = (agent.num_tables, *q.shape)  # [K, S, A]
        self.pace = Pace()
        self.max_steps = call_size(settings, info, MIN_STEPS, MAX_STEPS)
        # Shards advance side by side, so that no trial may need the host before the end of a call.
        most = num_cores() if settings.budget.episodes is None else 1
        self.shards = Shards(self.n, self.num_lanes, most)
        self.max_resets = self.max_steps if len(self.shards.sizes) > 1 else self.max_steps // STEPS_PER_RESET
        self.tables = Tables(
            parse_schedules(config), {"step": self.max_steps, "update": self.max_steps, "episode": self.max_resets}
        )
        units = self.tables.units
        rules = type(agent)(config, info, xp)
        agent.all_possible = rules.all_possible = bool((q > -np.inf).all())

        def key(num_lanes: int) -> str:
            more = [self.max_steps, self.max_resets, rules.all_possible, *self.shape]
            return graph_key(settings, num_lanes, ("epsilon", "alpha", "gamma", "initial_value"), units, more)

        env = Numbered(tensor.build(settings.env), self.states)
        self.envs = TensorEnvs(env, self.num_lanes, settings.seeds, self.max_steps, self.max_resets, seeding.LONG_BLOCK)
        self.u_act = uniforms(settings.seeds)
        count = np.zeros(self.num_lanes, np.int32)
        self.carry: Tree = {"q": np.broadcast_to(q, (self.num_lanes, *self.shape)).reshape(self.num_lanes, -1)}
        if config.visit_power:
            self.carry["visits"] = np.zeros(self.carry["q"].shape)
        evaluator = FusedEvaluator(
            env, TablePolicy(rules, self.shape), self.num_lanes, services, key(self.num_lanes), self._host_policy
        )
        self.trials = Trials(services, self._params(), self.envs, evaluator)
        if table is not None:
            set_optimum(self.trials, table)
        if agent.on_policy:
            self.carry["a_t"] = self._first_actions(env)
        best = settings.evaluation.selection == "train_episode"
        if best:
            scores = {"score": np.full(self.num_lanes, -np.inf), "step": count, "new": np.zeros(self.num_lanes, bool)}
            self.carry["best"] = {"q": self.carry["q"], **scores}
        self.ended = np.zeros(self.n, bool)  # trials of which an episode has ended with the last lock-step
        limit, shape = services.info.max_episode_steps, (self.shards.num_lanes, *self.shape)
        built = TabularProgram(rules, shape, env, limit, config, self.max_steps, self.max_resets, units, best)
        self.program = program("tabular", key(self.shards.num_lanes), built.run)

    def run(self) -> None:
        """Train until every trial's budget is spent or it has diverged."""
        trials = self.trials
        compile_now(
            trials.services.progress.say,
            lambda: self.call(0),
            lambda: trials.evaluator.periodic(self.carry["q"], np.zeros_like(trials.active)),
        )
        while trials.active.any():
            self.pace.start()
            steps = self.call(min(self.pace.steps, self.max_steps, trials.steps_left()))
            self.pace.stop(steps)
            trials.housekeeping(self.carry["q"], self._params, self.scalars(self.ended), self.get_state)

    def call(self, steps: int) -> int:
        """One call of the program, of `steps` lock-steps or of fewer where a trial ends; how many were taken."""
        trials, n = self.trials, self.n
        counts, t = trials.counts, trials.t
        # Trials that still train have taken as many steps, and made as many updates, as there were lock-steps.
        # One row serves them all, unless they are of several jobs.
        several = any(isinstance(schedule, Stacked) for schedule in self.tables.schedules.values())
        now = np.full(n if several else 1, t)
        scalars = self.tables.rows({"step": now, "update": now, "episode": counts["episode"]})
        own = {name for name, unit in self.tables.units.items() if several or unit == "episode"}
        shared = {
            "t": np.int32(t),
            "steps": np.int32(steps),
            "max_episodes": np.int32(trials.settings.budget.episodes or NEVER),
            "gamma": np.float64(self.config.gamma),
            "scalars": {name: row for name, row in scalars.items() if name not in own},
        }
        rows = {
            "active": trials.active,
            "first_episode": counts["episode"].astype(np.int32),
            "act": self.u_act.span(np.full(n, t), steps + 1, self.max_steps + 1),
            "own_scalars": {name: row for name, row in scalars.items() if name in own},
            "td_error": trials.window.total("train/td_error"),
            **self.envs.numbers(t, counts["episode"], steps),
        }
        carry = {"env": self.envs.state, **self.carry}

        self.carry, outs = self.shards.call(lambda _, *args: self.program(*args), carry, shared, rows)
        self.envs.state = self.carry.pop("env")
        taken = int(outs[0]["steps"])
        if taken > 0:
            self.account(taken, {name: self.shards.columns([out[name] for out in outs]) for name in COLUMNS})
        return taken

    def account(self, taken: int, out: dict[str, np.ndarray]) -> None:
        """Tell the trials what a call has come to; `out` as `TabularProgram.run` returns it, of all trials."""
        trials, broken_at = self.trials, out["broken_at"][0]
        updates = np.where(trials.active, np.minimum(taken, broken_at - 1), 0)
        trials.counts["update"] += updates
        trials.window.set_total("train/td_error", out["td_error"][0], updates)
        if "best" in self.carry:
            best = {name: self.carry["best"][name].numpy()[: self.n, None] for name in ("score", "step")}
            params = self._mean(self.carry["best"]["q"])[:, None]
            trials.best.set_state({"candidates": params, "scores": best["score"], "steps": best["step"]})
        self.ended = out["length"][taken - 1] > 0
        trials.advance_call(
            out["return"][:taken],
            out["length"][:taken],
            broken_at,
            "the TD error is not finite",
            lambda step: self.scalars(out["length"][step - 1] > 0),
        )

    def scalars(self, ended: np.ndarray) -> dict[str, np.ndarray]:
        """The scheduled scalars of each trial at its last step, with which episodes of some [N] bool have ended."""
        counts = self.trials.counts
        last = counts["step"] - 1  # so many updates were made before it
        before = {"step": last, "update": last, "episode": counts["episode"] - ended}
        return {name: schedule(before) for name, schedule in self.tables.schedules.items()}

    def final(self) -> Scores:
        """Score the best tables on fresh episodes."""
        return self.trials.final(self._tensor)

    def get_state(self) -> dict[str, Any]:
        """Everything that the trials do not hold: tables, visits, and actions that are chosen already.  # [N, ...]"""
        return {"carry": tf.nest.map_structure(lambda values: np.asarray(values)[: self.n], self.carry)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` returned."""
        self.carry = tf.nest.map_structure(
            lambda values: tf.constant(pad_lanes(values, self.num_lanes)), state["carry"]
        )

    def _first_actions(self, env: TensorEnv) -> np.ndarray:
        """The actions [L] with which agents begin that choose an action before it is taken."""
        states, now = self.envs.state["state"], np.zeros(self.n, np.int64)
        s_t = mapped(env.observe)(states).numpy()[: self.n]
        q = self._mean(self.carry["q"], allowed_only=True).reshape(self.n, *self.initial.shape)
        epsilon = self.tables.schedules["epsilon"](dict.fromkeys(self.trials.counts, now))
        a_t = self.agent.act(q[np.arange(self.n), s_t], self.u_act.rows(now)[:, :2], epsilon)
        return pad_lanes(a_t.astype(np.int32), self.num_lanes)

    def _params(self) -> np.ndarray:
        return self._mean(self.carry["q"])

    def _mean(self, q: Any, allowed_only: bool = False) -> np.ndarray:
        """The trials' action values, those that a mask forbids as they began.  # [L, K * S * A] -> [N, S * A]"""
        q = np.asarray(q).reshape(self.num_lanes, -1, *self.initial.shape)[: self.n].mean(axis=1)
        return (q if allowed_only else np.where(self.allowed, q, self.initial)).reshape(self.n, -1)

    def _tensor(self, params: np.ndarray) -> tf.Tensor:
        """Action values [N, S * A] as the evaluator plays them, [L, K * S * A]."""
        q = np.where(self.allowed.reshape(-1), params, -np.inf)
        return tf.constant(pad_lanes(np.tile(q, self.agent.num_tables), self.num_lanes))

    def _host_policy(self, params: tf.Tensor) -> Policy:
        q = self._mean(params, allowed_only=True)
        return greedy_policy(q.reshape(self.n, *self.initial.shape), self.states)


class Numbered(TensorEnv):
    """An environment whose observation is the row of the table that its state belongs to, int32 [].

    Args:
        env: a table, or one whose observation is a vector of numbers.
        states: how the host engine numbers such observations.
    """

    def __init__(self, env: TensorEnv, states: States) -> None:
        self._env, self._bins = env, states.bins
        self.state_size, self.reset_width, self.step_width = env.state_size, env.reset_width, env.step_width

    def reset(self, u: tf.Tensor) -> tf.Tensor:
        """As the environment's."""
        return self._env.reset(u)

    def step(self, state: tf.Tensor, a_tm1: tf.Tensor, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """As the environment's."""
        return self._env.step(state, a_tm1, u)

    def observe(self, state: tf.Tensor) -> tf.Tensor:
        """The number of a state [D]."""
        if self._bins is None:
            return tf.cast(state[0], tf.int32)
        numbers, s = self._env.observe(state), tf.constant(0)
        for dimension, edges, size in zip(self._bins.dimensions, self._bins.edges, self._bins.num_bins, strict=True):
            # The least float32 that is not below an edge: a float32 is above it as it is above the edge.
            edges32 = edges.astype(np.float32)
            edges32 = np.where(edges32 < edges, np.nextafter(edges32, np.float32(np.inf)), edges32)
            s = s * size + tf.reduce_sum(tf.cast(numbers[dimension] >= edges32, tf.int32))
        return s


class TablePolicy:
    """The greedy policy of one trial's tables, as `fused.episodes` plays it.

    Args:
        rules: the algorithm's, on TensorFlow.
        shape: K, S, A.
    """

    def __init__(self, rules: QLearning, shape: tuple[int, ...]) -> None:
        self._rules, self._shape = rules, shape

    def greedy(self, params: tf.Tensor, s_t: tf.Tensor) -> tf.Tensor:
        """Best actions [E] of tables [K * S * A] in states [E]."""
        rows = tf.gather(tf.reshape(params, self._shape), s_t, axis=1)  # [K, E, A]
        return self._rules.greedy(tf.reduce_sum(rows, axis=0) / self._shape[0])


class TabularProgram:
    """The compiled loop: pure, and made of nothing but what `fused.graph_key` names.

    Args:
        rules: the algorithm's, on TensorFlow.
        shape: L, K, S, A.
        env, limit: the dynamics, and most steps of an episode.
        config: the agent's configuration.
        max_steps, max_resets: T, M.
        units: what the schedule of each scalar counts.
        select_train_episode: keep the tables of the best training episode.
    """

    def __init__(
        self,
        rules: QLearning,
        shape: tuple[int, ...],
        env: TensorEnv,
        limit: int | None,
        config: TabularSettings,
        max_steps: int,
        max_resets: int,
        units: Mapping[str, str],
        select_train_episode: bool,
    ) -> None:
        self.rules, self.shape, self.env, self.limit, self.config = rules, shape, env, limit, config
        self.max_steps, self.max_resets = max_steps, max_resets
        self.units, self.select_train_episode = units, select_train_episode

    def run(self, carry: Tree, given: Tree) -> tuple[Tree, Tree]:
        """Up to `given["steps"]` lock-steps; ends earlier with a step that ends a trial's last episode or reset."""
        lanes, num_resets = self.shape[0], self.max_resets
        numbers = tf.reshape(given["reset"], (lanes * num_resets, self.env.reset_width))
        resets = mapped(self.env.reset)(numbers)  # [L * M, D]
        left = tf.minimum(given["max_episodes"] - given["first_episode"], num_resets)
        given = {
            **given,
            "first": resets,
            "first_s": mapped(self.env.observe)(resets),
            "episodes_left": tf.where(given["active"], left, NEVER),  # [L]
        }
        best = {"best": {**carry["best"], "q": flat(carry["best"]["q"])}} if "best" in carry else {}
        env, none = carry["env"], tf.zeros(lanes, tf.int32)
        s_t = mapped(self.env.observe)(env["state"])
        # What the loop carries of one kind is one array: a kernel for each would cost more than the arithmetic.
        moving = {
            **{name: flat(carry[name]) for name in ("q", "visits") if name in carry},
            "state": env["state"],
            "counts": tf.stack([s_t, carry.get("a_t", none), env["length"], none, none]),  # see `step`
            "sums": tf.stack([env["return"], given["td_error"]]),
            "episodes": tf.zeros((self.max_steps, 2, lanes), tf.float64),  # return and length, 0 where none ended
            **best,
        }

        def goes_on(i: tf.Tensor, moving: Tree) -> tf.Tensor:
            episode = moving["counts"][3]
            return (i < given["steps"]) & ~tf.reduce_any(episode >= given["episodes_left"])

        def step(i: tf.Tensor, moving: Tree) -> tuple[tf.Tensor, Tree]:
            return i + 1, self.step(i, moving, given)

        def until_best(i: tf.Tensor, moving: Tree) -> tuple[tf.Tensor, Tree]:
            """Lock-steps up to one after which some tables are the best so far, which are then kept."""
            best = moving.pop("best")
            i, moving = tf.while_loop(
                lambda i, moving: goes_on(i, moving) & ~tf.reduce_any(moving["best"]["new"]),
                step,
                (i, {**moving, "best": {name: value for name, value in best.items() if name != "q"}}),
            )
            new, shape = moving["best"]["new"], (lanes, -1)
            q = tf.where(new[:, None], tf.reshape(moving["q"], shape), tf.reshape(best["q"], shape))
            kept = {**moving["best"], "new": tf.zeros_like(new), "q": tf.reshape(q, [-1])}
            return i, {**moving, "best": kept}

        body = until_best if self.select_train_episode else step
        i, moving = tf.while_loop(goes_on, body, (0, moving))
        _, a_t, length, _, broken_at = tf.unstack(moving["counts"])
        returns, td_error = tf.unstack(moving["sums"])
        last = {name: tf.reshape(moving[name], (lanes, -1)) for name in ("q", "visits") if name in moving}
        if best:
            last["best"] = {**moving["best"], "q": tf.reshape(moving["best"]["q"], (lanes, -1))}
        if self.rules.on_policy:
            last["a_t"] = a_t
        return {"env": {"state": moving["state"], "return": returns, "length": length}, **last}, {
            "steps": i,
            "return": moving["episodes"][:, 0],
            "length": moving["episodes"][:, 1],
            "td_error": td_error[None],
            "broken_at": tf.where(broken_at > 0, broken_at, NEVER)[None],
        }

    def step(self, i: tf.Tensor, moving: Tree, given: Tree) -> Tree:
        """One lock-step of all trials: act, step, learn, count."""
        rules, (lanes, num_tables, _, num_actions) = self.rules, self.shape
        s_tm1, a_tm1, length, episode, broken_at = tf.unstack(moving["counts"])  # [L] each
        returns, td_errors = tf.unstack(moving["sums"])
        active, q, u = given["active"] & (broken_at == 0), moving["q"], given["act"][:, i]
        scalars = self.scalars(i, episode, given)
        rows_tm1 = self.rows(q, s_tm1)  # [L, K, A]
        if not rules.on_policy:
            a_tm1 = self.act(rows_tm1, u, scalars["epsilon"])
        state, r_t, terminated, truncated = mapped(lambda *lane: limited_step(self.env, self.limit, *lane))(
            moving["state"], length, a_tm1, given["dynamics"][:, i]
        )
        r_t = tf.cast(r_t, tf.float64)
        over = terminated | truncated
        ended = over & active
        s_t = mapped(self.env.observe)(state)
        rows_t = self.rows(q, s_t)
        episodes = episode + tf.cast(ended, tf.int32)
        reset = tf.range(lanes) * self.max_resets + episode
        first, first_s = tf.gather(given["first"], reset), tf.gather(given["first_s"], reset)
        a_t = a_tm1
        if rules.on_policy:
            next_u, epsilon = given["act"][:, i + 1], self.scalars(i + 1, episodes, given)["epsilon"]
            a_t = self.act(rows_t, next_u, epsilon)

        which = tf.cast(xp.floor(xp.multiply(u[:, 2], num_tables)), tf.int32)  # [L]
        d_t = tf.fill([lanes], given["gamma"])
        if self.config.bootstrap == "unless_terminated":
            d_t = tf.where(terminated, tf.zeros_like(d_t), d_t)
        q_t, other_t = choose(rows_t, which), choose(rows_t, num_tables - 1 - which)  # [L, A]
        value_t = rules.next_value(q_t, other_t, a_t, scalars["epsilon"])
        q_tm1 = xp.take_along_axis(choose(rows_tm1, which), a_tm1[:, None], axis=-1)[:, 0]
        td_error = rules.td_error(q_tm1, r_t, d_t, value_t)
        due = active & tf.math.is_finite(td_error)
        place = (self.row(s_tm1, which) * num_actions + a_tm1)[:, None]  # [L, 1]
        new, visits = {}, tf.ones_like(q_tm1)
        if self.config.visit_power:
            visits = tf.gather(moving["visits"], place[:, 0]) + tf.cast(due, tf.float64)
            new["visits"] = tf.tensor_scatter_nd_update(moving["visits"], place, visits)
        alpha = rules.step_size(tf.cast(scalars["lr"], tf.float64), tf.maximum(visits, 1.0))
        q = tf.tensor_scatter_nd_update(q, place, q_tm1 + tf.where(due, alpha * td_error, tf.zeros_like(td_error)))

        returns, length = returns + r_t, length + 1
        if self.select_train_episode:
            best = moving["best"]
            better = ended & (returns >= best["score"])
            new["best"] = {
                "score": tf.where(better, returns, best["score"]),
                "step": tf.where(better, given["t"] + i + 1, best["step"]),
                "new": better,
            }
        finished = tf.where(ended, tf.stack([returns, tf.cast(length, tf.float64)]), tf.zeros((2, lanes), tf.float64))
        if rules.on_policy:
            a_t = tf.where(over, self.act(self.rows(q, first_s), next_u, epsilon), a_t)
        broken_at = tf.where(active & ~due, i + 1, broken_at)
        counts = [tf.where(over, first_s, s_t), a_t, tf.where(over, 0, length), episodes, broken_at]
        moved_by = tf.where(due, tf.abs(td_error), tf.zeros_like(td_error))
        return {
            **moving,
            **new,
            "q": q,
            "state": tf.where(over[:, None], first, state),
            "counts": tf.stack(counts),
            "sums": tf.stack([tf.where(over, tf.zeros_like(returns), returns), td_errors + moved_by]),
            "episodes": write(moving["episodes"], i, finished),
        }

    def act(self, rows: tf.Tensor, u: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
        """Exploring actions [L] for the rows of all tables [L, K, A]."""
        q = functools.reduce(operator.add, tf.unstack(rows, axis=1)) / self.shape[1]  # [L, A]
        return self.rules.act(q, u[:, :2], epsilon)

    def scalars(self, i: tf.Tensor, episode: tf.Tensor, given: Tree) -> dict[str, tf.Tensor]:
        """What is scheduled after `i` lock-steps of this call and `episode` [L] ends of episodes.  # [1] or [L] each"""
        rows, lane = {**given["scalars"], **given["own_scalars"]}, tf.range(self.shape[0])
        return {
            name: tf.gather_nd(rows[name], tf.stack([lane, episode], axis=1)) if unit == "episode" else rows[name][:, i]
            for name, unit in self.units.items()
        }

    def row(self, s: tf.Tensor, k: Any) -> tf.Tensor:
        """Where the row of state `s` [L] in table `k` stands among all rows."""
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
