"""What the jobs of one training share, and need to describe themselves in their folders."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    import numpy as np

    from rlexp.envs.info import EnvInfo
    from rlexp.jobs.console import JobConsole


class WallClock:
    """Wall time spent on the jobs that are trained now, earlier runs of them included."""

    def __init__(self) -> None:
        self._began, self._earlier = time.monotonic(), 0.0

    def restart(self) -> None:
        """Count from now on, for other jobs."""
        self._began, self._earlier = time.monotonic(), 0.0

    def count_earlier(self, seconds: float) -> None:
        """Add what the interrupted runs of these jobs have spent."""
        self._earlier = seconds

    def seconds(self) -> float:
        """The time so far."""
        return self._earlier + time.monotonic() - self._began


@dataclass(frozen=True)
class Context:
    """The training of one or several jobs, as far as their folders describe it.

    Attributes:
        info: of the jobs' environment.
        console: where progress is shown.
        clock: wall time of the jobs that are trained now.
        device: where tensors are.
        deploy: the Keras model that is saved of a trial's weights [P], for agents with networks.
        sweep: identity of the sweep that the jobs belong to.
        overrides: of each folder's job, if they are known.
    """

    info: EnvInfo
    console: JobConsole
    clock: WallClock
    device: str
    deploy: Callable[[np.ndarray], keras.Model] | None
    sweep: dict[str, Any] | None
    overrides: Mapping[Path, Sequence[str]]
