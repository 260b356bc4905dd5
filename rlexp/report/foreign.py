"""Results of other programs: a CSV with the columns job, seed, step, metric and value, one row per number.

This is what `to_frame()` of rlexp's own results gives, and what exports of openrlbenchmark, rliable and TensorBoard
become with a line of code. Metrics that count are `eval/return`, `train/return` and `final/return`. A column `env`, or
jobs named `... on <environment>`, tell the environment where the studies beside the file have several.

Axes: `N` trials, `T` records.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlexp.jobs.results import Curve, JobData, StudyData
from rlexp.system.stored_files import Damaged, read_bytes, shown
from rlexp.system.text import printable

COLUMNS = ("job", "seed", "step", "metric", "value")
CURVES = ("eval/return", "train/return")
FINAL = "final/return"
LARGEST = 2**53  # seeds and steps: whole numbers that a float holds
MOST = 1e100  # the largest value: squares of larger ones overflow
INTERVALS = 150  # of a curve whose trials have their records at different steps
MIN_FILLED = 0.5  # share of steps at which a trial has a record, so that steps stay as they are
LONGEST = 120  # characters of a name


@dataclass
class ForeignJob(JobData):
    """A job of another program.

    Attributes:
        told: what the report says about its results.
    """

    told: str = ""


_Numbers = dict[str, dict[int, tuple[list[int], list[float]]]]  # of one job: metric -> seed -> steps and values


def load(path: Path, known: Sequence[Mapping[str, Any]]) -> StudyData:
    """Read the jobs of a CSV.

    Args:
        path: of the file.
        known: the `env` of the configurations that they are compared with, to find their environments in.

    Returns:
        A study named like the file.

    Raises:
        Damaged: for a file that cannot be read; the message names the file and the line.
    """
    jobs = _read(path)
    if not jobs:
        raise Damaged(path, f"rows with the metric {' or '.join(CURVES)}", "none")
    return StudyData(path.name, [_job(path, *named, numbers, known) for named, numbers in jobs.items()], {})


def _read(path: Path) -> dict[tuple[str, str], _Numbers]:
    """The numbers of each job, by its name and its environment, which is "" without a column `env`."""
    jobs: dict[tuple[str, str], _Numbers] = {}
    for line, row in _rows(path):
        name, env = (printable(row.get(key) or "", newlines=False).strip()[:LONGEST] for key in ("job", "env"))
        if not name:
            raise Damaged(_at(path, line), "the name of a job", "none")
        seed, step = _whole(path, line, "seed", row["seed"]), _whole(path, line, "step", row["step"])
        value = _number(path, line, row["value"])
        if row["metric"] not in (*CURVES, FINAL):
            continue
        by_seed = jobs.setdefault((name, env), {}).setdefault(row["metric"], {})
        steps, values = by_seed.setdefault(seed, ([], []))
        steps.append(step)
        values.append(value)
    for (name, _), numbers in jobs.items():
        if not any(metric in numbers for metric in CURVES):
            raise Damaged(path, f"rows of {shown(name)} with the metric {' or '.join(CURVES)}", "none")
    return jobs


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a file as texts by column, with their line numbers."""
    data = read_bytes(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Damaged(_at(path, data.count(b"\n", 0, error.start) + 1), "text in UTF-8", "other bytes") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in COLUMNS if header.count(name) != 1]
        if missing:
            received = ", ".join(shown(name) for name in header[:8]) or "nothing"
            raise Damaged(_at(path, 1), f"the columns {', '.join(COLUMNS)}, each once", received)
        for row in reader:
            if row and len(row) != len(header):
                raise Damaged(_at(path, reader.line_num), f"{len(header)} values", str(len(row)))
            if row:
                yield reader.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise Damaged(_at(path, reader.line_num), "a row of a CSV", str(error)) from None


def _at(path: Path, line: int) -> Path:
    return path.with_name(f"{path.name}, line {line}")


def _whole(path: Path, line: int, column: str, text: str) -> int:
    try:
        number = float(text)  # 1e5 and 100000.0 are whole, too
    except ValueError:
        number = math.nan
    if not (0 <= number <= LARGEST and number == int(number)):
        raise Damaged(_at(path, line), f"a whole number from 0 on as {column}", shown(text))
    return int(number)


def _number(path: Path, line: int, text: str) -> float:
    try:
        number = float(text) if text.strip() else math.nan  # pandas writes nothing for NaN
    except ValueError:
        number = math.inf
    if abs(number) > MOST:
        raise Damaged(_at(path, line), f"a number between -{MOST:g} and {MOST:g} as value", shown(text))
    return number


