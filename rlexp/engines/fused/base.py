"""What the fused engine's loops share: compiled programs kept per graph, their inputs, environments, evaluation.

The fused engine runs environment, replay, acting and learning of all trials as one XLA program of many lock-steps.
Between two calls the host draws uniform numbers, records, evaluates and writes checkpoints, with the same `Trials` as
the host engine. The length of a call does not change results: all state is carried from call to call.

Axes: L lanes (>= N trials), T lock-steps, E evaluation episodes, P parameters, D numbers of an environment's state.
"""

from __future__ import annotations

import dataclasses
import json
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla

from rlexp.config import schedules
from rlexp.config.schema.job import Settings
from rlexp.data import seeding
from rlexp.engines.best_weights import is_as_good
from rlexp.engines.record_steps import log_period
from rlexp.engines.vectorized import MAX_PROGRAMS, Recent, compiled_settings, pad_lanes
from rlexp.envs.info import EnvInfo
from rlexp.envs.tensor.base import TensorEnv

Tree = Any

MIN_STEPS, MAX_STEPS = 256, 2048  # bounds of T, see `call_size`
MAX_EPISODES = 256  # episodes of one trial that may end in one call; a call gets numbers for as many resets
NEVER = int(np.iinfo(np.int32).max)
CALL_SECONDS = 0.4  # how long a call should take, so that progress is shown and signals are handled

_PROGRAMS: Recent[Program] = Recent(MAX_PROGRAMS)  # by kind and graph


class Program:
    """A compiled function of trees of arrays, tensors and variables.

    Its concrete functions are called with flat tensors, since `tf.function` takes 4 ms to dispatch a tree of 30.

    Args:
        function: pure but for variables; compiled at the first call with arguments of new shapes.
    """

    def __init__(self, function: Callable[..., Tree]) -> None:
        self._traced = tf.function(function, jit_compile=True, autograph=False)
        self._lock = threading.Lock()
        self._concrete: dict[tuple[tuple[int, ...], ...], Any] = {}  # by the shapes of all leaves

    def __call__(self, *args: Tree) -> Tree:
        """Call the function; returns its results as tensors."""
        leaves = tf.nest.flatten(list(args))
        shapes = tuple(tuple(leaf.shape) for leaf in leaves)
        with self._lock:  # several threads may make the first call
            if shapes not in self._concrete:
                self._concrete[shapes] = self._traced.get_concrete_function(*args)
                assert not self._concrete[shapes].captured_inputs, "a program reads nothing but its arguments"
        concrete = self._concrete[shapes]
        flat = [leaf.handle if isinstance(leaf, tf.Variable) else tf.convert_to_tensor(leaf) for leaf in leaves]
        return tf.nest.pack_sequence_as(concrete.structured_outputs, concrete.inference_fn.call_flat(*flat))


def program(kind: str, key: str, function: Callable[..., Tree]) -> Program:
    """The compiled `function`; if a recent job of this process had the same graph, its program.

    Args:
        kind: which program of the graph.
        key: what `graph_key` returns.
        function: see `Program`.
    """
    return _PROGRAMS.get((kind, key), lambda: Program(function))


def graph_key(settings: Settings, num_lanes: int, scalars: Sequence[str], units: Mapping[str, str], more: Any) -> str:
    """Text that names everything a program is compiled from.

    Jobs that differ in other settings only (seeds, scalars, budgets of one `call_size`) share a program.

    Args:
        settings: the job.
        num_lanes: L.
        scalars: settings of the algorithm that are inputs of the program.
        units: what the schedule of each scalar counts.
        more: what the family adds; JSON must be able to write it.
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


def compile_now(call: Callable[[], object], say: Callable[[str], None], what: str) -> None:
    """Make the first call of a program, which compiles it, and say how long it took, if it was more than a moment.

    Args:
        call: runs the program for no steps; a program of an earlier job takes no time.
        say: prints one line.
        what: the program's name.
    """
    began = time.monotonic()
    call()
    seconds = time.monotonic() - began
    if seconds > 0.5:
        say(f"{what} compiled in {seconds:.1f} s")


def call_size(settings: Settings, info: EnvInfo, least: int = MIN_STEPS, most: int = MAX_STEPS) -> int:
    """T, the most lock-steps of one call: inputs and outputs are made, and copied, for that many.

    A call ends where an evaluation or a record is due, so that a larger T would be of no use. T is a power of two, so
    that jobs with different periods share a few programs.
    """
    period = min(settings.evaluation.period, log_period(settings, info)) / getattr(settings.algo, "num_envs", 1)
    return int(np.clip(2 ** np.ceil(np.log2(period)), least, most))


class Pace:
    """How many lock-steps the next call should take, given how long the last one took."""

    def __init__(self) -> None:
        self.steps = 64
        self._began = 0.0

    def start(self) -> None:
        """Note that a call begins."""
        self._began = time.monotonic()

    def stop(self, steps: int) -> None:
        """Note that a call of `steps` lock-steps has ended."""
        seconds = max(time.monotonic() - self._began, 1e-6)
        self.steps = int(np.clip(steps * CALL_SECONDS / seconds, 1, 2 * self.steps))


class Tables:
    """The values of schedules that one call may need, computed on the host and looked up by counters.

    Args:
        parsed: name -> schedule.
        sizes: how far one call may count each unit, env steps in lock-steps.
        num_envs: env steps of a trial in one lock-step.
    """

    def __init__(
        self,
        parsed: Mapping[str, schedules.Schedule | schedules.Stacked],
        sizes: dict[str, int],
        num_envs: int = 1,
    ) -> None:
        self.schedules = parsed
        self.units = {name: schedule.unit for name, schedule in parsed.items()}
        stride = {"step": num_envs}
        self._counts = {unit: stride.get(unit, 1) * np.arange(size + 1) for unit, size in sizes.items()}

    def rows(self, counts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Values for `counts` [N] and the M - 1 counts after each.  # name: [N, M]"""
        return {
            name: schedule({schedule.unit: counts[schedule.unit][:, None] + self._counts[schedule.unit]})
            for name, schedule in self.schedules.items()
        }


