"""Randomness as data: every random number of a trial is drawn here, on the host, from the trial's seed.

Numbers have random access. Row `i` of a stream is a pure function of (seed, stream, i): blocks of rows are drawn by
a PCG64 generator whose SeedSequence is spawned from the trial's seed by (stream, block). So a trial's numbers depend
neither on other trials nor on earlier calls, and checkpoints need no generator state: the trial's counters are enough.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

STREAMS = {
    "weights": 0,
    "episode": 1,
    "act": 2,
    "replay": 3,
    "evaluate": 4,
    "report": 5,
    "reset": 6,
    "dynamics": 7,
    "minibatch": 8,
    "search": 9,
    "learn": 10,
}
BLOCK = 256  # rows drawn together: a new generator costs about as much as 10,000 numbers
LONG_BLOCK = 4096  # for agents with tables, whose steps would cost less than their generators


def generator(seed: int, stream: str, *key: int) -> np.random.Generator:
    """The generator of (seed, stream, key), independent of all others."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(STREAMS[stream], *key))))


def episode_seed(seed: int, episode: int, env: int = 0) -> int:
    """The reset seed of training episode number `episode` of a trial's environment `env`, both from 0.

    The first environment's seeds are those of a trial with one.

    Returns:
        0 <= seed < 2**31
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(STREAMS["episode"], episode, *own_key(env)))
    return int(sequence.generate_state(1)[0] >> 1)


def own_key(env: int) -> tuple[int, ...]:
    """What tells the streams of a trial's environments apart; those of the first are the trial's own."""
    return (env,) if env else ()


class Uniforms:
    """Uniform numbers in [0, 1), one stream per trial, with random access by row.

    Args:
        seeds: the trials' seeds.  # [N]
        stream: a key of STREAMS.
        width: numbers per row.
        block: rows drawn together; from row `block` on, the numbers depend on it.
        num_envs: environments of a trial that have a stream each, seed after seed: N is then the number of all.
    """

    def __init__(self, seeds: Sequence[int], stream: str, width: int, block: int = BLOCK, num_envs: int = 1) -> None:
        self._seeds = [seed for seed in seeds for _ in range(num_envs)]
        self._keys = [own_key(env) for _ in seeds for env in range(num_envs)]
        self._stream, self._width, self._size = stream, width, block
        self._first = np.full(len(self._seeds), -block)  # the first row that each trial has at hand  # [N]
        self._rows = np.empty((len(self._seeds) * block, width), np.float32)  # those rows, trial after trial
        self._start = np.arange(len(self._seeds)) * block  # where each trial's begin  # [N]
        self._common = -block  # `_first` of all trials, as `step` has left it
        self._ahead: list[dict[int, np.ndarray]] = [{} for _ in self._seeds]  # blocks that `span` may need again

    def step(self, t: int) -> np.ndarray:
        """Row `t` of every trial: bit for bit what `rows` gives, in a fraction of the time.

        An object is asked either for steps or for rows.

        Returns:
            float32 numbers, a view.  # [N, width]
        """
        if not 0 <= t - self._common < self._size:
            self.rows(np.full(len(self._seeds), t))
            self._common = t - t % self._size
        return self._rows.reshape(-1, self._size, self._width)[:, t - self._common]

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Row `index[k]` of trial k.

        Args:
            index: the row of each trial's stream, >= 0.  # [N]

        Returns:
            float32 numbers.  # [N, width]
        """
        row = index - self._first  # [N]
        outside = (row < 0) | (row >= self._size)
        if np.count_nonzero(outside):
            for k in np.flatnonzero(outside).tolist():
                block, row[k] = divmod(int(index[k]), self._size)
                self._rows[self._start[k] : self._start[k] + self._size] = self._make(k, block)
                self._first[k] = block * self._size
        return self._rows.take(self._start + row, axis=0)

    def span(self, first: np.ndarray, count: int, size: int) -> np.ndarray:
        """Consecutive rows of each trial's stream.

        Args:
            first: the first row of each trial.  # [N]
            count: number of rows.
            size: rows of the result; zeros from `count` on.

        Returns:
            float32 numbers.  # [N, size, width]
        """
        out = np.zeros((len(self._seeds), size, self._width), np.float32)
        for k, start in enumerate(first.tolist()):
            ahead = self._ahead[k]
            for block in [b for b in ahead if b < start // self._size]:
                del ahead[block]
            filled = 0
            while filled < count:
                block, row = divmod(start + filled, self._size)
                if block not in ahead:
                    ahead[block] = self._make(k, block)
                part = ahead[block][row : row + count - filled]
                out[k, filled : filled + len(part)] = part
                filled += len(part)
        return out

    def _make(self, k: int, block: int) -> np.ndarray:
        return generator(self._seeds[k], self._stream, block, *self._keys[k]).random(
            (self._size, self._width), np.float32
        )


def with_keras_seed(seed: int, build: Callable[[], Any]) -> Any:
    """Call `build`, which makes a Keras model, with initialisers that depend on the trial's seed alone.

    Keras initialisers draw from the global generators of Python, NumPy and TensorFlow. The states of Python's and
    NumPy's are restored afterwards; TensorFlow's is used nowhere else.
    """
    import keras

    before_python, before_numpy = random.getstate(), np.random.get_state()
    sequence = np.random.SeedSequence(seed, spawn_key=(STREAMS["weights"],))
    keras.utils.set_random_seed(int(sequence.generate_state(1)[0]))
    try:
        return build()
    finally:
        random.setstate(before_python)
        np.random.set_state(before_numpy)
