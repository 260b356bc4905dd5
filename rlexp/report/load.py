"""Reads a job's folder back; nothing here knows how it was written, or needs more than NumPy."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Curve(NamedTuple):
    """One metric of all trials."""

    steps: np.ndarray  # [T], env steps of one trial
    values: np.ndarray  # [T, N], NaN where a trial has no value


@dataclass
class JobData:
    """One job's folder in memory.

    Attributes:
        folder: where it was read from.
        job: `job.json`; `job["seeds"]` has one seed a trial.
        summary: `summary.json`, or `None` while the job has not ended.
        curves: metric name -> `Curve`. `T` is the number of records with this metric.
    """

    folder: Path
    job: dict[str, Any]
    summary: dict[str, Any] | None
    curves: dict[str, Curve]


def load_job(folder: str | Path) -> JobData:
    """Loads `job.json`, `summary.json` and `metrics.jsonl` of a job.

    The job may be waiting, running or killed: `summary.json` and `metrics.jsonl` may be missing, and a last
    line of `metrics.jsonl` that is not ended by a newline is left out if it is broken.

    Args:
        folder: the job's folder, `outputs/<study>/<algo>-<env>-<config_id>`.

    Returns:
        The job's data.

    Raises:
        FileNotFoundError: if the folder has no `job.json`.
        ValueError: if a file is broken, or a record has not one value a trial; names the file and line.
    """
    folder = Path(folder)
    if not (folder / "job.json").is_file():
        raise FileNotFoundError(f"{folder} is not a job's folder: it has no job.json")
    job = _load_json(folder / "job.json")
    summary = _load_json(folder / "summary.json") if (folder / "summary.json").exists() else None
    return JobData(folder, job, summary, _load_curves(folder / "metrics.jsonl", len(job["seeds"])))


def _load_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def _load_curves(path: Path, num_trials: int) -> dict[str, Curve]:
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    records: dict[str, tuple[list[int], list[np.ndarray]]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            step = int(record["step"])
            metrics = {name: _values(name, row, num_trials) for name, row in record["metrics"].items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if number == len(lines):  # after the last newline: nothing, or half a line of a killed process
                continue
            text = f"{path}, line {number}: expected a record of {num_trials} trials: {error!r}"
            raise ValueError(text) from error
        for name, values in metrics.items():
            steps, rows = records.setdefault(name, ([], []))
            steps.append(step)
            rows.append(values)
    return {name: Curve(np.array(steps, np.int64), np.stack(rows)) for name, (steps, rows) in records.items()}


def _values(name: str, row: Any, num_trials: int) -> np.ndarray:
    values = np.array(row, dtype=np.float64)  # [N], null becomes NaN
    if values.shape != (num_trials,):
        raise ValueError(f"{name} has shape {values.shape}, expected ({num_trials},)")
    return values
