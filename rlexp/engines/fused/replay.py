"""The fused engine's loop for agents that learn from a replay ring: the DQN family as one XLA program.

What happens in one lock-step, and in which order, is what `engines/host/replay.py` does; each trial's counters, masks
and schedules are inside the program. Trials advance in lock-step, so that one slot number serves all rings.

Axes: L lanes (>= N trials), T lock-steps of one call, U updates of one call, B batch, C ring capacity, K numbers of a
row, D numbers of an environment's state, n steps of an n-step return.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla

from rlexp.config import schedules
from rlexp.config.schema.algos import DQNSettings
from rlexp.data import seeding
from rlexp.engines.bookkeeping import Trials
from rlexp.engines.evaluation import Policy, Scores
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
    offer,
    one_after_another,
    program,
    write,
)
from rlexp.engines.fused.evaluation import FusedEvaluator
from rlexp.engines.fused.shards import Shards, num_cores
from rlexp.engines.services import Services
from rlexp.engines.vectorized import Lanes, mapped
from rlexp.envs import tensor
from rlexp.envs.tensor.base import TensorEnv, limited_step

COLUMNS = ("return", "length", "metrics", "learned", "broken_at")  # of what a call returns: [T or U, L, ...]
MAPPED_WORK = 1_000_000  # parameters times batch above which updates are made one after another: measured


class FusedReplayLoop:
    """Acts with an exploring policy, stores transitions, and learns from the ring, many lock-steps a call."""

    def __init__(self, lanes: Lanes, services: Services) -> None:
        settings, config = services.settings, services.settings.algo
        self.lanes, self.config = lanes, config
        # Shards advance side by side, so that no trial may need the host before the end of a call.
        unequal = settings.budget.episodes is not None or config.learn_unit == "episode"
        self.max_steps = call_size(settings, services.info)
        max_episodes = MAX_EPISODES if unequal else self.max_steps
        self.max_updates = updates_of_a_trial(config, self.max_steps)  # of one trial in a call
        self.tables = Tables(
            schedules.parse_scalars(config, lanes.agent.scalars),
            {"step": self.max_steps, "episode": max_episodes, "update": self.max_updates},
        )
        env, network = tensor.build(settings.env), [lanes.agent.network.shapes, dataclasses.asdict(settings.network)]
        more = [*network, self.max_steps, max_episodes]

        def key(num_lanes: int) -> str:
            return graph_key(settings, num_lanes, lanes.agent.scalars, self.tables.units, more)

        self.shards = Shards(settings.trials, lanes.num_lanes, 1 if unequal else num_cores())
        self.envs = TensorEnvs(env, lanes.num_lanes, settings.seeds, self.max_steps, max_episodes)
        evaluator = FusedEvaluator(env, lanes.agent, lanes.num_lanes, services, key(lanes.num_lanes), self._policy)
        self.trials = Trials(services, lanes.online(), self.envs, evaluator)
        self.u_act = seeding.Uniforms(settings.seeds, "act", 2)
        self.u_replay = seeding.Uniforms(settings.seeds, "replay", config.batch_size)
        self.pace = Pace()
        best = settings.evaluation.selection == "train_episode"
        built = ReplayProgram(
            lanes.agent,
            self.shards.num_lanes,
            env,
            services.info.max_episode_steps,
            config,
            self.tables.units,
            self.max_steps,
            max_episodes,
            best,
        )
        self.program = program("replay", key(self.shards.num_lanes), built.run)
        n, count = lanes.num_lanes, np.zeros(lanes.num_lanes, np.int32)
        self.carry: Tree = {
            "counts": dict.fromkeys(self.trials.counts, count),
            "before": dict.fromkeys(self.trials.counts, count),
            "copied": count,
            "broken": np.zeros(n, bool),
        }
        # A variable, since XLA writes into it in place; an argument it would copy at each call.
        shape = self.shards.num_lanes, config.replay_size, built.row_size
        self.rings = [tf.Variable(tf.zeros(shape)) for _ in self.shards.sizes]  # [lanes of a shard, C, K] each
        if best:
            score, new = np.full(n, -np.inf), np.zeros(n, bool)
            self.carry["best"] = {"params": lanes.state["online"], "score": score, "step": count, "new": new}

    def run(self) -> None:
        """Train until every trial's budget is spent or it has diverged."""
        trials = self.trials
        nobody = np.zeros_like(trials.active)
        compile_now(
            trials.services.progress.say,
            lambda: self.call(0),
            lambda: trials.evaluator.periodic(self.lanes.state["online"], nobody),
        )
        while trials.active.any():
            self.pace.start()
            steps = self.call(min(self.pace.steps, self.max_steps, trials.steps_left()))
            self.pace.stop(steps)
            trials.housekeeping(self.lanes.state["online"], self.lanes.online, self.scalars(), self.get_state)

    def call(self, steps: int) -> int:
        """One call of the program, of `steps` lock-steps or of fewer where a trial ends; how many were taken."""
        trials, counts, n = self.trials, self.trials.counts, len(self.trials.active)
        shared = {
            "t": np.int32(trials.t),
            "steps": np.int32(steps),
            "max_episodes": np.int32(trials.settings.budget.episodes or NEVER),
        }
        rows = {
            "active": trials.active,
            "first": {unit: count.astype(np.int32) for unit, count in counts.items()},
            "act": self.u_act.span(np.full(n, trials.t), steps, self.max_steps),
            "replay": self.u_replay.span(counts["update"], updates_of_a_trial(self.config, steps), self.max_updates),
            "scalars": self.tables.rows(counts),
            **self.envs.numbers(trials.t, counts["episode"], steps)._asdict(),
        }
        carry = {"agent": self.lanes.state, "env": self.envs.state, **self.carry}

        def run(i: int, carry: Tree, rows: Tree) -> tuple[Tree, Tree]:
            given = {**shared, **rows, "num_trials": np.int32(self.shards.sizes[i])}
            given["active"] &= self.shards.occupied(i)
            return self.program(self.rings[i], carry, given)

        self.carry, outs = self.shards.call(run, carry, rows)
        self.lanes.state, self.envs.state = self.carry.pop("agent"), self.carry.pop("env")
        taken = self.shards.equal(out["steps"] for out in outs)
        if taken == 0:
            return 0
        updates = max(int(out["updates"]) for out in outs)
        self.account(taken, updates, {name: self.shards.columns([out[name] for out in outs]) for name in COLUMNS})
        return taken

    def account(self, taken: int, updates: int, out: dict[str, np.ndarray]) -> None:
        """Tell the trials what a call has come to; `out` as `ReplayProgram.run` returns it, of all trials."""
        trials, n = self.trials, len(self.trials.active)
        trials.counts["update"] += self.carry["counts"]["update"].numpy()[:n] - trials.counts["update"]
        learned = out["learned"][:updates]
        if updates:
            for i, name in enumerate(self.lanes.agent.metrics):
                trials.window.add_rows(f"train/{name}", out["metrics"][:updates, :, i], learned)
        if "best" in self.carry:
            best = {name: value.numpy()[:n, None] for name, value in self.carry["best"].items()}
            trials.best.set_state({"candidates": best["params"], "scores": best["score"], "steps": best["step"]})
        trials.advance_call(
            out["return"][:taken],
            out["length"][:taken],
            out["broken_at"][0],
            "the loss is not finite",
            lambda _: self.scalars(),
        )

    def scalars(self) -> dict[str, np.ndarray]:
        """The scheduled scalars of each trial at its last step.  # name: [N]"""
        n = len(self.trials.active)
        before = {unit: value.numpy()[:n] for unit, value in self.carry["before"].items()}
        return {name: self.tables.schedules[name](before) for name in ("epsilon", "lr")}

    def final(self) -> Scores:
        """Score the best weights on fresh episodes."""
        return self.trials.final(self.lanes.tensor)

    def _policy(self, params: tf.Tensor) -> Policy:
        return lambda _: lambda observation: self.lanes.greedy(params, observation)

    def get_state(self) -> dict[str, Any]:
        """Everything that the trials do not hold: agent, counters, and the ring as far as it is filled.  # [N, ...]"""
        n, held = self.lanes.num_trials, min(self.trials.t, self.config.replay_size)
        carry = tf.nest.map_structure(lambda value: np.asarray(value)[:n], self.carry)
        ring = np.concatenate([ring[:size, :held] for ring, size in zip(self.rings, self.shards.sizes, strict=True)])
        return {"lanes": self.lanes.get_state(), "carry": carry, "ring": ring}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` returned."""
        self.lanes.set_state(state["lanes"])
        self.carry = tf.nest.map_structure(self.lanes.restored, state["carry"])
        held = state["ring"].shape[1]
        for i, ring in enumerate(self.rings):
            ring[:, :held].assign(self.shards.part(state["ring"], i))


def updates_of_a_trial(config: DQNSettings, steps: int) -> int:
    """The most updates that one trial can make in so many lock-steps of one call."""
    units = min(steps, MAX_EPISODES) if config.learn_unit == "episode" else steps
    return (units // config.learn_period + 1) * config.num_updates


def updates_of_a_call(config: DQNSettings, steps: int) -> int:
    """The same of all trials; those that count episodes may make theirs at different steps."""
    return steps * config.num_updates if config.learn_unit == "episode" else updates_of_a_trial(config, steps)


class ReplayProgram:
    """The compiled loop: pure, and made of nothing but what `fused.graph_key` names.

    Args:
        agent: of one trial.
        num_lanes: L.
        env, limit: the dynamics, and most steps of an episode.
        config: the agent's configuration.
        units: what the schedule of each scalar counts.
        max_steps, max_episodes: T, and so many episodes of one trial may end in a call.
        select_train_episode: keep the weights of the best training episode.
    """

    def __init__(
        self,
        agent: Any,
        num_lanes: int,
        env: TensorEnv,
        limit: int | None,
        config: DQNSettings,
        units: Mapping[str, str],
        max_steps: int,
        max_episodes: int,
        select_train_episode: bool,
    ) -> None:
        self.agent, self.num_lanes, self.env, self.limit = agent, num_lanes, env, limit
        self.max_steps, self.max_episodes = max_steps, max_episodes
        self.config, self.units, self.select_train_episode = config, units, select_train_episode
        self.max_updates = updates_of_a_call(config, max_steps)
        self.one_after_another = agent.network.size * config.batch_size > MAPPED_WORK
        self.row_size = 2 * env.state_size + 4  # s_tm1, s_t, a_tm1, r_t, terminated, truncated

    def run(self, ring: tf.Variable, carry: Tree, given: Tree) -> tuple[Tree, Tree]:
        """Up to `given["steps"]` lock-steps; ends earlier with a step after which the host has to act."""
        carry = {**carry, "ring": ring.read_value()}
        lanes, names = self.num_lanes, self.agent.metrics
        out = {
            "return": tf.zeros((self.max_steps, lanes), tf.float64),
            "length": tf.zeros((self.max_steps, lanes), tf.int32),
            "metrics": tf.zeros((self.max_updates, lanes, len(names))),
            "learned": tf.zeros((self.max_updates, lanes), tf.bool),
            "broken_at": tf.fill((1, lanes), NEVER),
        }
        first = given["first"]

        def active(carry: Tree) -> tf.Tensor:
            return given["active"] & ~carry["broken"]  # [L]

        def due(carry: Tree) -> tf.Tensor:
            unit, config = self.config.learn_unit, self.config
            now, before = carry["counts"][unit], carry["before"][unit]
            crossed = now // config.learn_period > before // config.learn_period
            return active(carry) & crossed & (now > config.learn_start)  # [L]

        def ends(carry: Tree) -> tf.Tensor:
            episode = carry["counts"]["episode"]
            over = (episode >= given["max_episodes"]) | (episode - first["episode"] >= self.max_episodes)
            return tf.reduce_any(active(carry) & over)

        def body(i: tf.Tensor, updates: tf.Tensor, stop: tf.Tensor, carry: Tree, out: Tree) -> Tree:
            weights = mapped(self.agent.network.unpack)(carry["agent"]["online"])
            rest = {name: carry[name] for name in ("agent", "copied", "broken")}
            moving = {name: value for name, value in carry.items() if name not in rest}

            def step(i: tf.Tensor, _: tf.Tensor, moving: Tree, out: Tree) -> Tree:
                moving, out = self.act(i, weights, active(rest), moving, out, given)
                pause = tf.reduce_any(due({**moving, **rest})) | ends({**moving, **rest})
                return i + 1, pause, moving, out

            i, _, moving, out = tf.while_loop(
                lambda i, pause, *_: (i < given["steps"]) & ~pause, step, (i, False, moving, out)
            )
            carry = {**moving, **rest}
            if self.select_train_episode:
                best = carry["best"]
                params = tf.where(best["new"][:, None], carry["agent"]["online"], best["params"])
                carry["best"] = {**best, "params": params, "new": tf.zeros_like(best["new"])}
            was_broken = carry["broken"]
            updates, carry, out = self.learn(due(carry), given["t"] + i, updates, carry, out, given)
            out["broken_at"] = tf.where(carry["broken"] & ~was_broken, i, out["broken_at"])
            return i, updates, ends(carry), carry, out

        i, updates, _, carry, out = tf.while_loop(
            lambda i, updates, stop, *_: (i < given["steps"]) & ~stop, body, (0, 0, False, carry, out)
        )
        ring.assign(carry.pop("ring"))
        return carry, {"steps": i, "updates": updates, **out}

    def act(
        self, i: tf.Tensor, weights: Tree, active: tf.Tensor, carry: Tree, out: Tree, given: Tree
    ) -> tuple[Tree, Tree]:
        """One lock-step of all trials: act, step, store, count those of the active ones [L]."""
        counts, lane = carry["counts"], carry["env"]
        since = {unit: count - given["first"][unit] for unit, count in counts.items()}
        scalars = look_up(given["scalars"], self.units, since)
        u_reset = tf.gather(given["reset"], since["episode"], batch_dims=1)
        a_tm1, s_t, r_t, terminated, truncated, first = mapped(self.step)(
            weights, lane, given["act"][:, i], given["dynamics"][:, i], u_reset, scalars
        )
        over = terminated | truncated
        ends = over if self.config.truncation == "terminate" else terminated
        clip = self.config.reward_clip
        learned_r_t = r_t if clip is None else tf.clip_by_value(r_t, -clip, clip)
        columns = [tf.cast(column, tf.float32)[:, None] for column in (a_tm1, learned_r_t, ends, truncated)]
        row = tf.concat([lane.state, s_t, *columns], axis=1)  # [L, K]
        slot = (given["t"] + i) % self.config.replay_size
        ring = xla.dynamic_update_slice(carry["ring"], row[:, None], tf.stack([0, slot, 0]))
        env = EnvState(s_t, lane.returns + tf.cast(r_t, tf.float64), lane.length + 1)
        ended = over & active
        out = {
            **out,
            "return": write(out["return"], i, env.returns),
            "length": write(out["length"], i, tf.where(ended, env.length, 0)),
        }
        new_counts = {
            **counts,
            "step": counts["step"] + tf.cast(active, tf.int32),
            "episode": counts["episode"] + tf.cast(ended, tf.int32),
        }
        carry = {
            **carry,
            "env": begin_next(over, first, env),
            "counts": new_counts,
            "before": {unit: tf.where(active, now, carry["before"][unit]) for unit, now in counts.items()},
            "ring": ring,
        }
        if self.select_train_episode:
            best = carry["best"]
            better, score, step = offer(best["score"], best["step"], ended, env.returns, new_counts["step"])
            carry["best"] = {**best, "score": score, "step": step, "new": best["new"] | better}
        return carry, out

    def step(
        self, params: tf.Tensor, lane: EnvState, u_act: tf.Tensor, u_step: tf.Tensor, u_reset: tf.Tensor, scalars: Tree
    ) -> tuple[tf.Tensor, ...]:
        """One step of one trial: a_tm1, s_t, r_t, terminated, truncated, and where a next episode would start."""
        a_tm1 = self.agent.act(params, self.env.observe(lane.state), u_act, scalars)
        outcome = limited_step(self.env, self.limit, lane.state, lane.length, a_tm1, u_step)
        return a_tm1, *outcome, self.env.reset(u_reset)

    def learn(
        self, due: tf.Tensor, added: tf.Tensor, updates: tf.Tensor, carry: Tree, out: Tree, given: Tree
    ) -> tuple[tf.Tensor, Tree, Tree]:
        """One learning phase of the trials that are due [L]; `added`: transitions that each ring has ever got."""
        since = carry["counts"]["update"] - given["first"]["update"]  # [L]
        rows = since[:, None] + tf.range(self.config.num_updates)
        u = tf.gather(given["replay"], rows, batch_dims=1)  # [L, num_updates, B]
        # All slots are drawn before the loop: inside it, XLA would compute a slot anew for each number of its row.
        slots = self.draw(u, added)  # [L, num_updates, B, n]

        def update(j: tf.Tensor, updates: tf.Tensor, carry: Tree, out: Tree) -> Tree:
            config, counts = self.config, carry["counts"]
            since = {unit: count - given["first"][unit] for unit, count in counts.items()}
            scalars = look_up(given["scalars"], self.units, since)
            batch = self.batch(carry["ring"], slots[:, j], added, scalars["gamma"])
            learning = due & ~carry["broken"]
            counts = {**counts, "update": counts["update"] + tf.cast(learning, tf.int32)}
            periods = counts[config.target_unit] // config.target_period
            copy = learning & (periods > carry["copied"])
            agent, metrics = self.update(given["num_trials"], carry["agent"], batch, scalars, learning)
            agent = self.renew_targets(agent, copy)
            broken = learning & ~tf.math.is_finite(metrics["loss"])
            values = tf.stack([metrics[name] for name in self.agent.metrics], axis=1)  # [L, metrics]
            carry = {
                **carry,
                "agent": agent,
                "counts": counts,
                "copied": tf.where(copy, periods, carry["copied"]),
                "broken": carry["broken"] | broken,
            }
            out = {
                **out,
                "metrics": write(out["metrics"], updates, values),
                "learned": write(out["learned"], updates, learning & ~broken),
            }
            return j + 1, updates + 1, carry, out

        repeats = tf.where(tf.reduce_any(due), self.config.num_updates, 0)
        return tf.while_loop(lambda j, *_: j < repeats, update, (0, updates, carry, out))[1:]

    def update(
        self, num_trials: tf.Tensor, state: Tree, batch: Tree, scalars: Tree, due: tf.Tensor
    ) -> tuple[Tree, Tree]:
        """One update of all trials: state and metrics [L]; a hard target is read, and stays as it is."""
        fixed = {"target"} if self.config.target == "hard" else set()
        target = {name: value for name, value in state.items() if name in fixed}
        moving = {name: value for name, value in state.items() if name not in fixed}

        def update(moving: Tree, target: Tree, batch: Tree, scalars: Tree, due: tf.Tensor) -> tuple[Tree, Tree]:
            new, metrics = self.update_of_a_trial({**moving, **target}, batch, scalars, due)
            return {name: new[name] for name in moving}, metrics

        args = target, batch, scalars, due
        if self.one_after_another:
            metrics = dict.fromkeys(self.agent.metrics, tf.zeros(self.num_lanes))
            moving, metrics = one_after_another(update, num_trials, moving, metrics, *args)
        else:
            moving, metrics = mapped(update)(moving, *args)
        return {**moving, **target}, metrics

    def update_of_a_trial(self, state: Tree, batch: Tree, scalars: Tree, due: tf.Tensor) -> tuple[Tree, Tree]:
        """One update of one trial.

        Where learning counts episodes, a trial that is not due keeps its state bit for bit. Where it counts steps, all
        trials that still train are due together, and nobody looks at what the others do: the mask would cost a tenth.
        """
        new, metrics = self.agent.learn(state, batch, scalars)
        if self.config.learn_unit == "step":
            return new, metrics
        return tf.nest.map_structure(lambda a, b: tf.where(due, a, b), new, state), metrics

    def renew_targets(self, state: Tree, due: tf.Tensor) -> Tree:
        """Hard targets, of the trials in which that is due [L], renewed.

        It is seldom due. In a loop of no turn or one it costs nothing then, where a condition would copy its operands,
        and as a part of the update XLA would compute the optimiser's step a second time for it.
        """
        if self.config.target != "hard":
            return state
        repeats = tf.cast(tf.reduce_any(due), tf.int32)

        def body(i: tf.Tensor, target: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return i + 1, mapped(self.agent.renew_target)({**state, "target": target}, due)["target"]

        return {**state, "target": tf.while_loop(lambda i, _: i < repeats, body, (0, state["target"]))[1]}

    def draw(self, u: tf.Tensor, added: tf.Tensor) -> tf.Tensor:
        """Slots of transitions for uniform numbers [...], each with the n - 1 that follow it in time.  # [..., n]"""
        size = self.config.replay_size
        held = tf.minimum(added, size)
        oldest = tf.where(added > size, added % size, 0)
        age = tf.cast(tf.cast(u, tf.float64) * tf.cast(held, tf.float64), tf.int32)  # 0 is the oldest
        return (oldest + age[..., None] + tf.range(self.config.n_step)) % size

    def batch(self, ring: tf.Tensor, slot: tf.Tensor, added: tf.Tensor, gamma: tf.Tensor) -> dict[str, tf.Tensor]:
        """Transitions from slots [L, B, n], summed over up to n steps as `replay.ReplayRing.sample` does."""
        size, n, d = self.config.replay_size, self.config.n_step, self.env.state_size
        rows = tf.gather(ring, slot, batch_dims=1)  # [L, B, n, K]
        r_t, terminated, truncated = tf.unstack(rows[..., 2 * d + 1 :], axis=-1)  # [L, B, n] each
        goes_on = (terminated + truncated)[..., :-1] < 0.5
        goes_on &= slot[..., :-1] != (added - 1) % size  # the newest
        looked_at = tf.concat([tf.ones_like(r_t[..., :1]), _all_so_far(goes_on)], axis=-1)  # [L, B, n]
        num_steps = tf.reduce_sum(looked_at, axis=-1)  # [L, B]
        powers = tf.pow(gamma[:, None, None], tf.range(n, dtype=tf.float32))  # [L, 1, n]
        # a reward that is not looked at must not count, not even as NaN times 0
        r_t = tf.reduce_sum(tf.where(looked_at > 0, powers * r_t, 0.0), axis=-1)  # [L, B]
        first = rows[..., 0, :]  # [L, B, K]
        last = tf.gather(rows, tf.cast(num_steps, tf.int32) - 1, batch_dims=2) if n > 1 else first  # [L, B, K]
        return {
            "o_tm1": self.observe(first[..., :d]),
            "a_tm1": tf.cast(first[..., 2 * d], tf.int32),
            "r_t": r_t,
            "terminated": last[..., 2 * d + 2],
            "num_steps": num_steps,
            "o_t": self.observe(last[..., d : 2 * d]),
        }

    def observe(self, states: tf.Tensor) -> tf.Tensor:
        """Observations [L, B, *shape] of states [L, B, D]."""
        observations = mapped(self.env.observe)(tf.reshape(states, (-1, states.shape[-1])))
        return tf.reshape(observations, (*states.shape[:2], *observations.shape[1:]))


def _all_so_far(flags: tf.Tensor) -> tf.Tensor:
    """1 up to the first false flag, 0 from it on.  # [..., n] -> [..., n]"""
    columns = tf.unstack(tf.cast(flags, tf.float32), axis=-1)
    for i in range(1, len(columns)):
        columns[i] *= columns[i - 1]
    return tf.stack(columns, axis=-1) if columns else tf.cast(flags, tf.float32)
