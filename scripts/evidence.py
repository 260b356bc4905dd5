"""The checks of soak.py: differences between two folders of one job, and the contents of an MLflow store.

The store is read with SQL, independently of the code that wrote it.
"""

from __future__ import annotations

import io
import json
import sqlite3
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rlexp.data.checkpoint import Checkpoints


def records(folder: Path) -> list[dict[str, Any]]:
    """The lines of a job's metrics.jsonl without their times and checksums."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("time", "sum")} for line in lines]


def weights(path: Path) -> dict[str, bytes]:
    """The arrays in a `best.keras` or an npz file; the file's own bytes contain its date."""
    if path.suffix == ".npz":
        with np.load(path) as file:
            return {name: file[name].tobytes() for name in file.files}
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file.visititems(lambda name, node: _keep(found, name, node))
    return found


def _keep(found: dict[str, bytes], name: str, node: Any) -> None:
    if isinstance(node, h5py.Dataset):
        found[name] = np.asarray(node).tobytes()


def results(folder: Path) -> dict[str, Any]:
    """All results of a finished job except times, by name."""
    summary = json.loads((folder / "summary.json").read_text())
    timed = ("wall_seconds", "train_seconds", "steps_per_second", "finished", "files", "digest")
    parts: dict[str, Any] = {
        "metrics.jsonl": records(folder),
        "summary.json": {key: value for key, value in summary.items() if key not in timed},
        "evaluation.csv": (folder / "evaluation.csv").read_text(),
        "last checkpoint": _comparable(_last_state(folder)),
    }
    for path in sorted([*folder.glob("*.npz"), *folder.glob("trials/*/best.*")]):
        parts[str(path.relative_to(folder))] = weights(path)
    parts["files"] = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix != ".npz")
    return parts


TIMED_KEYS = ("seconds", "position", "digest")


def _last_state(folder: Path) -> Any:
    """The last checkpoint without seconds, and without length and digest of metrics.jsonl, which contains times."""

    def broken(text: str) -> None:
        raise ValueError(text)

    state: Any = Checkpoints(folder / "checkpoint", 0, 1).load(broken)
    return {**state, "trials": {k: v for k, v in state["trials"].items() if k not in TIMED_KEYS}}


def _comparable(node: Any) -> Any:
    """A nested value with its arrays as bytes, so that == compares it and NaN equals NaN."""
    if isinstance(node, dict):
        return {key: _comparable(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_comparable(value) for value in node]
    return (str(node.dtype), node.shape, node.tobytes()) if isinstance(node, np.ndarray) else repr(node)


def differences(one: Path, other: Path) -> list[str]:
    """The names of the results in which two folders of one job differ; empty if they are equal bit for bit."""
    a, b = results(one), results(other)
    return [name for name in sorted(a.keys() | b.keys()) if name not in a or name not in b or a[name] != b[name]]


@dataclass
class Stored:
    """The contents of a store.

    Attributes:
        lost: number of points in the jobs' metrics.jsonl that the store lacks, or has with another value.
        doubled: number of points that it has more than once.
        kinds: number of runs per kind: job, trial, sweep.
        open: names of runs that are not closed as finished.
        parents: ids of the parent runs of the jobs' runs.
        most: largest number of points of a metric in one run.
    """

    lost: int = 0
    doubled: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    open: list[str] = field(default_factory=list)
    parents: set[str] = field(default_factory=set)
    most: int = 0


def stored(store: Path, folders: list[Path]) -> Stored:
    """Compare an SQLite store of MLflow with the folders of its jobs.

    Args:
        store: the file.
        folders: the jobs' folders, each with metrics.jsonl and tracking.json.
    """
    found = Stored()
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as base:
        points: dict[tuple[str, str, int], list[float]] = {}
        for run, name, step, value in base.execute("SELECT run_uuid, key, step, value FROM metrics"):
            points.setdefault((run, name, step), []).append(value)
        found.kinds.update(value for (value,) in base.execute("SELECT value FROM tags WHERE key = 'rlexp.kind'"))
        found.open = [name for (name,) in base.execute("SELECT name FROM runs WHERE status != 'FINISHED'")]
        query = """SELECT p.value FROM tags p JOIN tags k USING (run_uuid)
                   WHERE p.key = 'mlflow.parentRunId' AND k.key = 'rlexp.kind' AND k.value = 'job'"""
        found.parents = {run for (run,) in base.execute(query)}
    found.doubled = sum(len(values) - 1 for values in points.values())
    found.most = max(Counter((run, name) for run, name, _ in points).values(), default=0)
    for folder in folders:
        try:
            state = json.loads((folder / "tracking.json").read_text())
        except FileNotFoundError:
            state = {"run_id": None, "trial_runs": {}}
        for record in records(folder):
            for name, values in record["metrics"].items():
                for run, value in zip(state["trial_runs"].values(), values, strict=False):
                    found.lost += value is not None and value not in points.get((run, name, record["step"]), [])
                found.lost += sum(value is not None for value in values[len(state["trial_runs"]) :])
                if name != "final/return":
                    for aggregate in ("mean", "iqm", "min", "max"):
                        found.lost += (state["run_id"], f"{name}/{aggregate}", record["step"]) not in points
    return found
