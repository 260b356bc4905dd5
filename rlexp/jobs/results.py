"""Reading the results of a job, or of all jobs of a study, from their folders; needs nothing but NumPy."""

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlexp.system.stored_files import (
    MAX_RECORDS,
    Damaged,
    check,
    check_file,
    folders_with,
    read_bytes,
    read_job,
    read_record,
)
from rlexp.system.stored_schemas import CONFIG, JOB
from rlexp.system.stored_yaml import read_config
from rlexp.system.text import clean, printable_tree

NEEDED = (
    "study",
    "name",
    "algo",
    "env",
    "config_id",
    "started",
)  # keys of the `job.json` of a job that is compared with others


class Curve(NamedTuple):
    """One metric of all trials."""

    steps: np.ndarray  # [T], env steps of one trial
    values: np.ndarray  # [T, N], NaN where a trial has no value


@dataclass(frozen=True)
class Episodes:
    """The final episodes, which all trials of a job play.

    Attributes:
        seeds: of the episodes.  # E
        returns: NaN for a trial that has not played the episode.  # [N, E]
    """

    seeds: tuple[int, ...]
    returns: np.ndarray


@dataclass
class JobData:
    """The results of one job.

    Attributes:
        folder: where it was read from.
        job: `job.json`; `job["seeds"]` has one seed per trial.
        summary: `summary.json`, or `None` while the job has not ended.
        curves: metric name -> `Curve`. `T` is the number of records with this metric.
        config: `config.yaml`; only `load_study` fills it.
        episodes: `evaluation.csv`, if it has the episodes of all trials; only `load_study` fills it.
        no_episodes: why `episodes` is `None`.
    """

    folder: Path
    job: dict[str, Any]
    summary: dict[str, Any] | None
    curves: dict[str, Curve]
    config: dict[str, Any] = field(default_factory=dict)
    episodes: Episodes | None = None
    no_episodes: str = "not loaded"


def load_job(folder: str | Path) -> JobData:
    """Load `job.json`, `summary.json` and `metrics.jsonl` of a job.

    The job may be waiting, running or killed: `summary.json` and `metrics.jsonl` may be missing, and a
    broken last line of `metrics.jsonl` without a newline is left out.

    Args:
        folder: the job's folder, `outputs/<study>/<algo>-<env>-<config_id>`.

    Returns:
        The job's data.

    Raises:
        FileNotFoundError: if the folder has no `job.json`. Damaged: if a file is broken, or a record does not have one
        value per trial; the message names the file and line.
    """
    folder = Path(folder)
    try:
        job, summary = read_job(folder)
    except FileNotFoundError:
        raise FileNotFoundError(f"{folder} is not a job's folder: it has no job.json") from None
    return JobData(folder, job, summary, _load_curves(folder / "metrics.jsonl", len(job["seeds"]), summary))


def _load_curves(path: Path, num_trials: int, summary: dict[str, Any] | None) -> dict[str, Curve]:
    try:
        data = read_bytes(path, MAX_RECORDS)
    except FileNotFoundError:
        if path.name in (summary or {}).get("files", {}):
            raise Damaged(path, "the records of a finished job", "no such file") from None
        data = b""
    lines = data.split(b"\n")
    records: dict[str, tuple[list[int], list[np.ndarray]]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            record = read_record(path, number, line, num_trials)
        except Damaged:
            if number == len(lines):  # after the last newline there is nothing, or half a line of a killed process
                continue
            raise
        for name, row in record["metrics"].items():
            steps, rows = records.setdefault(name, ([], []))
            steps.append(record["step"])
            rows.append(np.array(row, np.float64))  # [N], null becomes NaN
    check_file(path, data, summary)
    return {name: Curve(np.array(steps, np.int64), np.stack(rows)) for name, (steps, rows) in records.items()}


@dataclass
class StudyData:
    """The jobs of one study.

    Attributes:
        name: of the study.
        jobs: those that could be read, in the order of their names.
        problems: folder name -> why it could not be read.
    """

    name: str
    jobs: list[JobData]
    problems: dict[str, str]


def load_study(folder: str | Path) -> StudyData:
    """Load all jobs of a study's folder (or the one of a job's folder), finished or not.

    A job that cannot be read is listed in `problems`; the others are loaded.

    Args:
        folder: `outputs/<study>`.
    """
    folder = Path(folder).resolve()
    found = [folder] if os.path.lexists(folder / "job.json") else folders_with(folder, "job.json", "*")
    jobs, problems = [], {}
    for path in found:
        try:
            job = load_job(path)
            check(path / "job.json", job.job, JOB, *NEEDED)
            job.config = load_config(path, job.job)
            job.episodes, job.no_episodes = load_episodes(job)
            jobs.append(job)
        except (ValueError, OSError) as error:
            problems[path.name] = str(error)
    name = next((str(job.job["study"]) for job in jobs if "study" in job.job), folder.name)
    return StudyData(name, jobs, problems)


def load_episodes(job: JobData) -> tuple[Episodes | None, str]:
    """The final episodes behind a job's final returns, or None and the reason why they are not known."""
    path = job.folder / "evaluation.csv"
    final = ((job.summary or {}).get("final/return") or {}).get("per_trial")
    if final is None:
        return None, "no final returns"
    try:
        data = read_bytes(path)
        table = csv.DictReader(data.decode().splitlines())
        rows = [(int(row["seed"]), int(row["episode_seed"]), float(row["return"])) for row in table]
        seeds = [int(seed) for seed in job.job["seeds"]]
        played = tuple(episode for seed, episode, _ in rows if seed == seeds[0])
        if [row[:2] for row in rows] != [(seed, episode) for seed in seeds for episode in played] or not played:
            raise ValueError("expected the same episodes of each trial")
        returns = np.array([row[2] for row in rows]).reshape(len(seeds), len(played))  # [N, E]
        if not np.allclose(returns.mean(axis=1), np.array(final, np.float64), rtol=1e-6, equal_nan=True):
            raise ValueError("expected the final returns as the means of their episodes")
        check_file(path, data, job.summary)
    except FileNotFoundError:
        return None, "no evaluation.csv"
    except (OSError, ValueError, KeyError, TypeError, OverflowError, csv.Error) as error:
        said = str(error).removeprefix(f"{path}: ").splitlines()[0]
        return None, f"evaluation.csv cannot be used: {clean(said, newlines=False)}"
    return Episodes(played, returns), ""


def load_config(folder: str | Path, job: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Load the `config.yaml` of a job as plain values; raises ValueError if it is missing or broken.

    Args:
        folder: of the job.
        job: its `job.json`, with the digest that the file must have; None to skip this check.
    """
    path = Path(folder) / "config.yaml"
    config: dict[str, Any] = printable_tree(read_config(folder))
    check(path, config, CONFIG)
    check_file(path, read_bytes(path), job)
    return config
