"""Trials in parts: settings and checkpoints of some of a loop's trials, and the checkpoint of all from those of parts.

A trial's numbers do not depend on what runs beside it. So a job may be a part of its group, and a worker process may
train a part of a job. Arrays of a checkpoint have the trials as their first axis, but for a few that hold rows of some
trials; `_Rows` says whose they are.

Axes: N trials, M rows of some trials.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlexp.config import schedules
from rlexp.config.schema.job import Settings
from rlexp.data.checkpoint import State


@dataclass
class PartSettings(Settings):
    """Settings of a loop that trains some trials of a job or of a group of jobs.

    Attributes:
        own_seeds: of these trials.
        names: of these trials, in messages.
    """

    own_seeds: tuple[int, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def seeds(self) -> list[int]:
        """Seeds of these trials."""
        return list(self.own_seeds)

    def trial_name(self, k: int) -> str:
        """Name of trial `k` in messages."""
        return self.names[k]


def settings_of(settings: Settings, part: slice) -> PartSettings:
    """The settings of a loop that trains some of the trials of `settings`, with the numbers that they have there."""
    own = range(settings.trials)[part]
    values = {f.name: getattr(settings, f.name) for f in dataclasses.fields(Settings)}
    values |= {
        "trials": len(own),
        "algo": _scalars_of(settings.algo, part),
        "exact_trials": settings.exact_trials or settings.trials > 1,  # a trial beside others is never the only lane
    }
    seeds, names = settings.seeds, [settings.trial_name(k) for k in own]
    return PartSettings(**values, own_seeds=tuple(seeds[part]), names=tuple(names))


def _scalars_of(node: Any, part: slice) -> Any:
    """A part of the configuration with the schedules of some trials."""
    own: dict[str, Any] = {}
    for f in dataclasses.fields(node):
        value = getattr(node, f.name)
        if isinstance(value, schedules.Stacked):
            own[f.name] = value.part(part)
        elif dataclasses.is_dataclass(value):
            own[f.name] = _scalars_of(value, part)
    return dataclasses.replace(node, **own)


def even(number: int, num_parts: int) -> list[slice]:
    """Cut `number` trials into parts whose sizes differ by one at most."""
    ends = [number * (i + 1) // num_parts for i in range(num_parts)]
    return [slice(start, end) for start, end in itertools.pairwise([0, *ends])]


def cut(state: State, part: slice) -> State:
    """The checkpoint of some of the trials of `state`."""
    trials = {name: value for name, value in state["trials"].items() if name not in ("position", "digest")}
    return {"trials": _cut(trials, part), "loop": _cut(state["loop"], part)}


def join(states: Sequence[State], sizes: Sequence[int]) -> State:
    """The checkpoint of all trials, but for the position and the digest of their records.

    Parts whose trials have ended may be at an earlier step than the others.

    Args:
        states: of the parts.
        sizes: trials of each part.
    """
    trials = [
        {name: value for name, value in state["trials"].items() if name not in ("position", "digest", "window")}
        for state in states
    ]
    joined = _join(trials, sizes)
    joined["t"] = max(state["t"] for state in trials)
    joined["seconds"] = max(state["seconds"] for state in trials)
    table = joined["episodes"]
    joined["episodes"] = table[np.lexsort((table[:, 0], table[:, 1]))]  # in the order of time, as one loop notes them
    joined["window"] = _join_windows([state["trials"]["window"] for state in states], sizes)
    return {"trials": joined, "loop": _join([state["loop"] for state in states], sizes)}


def without(tree: Any, trials: np.ndarray) -> Any:
    """A tree of arrays [N, ...] with zeros for the chosen trials [N] bool."""
    return _walk([tree], lambda values: np.where(trials.reshape(-1, *[1] * (values[0].ndim - 1)), 0, values[0]))


def blank(state: State, num_trials: int) -> State:
    """A checkpoint of `num_trials` trials with zeros, empty texts and no rows, of the structure of `state`."""

    def leaf(values: list[Any]) -> Any:
        (value,) = values
        return (
            np.zeros((num_trials, *value.shape[1:]), value.dtype)
            if isinstance(value, np.ndarray)
            else [""] * num_trials
        )

    empty: State = _walk([state], leaf)
    for mapping in _mappings(empty):
        for rows in _rows_in(mapping[0]):
            for name in rows.names:
                mapping[0][name] = mapping[0][name][:0]
    return empty


def _join_windows(windows: Sequence[Mapping[str, Any]], sizes: Sequence[int]) -> dict[str, dict[str, np.ndarray]]:
    """Sums and counts since the last record; a metric that a part has not counted yet is zero there."""
    names = sorted({name for window in windows for name in window["sum"]})

    def rows(key: str, name: str, kind: type) -> np.ndarray:
        return np.concatenate(
            [window[key].get(name, np.zeros(size, kind)) for window, size in zip(windows, sizes, strict=True)]
        )

    kinds = {"sum": np.float64, "count": np.int64}
    return {key: {name: rows(key, name, kind) for name in names} for key, kind in kinds.items()}


@dataclass(frozen=True)
class _Rows:
    """Arrays in one mapping of a checkpoint that hold rows of some trials.

    Attributes:
        names: of the arrays.  # [M, ...] each
        owners: returns the trial of each row, in order, from the mapping.  # [M]
        numbered: name of the array whose rows begin with the trial's number, if there is one.
    """

    names: tuple[str, ...]
    owners: Callable[[Mapping[str, Any]], np.ndarray]
    numbered: str | None = None


def _each(counts: np.ndarray) -> np.ndarray:
    """The trial of each row, where trials [N], or their environments [N, E], have so many rows each.  # [M]"""
    return np.repeat(np.arange(len(counts)), counts.reshape(len(counts), -1).sum(axis=1))


