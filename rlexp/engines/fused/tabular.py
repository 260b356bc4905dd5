"""The fused engine's loop for agents with tables: many lock-steps per call of one XLA program (`TabularProgram`).

Axes: L lanes (>= N trials), K tables of an agent, S states, A actions, T lock-steps and M resets of one call at most.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from rlexp.algos.q_learning import QLearning
from rlexp.config import schedules
from rlexp.config.schema.algos import TabularSettings
from rlexp.data import seeding
from rlexp.engines import parts
from rlexp.engines.bookkeeping import Trials
from rlexp.engines.evaluation import Policy, Scores
from rlexp.engines.fused import tensor_numpy
from rlexp.engines.fused.base import NEVER, Pace, Tables, TensorEnvs, call_size, compile_now, graph_key, program
from rlexp.engines.fused.evaluation import FusedEvaluator
from rlexp.engines.fused.shards import Shards, num_cores
from rlexp.engines.fused.tabular_program import (
    BestTables,
    Carry,
    Numbered,
    Out,
    Rows,
    Shared,
    TablePolicy,
    TabularProgram,
)
from rlexp.engines.services import Services
from rlexp.engines.tabular_rules import greedy_policy, initial_values, recorded, set_optimum, uniforms
from rlexp.engines.vectorized import MIN_EXACT_LANES, mapped, pad_lanes
from rlexp.envs import tensor, toy_text, transition_table
from rlexp.envs.discretizer import States, masked

MIN_STEPS, MAX_STEPS = 1024, 16_384  # bounds of T
STEPS_PER_RESET = 8  # T / M on one shard: a call in which a trial's episodes are shorter ends earlier


class FusedTabularLoop:
    """Acts epsilon-greedily and updates one value of each trial's table per step, many lock-steps per call."""

    def __init__(self, agent: QLearning, services: Services) -> None:
        settings, info = services.settings, services.info
        config: TabularSettings = settings.algo
        self.settings, self.agent, self.config, self.n = settings, agent, config, settings.trials
        self.num_lanes = max(self.n, MIN_EXACT_LANES) if settings.exact_trials else self.n
        self.states = States(info, config.discretizer)
        table = transition_table.load(settings.env)
        self.initial = initial_values(config, table, self.states.num_states, info.num_actions)  # [S, A]
        self.allowed = masked(np.ones_like(self.initial), toy_text.action_masks(settings.env)) > 0  # [S, A]
        q = np.where(self.allowed, self.initial, -np.inf)
        self.shape = (agent.num_tables, *q.shape)  # [K, S, A]
        self.rules = type(agent)(config, info, tensor_numpy)
        agent.all_possible = self.rules.all_possible = bool((q > -np.inf).all())
        self.pace = Pace()
        self.max_steps = call_size(settings, info, MIN_STEPS, MAX_STEPS)
        # Shards advance side by side, so that no trial may need the host before the end of a call.
        self.shards = Shards(self.n, self.num_lanes, num_cores() if settings.budget.episodes is None else 1)
        self.max_resets = self.max_steps if len(self.shards.sizes) > 1 else self.max_steps // STEPS_PER_RESET
        self.tables = Tables(
            schedules.parse_scalars(config, agent.scalars),
            {"step": self.max_steps, "update": self.max_steps, "episode": self.max_resets},
        )
        env = Numbered(tensor.build(settings.env), self.states)
        self.envs = TensorEnvs(env, self.num_lanes, settings.seeds, self.max_steps, self.max_resets, seeding.LONG_BLOCK)
        self.u_act = uniforms(agent, settings.seeds)
        self.ended = np.zeros(self.n, bool)  # trials whose episode ended with the last lock-step
        self.carry = self._first_carry(np.broadcast_to(q, (self.num_lanes, *self.shape)).reshape(self.num_lanes, -1))
        self.trials = Trials(services, self._params(), self.envs, self._evaluator(env, services))
        if table is not None:
            set_optimum(self.trials, table)
        if agent.on_policy:
            self.carry = self.carry._replace(a_t=self._first_actions(env))
        shape = (self.shards.num_lanes, *self.shape)
        built = TabularProgram(
            self.rules, shape, env, info.max_episode_steps, self.max_steps, self.max_resets, self.tables.units
        )
        self.program = program("tabular", self._key(self.shards.num_lanes), built.run)

    def run(self) -> None:
        """Train until each trial has spent its budget, has diverged or has failed."""
        trials = self.trials
        compile_now(lambda: self.call(0), trials.services.progress.say, "training")
        while trials.active.any():
            self.pace.start()
            steps = self.call(min(self.pace.steps, self.max_steps, trials.steps_left()))
            self.pace.stop(steps)
            trials.housekeeping(self.carry.q, self._params, self.recorded(self.ended), self.get_state)

    def call(self, steps: int) -> int:
        """Call the program for `steps` lock-steps, or fewer where a trial ends; returns how many it took."""
        trials, n = self.trials, self.n
        counts, t = trials.counts, trials.t
        # Trials that still train have taken as many steps, and made as many updates, as there were lock-steps.
        # One row of scalars serves all of them, unless they belong to several jobs.
        several = any(isinstance(schedule, schedules.Stacked) for schedule in self.tables.schedules.values())
        now = np.full(n if several else 1, t)
        scalars = self.tables.rows({"step": now, "update": now, "episode": counts["episode"]})
        own = {name for name, unit in self.tables.units.items() if several or unit == "episode"}
        shared = Shared(
            t=np.int32(t),
            steps=np.int32(steps),
            max_episodes=np.int32(trials.settings.budget.episodes or NEVER),
            gamma=np.float64(self.config.gamma),
            scalars={name: row for name, row in scalars.items() if name not in own},
        )
        rows = Rows(
            active=trials.active,
            first_episode=counts["episode"].astype(np.int32),
            act=self.u_act.span(np.full(n, t), steps + 1, self.max_steps + 1),
            scalars={name: row for name, row in scalars.items() if name in own},
            td_error=trials.window.total("train/td_error"),
            numbers=self.envs.numbers(t, counts["episode"], steps),
        )

        def run(i: int, carry: Carry, rows: Rows) -> tuple[Carry, tuple[tf.Tensor, Out]]:
            carry, *out = self.program(carry, shared, rows._replace(active=rows.active & self.shards.occupied(i)))
            return carry, tuple(out)

        self.carry, results = self.shards.call(run, self.carry._replace(env=self.envs.state), rows)
        self.envs.state = self.carry.env
        all_taken, outs = zip(*results, strict=True)
        taken = self.shards.equal(all_taken)
        if taken > 0:
            self.account(taken, Out(*map(self.shards.columns, zip(*outs, strict=True))))
        return taken

    def account(self, taken: int, out: Out) -> None:
        """Count what a call of `taken` lock-steps did; `out` is that of all trials, with N in the place of L."""
        trials, broken_at = self.trials, out.broken_at[0]
        updates = np.where(trials.active, np.minimum(taken, broken_at - 1), 0)
        trials.counts["update"] += updates
        trials.window.set_total("train/td_error", out.td_error[0], updates)
        if isinstance(best := self.carry.best, BestTables):
            score, step = (np.asarray(values)[: self.n, None] for values in (best.score, best.step))
            trials.best.set_state({"candidates": self._mean(best.q)[:, None], "scores": score, "steps": step})
        self.ended = out.lengths[taken - 1] > 0
        trials.advance_call(
            out.returns[:taken],
            out.lengths[:taken],
            broken_at,
            "the TD error is not finite",
            lambda step: self.recorded(out.lengths[step - 1] > 0),
        )

    def recorded(self, ended: np.ndarray) -> dict[str, np.ndarray]:
        """The scheduled scalars of each trial at its last step, with which episodes of trials [N] bool ended."""
        counts = self.trials.counts
        last = counts["step"] - 1  # steps, and updates, before it
        before = {"step": last, "update": last, "episode": counts["episode"] - ended}
        return recorded(self.agent, {name: schedule(before) for name, schedule in self.tables.schedules.items()})

    def final(self) -> Scores:
        """Score the best tables on fresh episodes."""
        return self.trials.final(self._tensor)

    def get_state(self) -> dict[str, Any]:
        """Tables, visits, and the actions that are chosen but not yet taken.  # [N, ...] each

        Lanes go on when their trial has ended; the actions that they choose from then on are left out.
        """
        carry: dict[str, Any] = {"q": self.carry.q}
        if self.agent.on_policy:
            carry["a_t"] = parts.without(np.asarray(self.carry.a_t)[: self.n], ~self.trials.active)
        if not isinstance(self.carry.visits, tuple):
            carry["visits"] = self.carry.visits
        if isinstance(self.carry.best, BestTables):
            carry["best"] = self.carry.best._asdict()
        return {"carry": tf.nest.map_structure(lambda values: np.asarray(values)[: self.n], carry)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` returned."""
        saved = tf.nest.map_structure(lambda values: tf.constant(pad_lanes(values, self.num_lanes)), state["carry"])
        if "best" in saved:
            saved["best"] = BestTables(*[saved["best"][name] for name in BestTables._fields])
        self.carry = self.carry._replace(**saved)

    def _key(self, num_lanes: int) -> str:
        """What the programs are compiled from."""
        inputs = (*self.agent.scalars, "gamma", "initial_value")
        more = [self.max_steps, self.max_resets, self.rules.all_possible, *self.shape]
        return graph_key(self.settings, num_lanes, inputs, self.tables.units, more)

    def _evaluator(self, env: Numbered, services: Services) -> FusedEvaluator:
        policy = TablePolicy(self.rules, self.shape)
        return FusedEvaluator(env, policy, self.num_lanes, services, self._key(self.num_lanes), self._host_policy)

    def _first_carry(self, q: np.ndarray) -> Carry:
        """The carry of the first call, from initial tables [L, K * S * A]; the first actions are set later."""
        none = np.zeros(self.num_lanes, np.int32)
        best = BestTables(q, np.full(self.num_lanes, -np.inf), none)
        by_episode = self.settings.evaluation.selection == "train_episode"
        visits = np.zeros(q.shape) if self.config.visit_power else ()
        return Carry(self.envs.state, q, none, visits, best if by_episode else ())

    def _first_actions(self, env: Numbered) -> np.ndarray:
        """The first actions of on-policy agents.  # [L]"""
        s_t, now = mapped(env.observe)(self.envs.state.state).numpy()[: self.n], np.zeros(self.n, np.int64)
        q = self._mean(self.carry.q, allowed_only=True).reshape(self.n, *self.initial.shape)
        epsilon = self.tables.schedules["epsilon"](dict.fromkeys(self.trials.counts, now))
        a_t = self.agent.act(q[np.arange(self.n), s_t], self.u_act.rows(now)[:, :2], epsilon)
        return pad_lanes(a_t.astype(np.int32), self.num_lanes)

    def _params(self) -> np.ndarray:
        return self._mean(self.carry.q)

    def _mean(self, q: Any, allowed_only: bool = False) -> np.ndarray:
        """Action values of the trials; forbidden ones are the initial ones.  # [L, K * S * A] -> [N, S * A]"""
        q = np.asarray(q).reshape(self.num_lanes, -1, *self.initial.shape)[: self.n].mean(axis=1)
        return (q if allowed_only else np.where(self.allowed, q, self.initial)).reshape(self.n, -1)

    def _tensor(self, params: np.ndarray) -> tf.Tensor:
        """Action values [N, S * A] as the evaluator plays them, [L, K * S * A]."""
        q = np.where(self.allowed.reshape(-1), params, -np.inf)
        return tf.constant(pad_lanes(np.tile(q, self.agent.num_tables), self.num_lanes))

    def _host_policy(self, params: tf.Tensor) -> Policy:
        q = self._mean(params, allowed_only=True)
        return greedy_policy(q.reshape(self.n, *self.initial.shape), self.states)
