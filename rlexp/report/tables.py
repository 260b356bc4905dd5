"""The rows of a report's CSV tables, and how they are written: the fields of a row are the columns of its table."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from io import StringIO
from pathlib import Path
from typing import Any

from rlexp.config.study_names import MISSING
from rlexp.data.checkpoint import write_atomically
from rlexp.report.compare import Comparison
from rlexp.system import words
from rlexp.system.text import clean


@dataclass(frozen=True)
class ResultRow:
    """One contender on one environment: a row of `results.csv`. NaN means that there is no value.

    Attributes:
        environment, contender: their names.
        trials: number of trials.
        with_final_return: number of those with a final return.
        iqm, low, high: of the final returns, with the 95 % interval of the IQM.
        mean, worst: of the final returns.
        area_under_curve_iqm: IQM of the areas under the learning curves.
        steps_to_threshold_median: env steps until the evaluation reached the threshold; infinite for "never".
        reached_threshold: number of trials that reached it; None if that is not known.
        env_steps: of the longest trial.
        wall_seconds: of all its jobs.
        steps_per_second: env steps of all trials per second of training.
        status: of the trials, in words.
        exact_value_iqm: IQM of the exact values of the best weights.
    """

    environment: str
    contender: str
    trials: int
    with_final_return: int
    iqm: float
    low: float
    high: float
    mean: float
    worst: float
    area_under_curve_iqm: float
    steps_to_threshold_median: float
    reached_threshold: int | None
    env_steps: int
    wall_seconds: float
    steps_per_second: float
    status: str
    exact_value_iqm: float

    def cells(self, with_exact_value: bool) -> list[str]:
        """The row as the page shows it.

        Args:
            with_exact_value: whether its table has a column for the exact value.
        """
        scored, trials = self.with_final_return, self.trials
        speed = self.steps_per_second
        return [
            self.contender,
            f"{trials}" if scored in (trials, 0) else f"{scored} of {trials}",
            words.interval(self.iqm, self.low, self.high),
            *([words.number(self.exact_value_iqm)] if with_exact_value else []),
            words.number(self.mean),
            words.number(self.worst),
            words.number(self.area_under_curve_iqm),
            self._to_threshold(),
            words.steps(self.env_steps),
            words.seconds(self.wall_seconds) + (f", {words.steps(speed)} steps/s" if math.isfinite(speed) else ""),
            self.status,
        ]

    def _to_threshold(self) -> str:
        if self.reached_threshold is None or self.with_final_return == 0:
            return "-"
        if self.reached_threshold == 0:
            return "never"
        median = self.steps_to_threshold_median
        return (f"{words.steps(median)}, " if math.isfinite(median) else "") + (
            f"{self.reached_threshold} of {self.trials} trials"
        )


@dataclass(frozen=True)
class TrialRow:
    """One trial: a row of `trials.csv`. NaN: no value; infinite steps to the threshold: it was never reached."""

    environment: str
    contender: str
    seed: int
    status: str
    final_return: float
    area_under_curve: float
    steps_to_threshold: float
    exact_value: float


@dataclass(frozen=True)
class CurveRow:
    """One record of a contender's learning curve: a row of `curves.csv`; `low` and `high` bound the IQM, pointwise."""

    environment: str
    contender: str
    metric: str | None
    step: int
    iqm: float
    low: float
    high: float
    trials: int


@dataclass(frozen=True)
class ProfileRow:
    """One point of a performance profile: a row of `profiles.csv`; `share` of the trials have more than `score`."""

    contender: str
    score: float
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class ComparisonRow:
    """One comparison: a row of `comparisons.csv`; `low` and `high` bound the probability of improvement."""

    environment: str
    measure: str
    first: str
    second: str
    verdict: str
    reason: str
    more_trials: int | None
    trials: int
    paired: bool
    mean_difference: float
    p: float
    p_holm: float
    probability_of_improvement: float
    low: float
    high: float

    @classmethod
    def of(cls, environment: str, measure: str, c: Comparison) -> ComparisonRow:
        """The row of a comparison."""
        return cls(
            environment, measure, c.first, c.second, c.verdict, c.reason, c.more_trials, c.num_trials, c.paired,
            c.difference, c.p, c.adjusted, *c.improvement,
        )  # fmt: skip


@dataclass(frozen=True)
class ComponentRow:
    """The effect of one component: a row of `components.csv`; `low` and `high` bound the effect.

    The effect is that of `contender` minus that of `base`: of the mean return on one environment, of the IQM of
    normalised scores over all of them.
    """

    environment: str
    measure: str
    change: str
    component: str
    base: str
    contender: str
    trials: int
    paired: bool
    effect: float
    low: float
    high: float
    p: float
    p_holm: float
    verdict: str
    reason: str


Row = ResultRow | TrialRow | CurveRow | ProfileRow | ComparisonRow | ComponentRow


def write_rows(path: Path, kind: type[Row], rows: Iterable[Row]) -> None:
    """Write rows of one kind as CSV."""
    names = [field.name for field in fields(kind)]
    write_csv(path, names, ([getattr(row, name) for name in names] for row in rows))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table as CSV, atomically."""
    table = StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(table.getvalue().encode()))


def _cell(value: Any) -> Any:
    """Numbers to every digit, nothing for a missing value, and no text that a spreadsheet would run as a formula."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return repr(float(value))
    value = clean(value, newlines=False) if isinstance(value, str) else value
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") and value != MISSING else value