def look_up(rows: Tree, units: Mapping[str, str], since: Tree) -> dict[str, tf.Tensor]:
    """Inside a program: the values [L] of `Tables.rows` after `since` [L] more counts of each unit."""
    return {name: tf.gather(rows[name], since[unit], batch_dims=1) for name, unit in units.items()}


def write(rows: tf.Tensor, i: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
    """Inside a program: `rows` [T, ...] with row `i` replaced."""
    return xla.dynamic_update_slice(rows, row[None], _at(rows, i))


def one_after_another(function: Callable[..., Tree], num: tf.Tensor, state: Tree, out: Tree, *args: Tree) -> Tree:
    """Inside a program: call `function` for the first `num` trials, one after another.

    The number of trials is known at run time only: the compiled body, and so a trial's bits, do not depend on it.

    Args:
        function: of one trial: (state, *args) -> (state, out), without a leading axis.
        num: number of trials, at most L; the other lanes keep their state.  # []
        state: replaced in place.  # tree of [L, ...]
        out: replaced in place.  # tree of [L, ...]
        args: trees of [L, ...].

    Returns:
        The new `state` and `out`.
    """
    once = tf.minimum(num, 1)

    def body(i: tf.Tensor, state: Tree, out: Tree) -> Tree:
        row, values, *rest = tf.nest.map_structure(lambda rows: row_of(rows, i), (state, out, *args))
        # A loop of one turn keeps XLA from fusing the reads of rows with their replacement, which would copy all rows.

        def turn(k: tf.Tensor, row: Tree, _: Tree) -> Tree:
            return k + 1, *function(row, *rest)

        _, *new = tf.while_loop(lambda k, *_: k < once, turn, (0, row, values))
        return i + 1, *tf.nest.map_structure(lambda rows, row: write(rows, i, row), (state, out), tuple(new))

    return tf.while_loop(lambda i, *_: i < num, body, (0, state, out))[1:]


def row_of(rows: tf.Tensor, i: tf.Tensor) -> tf.Tensor:
    """Inside a program: row `i` of `rows` [T, ...]."""
    return tf.reshape(xla.dynamic_slice(rows, _at(rows, i), tf.constant([1, *rows.shape[1:]])), rows.shape[1:])


def _at(rows: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
    """Indices where row `first` of `rows` begins."""
    return tf.stack([first, *[0] * (len(rows.shape) - 1)])


class EnvState(NamedTuple):
    """The state of the environments of all lanes; where a trial has several, arrays are [L, E, ...]."""

    state: Tree  # [L, D] float32
    returns: Tree  # [L] float64, sum of the rewards of the episode under way
    length: Tree  # [L] int32, its env steps


SAVED = ("state", "return", "length")  # names of the fields of `EnvState` in checkpoints


class Numbers(NamedTuple):
    """Uniform numbers that the environments of all lanes draw in one call; of several environments [L, E, ...]."""

    reset: np.ndarray  # [L, max_episodes, reset_width]
    dynamics: np.ndarray  # [L, max_steps, step_width]


def begin_next(over: tf.Tensor, first: tf.Tensor, env: EnvState) -> EnvState:
    """Inside a program: begin the next episode in lanes whose episode is over.

    Args:
        over: which lanes, bool.  # [L, ...]
        first: first states of the next episodes.  # [L, ..., D]
        env: the environments after a step.
    """
    return EnvState(
        tf.where(over[..., None], first, env.state),
        tf.where(over, tf.zeros_like(env.returns), env.returns),
        tf.where(over, 0, env.length),
    )


def offer(
    score: tf.Tensor, step: tf.Tensor, ended: tf.Tensor, returns: tf.Tensor, now: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Inside a program: `BestWeights.offer` for training episodes that have just ended.

    Args:
        score, step: of the best weights so far.  # [L] each
        ended: trials whose episode has ended, bool.  # [L]
        returns: of these episodes.  # [L]
        now: env steps of the trials.  # [L] or []

    Returns:
        Trials whose weights are the best now, bool; score and step of the best weights.  # [L] each
    """
    better = ended & is_as_good(returns, score)
    return better, tf.where(better, returns, score), tf.where(better, now, step)


class TensorEnvs:
    """The environments of all lanes, one per trial or several.

    Args:
        env: the dynamics of one environment.
        num_lanes: L.
        seeds: the trials' seeds.  # [N]
        max_steps: most lock-steps of one call.
        max_episodes: most episodes of one environment that may end in one call.
        block: see `seeding.Uniforms`.
        num_envs: E, environments of a trial.

    Attributes:
        state: of all environments now.
        episode: finished episodes of each environment, where a trial has several.  # [N, E]
    """

    def __init__(
        self,
        env: TensorEnv,
        num_lanes: int,
        seeds: Sequence[int],
        max_steps: int,
        max_episodes: int,
        block: int = seeding.BLOCK,
        num_envs: int = 1,
    ) -> None:
        self._num_trials, self._num_lanes, self._num_envs = len(seeds), num_lanes, num_envs
        self._max_steps, self._max_episodes = max_steps, max_episodes
        self._resets = seeding.Uniforms(seeds, "reset", env.reset_width, block, num_envs)
        self._steps = seeding.Uniforms(seeds, "dynamics", env.step_width, block, num_envs) if env.step_width else None
        self.episode = np.zeros((len(seeds), num_envs), np.int64)
        first = self._by_lane(self._resets.rows(np.zeros(self.episode.size, np.int64)))
        lanes = first.shape[:-1]  # [L] or [L, E]
        # Eager, because it happens once and tracing takes longer.
        states = tf.stack([env.reset(u) for u in tf.unstack(first.reshape(math.prod(lanes), env.reset_width))])
        self.state = EnvState(
            tf.reshape(states, (*lanes, *states.shape[1:])), tf.zeros(lanes, tf.float64), tf.zeros(lanes, tf.int32)
        )

    def numbers(self, t: int, episode: np.ndarray, steps: int, most: int | None = None) -> Numbers:
        """Uniform numbers of the next lock-steps.

        Args:
            t: lock-steps so far.
            episode: finished episodes of each environment.  # [N] or [N, E]
            steps: how many lock-steps.
            most: lock-steps and resets that the arrays are made for; None: those of a call.
        """
        now, max_steps, size = np.full(episode.size, t), most or self._max_steps, most or self._max_episodes
        # The episode under way has used its numbers.
        reset = self._resets.span(episode.ravel() + 1, min(steps, size), size)
        dynamics = np.zeros((episode.size, max_steps, 0), np.float32)
        if self._steps:
            dynamics = self._steps.span(now, steps, max_steps)
        return Numbers(self._by_lane(reset), self._by_lane(dynamics))

    def note(self, lengths: np.ndarray) -> None:
        """Count the episodes that have ended, where a trial has several environments: their lengths, else 0.

        # [T, N, E]
        """
        self.episode += (lengths > 0).sum(axis=0)

    def get_state(self) -> dict[str, Any]:
        """The state of every trial's environment.  # [N, ...] each"""
        state = {name: np.asarray(value)[: self._num_trials] for name, value in zip(SAVED, self.state, strict=True)}
        return state if self._num_envs == 1 else {**state, "episode": self.episode.copy()}

    def set_state(self, state: dict[str, Any]) -> np.ndarray:
        """Put back what `get_state` returned; no trial's episode has to start again.  # [N] bool"""
        if self._num_envs > 1:
            self.episode = state["episode"].copy()
        self.state = EnvState(*[tf.constant(pad_lanes(state[name], self._num_lanes)) for name in SAVED])
        return np.zeros(self._num_trials, bool)

    def close(self) -> list[str]:
        """Nothing is open, and nothing goes wrong."""
        return []

    def release(self) -> None:
        """No process is there."""

    def _by_lane(self, rows: np.ndarray) -> np.ndarray:
        """What belongs to environments, for the lanes: [N * E, ...] -> [L, ...] or [L, E, ...]"""
        if self._num_envs > 1:
            rows = rows.reshape(self._num_trials, self._num_envs, *rows.shape[1:])
        return pad_lanes(rows, self._num_lanes)
