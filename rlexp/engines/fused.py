"""What the fused engine's loops share: compiled programs kept per graph, numbers and schedules handed in, evaluation.

The fused engine runs environment, replay, acting and learning of all trials as one XLA program of many lock-steps.
Between two calls the host draws uniform numbers, records, evaluates and writes checkpoints, with the same `Trials` as
the host engine. How long a call is moves no number: everything that goes on is carried from call to call.

Axes: L lanes (>= N trials), T lock-steps, E evaluation episodes, P parameters, D numbers of an environment's state.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from rlexp import schedules, seeding
from rlexp.engines.lanes import Lanes, compiled_settings, mapped
from rlexp.engines.trials import Services
from rlexp.envs import adapter
from rlexp.envs.tensor.base import TensorEnv
from rlexp.evaluation import Act, Evaluator, Scores
from rlexp.settings import Settings

Tree = Any

MAX_STEPS = 1024  # lock-steps of one call at most: what is handed in and out is made for so many
MAX_EPISODES = 256  # episodes of one trial that may end in one call: so many resets are handed in
CALL_SECONDS = 0.4  # what a call should take, so that progress is shown and signals are heard

_PROGRAMS: dict[tuple[str, str], Callable[..., Tree]] = {}


def program(kind: str, key: str, function: Callable[..., Tree]) -> Callable[..., Tree]:
    """The compiled `function`, of this process' earlier jobs where one had the same graph.

    Args:
        kind: which program of the graph.
        key: what `graph_key` says.
        function: pure; compiled at its first call.
    """
    if (kind, key) not in _PROGRAMS:
        _PROGRAMS[kind, key] = tf.function(function, jit_compile=True, autograph=False)
    return _PROGRAMS[kind, key]


def graph_key(settings: Settings, lanes: Lanes, units: Mapping[str, str]) -> str:
    """Everything that a program is made of; jobs that differ elsewhere (seeds, scalars, budgets) share it.

    Args:
        settings: the job.
        lanes: its agent and how many lanes there are.
        units: what the schedule of each scalar counts.
    """
    env = dataclasses.asdict(settings.env)
    graph = {
        "algo": compiled_settings(settings.algo, lanes.agent.scalars),
        "env": {name: env[name] for name in ("id", "kwargs", "max_episode_steps")},
        "network": [lanes.agent.network.shapes, dataclasses.asdict(settings.network)],
        "units": dict(units),
        "selection": settings.evaluation.selection,
        "max_steps": settings.evaluation.max_steps,
        "lanes": lanes.num_lanes,
    }
    return json.dumps(graph, sort_keys=True)


def compile_now(say: Callable[[str], None], *calls: Callable[[], object]) -> None:
    """Make first calls, which compile, and tell how long they took; programs of an earlier job cost nothing."""
    began = time.monotonic()
    for call in calls:
        call()
    seconds = time.monotonic() - began
    if seconds > 0.5:
        say(f"compiled in {seconds:.1f} s")


class Pace:
    """How many lock-steps the next call should take, by how long the last one took."""

    def __init__(self) -> None:
        self.steps = 64
        self._began = 0.0

    def start(self) -> None:
        """A call begins."""
        self._began = time.monotonic()

    def stop(self, steps: int) -> None:
        """A call of so many lock-steps is over."""
        seconds = max(time.monotonic() - self._began, 1e-6)
        self.steps = int(np.clip(steps * CALL_SECONDS / seconds, 1, 2 * self.steps))


class Tables:
    """The values of schedules that a call may meet, made by the host's own schedules and looked up by counters.

    Args:
        parsed: name -> schedule.
        sizes: how far each unit may count within one call.
    """

    def __init__(self, parsed: dict[str, schedules.Schedule], sizes: dict[str, int]) -> None:
        self.schedules = parsed
        self.units = {name: schedule.unit for name, schedule in parsed.items()}
        self._counts = {unit: np.arange(size + 1) for unit, size in sizes.items()}

    def rows(self, counts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Values for the counts from `counts` [N] on.  # name: [N, M]"""
        return {
            name: schedule({schedule.unit: counts[schedule.unit][:, None] + self._counts[schedule.unit]})
            for name, schedule in self.schedules.items()
        }


