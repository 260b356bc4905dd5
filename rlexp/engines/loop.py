"""What a loop is: one per family of algorithms and engine, with the same five members."""

from __future__ import annotations

from typing import Any, Protocol

from rlexp.engines.bookkeeping import Trials
from rlexp.engines.evaluation import Scores


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
