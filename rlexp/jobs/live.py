"""How far a running job is, read from the records that it is writing."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlexp.math.statistics import iqm
from rlexp.system.stored_files import Damaged, read_from, read_record

TAIL = 2**18  # bytes at the end of a large file that are read first; what is before them is old


class LiveJob:
    """Follows the metrics.jsonl of one job; each `look` reads only what is new.

    Args:
        folder: the job's.
        started: when it was started the last time, seconds since 1970.
        num_trials: N.
        config: its configuration; without one, its share of the budget is not known.

    Attributes:
        step: env steps per trial at the last record; None before the first.
        eval_return: the latest evaluation of each trial, NaN before the first.  # [N]
    """

    def __init__(self, folder: Path, started: float, num_trials: int, config: Mapping[str, Any]) -> None:
        self._path, self.started, self._n = folder / "metrics.jsonl", started, num_trials
        budget, env = config.get("budget") or {}, config.get("env") or {}
        self._episodes = budget.get("episodes")
        self._steps = None if self._episodes else budget.get("steps") or env.get("default_steps")
        self._begin(0)

    def _begin(self, at: int) -> None:
        """Read from byte `at` on."""
        self._at, self._half, self._lines = at, b"", 0
        self._inside = at > 0  # of a line, whose rest is left out
        self.step: int | None = None
        self.eval_return = np.full(self._n, np.nan)
        self._played, self._counted = 0.0, 0  # episodes per trial, and the step up to which they are counted
        self._time = 0.0  # of the last record, seconds since 1970
        self._base: tuple[float, float] | None = None  # time and share at the first record of this start

    @property
    def share(self) -> float | None:
        """Share of the budget that is done, from 0 to 1; None if unknown. Of episodes, an estimate by their lengths."""
        if self.step is None:
            return 0.0 if self._steps or self._episodes else None
        if self._episodes:
            return min(self._played / self._episodes, 1.0)
        return min(self.step / self._steps, 1.0) if self._steps else None

    @property
    def evaluation(self) -> float | None:
        """Interquartile mean over the trials of the latest evaluations; None before the first one."""
        seen = self.eval_return[np.isfinite(self.eval_return)]
        return float(iqm(seen)) if seen.size else None

    def left(self, now: float) -> float | None:
        """Estimated seconds until the end of training; None if unknown. `now`: seconds since 1970."""
        share = self.share
        if self._base is None or share is None or share <= self._base[1]:
            return None
        pace = (share - self._base[1]) / max(self._time - self._base[0], 1e-3)
        return max((1.0 - share) / pace - max(now - self._time, 0.0), 0.0)

    def look(self) -> None:
        """Read what is new. A half-written line waits for its rest; a file that was cut is read anew."""
        try:
            size = self._path.stat().st_size
            if size < self._at:  # continued from a checkpoint before
                self._begin(0)
            if self._at == 0 and not self._episodes:
                self._begin(max(size - TAIL, 0))
            data = read_from(self._path, self._at)
        except (Damaged, OSError):  # nothing there yet, or no file
            return
        self._at += len(data)
        *lines, self._half = (self._half + data).split(b"\n")
        for line in lines[1:] if self._inside else lines:
            self._lines += 1
            with contextlib.suppress(Damaged):  # the report names it once the job has ended
                self._add(read_record(self._path, self._lines, line, self._n))
        self._inside = self._inside and not lines

    def _add(self, record: Mapping[str, Any]) -> None:
        """Count one record."""
        metrics, self.step, self._time = record["metrics"], record["step"], record["time"]
        lengths = [length for length in metrics.get("train/length", ()) if length]
        if lengths:
            self._played += max(record["step"] - self._counted, 0) / float(np.mean(lengths))
            self._counted = record["step"]
        if "eval/return" in metrics:
            row = np.array(metrics["eval/return"], np.float64)  # [N], null becomes NaN
            self.eval_return = np.where(np.isfinite(row), row, self.eval_return)
        share = self.share
        if self._base is None and share is not None and self._time >= self.started:
            self._base = self._time, share
