"""Replay rings of N trials in preallocated NumPy arrays; sampling by given uniform numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

FIELDS = ("o_tm1", "a_tm1", "r_t", "terminated", "truncated", "o_t")


class ReplayRing:
    """The last `size` transitions of each trial.

    Args:
        num_trials: N.
        size: transitions kept per trial.
        observation_shape, observation_dtype: of one observation.
        n_step: most steps that one sample sums rewards over (n-step returns: Sutton 1988; in DQN: Hessel et al. 2018,
            "Rainbow", section 3).
    """

    def __init__(
        self,
        num_trials: int,
        size: int,
        observation_shape: tuple[int, ...],
        observation_dtype: str,
        n_step: int = 1,
    ) -> None:
        self.size, self.n_step = size, n_step
        self.added = np.zeros(num_trials, np.int64)  # transitions each trial has ever added
        self._trials = np.arange(num_trials)
        observation, number = (observation_shape, observation_dtype), ((), "float32")
        kinds = {"o_tm1": observation, "o_t": observation, "a_tm1": ((), "int32"), "r_t": number}
        self._data = {
            name: np.zeros((num_trials, size, *shape), dtype)
            for name, (shape, dtype) in ((name, kinds.get(name, ((), "bool"))) for name in FIELDS)
        }
        self._flat = {name: values.reshape(num_trials * size, *values.shape[2:]) for name, values in self._data.items()}

    def add(self, active: np.ndarray, **transition: np.ndarray) -> None:
        """Add one transition for each active trial: field -> [N, ...]; the oldest one makes room."""
        trials = self._trials if active.all() else self._trials[active]
        slots = self.added[trials] % self.size
        for name in FIELDS:
            self._data[name][trials, slots] = transition[name][trials]
        self.added[trials] += 1

    def sample(self, u: np.ndarray, gamma: np.ndarray) -> dict[str, np.ndarray]:
        """Transitions drawn uniformly with replacement from each trial's own ring.

        A sample that starts at time t-1 looks at most `n_step` steps ahead, and never beyond the end of its episode
        or the newest transition: with m the steps it looks, its reward is the sum of gamma^k r_(t+k) over k < m, and
        `o_t` and `terminated` are those of its last step.

        Args:
            u: uniform numbers in [0, 1).  # [N, B]
            gamma: discount factors.  # [N]

        Returns:
            o_tm1, a_tm1, r_t, terminated (0 or 1), num_steps (m, as a float), o_t.  # [N, B, ...]
        """
        held = np.minimum(self.added, self.size)[:, None]  # [N, 1]
        # age 0 is the oldest; float32 products can round up to `held` itself
        age = np.minimum((u * held).astype(np.int64), np.maximum(held - 1, 0))  # [N, B]
        ahead = age[..., None] + np.arange(self.n_step)  # [N, B, n]
        oldest, base = np.where(held == self.size, self.added[:, None], 0), (self._trials * self.size)[:, None]
        index = base[..., None] + (oldest[..., None] + ahead) % self.size  # [N, B, n]
        goes_on = ~(self._take("terminated", index) | self._take("truncated", index))[..., :-1]
        goes_on &= ahead[..., 1:] < held[..., None]
        looked_at = np.ones(index.shape, bool)  # [N, B, n]
        np.logical_and.accumulate(goes_on, axis=-1, out=looked_at[..., 1:])
        num_steps = looked_at.sum(axis=-1)  # [N, B]
        powers = gamma[:, None, None].astype(np.float32) ** np.arange(self.n_step, dtype=np.float32)  # [N, 1, n]
        # a reward that is not looked at must not count, not even as NaN times 0
        r_t = np.where(looked_at, powers * self._take("r_t", index), np.float32(0)).sum(axis=-1)  # [N, B]
        last = np.take_along_axis(index, num_steps[..., None] - 1, axis=-1)[..., 0]  # [N, B]
        first = index[..., 0]
        return {
            "o_tm1": self._take("o_tm1", first),
            "a_tm1": self._take("a_tm1", first),
            "r_t": r_t,
            "terminated": self._take("terminated", last).astype(np.float32),
            "num_steps": num_steps.astype(np.float32),
            "o_t": self._take("o_t", last),
        }

    def get_state(self) -> dict[str, Any]:
        """The filled part of the rings, and the counters."""
        held = int(min(self.added.max(initial=0), self.size))
        return {"added": self.added.copy(), **{name: values[:, :held] for name, values in self._data.items()}}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` returned."""
        self.added[:] = state["added"]
        for name, values in self._data.items():
            values[:, : state[name].shape[1]] = state[name]

    def _take(self, name: str, index: np.ndarray) -> np.ndarray:
        return self._flat[name].take(index, axis=0)
