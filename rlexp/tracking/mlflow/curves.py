"""The points in MLflow for the records of `metrics.jsonl`: each trial's own, and the job's aggregates over trials."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from mlflow.entities import Metric

from rlexp.math.statistics import iqm
from rlexp.tracking.mlflow.params import mlflow_key

Aggregates = dict[str, Callable[[Any], Any]]
OF_RETURNS: Aggregates = {"iqm": iqm, "min": np.min, "max": np.max}  # of `train/return` and `eval/return`
OF_OTHERS: Aggregates = {"mean": np.mean}

Last = Sequence[float] | None  # step and time of the record before, if there is one


def points(
    records: Sequence[dict[str, Any]], times: Sequence[float], last: Last, started: float, runs: Sequence[str]
) -> dict[str, list[Metric]]:
    """The points of some records, by run.

    Args:
        records: successive lines of `metrics.jsonl`.
        times: of the records, in seconds; they identify a point that is sent twice.
        last: step and time of the record before the first.
        started: when the job was last started, in seconds.
        runs: ids of the job's run and of its trials' runs, in the order of their seeds.
    """
    found: dict[str, list[Metric]] = defaultdict(list)
    for record, seconds in zip(records, times, strict=False):
        _add_values(found, record, int(seconds * 1000), runs)
        rate = _steps_per_second(record["step"], seconds, last, started, len(runs) - 1)
        if rate is not None:
            found[runs[0]].append(Metric("time/steps_per_second", rate, int(seconds * 1000), record["step"]))
        last = (record["step"], seconds)
    return found


def _add_values(found: dict[str, list[Metric]], record: dict[str, Any], timestamp: int, runs: Sequence[str]) -> None:
    job_run, *trial_runs = runs
    step = record["step"]
    for name, values in record["metrics"].items():
        name = mlflow_key(name)
        for run_id, value in zip(trial_runs, values, strict=True):
            if value is not None:
                found[run_id].append(Metric(name, float(value), timestamp, step))
        present = [value for value in values if value is not None]
        if present and name != "final/return":  # the job's final/return comes from the summary
            for aggregate, function in (OF_RETURNS if name.endswith("/return") else OF_OTHERS).items():
                found[job_run].append(Metric(f"{name}/{aggregate}", float(function(present)), timestamp, step))


def _steps_per_second(step: int, seconds: float, last: Last, started: float, num_trials: int) -> float | None:
    """Env steps of all trials per second since the last record; None where this start of the job has no earlier one."""
    if last is None or last[1] < started <= seconds:
        return None
    return (step - last[0]) * num_trials / (seconds - last[1]) if step > last[0] and seconds > last[1] else None
