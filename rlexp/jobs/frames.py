"""Results as a tidy table, one row per value: the columns `job`, `seed`, `step`, `metric`, `value`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from rlexp.jobs.results import JobData
from rlexp.system.errors import did_you_mean, refusal

if TYPE_CHECKING:
    import pandas

COLUMNS = ("job", "seed", "step", "metric", "value")


def tidy(jobs: Iterable[tuple[str, JobData]], metrics: Collection[str] | None) -> pandas.DataFrame:
    """The records of jobs as a table of pandas.

    Args:
        jobs: the name of each job, and its data.
        metrics: names of those to take; None for all.

    Returns:
        One row per job, seed, step and metric, in this order. Missing values have no row.

    Raises:
        Refusal: if pandas is not installed, or if no job has one of the metrics.
    """
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise refusal("to_frame", "pandas", "no such package", "pip install pandas") from error
    jobs = list(jobs)
    if metrics is not None:
        metrics = [metrics] if isinstance(metrics, str) else list(metrics)
        known = sorted({name for _, data in jobs for name in data.curves})
        for name in metrics:
            if jobs and name not in known:
                raise refusal("metrics", f"some of {', '.join(known)}", repr(name), did_you_mean(name, known))
    parts = [part for name, data in jobs for part in _parts(name, data, metrics)]
    columns: dict[str, Any] = {}
    for column, kind in zip(COLUMNS, (object, np.int64, np.int64, object, np.float64), strict=True):
        columns[column] = np.concatenate([part[column] for part in parts]) if parts else np.zeros(0, kind)
    return pandas.DataFrame(columns)


def _parts(job: str, data: JobData, metrics: Collection[str] | None) -> Iterable[dict[str, np.ndarray]]:
    """The columns of each metric of a job."""
    seeds = np.array(data.job["seeds"], np.int64)  # [N]
    for metric, (steps, values) in data.curves.items():
        if metrics is not None and metric not in metrics:
            continue
        values = values.T  # [N, T]
        present = ~np.isnan(values)
        number = int(present.sum())
        yield {
            "job": np.full(number, job, object),
            "seed": np.broadcast_to(seeds[:, None], values.shape)[present],
            "step": np.broadcast_to(steps, values.shape)[present],
            "metric": np.full(number, metric, object),
            "value": values[present],
        }
