"""What the first process makes of what its workers send: one file of records, one checkpoint, one progress.

Axes: N trials of the job, n trials of one worker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlexp.data.checkpoint import State
from rlexp.engines import parts
from rlexp.engines.services import Records
from rlexp.engines.trial_results import Results
from rlexp.engines.workers.messages import Record


class MergedRecords:
    """Writes the records of all workers as one process would have written them, in the order of lock-steps.

    A worker writes one record at most in a lock-step. So once each worker has written one at a lock-step or at a later
    one, or has ended, the records at that lock-step are complete.

    Args:
        recorder: where they go.
        rows: the trials of each worker.
        steps: env steps that each trial has taken so far.  # [N]
    """

    def __init__(self, recorder: Records, rows: Sequence[slice], steps: np.ndarray) -> None:
        self._recorder, self._rows, self._steps = recorder, rows, steps.copy()
        self._waiting: dict[int, dict[int, Record]] = {}  # lock-step: {worker: record}
        self._latest = [-1] * len(rows)  # lock-step of each worker's latest record

    def add(self, worker: int, record: Record) -> None:
        """Add a record of a worker."""
        self._waiting.setdefault(record.t, {})[worker] = record
        self._latest[worker] = record.t

    def write_up_to(self, t: int) -> None:
        """Write all records up to lock-step `t`."""
        for step in sorted(step for step in self._waiting if step <= t):
            self.write(self._waiting.pop(step))

    def write_complete(self, training: Sequence[int]) -> None:
        """Write the records that are complete, given the workers that still train."""
        self.write_up_to(min((self._latest[worker] for worker in training), default=max(self._waiting, default=-1)))

    def write(self, records: Mapping[int, Record]) -> None:
        """Write the records of some workers, {worker: record}, as one."""
        names = {name for record in records.values() for name in record.metrics}
        metrics = {name: np.full(len(self._steps), np.nan) for name in names}
        for worker, record in records.items():
            self._steps[self._rows[worker]] = record.steps
            for name, values in record.metrics.items():
                metrics[name][self._rows[worker]] = values
        self._recorder.write(self._steps.copy(), metrics)


def failed_state(state: State, like: State, initial: np.ndarray, note: str) -> State:
    """The part of a checkpoint that holds trials whose process has died.

    What their loop would go on from is left empty, since they do not go on.

    Args:
        state: what was last known of them: the "trials" part of their checkpoint, or nothing.
        like: a state of other trials of the job.
        initial: their initial weights.  # [n, P]
        note: why they failed.
    """
    n = len(initial)
    blank = parts.blank(like, n)
    trials: dict[str, Any] = {**blank["trials"], "t": 0, "seconds": 0.0}
    candidates = trials["best"]["candidates"]  # [n, K, P]
    candidates[:] = initial[:, None]
    trials["best"]["scores"] = np.full(candidates.shape[:2], -np.inf)
    trials["eval_return"] = np.full(n, np.nan)
    if state:
        trials |= {name: value for name, value in state.items() if name != "envs"}
    if "broken" in trials["envs"]:
        trials["envs"]["broken"] = np.ones(n, bool)
    notes = [note] * n
    return {
        "trials": {**trials, "active": np.zeros(n, bool), "status": ["failed"] * n, "notes": notes},
        "loop": blank["loop"],
    }


def failed_results(trials: Mapping[str, Any], note: str, trace: str) -> Results:
    """The results of trials whose process has died.

    Args:
        trials: the "trials" part of their last checkpoint.
        note: why they failed.
        trace: the traceback of their process; empty if there is none.
    """
    best, n = trials["best"], len(trials["status"])
    return Results(
        best["candidates"][:, 0],
        best["scores"][:, 0],
        best["steps"][:, 0],
        dict(trials["counts"]),
        ["failed"] * n,
        [note] * n,
        trials["restarts"],
        [trace] * n,
        trials["episodes"],
        np.full(n, np.nan),
        None,
        None,
    )
