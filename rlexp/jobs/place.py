"""The place of a job in its sweep, as its console shows it: `[2/4] fixed_dqn on acrobot`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """The place of a job, or of jobs that are trained together, in a sweep.

    Attributes:
        number: of the job in its sweep, counted from 1.
        total: number of jobs in the sweep.
        name: of the job within its study.
        beside: whether other jobs of the sweep print at the same time, so that a bar would be drawn over.
        time_left: returns an estimate of the seconds until the sweep ends, given how many of the jobs that run here are
            done, as a number that may be a fraction; None if nothing is known yet.
        together: number of jobs that are trained together here.
    """

    number: int
    total: int
    name: str
    beside: bool
    time_left: Callable[[float], float | None]
    together: int = 1

    @property
    def heading(self) -> str:
        """What stands in front of everything that is said of the job."""
        more = f" and {self.together - 1} more" if self.together > 1 else ""
        return f"[{self.number}/{self.total}] {self.name}{more}"