def _job(path: Path, name: str, place: str, numbers: _Numbers, known: Sequence[Mapping[str, Any]]) -> ForeignJob:
    seeds = sorted({seed for by_seed in numbers.values() for seed in by_seed})
    curves, rough = {}, []
    for metric in CURVES:
        if metric in numbers:
            curves[metric], binned = _curve(numbers[metric], seeds)
            rough += [metric] if binned else []
    per_trial, told = _final(numbers, seeds)
    if rough:
        told += (f" The steps of its trials differ, so its curve ({', '.join(rough)}) shows means over "
                 f"{INTERVALS} intervals.")  # fmt: skip
    short, env = _environment(path, name, place, known)
    steps = max(int(curve.steps[-1]) for curve in curves.values())
    job = {
        "study": path.name, "name": name, "algo": short, "env": env["name"], "config_id": name, "group_id": name,
        "seeds": seeds, "command": "", "tags": {},
    }  # fmt: skip
    config = {"algo": {"name": short}, "env": env, "budget": {"steps": steps}}
    summary: dict[str, Any] = {"status": "done", "seeds": seeds}
    if per_trial is not None:
        summary["final/return"] = {"per_trial": [None if math.isnan(v) else v for v in per_trial]}
    return ForeignJob(path, job, summary, curves, config, no_episodes=f"{path.name} has none", told=told)


def _final(numbers: _Numbers, seeds: Sequence[int]) -> tuple[list[float] | None, str]:
    """The final return of each trial, NaN for none, and where it comes from; None if there are none."""
    if FINAL in numbers:
        by_seed = numbers[FINAL]
        return [_last(by_seed.get(seed, ([], []))) for seed in seeds], f"Its final returns are its {FINAL}."
    if "eval/return" in numbers:
        by_seed = numbers["eval/return"]
        last = [_last(by_seed.get(seed, ([], []))) for seed in seeds]
        return last, (f"Its final returns are the last evaluation of each trial, since it has no {FINAL}: they come "
                      "from fewer episodes, and from the last weights, not from the best.")  # fmt: skip
    return None, "It has training returns only: its curve is drawn, but it is not compared."


def _last(numbers: tuple[list[int], list[float]]) -> float:
    """The value of the last step; NaN without steps."""
    steps, values = numbers
    return values[max(range(len(steps)), key=lambda k: (steps[k], k))] if steps else math.nan


def _curve(by_seed: Mapping[int, tuple[list[int], list[float]]], seeds: Sequence[int]) -> tuple[Curve, bool]:
    """One metric of all trials, and whether it is the means over intervals, since trials have different steps."""
    every = np.unique(np.concatenate([np.array(steps, np.int64) for steps, _ in by_seed.values()]))
    places, binned = every, False
    records = sum(len(set(steps)) for steps, _ in by_seed.values())
    if records < MIN_FILLED * len(every) * len(by_seed):
        edges = np.linspace(0, int(every[-1]), INTERVALS + 1)[1:]
        places, binned = np.unique(np.ceil(edges).astype(np.int64)), True
    sums, counts = np.zeros((len(places), len(seeds))), np.zeros((len(places), len(seeds)))
    for trial, seed in enumerate(seeds):
        steps, values = (np.array(part, np.float64) for part in by_seed.get(seed, ([], [])))
        present = np.isfinite(values)
        rows = np.searchsorted(places, steps[present])  # of several values at one place: their mean
        np.add.at(sums[:, trial], rows, values[present])
        np.add.at(counts[:, trial], rows, 1)
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    return Curve(places, means), binned


def _environment(path: Path, name: str, env: str, known: Sequence[Mapping[str, Any]]) -> tuple[str, Mapping[str, Any]]:
    """The name of a job without its environment, and the settings of this environment."""
    if not env and " on " in name:
        short, _, place = name.rpartition(" on ")
        if short and (_matching(place, known) or not known):
            name, env = short, place
    if env:
        return name, next(iter(_matching(env, known)), {"name": env, "id": env})
    distinct = {str(settings.get("name")): settings for settings in known}
    if len(distinct) == 1:
        return name, next(iter(distinct.values()))
    there = f"one of {', '.join(map(shown, distinct))}" if distinct else "since there is no study to take it from"
    raise Damaged(path, f"a column env, or jobs named '... on <environment>' ({there})", shown(name))


def _matching(env: str, known: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The known environments of this name or id."""
    return [settings for settings in known if env in (settings.get("name"), settings.get("id"))]
