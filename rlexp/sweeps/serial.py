"""The jobs of a sweep that run one after another in one worker process, and what happens when one kills it.

All jobs share a worker (see `rlexp/system/supervisor.py`), and with it TensorFlow and compiled programs. If a job kills
the worker, that job alone is started again in a new one, up to `restarts` times, and then given up.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from rlexp.sweeps.sweep import Sweep
from rlexp.system.supervisor import Death, Worker
from rlexp.system.text import clean
from rlexp.tracking.base import Tracker
from rlexp.tracking.follower import adopt


class SerialJobs:
    """Runs jobs of a sweep in a worker.

    Args:
        sweep: its outcomes say which jobs are left.
        tracker: of the sweep; it delivers the worker's jobs.
        launch: runs jobs, given their overrides and the number of the first one; called in the worker.
        report: writes the study's report; called in the worker.
        overrides: returns the overrides of a job, given its number.
        restarts: how often a job that killed its process is started again.
    """

    def __init__(
        self,
        sweep: Sweep,
        tracker: Tracker,
        launch: Callable[[list[list[str]], int], None],
        report: Callable[[], None],
        overrides: Callable[[int], list[str]],
        restarts: int,
    ) -> None:
        self._sweep, self._tracker, self._overrides, self._restarts = sweep, tracker, overrides, restarts
        self._launch, self._write_report = launch, report
        self._worker: Worker | None = None
        self._deaths: Counter[int] = Counter()

    def run(self, indices: Collection[int], max_batch_size: int | None) -> None:
        """Run the given jobs that have no outcome, until each has one."""
        while pending := [index for index in self._sweep.pending() if index in indices]:
            suspects = [index for index in pending if self._deaths[index]]
            batch = suspects[:1] or pending[: max_batch_size or len(pending)]
            self._sweep.announce(batch)
            death = self._ask({"batch": [self._overrides(i) for i in batch], "first": batch[0]})
            left = [index for index in self._sweep.pending() if index in batch]
            if death is not None:
                if left:  # else the process died after its last job had its outcome
                    self._count(self._running(death, left), death.how, death.facts.get("folder"))
            else:
                for index in left:
                    self._count(index, "it left no outcome", None)

    def report(self) -> bool:
        """Let the worker write the report, as it has the libraries loaded; False if there is no worker."""
        return self._worker is not None and self._worker.alive() and self._ask({"report": True}) is None

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _ask(self, request: Any) -> Death | None:
        """Send a request to the worker, and start one if there is none; returns how the worker died, if it did."""
        if self._worker is not None and not self._worker.alive():
            self.close()
        if self._worker is None:
            self._worker = Worker(self._serve)
        try:
            return self._worker.ask(request)
        finally:
            adopt(self._tracker, self._worker.followed)

    def _serve(self, request: Any) -> None:
        """Answer a request; called in the worker."""
        if "report" in request:
            self._write_report()
        else:
            self._launch(request["batch"], request["first"])

    @staticmethod
    def _running(death: Death, left: Sequence[int]) -> int:
        """The job that a worker ran when it died; if it ran none, the first job that is left."""
        number = Path(str(death.facts.get("job", ""))).name
        return int(number) if number.isdigit() and int(number) in left else left[0]

    def _count(self, index: int, how: str, folder: str | None) -> None:
        """Count a death of job `index`, and give the job up after too many."""
        self._deaths[index] += 1
        label, times = self._sweep.names[index], self._deaths[index]
        if times > self._restarts:
            died = f"its process died {times} times" if times > 1 else "its process died"
            self._sweep.lose(index, f"{died} ({how})", folder)
            where = f"; its folder: {folder}" if folder else ""
            print(f"lost: {clean(label)}: {died} ({how}); the other jobs continue{where}", file=sys.stderr, flush=True)
        else:
            again = f"starting it again ({times} of {self._restarts})"
            print(f"{clean(label)}: its process died ({how}); {again}", file=sys.stderr, flush=True)
