"""Replay rings of N trials in preallocated NumPy arrays; sampling by given uniform numbers.

`ReplayRing` stores both observations of a transition. `FrameRing` draws the same samples where observations are stacked
frames, and stores each frame once: a stack of four then takes an eighth of the memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rlexp.data.transition import OUTCOME, Column, Numbers, num_bytes


class ReplayRing:
    """The last `size` transitions of each trial.

    Args:
        num_trials: N.
        size: transitions kept per trial.
        observation, action: shape and dtype of one.
        n_step: maximum number of steps that one sample sums rewards over (n-step returns: Sutton 1988; in DQN: Hessel
            et al. 2018, "Rainbow", section 3).

    Attributes:
        added: transitions that each trial has ever added.  # [N]
    """

    def __init__(self, num_trials: int, size: int, observation: Column, action: Column, n_step: int = 1) -> None:
        self._allocate(num_trials, size, size, n_step, action, {"o_tm1": observation, "o_t": observation})

    def _allocate(
        self, num_trials: int, size: int, num_slots: int, n_step: int, action: Column, observations: dict[str, Column]
    ) -> None:
        """Make rings of `num_slots` >= `size` slots."""
        self.size, self.n_step, self._num_slots = size, n_step, num_slots
        self.added = np.zeros(num_trials, np.int64)
        self._trials = np.arange(num_trials)
        columns: dict[str, Column] = {**observations, "a_tm1": action, **OUTCOME}
        self._data = {
            name: np.zeros((num_trials, num_slots, *column.shape), column.dtype) for name, column in columns.items()
        }
        self._flat = {name: values.reshape(-1, *values.shape[2:]) for name, values in self._data.items()}

    @staticmethod
    def num_bytes(size: int, observation: Column, action: Column) -> int:
        """Memory of one trial's ring, once it is full."""
        return size * (2 * num_bytes(observation) + _other_bytes(action))

    def add(self, active: np.ndarray, **transition: np.ndarray) -> None:
        """Add one transition for each active trial: field -> [N, ...]; the oldest one makes room."""
        trials, added = self._trials, self.added
        if not active.all():
            trials, added = trials[active], added[active]
            transition = {name: values[active] for name, values in transition.items()}
        index = self._index(trials, added)
        for name in ("a_tm1", *OUTCOME):
            self._flat[name][index] = transition[name]
        self._add_observations(trials, index, transition)
        self.added += active

    def sample(self, u: np.ndarray, gamma: np.ndarray) -> dict[str, np.ndarray]:
        """Draw transitions uniformly with replacement from each trial's own ring.

        A sample that starts at time t-1 spans m <= `n_step` steps, and ends with its episode or the newest transition:
        its reward is the sum of gamma^k r_(t+k) over k < m, and `o_t` and `terminated` are those of its last step.

        Args:
            u: uniform numbers in [0, 1).  # [N, B]
            gamma: discount factors.  # [N]

        Returns:
            o_tm1, a_tm1, r_t, terminated (0 or 1), num_steps (m, a float), o_t.  # [N, B, ...]
        """
        held = self.held[:, None]
        # An age of 0 is the oldest; float32 products can round up to `held` itself.
        return self._starting_at(np.minimum((u * held).astype(np.int64), np.maximum(held - 1, 0)), gamma)

    @property
    def held(self) -> np.ndarray:
        """Transitions in each trial's ring.  # [N]"""
        return np.minimum(self.added, self.size)

    @property
    def next_slot(self) -> np.ndarray:
        """The slot, of `size`, that each trial's next transition goes to.  # [N]"""
        return self.added % self.size

    def at(self, slots: np.ndarray, gamma: np.ndarray) -> dict[str, np.ndarray]:
        """The samples, as of `sample`, that start at slots, of `size`.  # [N, B]"""
        oldest = (self.added - self.held)[:, None]
        return self._starting_at((slots - oldest) % self.size, gamma)

    def _starting_at(self, age: np.ndarray, gamma: np.ndarray) -> dict[str, np.ndarray]:
        """The samples that start with transitions of these ages, 0 the oldest.  # [N, B]"""
        held = self.held[:, None]
        newest = np.maximum(held - 1, 0)  # [N, 1], as an age
        start = self.added[:, None] - held + age  # [N, B], counted from the trial's first transition
        ahead = np.arange(self.n_step)
        index = self._index(self._trials[:, None, None], start[..., None] + ahead)  # [N, B, n]
        ends = self._ends(index)
        ends[..., -1] = True
        more = np.minimum(ends.argmax(axis=-1), newest - age)  # [N, B], steps of a sample after its first one
        powers = gamma[:, None, None].astype(np.float32) ** ahead.astype(np.float32)  # [N, 1, n]
        # a reward beyond the sample must not count, not even as NaN times 0
        r_t = np.where(ahead <= more[..., None], powers * self._take("r_t", index), np.float32(0)).sum(
            axis=-1
        )  # [N, B]
        first, last = index[..., 0], self._index(self._trials[:, None], start + more)  # [N, B]
        return {
            "o_tm1": self._o_tm1(first),
            "a_tm1": self._take("a_tm1", first),
            "r_t": r_t,
            "terminated": self._take("terminated", last).astype(np.float32),
            "num_steps": (more + 1).astype(np.float32),
            "o_t": self._o_t(last),
        }

    def break_off(self, trials: np.ndarray) -> None:
        """Let no sample span beyond the newest transitions of the trials [N] bool: their episodes do not go on."""
        trials = self._trials[trials & (self.added > 0)]
        self._flat["truncated"][self._index(trials, self.added[trials] - 1)] = True

    def get_state(self) -> dict[str, Any]:
        """The filled part of the rings and the counters."""
        held = int(min(self.added.max(initial=0), self._num_slots))
        return {"added": self.added.copy(), **{name: values[:, :held] for name, values in self._data.items()}}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` returned."""
        self.added[:] = state["added"]
        for name, values in self._data.items():
            values[:, : state[name].shape[1]] = state[name]

    def _add_observations(self, trials: np.ndarray, index: np.ndarray, transition: dict[str, np.ndarray]) -> None:
        """Add the observations [n, ...] of transitions of some trials, at `index` [n] of the flat arrays."""
        for name in ("o_tm1", "o_t"):
            self._flat[name][index] = transition[name]

    def _o_tm1(self, index: np.ndarray) -> np.ndarray:
        """The observations before the transitions at `index` [N, B]."""
        return self._take("o_tm1", index)

    def _o_t(self, index: np.ndarray) -> np.ndarray:
        """The observations after the transitions at `index` [N, B]."""
        return self._take("o_t", index)

    def _index(self, trials: np.ndarray, count: np.ndarray) -> np.ndarray:
        """The place in the flat arrays of the trials' transition number `count`, or of slot `count` of their rings."""
        index: np.ndarray = trials * self._num_slots + count % self._num_slots
        return index

    def _ends(self, index: np.ndarray) -> np.ndarray:
        ends: np.ndarray = self._take("terminated", index) | self._take("truncated", index)
        return ends

    def _take(self, name: str, index: np.ndarray) -> np.ndarray:
        return self._flat[name].take(index, axis=0)


AGE = Numbers("int32")  # env steps since reset


class FrameRing(ReplayRing):
    """A `ReplayRing` for observations that are the last K frames, [K, *frame]; it stores each frame once.

    A slot holds the newest frame of `o_tm1`. The newest frame of `o_t` is written ahead, to the next slot. The last
    frame of an episode has no slot, since the next slot holds the first frame of the next episode: such frames are kept
    apart until their transition makes room. A stack is rebuilt from frames of its own episode and padded with the first
    of them, as by Gymnasium's FrameStackObservation.

    Transitions of one trial must be added in the order in which they were made, without gaps.
    """

    def __init__(self, num_trials: int, size: int, observation: Column, action: Column, n_step: int = 1) -> None:
        self._stack = observation.shape[0]
        columns: dict[str, Column] = {"frame": _frame(observation), "age": AGE}
        # the oldest stack reaches K - 1 slots back, the newest frame one ahead
        self._allocate(num_trials, size, size + self._stack, n_step, action, columns)
        self._last_frames: dict[int, np.ndarray] = {}  # flat index of an episode's last transition -> frame

    @staticmethod
    def num_bytes(size: int, observation: Column, action: Column) -> int:
        """Memory of one trial's ring, once it is full, less one frame per episode."""
        slot = num_bytes(_frame(observation)) + num_bytes(AGE) + _other_bytes(action)
        return (size + observation.shape[0]) * slot

    def get_state(self) -> dict[str, Any]:
        """The filled part of the rings, the counters, and the last frames of episodes."""
        ahead = self._data["frame"][self._trials, self.added % self._num_slots]  # [N, *frame]
        indices = sorted(self._last_frames)
        where = np.stack(np.divmod(np.array(indices, np.int64), self._num_slots), axis=1)  # trial and slot: [M, 2]
        frames = np.array([self._last_frames[index] for index in indices], ahead.dtype)
        return {**super().get_state(), "ahead": ahead, "last_where": where, "last_frames": frames}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` returned."""
        super().set_state(state)
        self._data["frame"][self._trials, self.added % self._num_slots] = state["ahead"]
        indices = state["last_where"][:, 0] * self._num_slots + state["last_where"][:, 1]
        self._last_frames = dict(zip(indices.tolist(), state["last_frames"], strict=True))

    def break_off(self, trials: np.ndarray) -> None:
        """As of `ReplayRing`; the frames after these transitions are kept apart, like an episode's last frames."""
        for k in np.flatnonzero(trials & (self.added > 0)).tolist():
            last, ahead = (int(self._index(np.array(k), self.added[k] + by)) for by in (-1, 0))
            if not self._ends(np.array(last)):
                self._last_frames[last] = self._flat["frame"][ahead].copy()
        super().break_off(trials)

    def _add_observations(self, trials: np.ndarray, index: np.ndarray, transition: dict[str, np.ndarray]) -> None:
        before = self._index(trials, self.added[trials] - 1)
        goes_on = (self.added[trials] > 0) & ~self._ends(before)
        self._flat["age"][index] = np.where(goes_on, self._take("age", before) + 1, 0)
        self._flat["frame"][index] = transition["o_tm1"][:, -1]
        self._flat["frame"][self._index(trials, self.added[trials] + 1)] = transition["o_t"][:, -1]
        for k, (i, ends) in enumerate(zip(index.tolist(), self._ends(index).tolist(), strict=True)):
            self._last_frames.pop(i, None)
            if ends:
                self._last_frames[i] = transition["o_t"][k, -1].copy()

    def _o_tm1(self, index: np.ndarray) -> np.ndarray:
        back = np.minimum(np.arange(self._stack)[::-1], self._take("age", index)[..., None])  # [N, B, K]
        return self._take("frame", self._shift(index[..., None], -back))

    def _o_t(self, index: np.ndarray) -> np.ndarray:
        # one frame newer than o_tm1, that is one less back: the newest is that of the next slot
        back = np.minimum(np.arange(self._stack)[::-1] - 1, self._take("age", index)[..., None])  # [N, B, K]
        o_t = self._take("frame", self._shift(index[..., None], -back))
        for k, b in np.argwhere(self._ends(index)):
            o_t[k, b, -1] = self._last_frames[int(index[k, b])]
        return o_t

    def _shift(self, index: np.ndarray, by: np.ndarray) -> np.ndarray:
        """`index` moved `by` slots round its trial's own ring."""
        return self._index(index // self._num_slots, index % self._num_slots + by)


def ring_type(frame_stack: int) -> type[ReplayRing]:
    """The ring for observations that are stacks of `frame_stack` frames."""
    return FrameRing if frame_stack > 1 else ReplayRing


def _frame(observation: Column) -> Numbers:
    """One frame of an observation that is a stack of frames."""
    return Numbers(observation.dtype, observation.shape[1:])


def _other_bytes(action: Column) -> int:
    """Memory of what a transition holds besides observations."""
    return num_bytes(action) + sum(map(num_bytes, OUTCOME.values()))
