"""What the fused engine's loops share: compiled programs kept per graph, numbers and schedules handed in, evaluation.

The fused engine runs environment, replay, acting and learning of all trials as one XLA program of many lock-steps.
Between two calls the host draws uniform numbers, records, evaluates and writes checkpoints, with the same `Trials` as
the host engine. How long a call is moves no number: everything that goes on is carried from call to call.

Axes: L lanes (>= N trials), T lock-steps, E evaluation episodes, P parameters, D numbers of an environment's state.
"""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla

from rlexp.config import schedules
from rlexp.config.schema.job import Settings
from rlexp.data import seeding
from rlexp.engines.bookkeeping import Services, log_period
from rlexp.engines.evaluation import Evaluator, Policy, Scores
from rlexp.engines.vectorized import MAX_PROGRAMS, Recent, compiled_settings, mapped, pad_lanes
from rlexp.envs.info import EnvInfo
from rlexp.envs.tensor.base import TensorEnv, gymnasium_uniforms
from rlexp.system.stopping import heed

Tree = Any

MIN_STEPS, MAX_STEPS = 256, 2048  # lock-steps of one call at most, by `call_size`
MAX_EPISODES = 256  # episodes of one trial that may end in one call: so many resets are handed in
NEVER = int(np.iinfo(np.int32).max)
CALL_SECONDS = 0.4  # what a call should take, so that progress is shown and signals are heard

_PROGRAMS: Recent[Program] = Recent(MAX_PROGRAMS)  # by kind and graph


class Program:
    """A compiled function of trees of arrays, tensors and variables.

    Its concrete functions are called with flat tensors, since the dispatch of `tf.function` takes 4 ms for trees of 30.

    Args:
        function: pure but for variables; compiled at the first call with arguments of new shapes.
    """

    def __init__(self, function: Callable[..., Tree]) -> None:
        self._traced = tf.function(function, jit_compile=True, autograph=False)
        self._lock = threading.Lock()
        self._concrete: dict[tuple[tuple[int, ...], ...], Any] = {}  # by the shapes of all leaves

    def __call__(self, *args: Tree) -> Tree:
        """What the function returns, as tensors."""
        leaves = tf.nest.flatten(list(args))
        shapes = tuple(tuple(leaf.shape) for leaf in leaves)
        with self._lock:  # several threads may make the first call
            if shapes not in self._concrete:
                self._concrete[shapes] = self._traced.get_concrete_function(*args)
                assert not self._concrete[shapes].captured_inputs, "all that a program reads is an argument"
        concrete = self._concrete[shapes]
        flat = [leaf.handle if isinstance(leaf, tf.Variable) else tf.convert_to_tensor(leaf) for leaf in leaves]
        return tf.nest.pack_sequence_as(concrete.structured_outputs, concrete.inference_fn.call_flat(*flat))


def program(kind: str, key: str, function: Callable[..., Tree]) -> Program:
    """The compiled `function`, of this process' earlier jobs where a recent one had the same graph.

    Args:
        kind: which program of the graph.
        key: what `graph_key` says.
        function: see `Program`.
    """
    return _PROGRAMS.get((kind, key), lambda: Program(function))


