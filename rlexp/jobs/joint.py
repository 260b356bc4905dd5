"""Groups of jobs that are trained by one loop: how they are formed, and what each job gets of the loop's results.

Jobs on the fused engine that differ only in seeds and scalars share one program: their trials run side by side, with
one schedule per job for each scalar. A trial's numbers do not depend on how many trials run beside it, so that each job
has the records, checkpoints and results that it would have alone. Every array in a checkpoint has the trials as its
first axis: a job's checkpoint is a slice of its group's, and a group continues from the checkpoints of its jobs.

Axes: N trials of all jobs.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlexp.config import schedules
from rlexp.config.schema.job import Settings
from rlexp.data.checkpoint import CheckpointPace, Checkpoints, State
from rlexp.data.metrics import Recorder
from rlexp.engines import parts

PER_JOB = ("trials", "seed", "study", "label", "rerun", "animation")  # settings in which jobs of a group may differ


def shared(settings: Settings) -> str | None:
    """Text that is equal for jobs of one group; None for jobs on the host engine, which form no groups.

    Args:
        settings: a job whose engine is chosen.
    """
    if settings.engine != "fused":
        return None
    common = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings) if f.name not in PER_JOB}
    return json.dumps({name: _graph(value) for name, value in common.items()}, sort_keys=True)


def plan(jobs: Iterable[Settings], max_trials: int) -> list[list[Settings]]:
    """Sort jobs into groups, in the order given; a job that can share no program is a group of its own.

    Args:
        jobs: with their engines chosen, one per folder.
        max_trials: most trials of a group; larger groups are split into groups of similar size (of one job at least).
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
    """Settings of a loop that trains several jobs; the scalars of `algo` are `schedules.Stacked`."""

    jobs: tuple[Settings, ...] = ()

    @property
    def seeds(self) -> list[int]:
        """Seeds of all jobs' trials, one job after the other."""
        return [seed for job in self.jobs for seed in job.seeds]

    def trial_name(self, k: int) -> str:
        """Name of trial `k` in messages."""
        return [f"{job.trial_name(i)} of {job.job_name}" for job in self.jobs for i in range(job.trials)][k]


def together(jobs: Sequence[Settings]) -> Settings:
    """The settings of a loop that trains all `jobs` of a group; for a single job, its own settings."""
    if len(jobs) == 1:
        return jobs[0]
    sizes = tuple(job.trials for job in jobs)
    values = {f.name: getattr(jobs[0], f.name) for f in dataclasses.fields(Settings)}
    values |= {"trials": sum(sizes), "algo": _stack([job.algo for job in jobs], sizes)}
    return GroupSettings(**values, jobs=tuple(jobs))


def rows(jobs: Sequence[Settings]) -> list[slice]:
    """The slice of each job's trials among all trials."""
    ends = np.cumsum([job.trials for job in jobs]).tolist()
    return [slice(end - job.trials, end) for job, end in zip(jobs, ends, strict=True)]


class GroupRecorder:
    """A group's recorders: each job's file gets the columns of its trials and the lines that it would have alone."""

    def __init__(self, recorders: Sequence[Recorder], rows: Sequence[slice]) -> None:
        self._parts = list(zip(recorders, rows, strict=True))

    def write(self, steps: np.ndarray, metrics: Mapping[str, np.ndarray]) -> None:
        """Write one record of each job that has anything in it; arguments as of `Recorder.write`."""
        for recorder, part in self._parts:
            recorder.write(steps[part], {name: values[part] for name, values in metrics.items()})

    def sync(self) -> list[int]:
        """Bring all records to the disk; returns the number of bytes written per job."""
        return [recorder.sync() for recorder, _ in self._parts]

    @property
    def digest(self) -> list[str]:
        """Digest of the records of each job."""
        return [recorder.digest for recorder, _ in self._parts]

    def close(self) -> None:
        """Close the files."""
        for recorder, _ in self._parts:
            recorder.close()


class GroupCheckpoints:
    """The checkpoints of a group: one per job, equal to the one that it would write alone.

    Once all trials of a job have ended, its checkpoint is not written again.
    """

    def __init__(self, checkpoints: Sequence[Checkpoints], rows: Sequence[slice], every: float) -> None:
        self._parts = list(zip(checkpoints, rows, strict=True))
        self._ended: set[int] = set()
        self._pace = CheckpointPace(every)

    def due(self) -> bool:
        """Whether it is time for the next checkpoints."""
        return self._pace.due()

    def agreed(self) -> int | None:
        """None: the next one is due at some time, at any step."""
        return None

    def saving(self) -> AbstractContextManager[None]:
        """Measure the cost of the checkpoints, which sets the time of the next ones."""
        return self._pace.saving()

    def save(self, step: int, state: State) -> None:
        """Write each job's part of `state`."""
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
    """The checkpoint of one job: its group's, cut to its trials."""
    own = parts.cut(state, part)
    own["trials"]["t"] = int(own["trials"]["counts"]["step"].max())
    return own


def join(states: Sequence[State], jobs: Sequence[Settings]) -> State:
    """The checkpoint of a group, from those of its jobs at the same `t`."""
    return parts.join(states, [job.trials for job in jobs])


def _graph(node: Any) -> Any:
    """A part of the configuration with each scalar replaced by the unit that its schedule counts."""
    if not dataclasses.is_dataclass(node):
        return node
    return {
        f.name: schedules.parse(value, f.name).unit if f.metadata.get("scalar") else _graph(value)
        for f in dataclasses.fields(node)
        for value in [getattr(node, f.name)]
    }


def _stack(nodes: Sequence[Any], sizes: tuple[int, ...]) -> Any:
    """Join one part of the configuration of several jobs; scalars become `schedules.Stacked`."""
    stacked = {}
    for f in dataclasses.fields(nodes[0]):
        values = [getattr(node, f.name) for node in nodes]
        if dataclasses.is_dataclass(values[0]):
            stacked[f.name] = _stack(values, sizes)
        elif f.metadata.get("scalar"):
            stacked[f.name] = schedules.Stacked(tuple(schedules.parse(v, f.name) for v in values), sizes)
    return dataclasses.replace(nodes[0], **stacked)
