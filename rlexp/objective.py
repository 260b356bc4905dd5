"""What a search optimises, and what `rlexp.best` ranks by: one number a trial, and their IQM a job."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlexp.report.load import JobData
from rlexp.report.stats import area_under_curve, iqm, steps_to
from rlexp.settings import did_you_mean, refusal

WORDS = {
    "final": "final return",
    "area": "area under eval/return, a step",
    "steps_to_threshold": "env steps to eval/return {threshold:g}",
}


@dataclass(frozen=True)
class Objective:
    """A score of jobs.

    Attributes:
        name: "final", the final return of the best weights; "area", the mean height of the evaluation curve; or
            "steps_to_threshold", env steps until an evaluation reaches `threshold`; a trial that never does counts
            twice its last step.
        threshold: in units of eval/return.

    Raises:
        Refusal: for an unknown name, or a threshold without use or missing.
    """

    name: str = "final"
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.name not in WORDS:
            raise refusal("objective", f"one of {', '.join(WORDS)}", repr(self.name), did_you_mean(self.name, WORDS))
        number = isinstance(self.threshold, int | float) and not isinstance(self.threshold, bool)
        if self.name == "steps_to_threshold" and not (number and math.isfinite(self.threshold or 0.0)):
            raise refusal("threshold", "a return to be reached, for objective=steps_to_threshold", repr(self.threshold))
        if self.name != "steps_to_threshold" and self.threshold is not None:
            raise refusal("threshold", f"none for objective={self.name}", repr(self.threshold))

    @property
    def smaller_is_better(self) -> bool:
        """Whether it is a cost."""
        return self.name == "steps_to_threshold"

    def __str__(self) -> str:
        return WORDS[self.name].format(threshold=self.threshold)

    def per_trial(self, job: JobData) -> np.ndarray:
        """The score of each trial of a finished job, NaN where it has none.  # [N]"""
        missing = np.full(len(job.job["seeds"]), np.nan)
        if self.name == "final":
            final: Mapping[str, Any] = (job.summary or {}).get("final/return", {})
            return np.array(final["per_trial"], np.float64) if "per_trial" in final else missing
        if "eval/return" not in job.curves:
            return missing
        steps, values = job.curves["eval/return"]
        if self.name == "area":
            return area_under_curve(steps, values)
        assert self.threshold is not None
        first = steps_to(self.threshold, steps, values)
        return np.where(np.isinf(first), 2.0 * steps[-1], first)

    def score(self, job: JobData) -> float:
        """The IQM over the trials of a finished job; NaN where no trial has a score."""
        return float(iqm(self.per_trial(job)))
