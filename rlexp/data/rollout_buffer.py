"""Rollout buffers of N trials: their transitions since the last update, in NumPy arrays that grow."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlexp.data.transition import FIELDS, OUTCOME, Column

MIN_ROWS = 128  # smallest batch that updates are compiled for: compiling costs more than padding


class RolloutBuffer:
    """The transitions of each trial since its last `clear`, in the order of time.

    All environments of a trial take a step together, so that it holds equally many transitions of each of them.
    With one environment, arrays have no axis E.

    Args:
        num_trials: N.
        observation, action: shape and dtype of one.
        num_envs: E, environments of a trial.

    Attributes:
        num_steps: transitions of each of its environments that a trial holds.  # [N]
        num_episodes: ended episodes that it holds, of all its environments.  # [N]
    """

    def __init__(self, num_trials: int, observation: Column, action: Column, num_envs: int = 1) -> None:
        self.num_steps = np.zeros(num_trials, np.int64)
        self.num_episodes = np.zeros(num_trials, np.int64)
        self._trials, self._num_envs = np.arange(num_trials), num_envs
        columns: dict[str, Column] = {"o_tm1": observation, "a_tm1": action, "o_t": observation, **OUTCOME}
        size = (num_trials, MIN_ROWS) if num_envs == 1 else (num_trials, MIN_ROWS, num_envs)
        self._hold({name: np.zeros((*size, *columns[name].shape), columns[name].dtype) for name in FIELDS})

    def add(self, active: np.ndarray, **transition: np.ndarray) -> None:
        """Add one lock-step's transitions of each active trial: field -> [N, E, ...]."""
        if self.num_steps[active].max() == self._capacity:
            self._double()
        index = self._trials * self._capacity + self.num_steps
        ended = transition["terminated"] | transition["truncated"]
        if self._num_envs > 1:
            ended = ended.sum(axis=1)
        if not active.all():
            index, transition = index[active], {name: transition[name][active] for name in FIELDS}
        for name in FIELDS:
            self._flat[name][index] = transition[name]
        self.num_steps += active
        self.num_episodes += ended * active

    def add_many(self, active: np.ndarray, transitions: dict[str, np.ndarray]) -> None:
        """Add those of T lock-steps, one after the other, for each active trial: field -> [T, N, E, ...]."""
        trials, count = np.flatnonzero(active), len(transitions["r_t"])
        last = int(self.num_steps[trials].max(initial=0)) + count
        while self._capacity < last:
            self._double()
        for name in FIELDS:
            for k in trials:
                self._data[name][k, self.num_steps[k] : self.num_steps[k] + count] = transitions[name][:, k]
        self.num_steps[trials] += count
        ended = transitions["terminated"] | transitions["truncated"]
        self.num_episodes += ended.sum(axis=(0, *range(2, ended.ndim))) * active

    def num_rows(self, trials: np.ndarray) -> np.ndarray:
        """Rows that each trial's batch is padded to: a power of two that depends on its own batch alone."""
        return padded(self.num_steps[trials] * self._num_envs)

    def batch(self, trials: np.ndarray, num_rows: int) -> dict[str, np.ndarray]:
        """The transitions of some trials, padded with zeros at the end, and the `mask` of the rows that count.

        With several environments, those of the first come first, then those of the second, ...; "cut" is true in the
        last row of each.

        Args:
            trials: their numbers.  # [n]
            num_rows: R, from `num_rows`.

        Returns:
            field -> [n, R, ...]; "mask" [n, R] bool; with several environments "cut" [n, R] bool.
        """
        mask = np.arange(num_rows) < self.num_steps[trials, None] * self._num_envs  # [n, R]
        if self._num_envs == 1:
            batch = {name: values[trials, :num_rows] for name, values in self._data.items()}
        else:
            length = np.maximum(self.num_steps[trials, None], 1)  # [n, 1]
            env, time = np.divmod(np.arange(num_rows) * mask, length)  # [n, R] each; padding repeats the first row
            batch = {name: values[trials[:, None], time, env] for name, values in self._data.items()}
        for values in batch.values():
            values[~mask] = 0
        batch["mask"] = mask
        if self._num_envs > 1:
            batch["cut"] = mask & (time == length - 1)
        return batch

    def clear(self, trials: np.ndarray) -> None:
        """Remove the transitions of the trials [N] bool."""
        self.num_steps[trials] = self.num_episodes[trials] = 0

    def forget_episode(self, trials: np.ndarray) -> None:
        """Remove the trials' [N] bool transitions of the current episode, which does not go on.

        With several environments all is removed: the episodes of the others began at other steps.
        """
        if self._num_envs > 1:
            self.clear(trials)
            return
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
        self._hold({name: np.ascontiguousarray(values) for name, values in state["data"].items()})

    def _hold(self, data: dict[str, np.ndarray]) -> None:
        """Keep transitions in these arrays: field -> [N, capacity, ...]."""
        self._data, self._capacity = data, data["r_t"].shape[1]
        self._flat = {name: np.reshape(values, (-1, *values.shape[2:]), copy=False) for name, values in data.items()}

    def _double(self) -> None:
        self._hold({name: np.concatenate([x, np.zeros_like(x)], axis=1) for name, x in self._data.items()})


def padded(num_steps: Any) -> Any:
    """Rows that so many steps are padded to, numbers or arrays: a power of two."""
    return 2 ** np.ceil(np.log2(np.maximum(num_steps, MIN_ROWS))).astype(np.int64)


def minibatches(
    num_steps: int, num_rows: int, num_epochs: int, num_minibatches: int, shuffle: np.random.Generator | None
) -> np.ndarray:
    """The rows of a padded batch that each update takes: every row once per epoch.

    The rows that count are shuffled and dealt to the minibatches like cards, then the padding: their numbers differ by
    at most one between minibatches.

    Args:
        num_steps: rows that count, which come first; at least `num_minibatches`.
        num_rows: R, all rows, a multiple of `num_minibatches`.
        num_epochs: passes over the batch.
        num_minibatches: K, updates per pass.
        shuffle: draws the permutations; None: the rows stay in order.

    Returns:
        Row numbers.  # [num_epochs * K, R / K]
    """
    rows = np.tile(np.arange(num_rows), (num_epochs, 1))
    if shuffle is not None:
        rows[:, :num_steps] = shuffle.permuted(rows[:, :num_steps], axis=1)
    dealt = rows.reshape(num_epochs, num_rows // num_minibatches, num_minibatches)
    return dealt.swapaxes(1, 2).reshape(-1, num_rows // num_minibatches)
