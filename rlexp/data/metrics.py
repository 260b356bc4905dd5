"""Metrics: their names and meanings, and their records in metrics.jsonl, the source of truth.

A record is one line: {"step": env steps of a trial, "time": unix seconds, "metrics": {name: [number or null, ...]},
"sum": checksum of step and metrics}, with one number per trial. Nothing is averaged over trials here. Except for
"time", the lines of a job depend on its configuration alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlexp.system.links import open_to_write
from rlexp.system.stored_files import record_sum

METRICS = {
    "train/return": "sum of rewards of an exploring training episode, mean over those since the record before",
    "train/length": "env steps of a training episode, mean as for train/return",
    "train/loss": "loss of an update (mean over its batch), mean over the updates since the last record",
    "train/q_mean": "Q(o_tm1, a_tm1), mean over the batch and the updates since the last record",
    "train/entropy": "entropy of the policy in nats, mean over the batch and the updates since the last record",
    "train/value_loss": "squared error of the baseline, mean over the batch and the updates since the last record",
    "train/approx_kl": "rho - 1 - log rho, rho the ratio of an action's probability to that when it was taken; mean "
    "over an update's rows and the updates since the last record, those that algo.target_kl left out included",
    "train/clip_fraction": "share of rows whose rho differs from 1 by more than algo.clip_ratio, as train/approx_kl",
    "train/explained_variance": "1 - Var(target - value) / Var(target) over the rows of an update, mean over the "
    "updates since the last record",
    "train/critic_loss": "loss of both critics, mean over the batch and the updates since the last record",
    "train/policy_loss": "loss of the policy that goes up the critics' values, mean as for train/critic_loss",
    "train/temperature": "weight of the policy's entropy in its loss, mean over the updates since the last record",
    "train/grad_norm": "global norm of a trial's gradient before clipping, mean over the updates since the last record",
    "train/td_error": "absolute TD error of an update of a table, mean over the updates since the last record",
    "train/residual": "largest change of an action value in a planning sweep, mean over those since the last record",
    "train/epsilon": "probability of a random action, at the record's step",
    "train/lr": "learning rate, at the record's step",
    "eval/return": "sum of rewards of an episode played by evaluation.policy, mean over num_episodes paired episodes "
    "(of several evaluations, where a job has too many for a record each)",
    "eval/length": "env steps of an evaluation episode, mean as for eval/return",
    "eval/regret": "expected return of the best policy (any, within the time limit, undiscounted) minus eval/return",
    "final/return": "sum of rewards of such an episode with the best weights, mean over final_episodes fresh episodes",
    "final/length": "env steps of an episode with the best weights, mean as for final/return",
    "final/value": "expected return (undiscounted, within the time limit) of the best weights, exactly, from the "
    "transition table; where the environment is one, and evaluation.policy draws no actions",
    "time/steps_per_second": "env steps of all trials together per second since the last record (in MLflow only)",
}

DIGEST_SIZE = 16  # bytes
ROWS = 64  # values of a metric that a `Window` sums at once


class Window:
    """Means per metric and trial, since the last record.

    What `add` is given is kept, and summed many rows at once: one row after the other, it takes several times as long.
    """

    def __init__(self, num_trials: int) -> None:
        self._n = num_trials
        self._sum: dict[str, np.ndarray] = {}
        self._count: dict[str, np.ndarray] = {}
        self._rows: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}  # values and trials that are not summed yet

    def add(self, name: str, values: np.ndarray, trials: np.ndarray) -> None:
        """Add one value for each chosen trial: values [N], trials [N] bool."""
        rows = self._rows.setdefault(name, [])
        rows.append((values.copy(), trials.copy()))
        if len(rows) >= ROWS:
            self._begin(name)

    def add_one(self, name: str, k: int, value: float) -> None:
        """Add one value for trial k."""
        self._begin(name)
        self._sum[name][k] += value
        self._count[name][k] += 1

    def add_events(self, name: str, trials: np.ndarray, values: np.ndarray) -> None:
        """Add values [M] of trials [M], given by number: bit for bit what `add` gives for one after the other."""
        self._begin(name)
        np.add.at(self._sum[name], trials, values)
        np.add.at(self._count[name], trials, 1)

    def total(self, name: str) -> np.ndarray:
        """The current sums [N], for a program that goes on adding to them."""
        self._begin(name)
        return self._sum[name]

    def set_total(self, name: str, values: np.ndarray, counts: np.ndarray) -> None:
        """Put back sums [N] to which a program has added `counts` [N] values each."""
        self._begin(name)
        self._sum[name] = np.array(values, np.float64)
        self._count[name] += counts

    def add_rows(self, name: str, values: np.ndarray, trials: np.ndarray) -> None:
        """Add rows of values [T, N] for trials [T, N] bool: bit for bit what `add` gives row after row."""
        self._begin(name)
        self._sum_up(name, values, trials)

    def _sum_up(self, name: str, values: np.ndarray, trials: np.ndarray) -> None:
        terms = np.vstack([self._sum[name], np.where(trials, values, 0.0)])  # [1 + T, N]
        self._sum[name] = np.cumsum(terms, axis=0)[-1]  # one after the other, where np.sum adds in pairs
        self._count[name] += trials.sum(axis=0)

    def flush(self, trials: np.ndarray) -> dict[str, np.ndarray]:
        """Take the means of the chosen trials [N] bool and clear their windows; those of the others go on.

        Returns:
            name -> [N], NaN for a trial that is not chosen or had no value; no entry if all are NaN.
        """
        out = {}
        self._sum_all()
        for name in sorted(self._sum):
            total, count = self._sum[name], self._count[name]
            has = trials & (count > 0)
            if has.any():
                out[name] = np.where(has, total / np.maximum(count, 1), np.nan)
            total[trials], count[trials] = 0.0, 0
        return out

    def _begin(self, name: str) -> None:
        """Let the sums and counts of a metric hold all that was added."""
        if name not in self._sum:
            self._sum[name], self._count[name] = np.zeros(self._n), np.zeros(self._n, np.int64)
        if rows := self._rows.pop(name, None):
            values, trials = zip(*rows, strict=True)
            self._sum_up(name, np.array(values), np.array(trials))

    def _sum_all(self) -> None:
        for name in list(self._rows):
            self._begin(name)

    def get_state(self) -> dict[str, Any]:
        """The current sums and counts."""
        self._sum_all()
        return {"sum": self._sum, "count": self._count}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Put back what `get_state` returned."""
        self._rows = {}
        self._sum, self._count = dict(state.get("sum", {})), dict(state.get("count", {}))


