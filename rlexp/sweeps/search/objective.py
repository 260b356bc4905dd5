"""The objective of a search, by which `rlexp best` ranks too: one number per trial, and their IQM per job."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlexp.jobs.results import JobData
from rlexp.math.statistics import area_under_curve, iqm, steps_to
from rlexp.system.errors import did_you_mean, refusal

WORDS = {
    "final": "final return",
    "area": "area under eval/return per step",
    "steps_to_threshold": "env steps to eval/return {threshold:g}",
}
CHOSEN_BY = {  # scores by which a search for the best final return chooses, so that the final episodes stay fresh
    "candidates": "return in the second look at the best weights",
    "periodic": "return in the periodic evaluation (there was no second look)",
    "final": "final return (there is no other score)",
}


@dataclass(frozen=True)
class Objective:
    """A score of jobs.

    Attributes:
        name: "final", the final return of the best weights; "area", the mean height of the evaluation curve; or
            "steps_to_threshold", env steps until an evaluation reaches `threshold` (twice the last step for a trial
            that never does).
        threshold: in units of eval/return; only for "steps_to_threshold".

    Raises:
        Refusal: for an unknown name, or a missing or superfluous threshold.
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
        """Whether smaller scores are better."""
        return self.name == "steps_to_threshold"

    def __str__(self) -> str:
        return WORDS[self.name].format(threshold=self.threshold)

    def per_trial(self, job: JobData) -> np.ndarray:
        """Score of each trial of a finished job, NaN without one.  # [N]"""
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
        """IQM over the trials of a finished job; NaN if no trial has a score."""
        return float(iqm(self.per_trial(job)))

    def choice(self, job: JobData) -> tuple[np.ndarray, str]:
        """The scores by which a search chooses: of each trial [N], NaN without one, and their name in words.

        For the objective "final" these are not the reported returns but returns on other episodes, because the best of
        many candidates owes something to luck. They are the returns of the best weights in the second look at
        candidates for them. Without a second look (evaluation.candidates=1, or a selection that needs none) they are
        the returns of the periodic evaluation that chose the weights, or the highest such return if a training episode
        chose them.
        """
        if self.name != "final":
            return self.per_trial(job), str(self)
        trials, missing = (job.summary or {}).get("trials", []), np.full(len(job.job["seeds"]), np.nan)

        def column(name: str) -> np.ndarray:
            values = [trial.get(name) for trial in trials]
            return np.array(values, np.float64) if len(values) == len(missing) else missing

        found = {"candidates": column("candidate_return")}
        selection = (job.summary or {}).get("selection")
        if selection == "train_episode" and "eval/return" in job.curves:
            found["periodic"] = np.fmax.reduce(job.curves["eval/return"].values, axis=0)
        elif selection is not None:
            found["periodic"] = column("last_eval_return" if selection == "last" else "best_eval_return")
        found["final"] = self.per_trial(job)
        name = next((name for name, values in found.items() if np.isfinite(values).any()), "final")
        return found[name], CHOSEN_BY[name]

    def filled(self, values: np.ndarray, others: Iterable[np.ndarray]) -> np.ndarray:
        """Scores [N] in which a trial without one gets the worst score of all trials, `others` [M] included.

        Reports do the same: a diverged trial neither improves its job nor removes it. If no trial has a score, all stay
        NaN.
        """
        known = np.concatenate([values, *others])
        if not np.isfinite(values).any():
            return values
        worst = np.nanmax(known) if self.smaller_is_better else np.nanmin(known)
        return np.where(np.isnan(values), worst, values)
