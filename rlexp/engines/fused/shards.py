"""The lanes of a fused job, split over the cores: each shard is a call of the same program in a thread of its own.

XLA uses one core for small updates, and those of reinforcement learning are small. Lanes are independent of one
another, and so are shards. A lane's bits are the same in shards of any size.

Axes: L lanes (>= N trials), S lanes of a shard.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from rlexp.engines.vectorized import MIN_EXACT_LANES, pad_lanes
from rlexp.system import cores

Tree = Any


class Shards:
    """N trials cut into shards of one size; the last shard may have lanes without a trial.

    Args:
        num_trials: N.
        num_lanes: L of the whole job.
        most: most shards.

    Attributes:
        num_lanes: S.
        sizes: trials of each shard.
    """

    def __init__(self, num_trials: int, num_lanes: int, most: int) -> None:
        wanted = max(1, min(most, num_trials // MIN_EXACT_LANES))
        self.num_lanes = max(math.ceil(num_trials / wanted), num_lanes if wanted == 1 else MIN_EXACT_LANES)
        starts = range(0, num_trials, self.num_lanes)
        self.sizes = [min(self.num_lanes, num_trials - start) for start in starts]
        self._whole = num_lanes
        self._threads = ThreadPoolExecutor(len(self.sizes), "shard") if len(self.sizes) > 1 else None

    def run(self, function: Callable[[int], Any]) -> list[Any]:
        """Call `function` with each shard's number, all at the same time."""
        numbers = range(len(self.sizes))
        return list(self._threads.map(function, numbers) if self._threads else map(function, numbers))

    def call(
        self, program: Callable[[int, Tree, Tree], tuple[Tree, Tree]], carry: Tree, rows: Tree
    ) -> tuple[Tree, list[Tree]]:
        """Call a program once for each shard.

        Args:
            program: takes a shard's number and its parts of `carry` and `rows`; returns the new part of `carry`, and
                outputs.
            carry: state of all lanes.  # tree of [L, ...]
            rows: inputs of the trials; lanes without a trial repeat others (see `occupied`).  # tree of [N, ...]

        Returns:
            The new state of all lanes, and the outputs of each shard.  # tree of [L, ...], trees of arrays
        """

        def run(i: int) -> tuple[Tree, Tree]:
            carried, out = program(i, self.part(carry, i), self.part(rows, i))
            return carried, tf.nest.map_structure(lambda value: value.numpy(), out)  # waits for the end of the program

        carries, outs = zip(*self.run(run), strict=True)
        return self.join(carries), list(outs)

    def occupied(self, i: int) -> np.ndarray:
        """Lanes of shard `i` that hold a trial.  # [S] bool"""
        return np.arange(self.num_lanes) < self.sizes[i]

    @staticmethod
    def equal(numbers: Iterable[np.ndarray]) -> int:
        """The number that all shards have returned, such as the lock-steps that they took.  # [] each"""
        first, *others = {int(number) for number in numbers}
        assert not others, "shards advance side by side: they take equally many lock-steps"
        return first

    def part(self, rows: Tree, i: int) -> Tree:
        """Return shard `i` of a tree of arrays or tensors [N or L, ...].  # tree of [S, ...]"""
        if len(self.sizes) == 1:  # tensors have all lanes, and stay: to an array and back takes 30 us each
            return tf.nest.map_structure(
                lambda values: values if isinstance(values, tf.Tensor) else pad_lanes(values, self.num_lanes), rows
            )
        own = slice(i * self.num_lanes, (i + 1) * self.num_lanes)
        return tf.nest.map_structure(lambda values: pad_lanes(np.asarray(values)[own], self.num_lanes), rows)

    def join(self, parts: Sequence[Tree]) -> Tree:
        """Join trees of tensors [S, ...], one per shard, into one of all lanes.  # tree of [L, ...]"""
        if len(parts) == 1:
            return parts[0]
        # A call of NumPy takes a twentieth of the time of TensorFlow's.
        return tf.nest.map_structure(lambda *values: tf.constant(np.concatenate(values)[: self._whole]), *parts)

    def columns(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Join arrays [T, S, ...], one per shard, into one of all trials.  # [T, N, ...]"""
        return np.concatenate([part[:, :size] for part, size in zip(parts, self.sizes, strict=True)], axis=1)


def num_cores() -> int:
    """Number of cores that this process may use; 1 beside another job, and on a GPU."""
    if tf.config.list_logical_devices("GPU"):
        return 1
    told = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    if told.isdigit() and int(told) > 0:
        return int(told)
    return cores.of_a_job()
