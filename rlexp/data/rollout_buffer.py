"""Rollout buffers of N trials: what each has seen since its last update, in NumPy arrays that grow."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlexp.data.transition import FIELDS

MIN_ROWS = 128  # smallest batch that an update is compiled for: compiling costs more than padding


class RolloutBuffer:
    """The transitions of each trial since its last `clear`, in the order of time.

    Args:
        num_trials: N.
        observation_shape, observation_dtype: of one observation.

    Attributes:
        num_steps, num_episodes: transitions and ended episodes that each trial holds.  # [N]
    """

    def __init__(self, num_trials: int, observation_shape: tuple[int, ...], observation_dtype: str) -> None:
        self.num_steps = np.zeros(num_trials, np.int64)
        self.num_episodes = np.zeros(num_trials, np.int64)
        observation, flag = (observation_shape, observation_dtype), ((), "bool")
        kinds = {"o_tm1": observation, "o_t": observation, "a_tm1": ((), "int32"), "r_t": ((), "float32")}
        self._data = {
            name: np.zeros((num_trials, MIN_ROWS, *shape), dtype)
            for name, (shape, dtype) in ((name, kinds.get(name, flag)) for name in FIELDS)
        }

    def add(self, active: np.ndarray, **transition: np.ndarray) -> None:
        """Add one transition for each active trial: field -> [N, ...]."""
        trials = np.flatnonzero(active)
        rows = self.num_steps[trials]
        capacity = self._data["r_t"].shape[1]
        if rows.max() == capacity:
            self._data = {name: np.concatenate([x, np.zeros_like(x)], axis=1) for name, x in self._data.items()}
        for name in FIELDS:
            self._data[name][trials, rows] = transition[name][trials]
        self.num_steps[trials] += 1
        self.num_episodes[trials] += (transition["terminated"] | transition["truncated"])[trials]

    def add_many(self, active: np.ndarray, transitions: dict[str, np.ndarray]) -> None:
        """Add T transitions, one after the other, for each active trial: field -> [T, N, ...]."""
        trials, count = np.flatnonzero(active), len(transitions["r_t"])
        last = int(self.num_steps[trials].max(initial=0)) + count
        while self._data["r_t"].shape[1] < last:
            self._data = {name: np.concatenate([x, np.zeros_like(x)], axis=1) for name, x in self._data.items()}
        for name in FIELDS:
            for k in trials:
                self._data[name][k, self.num_steps[k] : self.num_steps[k] + count] = transitions[name][:, k]
        self.num_steps[trials] += count
        self.num_episodes += (transitions["terminated"] | transitions["truncated"]).sum(axis=0) * active

    def num_rows(self, trials: np.ndarray) -> np.ndarray:
        """Rows that the trials' batches are padded to: a power of two that depends on the own batch alone."""
        return 2 ** np.ceil(np.log2(np.maximum(self.num_steps[trials], MIN_ROWS))).astype(np.int64)

    def batch(self, trials: np.ndarray, num_rows: int) -> dict[str, np.ndarray]:
        """The transitions of some trials, padded with zeros at the end, and the `mask` of those that count.

        Args:
            trials: which.  # [n]
            num_rows: R, from `num_rows`.

        Returns:
            field -> [n, R, ...], and "mask" [n, R] bool.
        """
        mask = np.arange(num_rows) < self.num_steps[trials, None]  # [n, R]
        batch = {name: values[trials, :num_rows] for name, values in self._data.items()}
        for values in batch.values():
            values[~mask] = 0
        return {**batch, "mask": mask}

    def clear(self, trials: np.ndarray) -> None:
        """Start anew in the trials [N] bool."""
        self.num_steps[trials] = self.num_episodes[trials] = 0

    def forget_episode(self, trials: np.ndarray) -> None:
        """Forget what the trials [N] bool hold of the episode under way, which does not go on."""
        for k in np.flatnonzero(trials).tolist():
            held = int(self.num_steps[k])
            ends = np.flatnonzero((self._data["terminated"] | self._data["truncated"])[k, :held])
            self.num_steps[k] = ends[-1] + 1 if len(ends) else 0

    def get_state(self) -> dict[str, Any]:
        """Everything it holds."""
        return {"num_steps": self.num_steps, "num_episodes": self.num_episodes, "data": self._data}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` returned."""
        self.num_steps, self.num_episodes = state["num_steps"], state["num_episodes"]
        self._data = state["data"]


def minibatches(
    num_steps: int, num_rows: int, num_epochs: int, num_minibatches: int, shuffle: np.random.Generator | None
) -> np.ndarray:
    """Returns which rows of a padded batch each update takes: in every epoch each row once.

    The rows that count are shuffled and dealt to the minibatches like cards, then the padding: no minibatch has more of
    them than another by more than one.

    Args:
        num_steps: rows that count; they stand first. At least `num_minibatches`.
        num_rows: R, all rows, a multiple of `num_minibatches`.
        num_epochs: passes over the batch.
        num_minibatches: K, updates in a pass.
        shuffle: where the permutations come from; None: the rows stay in order.

    Returns:
        Row numbers.  # [num_epochs * K, R / K]
    """
    rows = np.tile(np.arange(num_rows), (num_epochs, 1))
    if shuffle is not None:
        rows[:, :num_steps] = shuffle.permuted(rows[:, :num_steps], axis=1)
    dealt = rows.reshape(num_epochs, num_rows // num_minibatches, num_minibatches)
    return dealt.swapaxes(1, 2).reshape(-1, num_rows // num_minibatches)
