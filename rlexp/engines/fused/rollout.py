"""The fused engine's loop for agents that learn from whole batches of their own latest steps: policy gradients.

Acting is one XLA program of environment and policy, many lock-steps a call, which ends where the batch of some trial is
complete. Then the host engine's own code learns from it: updates are few beside steps, and their batches have shapes of
their own.

Axes: L lanes (>= N trials), T lock-steps of one call, E evaluation episodes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from rlexp.config import schedules
from rlexp.config.schema.algos import PGSettings
from rlexp.data import seeding
from rlexp.data.transition import FIELDS
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
from rlexp.engines.vectorized import Lanes, mapped, pad_lanes
from rlexp.envs import tensor
from rlexp.envs.tensor.base import TensorEnv, limited_step


class FusedRolloutLoop(RolloutLoop):
    """Acts with the agent's own policy, many lock-steps a call, and learns from each batch when it is complete."""

    def __init__(self, lanes: Lanes, services: Services) -> None:
        settings, config = services.settings, services.settings.algo
        self.max_steps = call_size(settings, services.info)
        self.tables = Tables(
            schedules.parse_scalars(config, lanes.agent.scalars),
            {"step": self.max_steps, "episode": MAX_EPISODES, "update": 0},  # no updates while it acts
        )
        env, network = tensor.build(settings.env), [lanes.agent.network.shapes, dataclasses.asdict(settings.network)]
        key = graph_key(settings, lanes.num_lanes, lanes.agent.scalars, self.tables.units, [*network, self.max_steps])
        self.envs = TensorEnvs(env, lanes.num_lanes, settings.seeds, self.max_steps, MAX_EPISODES)
        kind = SampledEvaluator if settings.evaluation.policy == "sampled" else FusedEvaluator
        evaluator = kind(env, lanes.agent, lanes.num_lanes, services, key, self._host_policy)
        super().__init__(lanes, services, self.envs, evaluator)
        self.pace = Pace()
        built = RolloutProgram(
            lanes.agent,
            lanes.num_lanes,
            env,
            services.info.max_episode_steps,
            config,
            self.tables.units,
            self.max_steps,
        )
        self.program = program("rollout", key, built.run)

    def run(self) -> None:
        """Train until every trial's budget is spent or it has diverged."""
        trials, nobody = self.trials, np.zeros_like(self.trials.active)
        compile_now(
            trials.services.progress.say,
            lambda: self.act(0),
            lambda: trials.evaluator.periodic(self._policy(self.lanes.state["online"], 0), nobody),
        )
        while trials.active.any():
            self.pace.start()
            steps, before = self.act(min(self.pace.steps, self.max_steps, trials.steps_left()))
            self.pace.stop(steps)
            scalars = {"lr": self.schedules["lr"](before)}
            self.learn()
            policy = self._policy(self.lanes.state["online"], trials.t)
            trials.housekeeping(policy, self.lanes.online, scalars, self.get_state)

    def act(self, steps: int) -> tuple[int, dict[str, np.ndarray]]:
        """One call of the program, of `steps` lock-steps or of fewer where a batch is complete or a trial ends.

        Returns:
            How many were taken, and the trials' counts [N] before the last one.
        """
        trials, lanes, n = self.trials, self.lanes, len(self.trials.active)
        counts = trials.counts
        active = np.zeros(lanes.num_lanes, bool)
        active[:n] = trials.active
        held = self.buffer.num_episodes if self.config.batch_unit == "episode" else self.buffer.num_steps
        given = {
            "steps": np.int32(steps),
            "max_episodes": np.int32(trials.settings.budget.episodes or NEVER),
            "active": active,
            "held": lanes.pad(held.astype(np.int32)),
            "first_episode": lanes.pad(counts["episode"].astype(np.int32)),
            "act": lanes.pad(self.u_act.span(np.full(n, trials.t), steps, self.max_steps)),
            "scalars": {name: lanes.pad(rows) for name, rows in self.tables.rows(counts).items()},
            **self.envs.numbers(trials.t, counts["episode"], steps)._asdict(),
        }
        self.envs.state, out = self.program(lanes.state["online"], self.envs.state, given)
        taken = int(out["steps"])
        if taken == 0:
            return 0, counts
        out = {name: out[name].numpy()[:taken, :n] for name in out if name != "steps"}  # [T, N, ...]
        out["r_t"] = self.learned_reward(out["r_t"], out["truncated"])
        self.buffer.add_many(trials.active, {name: out[name] for name in FIELDS})
        lengths, before = out["length"], {unit: count.copy() for unit, count in counts.items()}
        trials.advance_many(out["return"], lengths)
        if trials.settings.evaluation.selection == "train_episode":
            for i in np.flatnonzero(lengths.any(axis=1)):
                ended = np.where(lengths[i] > 0, out["return"][i], np.nan)
                trials.best.offer(ended, lanes.online, before["step"] + (i + 1) * trials.active)
        before["step"] = counts["step"] - trials.active
        before["episode"] = counts["episode"] - (lengths[-1] > 0)
        return taken, before

    def _policy(self, params: Any, t: int) -> Any:
        """As the evaluator plays it."""
        return (params, t) if self.trials.settings.evaluation.policy == "sampled" else params

    def _host_policy(self, policy: Any) -> Policy:
        params, t = policy if isinstance(policy, tuple) else (policy, 0)
        return super()._policy(params, t)


