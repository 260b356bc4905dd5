"""What a loop is, one per family of algorithms and engine; and what trains all trials of a job with loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from rlexp.data.checkpoint import State
from rlexp.engines.bookkeeping import Trials
from rlexp.engines.evaluation import Scores
from rlexp.engines.services import Services
from rlexp.engines.trial_results import Results

if TYPE_CHECKING:
    import keras
    import numpy as np


class Loop(Protocol):
    """Trains the N trials of one job, or of a group of jobs.

    It is made from an agent and `Services`; agents with a Keras model come as `vectorized.Lanes`. `registry.FAMILIES`
    names the loop of each family and engine.
    """

    @property
    def trials(self) -> Trials:
        """Counters, best weights, records and checkpoints of the trials."""

    def run(self) -> None:
        """Train until each trial has spent its budget, has diverged or has failed.

        Raises:
            Interrupted: after a signal, once a checkpoint is written.
            Pruned: when the search has no more use for the job, once a checkpoint is written.
        """

    def final(self) -> Scores:
        """Choose the best weights and score them on fresh episodes."""

    def get_state(self) -> dict[str, Any]:
        """The loop's part of a checkpoint: what `trials` does not hold.  # arrays [N, ...]"""

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` returned, once `trials` is restored."""


class AnotherState(ValueError):
    """A checkpoint that does not fit a job's loop."""


class Trainer(Protocol):
    """Trains all trials of a job, or of a group of jobs: `InProcess`, or `InWorkers` with a part in each process.

    Its agents are built by its constructor, before anything is written.

    Attributes:
        num_workers: processes that share the trials.
        device: where tensors are.
        deploy: the Keras model that is saved of a trial's weights [P], for algorithms with networks.
    """

    num_workers: int

    @property
    def device(self) -> str: ...

    @property
    def deploy(self) -> Callable[[np.ndarray], keras.Model] | None: ...

    @property
    def t(self) -> int:
        """Env steps so far of each trial that still trains."""

    def open(self, services: Services, state: State | None) -> None:
        """Make the loops, and continue from a checkpoint, if there is one.

        Raises:
            AnotherState: for a checkpoint of another job.
        """

    def train(self) -> None:
        """As `Loop.run`."""

    def save(self) -> None:
        """Write a checkpoint."""

    def score(self) -> Scores:
        """As `Loop.final`."""

    def results(self) -> Results:
        """The results of all trials, after `score`."""

    def close(self) -> None:
        """Close the environments at the end; what goes wrong then is shown as a warning."""

    def release(self) -> None:
        """Let go of everything, whatever has happened; no process is left."""
