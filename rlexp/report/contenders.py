"""What a report compares: contenders, each of which is one configuration on one environment with all its trials.

Contenders of one algorithm are told apart by what differs in their configurations: `dqn lr=0.001`. `grouping` makes
them of jobs.

Axes: `N` trials.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from rlexp.jobs.results import Curve, Episodes, JobData
from rlexp.math.statistics import area_under_curve, iqm, steps_to
from rlexp.report.foreign import ForeignJob
from rlexp.report.references import Reference


@dataclass
class Contender:
    """One configuration on one environment: everything that replications share.

    Attributes:
        label: its name in the report, the same on all environments.
        algo: registry key.
        task: the environment.
        jobs: one or more, with different seeds.
        config: keys joined by dots -> value; schedules and lists are values.
        seeds: of the trials.  # N
        statuses: of the trials: "done", "diverged", "failed", "killed", "pruned" or "unfinished".  # N
        final: final return of the best weights, NaN for none.  # [N]
        curves: "eval/return", "train/return", "eval/regret" -> `Curve` of all trials.
        episodes: the final episodes of all trials; None if they are not known, or differ between jobs.
        no_episodes: why `episodes` is None.
        value: exact expected return of the best weights, NaN if it is not known.  # [N]
    """

    label: str
    algo: str
    task: Task
    jobs: list[JobData]
    config: dict[str, Any]
    seeds: list[int]
    statuses: list[str]
    final: np.ndarray
    curves: dict[str, Curve]
    episodes: Episodes | None
    no_episodes: str
    value: np.ndarray

    @property
    def best_job(self) -> JobData:
        """The job with the best trial: its animation shows that trial."""

        def best(job: JobData) -> float:
            returns = final_returns(job)
            return float(np.nanmax(returns)) if returns is not None and np.isfinite(returns).any() else -np.inf

        return max(self.jobs, key=best)

    @property
    def name(self) -> str:
        """The `label` of its configuration, by default its algorithm; not unique."""
        return str(self.jobs[0].config.get("label") or self.algo)

    @property
    def study(self) -> str:
        """The study of its jobs."""
        return str(self.jobs[0].job["study"])

    @property
    def is_foreign(self) -> bool:
        """Whether another program has trained it."""
        return isinstance(self.jobs[0], ForeignJob)

    @property
    def pairs(self) -> list[int]:
        """Numbers of the trials: those of equal numbers are a pair. A seed of another program has nothing of ours."""
        return [-1 - seed for seed in self.seeds] if self.is_foreign else self.seeds

    @property
    def finished(self) -> bool:
        """Whether all its jobs have final returns."""
        return all(final_returns(job) is not None for job in self.jobs) and bool(np.isfinite(self.final).any())

    @property
    def scores(self) -> np.ndarray:
        """Final returns; a trial without one (it diverged) counts as the worst trial of all on this environment."""
        return np.where(np.isfinite(self.final), self.final, self.task.worst)

    @property
    def score_episodes(self) -> Episodes | None:
        """The episodes behind `scores`: a trial without a final return has the worst one in each of them."""
        if self.episodes is None:
            return None
        returns = np.where(np.isfinite(self.final)[:, None], self.episodes.returns, self.task.worst)
        return Episodes(self.episodes.seeds, returns)

    @property
    def at_maximum(self) -> bool:
        """Whether the IQM of its trials is the best possible: of their exact values if known, else of their returns."""
        if self.task.optimum is not None and np.isfinite(self.value).all():
            return bool(iqm(self.value) >= self.task.optimum - 1e-9 * max(1.0, abs(self.task.optimum)))
        maximum = self.task.reference.maximum if self.task.reference else None
        return maximum is not None and bool(np.isclose(iqm(self.scores), maximum, rtol=1e-9))

    @property
    def curve_name(self) -> str | None:
        """The metric that is drawn: the evaluation return if there is one."""
        return next((name for name in ("eval/return", "train/return") if name in self.curves), None)

    @cached_property
    def area(self) -> np.ndarray:
        """Area under the curve of each trial: mean evaluation return over the env steps.  # [N]"""
        if "eval/return" not in self.curves:
            return np.full(len(self.seeds), np.nan)
        return area_under_curve(*self.curves["eval/return"])

    def steps_to(self, threshold: float) -> np.ndarray:
        """Env steps until each trial's evaluation reached `threshold`.  # [N]"""
        if "eval/return" not in self.curves:
            return np.full(len(self.seeds), np.nan)
        return steps_to(threshold, *self.curves["eval/return"])

    @property
    def steps(self) -> int:
        """Env steps of the longest trial."""
        return max((int(curve.steps[-1]) for curve in self.curves.values() if len(curve.steps)), default=0)

    @property
    def wall_seconds(self) -> float:
        """Wall-clock time of all its jobs; NaN if it is missing for one."""
        return sum(_number(job.summary, "wall_seconds") for job in self.jobs)

    @property
    def steps_per_second(self) -> float:
        """Env steps of all trials per second of training."""
        steps = sum(_number(job.summary, "total_steps") for job in self.jobs)
        seconds = sum(_number(job.summary, "train_seconds") for job in self.jobs)
        return steps / seconds if seconds > 0 else np.nan

    @property
    def status(self) -> str:
        """The status of the trials: `done`, or `9 done, 1 diverged`."""
        counts = Counter(self.statuses)
        if len(counts) == 1:
            return next(iter(counts))
        return ", ".join(f"{number} {status}" for status, number in sorted(counts.items(), reverse=True))


@dataclass
class Task:
    """An environment with its arguments and limits.

    Attributes:
        name: shown in the report.
        env_id: Gymnasium id.
        reference: what is known about its returns, if anything.
        contenders: sorted by the IQM of the final return, the best first; those without one at the end.
    """

    name: str
    env_id: str
    reference: Reference | None
    contenders: list[Contender] = field(default_factory=list)

    @property
    def finished(self) -> list[Contender]:
        """Contenders with final returns, the best first."""
        return [c for c in self.contenders if c.finished]

    @property
    def optimum(self) -> float | None:
        """The expected return of the best policy; None unless the environment is a table and a job has computed it."""
        known = ((job.summary or {}).get("optimum") for c in self.contenders for job in c.jobs)
        return next((float(value) for value in known if value is not None), None)

    @cached_property
    def worst(self) -> float:
        """The lowest final return of all trials; NaN if there is none."""
        values = np.concatenate([c.final for c in self.contenders])
        return float(np.nanmin(values)) if np.isfinite(values).any() else np.nan

    @cached_property
    def scale(self) -> tuple[float, float, str]:
        """The returns that score 0 and 1, and where they come from; NaN if all trials are equal."""
        if self.reference:
            return self.reference.random, self.reference.solved, f"0: random play, 1: {self.reference.why}"
        final = [c.scores for c in self.finished]
        low, high = (float(f(np.concatenate(final))) if final else np.nan for f in (np.min, np.max))
        random = [c for c in self.finished if c.algo == "random"]
        if random:
            low = float(np.mean(random[0].scores))
        why = f"0: {'random play' if random else 'the worst trial'} of this study, 1: its best trial"
        return (low, high, why) if high > low else (np.nan, np.nan, why)


def final_returns(job: JobData) -> np.ndarray | None:
    """The final return of each trial of a job, NaN for a trial without one; None for a job without any.  # [N]"""
    result = (job.summary or {}).get("final/return")
    return np.array(result["per_trial"], np.float64) if result else None


def _number(summary: Mapping[str, Any] | None, name: str) -> float:
    value = (summary or {}).get(name)
    return float(value) if value is not None else np.nan
