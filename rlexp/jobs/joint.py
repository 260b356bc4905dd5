"""Jobs of a sweep that are trained by one loop: which may be, and what each of them gets of the loop's work.

Jobs that run on the fused engine and differ in nothing but seeds and scalars are one program: their trials stand side
by side, and each scalar is one schedule a job. A trial's numbers do not depend on how many run beside it, so that
records, checkpoints and results of each job are those that it would have alone. In a checkpoint every array has the
trials as its first axis: a job's is a slice of its group's, and a group continues from those of its jobs.

Axes: N trials of all jobs.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlexp.config import schedules
from rlexp.config.schema.job import Settings
from rlexp.data.checkpoint import CheckpointPace, Checkpoints, State
from rlexp.data.metrics import Recorder

OWN = ("trials", "seed", "study", "label", "rerun", "animation")  # what jobs of one group may have each for itself


def shared(settings: Settings) -> str | None:
    """What the jobs of a group have in common, or None for a job that the host engine runs.

    Args:
        settings: a job whose engine is chosen.
    """
    if settings.engine != "fused":
        return None
    common = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings) if f.name not in OWN}
    return json.dumps({name: _graph(value) for name, value in common.items()}, sort_keys=True)


def plan(jobs: Iterable[Settings], max_trials: int) -> list[list[Settings]]:
    """The jobs in groups, each in the order given; a job that shares with none is a group of its own.

    Args:
        jobs: whose engines are chosen, one of each folder.
        max_trials: of one group; more are cut into groups of about one size (of a single job at least).
    """
    groups: dict[str, list[Settings]] = {}
    for i, job in enumerate(jobs):
        groups.setdefault(shared(job) or str(i), []).append(job)
    cut = []
    for group in groups.values():
        size = math.ceil(len(group) / math.ceil(sum(job.trials for job in group) / max_trials))
        cut += [group[start : start + size] for start in range(0, len(group), size)]
    return cut


@dataclass
class GroupSettings(Settings):
    """Settings of a loop that trains several jobs; `algo` holds their scalars as `schedules.Stacked`."""

    jobs: tuple[Settings, ...] = ()

    @property
    def seeds(self) -> list[int]:
        """Seeds of all jobs' trials, one job after the other."""
        return [seed for job in self.jobs for seed in job.seeds]

    def trial_name(self, k: int) -> str:
        """What a person calls trial `k`."""
        return [f"{job.trial_name(i)} of {job.job_name}" for job in self.jobs for i in range(job.trials)][k]


def together(jobs: Sequence[Settings]) -> Settings:
    """The settings of a loop that trains all `jobs`, which agree in `shared`; those of a single job are its own."""
    if len(jobs) == 1:
        return jobs[0]
    sizes = tuple(job.trials for job in jobs)
    values = {f.name: getattr(jobs[0], f.name) for f in dataclasses.fields(Settings)}
    values |= {"trials": sum(sizes), "algo": _stack([job.algo for job in jobs], sizes)}
    return GroupSettings(**values, jobs=tuple(jobs))


def rows(jobs: Sequence[Settings]) -> list[slice]:
    """Where each job's trials stand among all trials."""
    ends = np.cumsum([job.trials for job in jobs]).tolist()
    return [slice(end - job.trials, end) for job, end in zip(jobs, ends, strict=True)]


class GroupRecorder:
    """A group's recorders: each job's file gets the columns of its trials and the lines that it would have alone."""

    def __init__(self, recorders: Sequence[Recorder], parts: Sequence[slice]) -> None:
        self._parts = list(zip(recorders, parts, strict=True))

    def write(self, steps: np.ndarray, metrics: Mapping[str, np.ndarray]) -> None:
        """Write one record of each job that has anything in it; arguments as of `Recorder.write`."""
        for recorder, part in self._parts:
            recorder.write(steps[part], {name: values[part] for name, values in metrics.items()})

    def sync(self) -> list[int]:
        """Bring everything to the disk; the number of bytes written for each job."""
        return [recorder.sync() for recorder, _ in self._parts]

    @property
    def digest(self) -> list[str]:
        """Of the records of each job."""
        return [recorder.digest for recorder, _ in self._parts]

    def close(self) -> None:
        """Close the files."""
        for recorder, _ in self._parts:
            recorder.close()