def graph_key(settings: Settings, num_lanes: int, scalars: Sequence[str], units: Mapping[str, str], more: Any) -> str:
    """Everything that a program is made of; jobs that differ elsewhere (seeds, scalars) share it, and
    those whose budgets have one `call_size`.

    Args:
        settings: the job.
        num_lanes: L.
        scalars: the algorithm's settings that are handed to the program as numbers.
        units: what the schedule of each scalar counts.
        more: what a family adds, as JSON can write it.
    """
    env = dataclasses.asdict(settings.env)
    graph = {
        "algo": compiled_settings(settings.algo, scalars),
        "env": {name: env[name] for name in ("id", "kwargs", "max_episode_steps")},
        "units": dict(units),
        "evaluation": [settings.evaluation.selection, settings.evaluation.policy],
        "max_steps": settings.evaluation.max_steps,
        "lanes": num_lanes,
        "more": more,
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


def call_size(settings: Settings, info: EnvInfo, least: int = MIN_STEPS, most: int = MAX_STEPS) -> int:
    """T, lock-steps of one call at most: what is handed in and out is made, and copied, for so many.

    A call ends where an evaluation or a record is due, so that more would be of no use. A power of two: jobs that
    differ in their periods share few programs.
    """
    period = min(settings.evaluation.period, log_period(settings, info))
    return int(np.clip(2 ** np.ceil(np.log2(period)), least, most))


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

    def __init__(self, parsed: Mapping[str, schedules.Schedule | schedules.Stacked], sizes: dict[str, int]) -> None:
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


def write(rows: tf.Tensor, i: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
    """Inside a program: `rows` [T, ...] with row `i` replaced."""
    return xla.dynamic_update_slice(rows, row[None], _at(rows, i))


def one_after_another(function: Callable[..., Tree], num: tf.Tensor, state: Tree, out: Tree, *args: Tree) -> Tree:
    """Inside a program: `function` of the first `num` trials, each by itself.

    How many there are is known at run time only: the compiled body is the same, to its last bit, for any number.

    Args:
        function: of one trial: (state, *args) -> (state, out), without a leading axis.
        num: trials, at most L; the lanes beyond keep their state.  # []
        state: is replaced in place.  # tree of [L, ...]
        out: is replaced too.  # tree of [L, ...]
        args: trees of [L, ...].
    """
    once = tf.minimum(num, 1)

    def body(i: tf.Tensor, state: Tree, out: Tree) -> Tree:
        row, values, *rest = tf.nest.map_structure(lambda rows: row_of(rows, i), (state, out, *args))
        # A loop of one turn keeps XLA from mixing what reads the rows with what replaces them: it would copy them all.

        def turn(k: tf.Tensor, row: Tree, _: Tree) -> Tree:
            return k + 1, *function(row, *rest)

        _, *new = tf.while_loop(lambda k, *_: k < once, turn, (0, row, values))
        return i + 1, *tf.nest.map_structure(lambda rows, row: write(rows, i, row), (state, out), tuple(new))

    return tf.while_loop(lambda i, *_: i < num, body, (0, state, out))[1:]


def row_of(rows: tf.Tensor, i: tf.Tensor) -> tf.Tensor:
    """Inside a program: row `i` of `rows` [T, ...]."""
    return tf.reshape(xla.dynamic_slice(rows, _at(rows, i), tf.constant([1, *rows.shape[1:]])), rows.shape[1:])


def _at(rows: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
    """Where row `first` of `rows` begins."""
    return tf.stack([first, *[0] * (len(rows.shape) - 1)])


class TensorEnvs:
    """The environments of all lanes, and what the host engine's `TrialEnvs` keeps of them.

    Args:
        env: the dynamics of one trial.
        num_lanes: L.
        seeds: the trials' seeds.  # [N]
        max_steps, max_episodes: lock-steps, and ends of episodes of one trial, of one call at most.
        block: see `seeding.Uniforms`.

    Attributes:
        state: "state" [L, D], "return" [L] and "length" [L] of the episodes under way.
    """

    def __init__(
        self,
        env: TensorEnv,
        num_lanes: int,
        seeds: Sequence[int],
        max_steps: int,
        max_episodes: int,
        block: int = seeding.BLOCK,
    ) -> None:
        self._num_trials, self._num_lanes = len(seeds), num_lanes
        self._max_steps, self._max_episodes = max_steps, max_episodes
        self._resets = seeding.Uniforms(seeds, "reset", env.reset_width, block)
        self._steps = seeding.Uniforms(seeds, "dynamics", env.step_width, block) if env.step_width else None
        first = pad_lanes(self._resets.rows(np.zeros(len(seeds), np.int64)), num_lanes)
        self.state: Tree = {
            "state": tf.stack([env.reset(u) for u in tf.unstack(first)]),  # once: to trace it would take longer
            "return": tf.zeros(num_lanes, tf.float64),
            "length": tf.zeros(num_lanes, tf.int32),
        }

    def numbers(self, t: int, episode: np.ndarray, steps: int) -> dict[str, np.ndarray]:
        """Uniform numbers for the next `steps` lock-steps of trials that have finished `episode` [N] episodes.

        Returns:
            "reset" [L, max_episodes, reset_width] and "dynamics" [L, max_steps, step_width].
        """
        now, n, size = np.full(len(episode), t), len(episode), self._max_episodes
        reset = self._resets.span(episode + 1, min(steps, size), size)  # the episode under way has had its own
        dynamics = np.zeros((n, self._max_steps, 0), np.float32)
        if self._steps:
            dynamics = self._steps.span(now, steps, self._max_steps)
        return {name: pad_lanes(u, self._num_lanes) for name, u in (("reset", reset), ("dynamics", dynamics))}

    def get_state(self) -> dict[str, Any]:
        """Where every trial's environment stands.  # [N, ...] each"""
        return {name: value.numpy()[: self._num_trials] for name, value in self.state.items()}

    def set_state(self, state: dict[str, Any]) -> np.ndarray:
        """Put back what `get_state` returned; no trial [N] has lost its place."""
        self.state = {name: tf.constant(pad_lanes(value, self._num_lanes)) for name, value in state.items()}
        return np.zeros(self._num_trials, bool)

    def close(self) -> None:
        """Nothing is open."""


class FusedEvaluator:
    """Plays greedy episodes of all lanes as one program; the final scores are of the real Gymnasium environment.

    The episodes are those of the host engine's evaluator: each has the numbers of Gymnasium's own generator for its
    seed, so that it starts in the same state and, in a table, meets the same chances. Policies are parameters [L, P].

    Args:
        env: the dynamics of one trial.
        agent: of one trial; its `greedy` is played.
        num_lanes: L.
        services: the job around it.
        key: what `graph_key` says.
        policy: of a policy as it is played here, the same as the host engine's evaluator takes it.
    """

    def __init__(
        self,
        env: TensorEnv,
        agent: Any,
        num_lanes: int,
        services: Services,
        key: str,
        policy: Callable[[Any], Policy],
    ) -> None:
        self._env, self._num_lanes, self._services, self._policy = env, num_lanes, services, policy
        self._config = services.settings.evaluation
        limit = services.info.max_episode_steps
        self._limit = self._config.max_steps if limit is None else min(limit, self._config.max_steps)
        self._numbers: dict[int, tuple[tf.Tensor, tf.Tensor]] = {}  # seed of the first episode -> resets, steps
        self._program = program("evaluate", key, episodes(env, self._act_of(agent), num_lanes, self._limit))

    def periodic(self, policy: Any, trials: np.ndarray) -> Scores:
        """The periodic evaluation of the chosen trials [N] bool."""
        return self._scores(policy, self._config.seed, self._config.num_episodes, trials)

    def candidates(self, policy: Any, trials: np.ndarray) -> Scores:
        """A second look at candidates for the best weights of the chosen trials [N] bool, on episodes of its own."""
        heed(self._services.stop)
        return self._scores(policy, self._config.candidate_seed, self._config.candidate_episodes, trials)

    def final(self, policy: Any) -> Scores:
        """Fresh episodes on Gymnasium's environment that re-score the best weights of all trials."""
        evaluator = Evaluator(self._services.settings, self._services.info, self._services.stop)
        try:
            return evaluator.final(self._policy(policy))
        finally:
            evaluator.close()

    def acting(self, policy: Any) -> Policy:
        """How a policy that this evaluator takes acts on observations."""
        return self._policy(policy)

    def close(self) -> None:
        """Nothing is open."""

    def _act_of(self, agent: Any) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
        """How one trial acts: parameters [P], observations [E, *shape], uniform numbers [E or 0] -> actions [E]."""
        return lambda params, o_t, _: agent.greedy(params, o_t)

    def _params_and_numbers(self, policy: Any, first_seed: int) -> tuple[tf.Tensor, np.ndarray]:
        """The parameters of a policy [L, P], and the numbers by which it acts, [L, steps, E or 0]."""
        return policy, np.zeros((self._num_lanes, self._limit, 0), np.float32)

    def _scores(self, policy: Any, first_seed: int, num_episodes: int, trials: np.ndarray) -> Scores:
        """Episodes in portions of one size, so that one program plays them all."""
        n, width = len(trials), self._config.num_episodes
        chosen = np.zeros(self._num_lanes, bool)
        chosen[:n] = trials
        played = [
            self._program(
                *self._params_and_numbers(policy, first_seed + start),
                *self._uniforms(first_seed + start),
                tf.constant(chosen),
            )
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
            rows = np.stack([gymnasium_uniforms(seed, width) for seed in seeds]).astype(np.float32)  # [E, width]
            steps = rows[:, env.reset_width :].reshape(len(seeds), self._limit, env.step_width)
            self._numbers[first_seed] = tf.constant(rows[:, : env.reset_width]), tf.constant(steps)
        return self._numbers[first_seed]


def episodes(env: TensorEnv, act: Callable[..., tf.Tensor], num_lanes: int, limit: int) -> Callable[..., Tree]:
    """The function that plays one episode for each of E resets in each chosen lane, `limit` steps at most."""

    def play(
        params: tf.Tensor, u_act: tf.Tensor, u_reset: tf.Tensor, u_step: tf.Tensor, chosen: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns and lengths of episodes.

        Args:
            params: of the lanes.  # [L, P]
            u_act: the numbers by which they act.  # [L, limit, E or 0]
            u_reset, u_step: the environment's.  # [E, reset_width], [E, limit, step_width]
            chosen: lanes that play, bool.  # [L]

        Returns:
            Returns and lengths.  # [L, E], [L, E]
        """
        width = u_reset.shape[0]  # E

        def body(i: tf.Tensor, state: tf.Tensor, alive: tf.Tensor, returns: tf.Tensor, lengths: tf.Tensor) -> Tree:
            o_t = mapped(env.observe)(state)  # [L * E, *shape]
            o_t = tf.reshape(o_t, (num_lanes, width, *o_t.shape[1:]))
            a_t = mapped(act)(params, o_t, u_act[:, i])  # [L, E]
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