def look_up(rows: Tree, units: Mapping[str, str], since: Tree) -> dict[str, tf.Tensor]:
    """Inside a program: from `Tables.rows`, the values [L] after `since` [L] counts of each unit."""
    return {name: tf.gather(rows[name], since[unit], batch_dims=1) for name, unit in units.items()}


class TensorEnvs:
    """The environments of all lanes, and what the host engine's `TrialEnvs` keeps of them.

    Attributes:
        state: "state" [L, D], "return" [L] and "length" [L] of the episodes under way.
    """

    def __init__(self, env: TensorEnv, lanes: Lanes, seeds: Sequence[int]) -> None:
        self._lanes = lanes
        self._resets = seeding.Uniforms(seeds, "reset", env.reset_width)
        self._steps = seeding.Uniforms(seeds, "dynamics", env.step_width) if env.step_width else None
        first = self._resets.rows(np.zeros(len(seeds), np.int64))
        self.state: Tree = {
            "state": tf.function(mapped(env.reset), autograph=False)(tf.constant(lanes.pad(first))),
            "return": tf.zeros(lanes.num_lanes, tf.float64),
            "length": tf.zeros(lanes.num_lanes, tf.int32),
        }

    def numbers(self, t: int, episode: np.ndarray, steps: int) -> dict[str, np.ndarray]:
        """Uniform numbers for the next `steps` lock-steps of trials that have finished `episode` [N] episodes."""
        now, n = np.full(len(episode), t), len(episode)
        reset = self._resets.span(
            episode + 1, min(steps, MAX_EPISODES), MAX_EPISODES
        )  # the current one has had its own
        dynamics = self._steps.span(now, steps, MAX_STEPS) if self._steps else np.zeros((n, MAX_STEPS, 0), np.float32)
        return {"reset": self._lanes.pad(reset), "dynamics": self._lanes.pad(dynamics)}  # [L, ., width]

    def get_state(self) -> dict[str, Any]:
        """Where every environment stands."""
        return {name: value.numpy() for name, value in self.state.items()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` returned."""
        self.state = {name: tf.constant(value) for name, value in state.items()}

    def close(self) -> None:
        """Nothing is open."""


class FusedEvaluator:
    """Plays greedy episodes of all lanes as one program; the final scores are of the real Gymnasium environment.

    The episodes are those of the host engine's evaluator: each has the numbers of Gymnasium's own generator for its
    seed, so that it starts in the same state and, in a table, meets the same chances. Policies are parameters [L, P].
    """

    def __init__(self, env: TensorEnv, lanes: Lanes, services: Services, key: str) -> None:
        self._env, self._lanes, self._services = env, lanes, services
        self._config = services.settings.evaluation
        limit = services.info.max_episode_steps
        self._limit = self._config.max_steps if limit is None else min(limit, self._config.max_steps)
        self._numbers: dict[int, tuple[tf.Tensor, tf.Tensor]] = {}  # seed of the first episode -> resets, steps
        self._program = program("evaluate", key, episodes(env, lanes.agent, lanes.num_lanes, self._limit))

    def periodic(self, params: tf.Tensor, trials: np.ndarray) -> Scores:
        """The periodic evaluation of the chosen trials [N] bool."""
        return self._scores(params, self._config.seed, self._config.num_episodes, trials)

    def candidates(self, params: tf.Tensor, trials: np.ndarray) -> Scores:
        """A second look at candidates for the best weights of the chosen trials [N] bool, on episodes of its own."""
        return self._scores(params, self._config.candidate_seed, self._config.candidate_episodes, trials)

    def final(self, params: tf.Tensor) -> Scores:
        """Fresh episodes on Gymnasium's environment that re-score the best weights of all trials."""

        def policy(_: int) -> Act:
            return lambda observation: self._lanes.greedy(params, observation)

        evaluator = Evaluator(self._services.settings, self._services.info)
        try:
            return evaluator.final(policy)
        finally:
            evaluator.close()

    def close(self) -> None:
        """Nothing is open."""

    def _scores(self, params: tf.Tensor, first_seed: int, num_episodes: int, trials: np.ndarray) -> Scores:
        """Episodes in portions of one size, so that one program plays them all."""
        n, width = len(trials), self._config.num_episodes
        chosen = np.zeros(self._lanes.num_lanes, bool)
        chosen[:n] = trials
        played = [
            self._program(params, *self._uniforms(first_seed + start), tf.constant(chosen))
            for start in range(0, num_episodes, width)
        ]
        returns, lengths = (np.concatenate(part, axis=1)[:n, :num_episodes] for part in zip(*played, strict=True))
        mask = trials[:, None]
        seeds = [first_seed + i for i in range(num_episodes)]
        return Scores(seeds, np.where(mask, returns, np.nan), np.where(mask, lengths, 0))

    def _uniforms(self, first_seed: int) -> tuple[tf.Tensor, tf.Tensor]:
        """What one portion of episodes draws: [E, reset_width], [E, steps, step_width]."""
        if first_seed not in self._numbers:
            env, seeds = self._env, [first_seed + i for i in range(self._config.num_episodes)]
            width = env.reset_width + env.step_width * self._limit
            rows = np.stack([adapter.uniforms(seed, width) for seed in seeds]).astype(np.float32)  # [E, width]
            steps = rows[:, env.reset_width :].reshape(len(seeds), self._limit, env.step_width)
            self._numbers[first_seed] = tf.constant(rows[:, : env.reset_width]), tf.constant(steps)
        return self._numbers[first_seed]


def episodes(env: TensorEnv, agent: Any, num_lanes: int, limit: int) -> Callable[..., Tree]:
    """The function that plays one greedy episode for each of E resets in each chosen lane, `limit` steps at most."""

    def play(
        params: tf.Tensor, u_reset: tf.Tensor, u_step: tf.Tensor, chosen: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns and lengths [L, E] for parameters [L, P] and numbers [E, reset_width], [E, limit, step_width]."""
        width = u_reset.shape[0]  # E

        def body(i: tf.Tensor, state: tf.Tensor, alive: tf.Tensor, returns: tf.Tensor, lengths: tf.Tensor) -> Tree:
            o_t = mapped(env.observe)(state)  # [L * E, *shape]
            a_t = mapped(agent.greedy)(params, tf.reshape(o_t, (num_lanes, width, *o_t.shape[1:])))  # [L, E]
            u = tf.tile(u_step[:, i], (num_lanes, 1))  # [L * E, step_width]
            state, r_t, terminated = mapped(env.step)(state, tf.reshape(a_t, [-1]), u)
            returns += tf.where(alive, tf.cast(r_t, tf.float64), tf.zeros_like(returns))
            lengths += tf.cast(alive, tf.int32)
            return i + 1, state, alive & ~terminated, returns, lengths

        state = tf.tile(mapped(env.reset)(u_reset), (num_lanes, 1))  # [L * E, D]
        alive = tf.repeat(chosen, width)  # [L * E]
        zeros = tf.zeros(num_lanes * width, tf.float64), tf.zeros(num_lanes * width, tf.int32)
        _, _, _, returns, lengths = tf.while_loop(
            lambda i, _, alive, *__: (i < limit) & tf.reduce_any(alive), body, (0, state, alive, *zeros)
        )
        return tf.reshape(returns, (num_lanes, width)), tf.reshape(lengths, (num_lanes, width))

    return play