class GroupCheckpoints:
    """The checkpoints of a group: one of each job, as it would write it alone.

    A job whose trials have all ended is not written again with each that follows.
    """

    def __init__(self, checkpoints: Sequence[Checkpoints], parts: Sequence[slice], every: float) -> None:
        self._parts = list(zip(checkpoints, parts, strict=True))
        self._ended: set[int] = set()
        self._pace = CheckpointPace(every)

    def due(self) -> bool:
        """Whether it is time for the next ones."""
        return self._pace.due()

    def saving(self) -> AbstractContextManager[None]:
        """Around all that they cost, by which the next are due."""
        return self._pace.saving()

    def save(self, step: int, state: State) -> None:
        """Write the part of each job."""
        for i, (checkpoints, part) in enumerate(self._parts):
            if i in self._ended:
                continue
            own = split(state, part)
            for name in ("position", "digest"):
                own["trials"][name] = state["trials"][name][i]
            checkpoints.save(own["trials"]["t"], own)
            if not own["trials"]["active"].any():
                self._ended.add(i)


def split(state: State, part: slice) -> State:
    """One job's checkpoint: that of its group, cut to its trials."""
    trials = _cut(state["trials"], part)
    trials["t"] = int(trials["counts"]["step"].max())
    k = state["trials"]["episodes"][:, 0]
    mine = (k >= part.start) & (k < part.stop)
    trials["episodes"] = state["trials"]["episodes"][mine] - [part.start, 0, 0, 0]
    return {"trials": trials, "loop": _cut(state["loop"], part)}


def join(states: Sequence[State], jobs: Sequence[Settings]) -> State:
    """A group's checkpoint, from those of its jobs at the same `t`."""
    trials = [dict(state["trials"]) for state in states]
    episodes = [t.pop("episodes") + np.array([part.start, 0, 0, 0]) for t, part in zip(trials, rows(jobs), strict=True)]
    positions = [t.pop("position") for t in trials]
    digests = [t.pop("digest", None) for t in trials]
    seconds = max(t.pop("seconds") for t in trials)
    windows = [t.pop("window") for t in trials]
    names = sorted({name for window in windows for name in window["sum"]})
    together = {
        "window": {
            key: {
                name: np.concatenate(
                    [w[key].get(name, np.zeros(job.trials, kind)) for w, job in zip(windows, jobs, strict=True)]
                )
                for name in names
            }
            for key, kind in (("sum", np.float64), ("count", np.int64))
        },
        "episodes": np.concatenate(episodes),
        "position": positions,
        "digest": digests,
        "seconds": seconds,
    }
    return {"trials": {**_join(trials), **together}, "loop": _join([state["loop"] for state in states])}


def _graph(node: Any) -> Any:
    """A part of the configuration with its scalars replaced by what they count."""
    if not dataclasses.is_dataclass(node):
        return node
    return {
        f.name: schedules.parse(value, f.name).unit if f.metadata.get("scalar") else _graph(value)
        for f in dataclasses.fields(node)
        for value in [getattr(node, f.name)]
    }


def _stack(nodes: Sequence[Any], sizes: tuple[int, ...]) -> Any:
    """A part of the configuration of several jobs that differ in scalars only."""
    stacked = {}
    for f in dataclasses.fields(nodes[0]):
        values = [getattr(node, f.name) for node in nodes]
        if dataclasses.is_dataclass(values[0]):
            stacked[f.name] = _stack(values, sizes)
        elif f.metadata.get("scalar"):
            stacked[f.name] = schedules.Stacked(tuple(schedules.parse(v, f.name) for v in values), sizes)
    return dataclasses.replace(nodes[0], **stacked)


def _cut(node: Any, part: slice) -> Any:
    """The rows of some trials of every array and list of texts in a tree."""
    return _walk([node], lambda values: values[0][part])


def _join(nodes: Sequence[Any]) -> Any:
    """Trees of several jobs as one, their rows one after the other; numbers that are no arrays agree."""

    def leaf(values: list[Any]) -> Any:
        if not isinstance(values[0], np.ndarray):
            return list(itertools.chain(*values))
        if values[0].ndim > 1:  # rollout buffers grow: one may have more rows than another
            rows = max(value.shape[1] for value in values)
            values = [np.pad(v, [(0, 0), (0, rows - v.shape[1]), *[(0, 0)] * (v.ndim - 2)]) for v in values]
        return np.concatenate(values)

    return _walk(nodes, leaf)


def _walk(nodes: Sequence[Any], leaf: Callable[[list[Any]], Any]) -> Any:
    first = nodes[0]
    if isinstance(first, Mapping):
        return {name: _walk([node[name] for node in nodes], leaf) for name in first}
    if isinstance(first, np.ndarray) or (isinstance(first, list) and all(isinstance(value, str) for value in first)):
        return leaf(list(nodes))
    if isinstance(first, list):
        return [_walk(values, leaf) for values in zip(*nodes, strict=True)]
    return first