class Recorder:
    """Appends records to a metrics.jsonl.

    Args:
        path: the file. It is cut to `position` bytes: records that an interrupted run wrote after its last checkpoint
            are written again.
        position: 0 for a new run.

    Raises:
        ValueError: if the file is shorter than `position`.
    """

    def __init__(self, path: Path, position: int = 0) -> None:
        self._digest = _digest_of(path, position)
        # unbuffered: what did not fit on a full disk is not written again when the file is closed
        self._file = open_to_write(path, "ab", buffering=0)
        self._file.truncate(position)
        self._file.seek(position)

    @property
    def digest(self) -> str:
        """Of the whole file."""
        return self._digest.hexdigest()

    def write(self, steps: np.ndarray, metrics: Mapping[str, np.ndarray]) -> None:
        """Write one record, unless it has no finite number.

        Args:
            steps: env steps that each trial has taken; the record's step is the largest.  # [N]
            metrics: name -> values; non-finite ones become null, metrics without a finite one are left out.  # [N] each
        """
        # In the order of their names, so that a line does not depend on who has counted what first.
        known = {name: metrics[name] for name in sorted(metrics) if np.isfinite(metrics[name]).any()}
        values = {name: [_number(v) for v in array] for name, array in known.items()}
        if not values:
            return
        record = {"step": int(steps.max()), "time": round(time.time(), 3), "metrics": values}
        line = json.dumps({**record, "sum": record_sum(record)})
        left = memoryview(line.encode() + b"\n")
        while left:
            written = self._file.write(left)
            self._digest.update(left[:written])
            left = left[written:]

    def sync(self) -> int:
        """Bring everything to the disk; the number of bytes written."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def check_records(path: Path, position: int, digest: str | None) -> None:
    """Check that a metrics.jsonl still begins with its content at a checkpoint.

    Args:
        path: the file; a missing one counts as empty.
        position: its size at the checkpoint, in bytes.
        digest: `Recorder.digest` at the checkpoint; None in checkpoints of earlier versions.

    Raises:
        ValueError: if it does not; one line that says how it differs.
    """
    found = _digest_of(path, position).hexdigest()
    if digest is not None and found != digest:
        raise ValueError(f"the first {position:,} bytes of {path.name} have changed since")


def _digest_of(path: Path, position: int) -> Any:
    """A running digest of the first `position` bytes of a file; raises `ValueError` if the file is shorter."""
    digest, left = hashlib.blake2b(digest_size=DIGEST_SIZE), position
    if position:
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            while left and (part := file.read(min(left, 2**20))):
                digest.update(part)
                left -= len(part)
    if left:
        raise ValueError(f"{path.name} has {position - left:,} bytes, and had {position:,} then")
    return digest


def _number(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
