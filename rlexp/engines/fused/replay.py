"""The fused engine's loop for agents that learn from a replay ring: the DQN family as one XLA program.

What happens in one lock-step, and in which order, is what `engines/host/replay.py` does; the program is in
`replay_program.py`. Between two calls the host draws numbers and keeps the books.

Axes: L lanes (>= N trials), T lock-steps of one call, U updates of one call, B batch, C ring capacity, K numbers of a
row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from rlexp.algos.base import Agent, Params
from rlexp.config import schedules
from rlexp.data import seeding
from rlexp.engines import parts
from rlexp.engines.bookkeeping import Trials
from rlexp.engines.evaluation import Policy, Scores
from rlexp.engines.fused import prioritized
from rlexp.engines.fused.base import (
    MAX_EPISODES,
    NEVER,
    Pace,
    Tables,
    TensorEnvs,
    Tree,
    call_size,
    compile_now,
    graph_key,
    program,
)
from rlexp.engines.fused.evaluation import FusedEvaluator
from rlexp.engines.fused.replay_program import Best, Carry, Given, Out, ReplayProgram, Sizes, updates_of_a_trial
from rlexp.engines.fused.shards import Shards, num_cores
from rlexp.engines.services import Services
from rlexp.engines.vectorized import Lanes
from rlexp.envs import tensor

NAMED = {"best": Best, "priorities": prioritized.Priorities}  # parts of the carry that are there for some jobs
ONE = ("steps", "updates")  # of what a call has come to: one number, where the rest has a column for each lane


class FusedReplayLoop:
    """Acts with an exploring policy, stores transitions, and learns from the ring, many lock-steps a call."""

    def __init__(self, lanes: Lanes[Agent], services: Services) -> None:
        settings, config, agent = services.settings, services.settings.algo, lanes.agent
        self.lanes, self.config = lanes, config
        # Shards advance side by side, so that no trial may need the host before the end of a call.
        unequal = settings.budget.episodes is not None or config.learn_unit == "episode"
        self.max_steps = call_size(settings, services.info)
        max_episodes = MAX_EPISODES if unequal else self.max_steps
        self.max_updates = updates_of_a_trial(config, self.max_steps)  # of one trial in a call
        self.tables = Tables(
            schedules.parse_scalars(config, agent.scalars),
            {"step": self.max_steps, "episode": max_episodes, "update": self.max_updates},
        )
        env = tensor.build(settings.env, services.info.action)
        shapes = {name: network.shapes for name, network in agent.networks.items()}
        more = [shapes, dataclasses.asdict(settings.network), self.max_steps, max_episodes]

        def key(num_lanes: int) -> str:
            return graph_key(settings, num_lanes, agent.scalars, self.tables.units, more)

        self.shards = Shards(settings.trials, lanes.num_lanes, 1 if unequal else num_cores())
        self.envs = TensorEnvs(env, lanes.num_lanes, settings.seeds, self.max_steps, max_episodes)
        self.evaluator = FusedEvaluator(env, agent, lanes.num_lanes, services, key(lanes.num_lanes), self._policy)
        self.trials = Trials(services, lanes.params(), self.envs, self.evaluator)
        self.u_act = seeding.Uniforms(settings.seeds, "act", agent.widths["act"])
        self.u_learn = seeding.Uniforms(settings.seeds, "learn", agent.widths["learn"])
        self.u_replay = seeding.Uniforms(settings.seeds, "replay", config.batch_size)
        self.pace = Pace()
        best = settings.evaluation.selection == "train_episode"
        sizes = Sizes(self.shards.num_lanes, self.max_steps, max_episodes)
        limit = services.info.max_episode_steps
        built = ReplayProgram(agent, env, limit, config, services.info.action, self.tables.units, sizes, best)
        self.program = program("replay", key(self.shards.num_lanes), built.run)
        n, count = lanes.num_lanes, np.zeros(lanes.num_lanes, np.int32)
        # A variable, since XLA writes into it in place; an argument it would copy at each call.
        shape = self.shards.num_lanes, config.replay_size, built.row_size
        self.rings = [tf.Variable(tf.zeros(shape)) for _ in self.shards.sizes]  # [lanes of a shard, C, K] each
        self.carry = Carry(
            agent=lanes.state,
            env=self.envs.state,
            counts=dict.fromkeys(self.trials.counts, count),
            before=dict.fromkeys(self.trials.counts, count),
            copied=count,
            broken=np.zeros(n, bool),
            priorities=prioritized.empty(n, config.replay_size) if agent.prioritized else (),
            best=Best(lanes.acting, np.full(n, -np.inf), count, np.zeros(n, bool)) if best else (),
        )

    def run(self) -> None:
        """Train until every trial's budget is spent or it has diverged."""
        trials = self.trials
        compile_now(lambda: self.call(0), trials.services.progress.say, "training")
        while trials.active.any():
            self.pace.start()
            steps = self.call(min(self.pace.steps, self.max_steps, trials.steps_left()))
            self.pace.stop(steps)
            trials.housekeeping(self.lanes.acting, self.lanes.params, self.scalars(), self.get_state)

    def call(self, steps: int) -> int:
        """One call of the program, of `steps` lock-steps or of fewer where a trial ends; how many were taken."""
        trials, counts, n = self.trials, self.trials.counts, len(self.trials.active)
        updates = updates_of_a_trial(self.config, steps)
        shared: dict[str, Any] = {
            "t": np.int32(trials.t),
            "steps": np.int32(steps),
            "max_episodes": np.int32(trials.settings.budget.episodes or NEVER),
        }
        rows = {
            "active": trials.active,
            "first": {unit: count.astype(np.int32) for unit, count in counts.items()},
            "act": self.u_act.span(np.full(n, trials.t), steps, self.max_steps),
            "learn": self.u_learn.span(counts["update"], updates, self.max_updates),
            "replay": self.u_replay.span(counts["update"], updates, self.max_updates),
            "scalars": self.tables.rows(counts),
            **self.envs.numbers(trials.t, counts["episode"], steps)._asdict(),
        }

        def run(i: int, carry: Carry, rows: Tree) -> tuple[Carry, Out]:
            given = Given(**shared, **rows, num_trials=np.int32(self.shards.sizes[i]))
            given = given._replace(active=given.active & self.shards.occupied(i))
            carry, out = self.program(self.rings[i], carry, given)
            return carry, out

        carry = self.carry._replace(agent=self.lanes.state, env=self.envs.state)
        outs: list[Out]
        self.carry, outs = self.shards.call(run, carry, rows)
        self.lanes.state, self.envs.state = self.carry.agent, self.carry.env
        taken = self.shards.equal(out.steps for out in outs)
        if taken > 0:
            names = [name for name in Out._fields if name not in ONE]
            joined = {name: self.shards.columns([getattr(out, name) for out in outs]) for name in names}
            updates = max(int(out.updates) for out in outs)
            self.account(Out(steps=taken, updates=updates, **joined))
        return taken

    def account(self, out: Out) -> None:
        """Tell the trials what a call has come to; `out` of all trials, as arrays."""
        trials, n = self.trials, len(self.trials.active)
        trials.counts["update"] += self.carry.counts["update"].numpy()[:n] - trials.counts["update"]
        learned = out.learned[: out.updates]
        if out.updates:
            for i, name in enumerate(self.lanes.agent.metrics):
                trials.window.add_rows(f"train/{name}", out.metrics[: out.updates, :, i], learned)
        if self.carry.best:
            params, score, step, _ = self.carry.best
            candidates = self.lanes.rows(params)[:, None]
            scores, steps = score.numpy()[:n, None], step.numpy()[:n, None]
            trials.best.set_state({"candidates": candidates, "scores": scores, "steps": steps})
        trials.advance_call(
            out.returns[: out.steps],
            out.lengths[: out.steps],
            out.broken_at[0],
            "the loss is not finite",
            lambda _: self.scalars(),
        )

    def scalars(self) -> dict[str, np.ndarray]:
        """The recorded scalars of each trial at its last step.  # name: [N]"""
        n = len(self.trials.active)
        before: Mapping[str, np.ndarray] = {unit: value.numpy()[:n] for unit, value in self.carry.before.items()}
        return self.lanes.logged({path: schedule(before) for path, schedule in self.tables.schedules.items()})

    def final(self) -> Scores:
        """Score the best weights on fresh episodes."""
        return self.trials.final(self.lanes.acting_of)

    def get_state(self) -> dict[str, Any]:
        """Everything that the trials do not hold: agent, counters, and the ring as far as it is filled.  # [N, ...]

        Lanes go on when their trial has ended; what they hold from then on is left out.
        """
        n, held = self.lanes.num_trials, min(self.trials.t, self.config.replay_size)
        carry = {name: value for name, value in self.carry._asdict().items() if name not in ("agent", "env", *NAMED)}
        carry |= {name: value._asdict() for name in NAMED if (value := getattr(self.carry, name))}
        ring = np.concatenate([ring[:size, :held] for ring, size in zip(self.rings, self.shards.sizes, strict=True)])
        rows = tf.nest.map_structure(lambda value: np.asarray(value)[:n], carry)
        ended = ~self.trials.active
        return {"carry": rows, **parts.without({"lanes": self.lanes.get_state(), "ring": ring}, ended)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` returned."""
        self.lanes.set_state(state["lanes"])
        carry = tf.nest.map_structure(self.lanes.restored, state["carry"])
        for name, kind in NAMED.items():
            if name in carry:
                carry[name] = kind(**carry[name])
        self.carry = self.carry._replace(**carry)
        held = state["ring"].shape[1]
        for i, ring in enumerate(self.rings):
            ring[:, :held].assign(self.shards.part(state["ring"], i))

    def _policy(self, acting: Params) -> Policy:
        return lambda _: lambda observation: self.lanes.greedy(acting, observation)