class SampledEvaluator(FusedEvaluator):
    """Plays episodes whose actions are drawn, by the numbers of `evaluation.sampling`.

    Its policies are parameters [L, P], and the iteration of their evaluation, which has numbers of its own.
    """

    def _act_of(self, agent: Any) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
        sample: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor] = agent.sample
        return sample

    def _params_and_numbers(self, policy: Any, first_seed: int) -> tuple[tf.Tensor, np.ndarray]:
        params, t = policy
        draws = [seeding.generator(seed, "evaluate", t, first_seed) for seed in self._services.settings.seeds]
        size = self._limit, self._config.num_episodes
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
    """

    def __init__(
        self,
        agent: Any,
        num_lanes: int,
        env: TensorEnv,
        limit: int | None,
        config: PGSettings,
        units: Mapping[str, str],
        max_steps: int,
    ) -> None:
        self.agent, self.num_lanes, self.env, self.limit = agent, num_lanes, env, limit
        self.config, self.units, self.max_steps = config, units, max_steps

    def run(self, params: tf.Tensor, envs: EnvState, given: Tree) -> tuple[EnvState, Tree]:
        """Up to `given["steps"]` lock-steps; ends earlier with a step after which the host has to act.

        Args:
            params: of the lanes.  # [L, P]
            envs: where the environments stand, as `TensorEnvs.state`.
            given: numbers, counters and schedules of this call.

        Returns:
            Where they stand now; and "steps", how many were taken, with a row of each of them.  # name: [T, L, ...]
        """
        weights, lanes = mapped(self.agent.network.unpack)(params), self.num_lanes
        o_t = mapped(self.env.observe)(envs.state)
        kinds = {"o_tm1": (o_t.shape, o_t.dtype), "o_t": (o_t.shape, o_t.dtype), "a_tm1": ((lanes,), tf.int32)}
        kinds |= {"r_t": ((lanes,), tf.float32), "terminated": ((lanes,), tf.bool), "truncated": ((lanes,), tf.bool)}
        kinds |= {"return": ((lanes,), tf.float64), "length": ((lanes,), tf.int32)}
        out = {name: tf.zeros((self.max_steps, *shape), kind) for name, (shape, kind) in kinds.items()}

        def goes_on(i: tf.Tensor, episode: tf.Tensor, envs: EnvState, out: Tree) -> tf.Tensor:
            """`episode`: that have ended in this call.  # [L]"""
            rows = given["held"] + (episode if self.config.batch_unit == "episode" else i)
            complete = rows >= self.config.batch_size
            over = (given["first_episode"] + episode >= given["max_episodes"]) | (episode >= MAX_EPISODES)
            return (i < given["steps"]) & ~tf.reduce_any(given["active"] & (complete | over))

        def body(i: tf.Tensor, episode: tf.Tensor, envs: EnvState, out: Tree) -> Tree:
            since = {"step": tf.fill([lanes], i), "episode": episode, "update": tf.zeros(lanes, tf.int32)}
            u_reset = tf.gather(given["reset"], episode, batch_dims=1)
            row, first = mapped(self.step)(
                weights,
                envs,
                given["act"][:, i],
                given["dynamics"][:, i],
                u_reset,
                look_up(given["scalars"], self.units, since),
            )
            over = row["terminated"] | row["truncated"]
            ended = over & given["active"]
            env = EnvState(row.pop("state"), envs.returns + tf.cast(row["r_t"], tf.float64), envs.length + 1)
            row |= {"return": env.returns, "length": tf.where(ended, env.length, 0)}
            envs = begin_next(over, first, env)
            out = {name: write(rows, i, row[name]) for name, rows in out.items()}
            return i + 1, episode + tf.cast(ended, tf.int32), envs, out

        i, _, envs, out = tf.while_loop(goes_on, body, (0, tf.zeros(lanes, tf.int32), envs, out))
        return envs, {"steps": i, **out}

    def step(
        self, params: tf.Tensor, lane: EnvState, u_act: tf.Tensor, u_step: tf.Tensor, u_reset: tf.Tensor, scalars: Tree
    ) -> tuple[Tree, tf.Tensor]:
        """One step of one trial: what the batch keeps of it, and where a next episode would start."""
        o_tm1 = self.env.observe(lane.state)
        a_tm1 = self.agent.act(params, o_tm1, u_act, scalars)
        state, r_t, terminated, truncated = limited_step(self.env, self.limit, lane.state, lane.length, a_tm1, u_step)
        row = {"o_tm1": o_tm1, "a_tm1": a_tm1, "r_t": r_t, "terminated": terminated, "truncated": truncated}
        return {**row, "state": state, "o_t": self.env.observe(state)}, self.env.reset(u_reset)
