"""What a loop needs from the job around it: settings, a place for records and checkpoints, a clock, signals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rlexp.config.schema.job import Settings
from rlexp.data.checkpoint import State
from rlexp.envs.info import EnvInfo


class Records(Protocol):
    """Where records go: a `metrics.Recorder`, or those of a group of jobs."""

    def write(self, steps: np.ndarray, metrics: Mapping[str, np.ndarray]) -> None:
        """Write one record.

        Args:
            steps: env steps that each trial has taken; the record's step is the largest, in a group of each job.  # [N]
            metrics: name -> [N].
        """

    def sync(self) -> int | list[int]:
        """Bring all records to the disk; returns the position that a checkpoint keeps, of a group one per job."""

    @property
    def digest(self) -> str | list[str]:
        """Digest of the records up to that position, of a group one per job."""


class Saves(Protocol):
    """Where checkpoints go: a `checkpoint.Checkpoints`, or those of a group of jobs."""

    def due(self) -> bool:
        """Whether it is time for the next checkpoint."""

    def agreed(self) -> int | None:
        """The lock-step of the next one, if it has been agreed upon: loops make a call end there."""

    def saving(self) -> AbstractContextManager[None]:
        """Measure the cost of a checkpoint, which sets the time of the next one."""

    def save(self, step: int, state: State) -> object:
        """Write a checkpoint."""


class Progress(Protocol):
    """What a person sees while a job runs."""

    def update(self, done: float, step: int, eval_return: np.ndarray) -> None:
        """Show progress.

        Args:
            done: share of the budget.
            step: env steps per trial.
            eval_return: latest evaluation, NaN before the first one.  # [N]
        """

    def phase(self, what: str, done: int = 0, total: int = 0) -> None:
        """Show what happens after the training.

        Args:
            what: in a few words.
            done, total: how many of how many parts are done, where it has parts.
        """

    def say(self, text: str) -> None:
        """Print one line."""

    def warn(self, text: str) -> None:
        """Print one warning."""


class Pruned(Exception):
    """A search ends the job early: at this step, other candidates were better.

    Args:
        step: env steps per trial.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"pruned at env step {step:,}")
        self.step = step


@dataclass
class Services:
    """What a loop needs from the job around it.

    Attributes:
        settings: of the job, or of a group of jobs.
        info: what is known of the environment.
        recorder, checkpoints: where records and checkpoints go.
        progress: what a person sees.
        stop: returns the signal that asked the job to stop, None if there was none.
        seconds: returns the wall time spent on the job, earlier runs included.
        prune: for candidates of a search: called after each evaluation with the env steps per trial, the share of the
            budget done and the latest returns [N]; returns whether to end the job.
    """

    settings: Settings
    info: EnvInfo
    recorder: Records
    checkpoints: Saves
    progress: Progress
    stop: Callable[[], int | None]
    seconds: Callable[[], float]
    prune: Callable[[int, float, np.ndarray], bool] | None = None
