"""The results of N trials: their training episodes, best weights and counters.

Axes: N trials, P parameters of a trial, M episodes of all trials.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


class Episodes:
    """Every training episode that has ended, in the order of time: on the fused engine there are millions.

    Args:
        table: the episodes so far, as `table` returned them; default: none.  # [M, 4]
    """

    def __init__(self, table: np.ndarray | None = None) -> None:
        self._parts = [] if table is None else [table]  # [M, 4] each
        self._rows: list[tuple[int, int, float, int]] = []  # added since the last part

    def add(self, trial: int, step: int, episode_return: float, length: int) -> None:
        """Add one episode that ended at env step `step` of its trial."""
        self._rows.append((trial, step, episode_return, length))

    def add_many(self, trial: np.ndarray, step: np.ndarray, episode_return: np.ndarray, length: np.ndarray) -> None:
        """Add many episodes.  # [M] each"""
        self._parts += [self._take_rows(), np.stack([trial, step, episode_return, length], axis=1, dtype=np.float64)]

    def table(self) -> np.ndarray:
        """Return trial, env step at the end, return and length of every episode.  # [M, 4] float64"""
        self._parts = [np.concatenate([*self._parts, self._take_rows()])]
        return self._parts[0]

    def _take_rows(self) -> np.ndarray:
        rows, self._rows = np.array(self._rows, np.float64).reshape(-1, 4), []
        return rows


@dataclass
class Results:
    """The results of all trials of a loop, or of those of one job of a group.

    Attributes:
        params: the best weights.  # [N, P]
        score: their score in the selection.  # [N]
        step: env steps of the trial when it had them.  # [N]
        counts, status, notes, traces: see `Counters`.
        restarts: see `Trials`.  # [N]
        episodes: as `Episodes.table` returns them, trials numbered from 0.  # [M, 4]
        candidate_return: return of the best weights in the second look that chose them; NaN without one.  # [N]
        value: expected return of the best weights, where it is known exactly; else None.  # [N]
        optimum: expected return of the best policy, where it is known; else None.
    """

    params: np.ndarray
    score: np.ndarray
    step: np.ndarray
    counts: dict[str, np.ndarray]
    status: list[str]
    notes: list[str]
    restarts: np.ndarray
    traces: list[str]
    episodes: np.ndarray
    candidate_return: np.ndarray
    value: np.ndarray | None
    optimum: float | None

    def part(self, part: slice) -> Results:
        """The results of some of the trials, numbered from 0."""
        first, end, _ = part.indices(len(self.status))
        mine = (self.episodes[:, 0] >= first) & (self.episodes[:, 0] < end)
        return Results(
            self.params[part],
            self.score[part],
            self.step[part],
            {unit: count[part] for unit, count in self.counts.items()},
            self.status[part],
            self.notes[part],
            self.restarts[part],
            self.traces[part],
            self.episodes[mine] - [first, 0, 0, 0],
            self.candidate_return[part],
            None if self.value is None else self.value[part],
            self.optimum,
        )

    @classmethod
    def join(cls, parts: Sequence[Results]) -> Results:
        """The results of all trials, from those of parts of them."""
        starts = np.cumsum([0, *(len(own.status) for own in parts[:-1])])
        episodes = np.concatenate([own.episodes + [k, 0, 0, 0] for own, k in zip(parts, starts, strict=True)])  # noqa: RUF005  (a sum)
        exact = next((own for own in parts if own.value is not None), None)
        values = [own.score * np.nan if own.value is None else own.value for own in parts]
        return cls(
            np.concatenate([own.params for own in parts]),
            np.concatenate([own.score for own in parts]),
            np.concatenate([own.step for own in parts]),
            {unit: np.concatenate([own.counts[unit] for own in parts]) for unit in parts[0].counts},
            list(itertools.chain(*(own.status for own in parts))),
            list(itertools.chain(*(own.notes for own in parts))),
            np.concatenate([own.restarts for own in parts]),
            list(itertools.chain(*(own.traces for own in parts))),
            episodes[np.lexsort((episodes[:, 0], episodes[:, 1]))],  # in the order of time, as one loop notes them
            np.concatenate([own.candidate_return for own in parts]),
            None if exact is None else np.concatenate(values),
            None if exact is None else exact.optimum,
        )