ROWS = {  # by the name of the array that says how many there are
    "lengths": _Rows(("actions",), lambda envs: _each(envs["lengths"])),
    "last_where": _Rows(("last_where", "last_frames"), lambda ring: ring["last_where"][:, 0], "last_where"),
    "episodes": _Rows(("episodes",), lambda trials: trials["episodes"][:, 0], "episodes"),
}


def _cut(node: Any, part: slice) -> Any:
    """The rows of some trials, of every array and list of texts in a tree."""
    own = _walk([node], lambda values: values[0][part])
    for mapping, mine in _mappings(node, own):
        for rows in _rows_in(mapping):
            owners = rows.owners(mapping)
            of_part = (owners >= part.start) & (owners < part.stop)
            for name in rows.names:
                mine[name] = mapping[name][of_part]
            if rows.numbered:
                mine[rows.numbered] = _renumbered(mine[rows.numbered], -part.start)
    return own


def _join(nodes: Sequence[Any], sizes: Sequence[int]) -> Any:
    """Join the trees of several parts, row after row; numbers that are not arrays agree."""

    def leaf(values: list[Any]) -> Any:
        if not isinstance(values[0], np.ndarray):
            return list(itertools.chain(*values))
        if values[0].ndim > 1 and len({value.shape[1:] for value in values}) > 1:
            # Buffers grow, and rings hold what was added: those of one part may have more rows than another's.
            rows = max(value.shape[1] for value in values)
            values = [np.pad(v, [(0, 0), (0, rows - v.shape[1]), *[(0, 0)] * (v.ndim - 2)]) for v in values]
        return np.concatenate(values)

    joined = _walk(nodes, leaf)
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    for mappings in _mappings(*nodes, joined):
        *parts, whole = mappings
        for rows in _rows_in(parts[0]):
            if rows.numbered:
                numbered = [_renumbered(own[rows.numbered], start) for own, start in zip(parts, starts, strict=True)]
                whole[rows.numbered] = np.concatenate(numbered)
    return joined


def _renumbered(rows: np.ndarray, by: int) -> np.ndarray:
    """Rows [M, ...] whose first number is a trial, that number changed by `by`."""
    rows = rows.copy()
    if len(rows):
        rows[:, 0] += by
    return rows


def _rows_in(mapping: Mapping[str, Any]) -> list[_Rows]:
    return [rows for name, rows in ROWS.items() if name in mapping and rows.names[0] in mapping]


def _mappings(*nodes: Any) -> list[tuple[Any, ...]]:
    """All mappings in trees of one structure, together."""
    if isinstance(nodes[0], Mapping):
        below = [_mappings(*(node[name] for node in nodes)) for name in nodes[0]]
        return [nodes, *itertools.chain(*below)]
    if isinstance(nodes[0], list) and not all(isinstance(value, str) for value in nodes[0]):
        return list(itertools.chain(*(_mappings(*values) for values in zip(*nodes, strict=True))))
    return []


def _walk(nodes: Sequence[Any], leaf: Callable[[list[Any]], Any]) -> Any:
    """One tree from several: `leaf` of their arrays and lists of texts, other leaves from the first."""
    first = nodes[0]
    if isinstance(first, Mapping):
        return {name: _walk([node[name] for node in nodes], leaf) for name in first}
    if isinstance(first, np.ndarray) or (isinstance(first, list) and all(isinstance(value, str) for value in first)):
        return leaf(list(nodes))
    if isinstance(first, list):
        return [_walk(values, leaf) for values in zip(*nodes, strict=True)]
    return first
