"""The jobs of a sweep that run one after another in one process, which one of them may kill.

All share a worker (see `rlexp/system/supervisor.py`), and with it TensorFlow and compiled programs. The job that ends
it is known: it is started again in another worker, alone, as often as it may, and then given up; the others are not
counted.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from rlexp.sweeps.sweep import Sweep
from rlexp.system.supervisor import Death, Worker
from rlexp.tracking.base import Tracker
from rlexp.tracking.follower import MLflowTracker


class SerialJobs:
    """Runs jobs of a sweep in a worker.

    Args:
        sweep: whose outcomes say which jobs are left.
        tracker: the sweep's; the worker's jobs are delivered by it.
        launch: runs the jobs of these overrides, the first of them having this number; called in the worker.
        report: writes a page; called in the worker.
        overrides: of the job with this number, as `launch` takes them.
        restarts: how often a job that has ended its process is started again.
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
        """Run those of some jobs that have no outcome, until all have one."""
        while pending := [index for index in self._sweep.pending() if index in indices]:
            suspects = [index for index in pending if self._deaths[index]]
            batch = suspects[:1] or pending[: max_batch_size or len(pending)]
            death = self._ask({"batch": [self._overrides(i) for i in batch], "first": batch[0]})
            left = [index for index in self._sweep.pending() if index in batch]
            if death is not None:
                if left:  # else its last job had its outcome when the process died: nothing is lost
                    self._count(self._running(death, left), death.how, death.facts.get("folder"))
            else:
                for index in left:
                    self._count(index, "it left no outcome", None)

    def report(self) -> bool:
        """Let the worker, which has loaded what that takes, write the report; False where there is none."""
        return self._worker is not None and self._worker.alive() and self._ask({"report": True}) is None

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _ask(self, request: Any) -> Death | None:
        if self._worker is not None and not self._worker.alive():
            self.close()
        if self._worker is None:
            self._worker = Worker(self._serve)
        try:
            return self._worker.ask(request)
        finally:
            if isinstance(self._tracker, MLflowTracker):
                self._tracker.adopt(self._worker.followed)

    def _serve(self, request: Any) -> None:
        """In the worker."""
        if "report" in request:
            self._write_report()
        else:
            self._launch(request["batch"], request["first"])

    @staticmethod
    def _running(death: Death, left: Sequence[int]) -> int:
        """The job that a worker ran when it died; the first that was left where it ran none."""
        number = Path(str(death.facts.get("job", ""))).name
        return int(number) if number.isdigit() and int(number) in left else left[0]

    def _count(self, index: int, how: str, folder: str | None) -> None:
        self._deaths[index] += 1
        label, times = self._sweep.labels[index], self._deaths[index]
        if times > self._restarts:
            died = f"its process died {times} times" if times > 1 else "its process died"
            self._sweep.lose(index, f"{died} ({how})", folder)
            where = f"; its folder: {folder}" if folder else ""
            print(f"lost: {label}: {died} ({how}); the other jobs go on{where}", file=sys.stderr, flush=True)
        else:
            again = f"started again, for the {_ordinal(times)} of {self._restarts} times"
            print(f"{label}: its process died ({how}); it is {again}", file=sys.stderr, flush=True)


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")
