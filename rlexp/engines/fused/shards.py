"""The lanes of a fused job dealt out to the cores: each shard is a call of the same program in a thread of its own.

XLA leaves all but one core idle where an update is small, as those of reinforcement learning are; lanes have nothing to
do with one another, so that their shards need not either. A lane's bits are the same in shards of any size.

Axes: L lanes (>= N trials), S lanes of a shard.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from rlexp.engines.vectorized import MIN_EXACT_LANES, pad_lanes

Tree = Any


class Shards:
    """How N trials are cut: into shards of one size, of which the last may have lanes to spare.

    Args:
        num_trials: N.
        num_lanes: L of the whole job.
        most: shards at most.

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
        """`function` of each shard's number, all at the same time."""
        numbers = range(len(self.sizes))
        return list(self._threads.map(function, numbers) if self._threads else map(function, numbers))

    def call(
        self, program: Callable[[int, Tree, Tree], tuple[Tree, Tree]], carry: Tree, shared: Tree, rows: Tree
    ) -> tuple[Tree, list[dict[str, np.ndarray]]]:
        """One call of a program for each shard; lanes beyond the trials are not active.

        Args:
            program: of a shard's number, what it carries on, and what it is given.
            carry: of all lanes.  # tree of [L, ...]
            shared: what each shard is given as it is.
            rows: what each is given its own part of; "active" is among it.  # tree of [N, ...]

        Returns:
            What is carried on, of all lanes, and what else each shard returned.
        """

        def run(i: int) -> tuple[Tree, dict[str, np.ndarray]]:
            given = {**shared, **self.part(rows, i)}
            given["active"][self.sizes[i] :] = False
            carried, out = program(i, self.part(carry, i), given)
            return carried, {name: value.numpy() for name, value in out.items()}  # waits for the program's end

        carries, outs = zip(*self.run(run), strict=True)
        assert len({int(out["steps"]) for out in outs}) == 1, "all shards take as many lock-steps"
        return self.join(carries), list(outs)

    def part(self, rows: Tree, i: int) -> Tree:
        """Shard `i` of a tree of arrays or tensors [N or L, ...].  # [S, ...]"""
        own = slice(i * self.num_lanes, (i + 1) * self.num_lanes)
        return tf.nest.map_structure(lambda values: pad_lanes(np.asarray(values)[own], self.num_lanes), rows)

    def join(self, parts: Sequence[Tree]) -> Tree:
        """Trees of tensors [S, ...], one of each shard, as one of all lanes.  # [L, ...]"""
        if len(parts) == 1:
            return parts[0]
        # by NumPy, whose calls take a twentieth of the time of TensorFlow's
        return tf.nest.map_structure(lambda *values: tf.constant(np.concatenate(values)[: self._whole]), *parts)

    def columns(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Arrays [T, S, ...], one of each shard, as one of all trials.  # [T, N, ...]"""
        return np.concatenate([part[:, :size] for part, size in zip(parts, self.sizes, strict=True)], axis=1)


def num_cores() -> int:
    """Cores that this process may use; 1 where another job runs beside it, or on a GPU."""
    if tf.config.list_logical_devices("GPU"):
        return 1
    told = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    if told.isdigit() and int(told) > 0:
        return int(told)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
