"""The loop of the child process that delivers jobs while they run: `rlexp sync --follow OUTPUT_DIR`.

The training process starts it (see `rlexp.tracking.follower`) and writes lines to its standard input: "follow <folder>"
when a job begins, "<final status> <folder>" when it has ended. Standard input that ends without a job's final status
means that the training process has died.
"""

from __future__ import annotations

import contextlib
import enum
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rlexp.system.links import open_to_write
from rlexp.tracking.folders import delivery_lock, final_status, is_sweep, job_uri
from rlexp.tracking.leftovers import tidy
from rlexp.tracking.log import DELIVERED, NOT_DELIVERED, write_log
from rlexp.tracking.sync import reason

INTERVAL = 2.0  # seconds between deliveries while a job runs, at least
SHARE = 0.1  # of the time at most is spent on deliveries: the cores are for training
LONGEST_PAUSE = 60.0  # seconds between attempts during an outage
GRACE = 5.0  # seconds of further attempts after the end of a job, and for what earlier starts have left
RETRY = 1.0  # seconds between these attempts


class State(enum.Enum):
    """The state of a job that is followed."""

    RUNNING = "its new records are sent at intervals"
    ENDED = "the rest is being sent"
    DELIVERED = "MLflow has everything"
    GIVEN_UP = "MLflow has not received everything"


class FollowedJob:
    """A job or a sweep that is followed.

    Args:
        folder: of the job.
        uri: tracking URI; None for the job's own.
        interval: seconds between deliveries, at least.

    Attributes:
        state: see `State`.
        reached: whether MLflow has ever answered.
        due: time of the next delivery, in seconds of `time.monotonic`.
    """

    def __init__(self, folder: Path, uri: str | None, interval: float) -> None:
        self.folder, self._uri, self._interval = folder, uri, interval
        self._lock = delivery_lock(folder)
        self._lock.acquire()  # waits for the child of a start that was killed
        self.state, self.reached, self.due = State.RUNNING, False, 0.0
        self._final_status = ""
        self._delivery: Any = None
        self._pause, self._grace, self._deadline = interval, GRACE, 0.0

    @property
    def open(self) -> bool:
        """Whether there is something to deliver, or may be."""
        return self.state in (State.RUNNING, State.ENDED)

    def end(self, status: str) -> None:
        """Note that the job has ended, and how; the first call counts."""
        if self.state is State.RUNNING:
            self.state, self._final_status = State.ENDED, status
            self.due, self._deadline = 0.0, time.monotonic() + self._grace

    def deliver(self) -> None:
        """Send what is new, if that is due; once the job has ended, the rest as well."""
        if not self.open or time.monotonic() < self.due:
            return
        failures = self._attempt()
        if self.state is State.RUNNING:
            self.due = time.monotonic() + self._pause
            if failures:
                write_log(self.folder, f"Not delivered, next attempt within {self._pause:g} s: {failures[0]}")
        elif not failures:
            self._close(State.DELIVERED, DELIVERED)
        elif time.monotonic() > self._deadline:
            self._close(State.GIVEN_UP, f"{NOT_DELIVERED}{'; '.join(failures)}")
        else:
            self.due = time.monotonic() + RETRY

    def _attempt(self) -> list[str]:
        """Deliver, and set the pause until the next delivery; returns what could not be delivered."""
        is_first, began = self._delivery is None, time.monotonic()
        try:
            failures = self._send()
        except Exception as error:
            self._pause, self._grace = min(2 * self._pause, LONGEST_PAUSE), 0.0
            return [reason(error, self.folder)]
        self.reached = True
        # The time of the first delivery is not typical: it imports MLflow, and may create its schema.
        taken = 0.0 if is_first else time.monotonic() - began
        self._pause, self._grace = min(max(self._interval, taken / SHARE), LONGEST_PAUSE), GRACE
        return failures

    def _send(self) -> list[str]:
        from rlexp.tracking.mlflow.deliver import Delivery
        from rlexp.tracking.mlflow.deliver_sweep import SweepDelivery

        uri, ended = job_uri(self.folder, self._uri), self.state is State.ENDED
        if self._delivery is None:
            sweep = is_sweep(self.folder)
            self._delivery = SweepDelivery(self.folder, uri) if sweep else Delivery(self.folder, uri, running=True)
        delivery = self._delivery
        delivery.beat()
        if isinstance(delivery, SweepDelivery):
            return delivery.finish() if ended else []
        delivery.send()
        return delivery.finish(self._final_status) if ended else []

    def _close(self, state: State, line: str) -> None:
        self.state, self._delivery = state, None
        self._lock.release()
        write_log(self.folder, line)


class TrainingProcess:
    """The process that started this one, as it is heard on standard input.

    Attributes:
        open: whether it may still say something.
    """

    def __init__(self) -> None:
        self.open, self._pid = True, os.getppid()
        self._lines: queue.Queue[str | None] = queue.Queue()  # None: the end of standard input
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            self._lines.put(line)
        self._lines.put(None)

    def hear(self, seconds: float) -> tuple[str, str] | None:
        """Wait for the next message: a final status or "follow", and a folder; None if there is none in that time."""
        try:
            line = self._lines.get(timeout=seconds) if seconds > 0 else self._lines.get_nowait()
        except queue.Empty:  # a forked worker of a dead process can hold our standard input open
            self.open = self.open and os.getppid() == self._pid
            return None
        if line is None:
            self.open = False
            return None
        what, _, folder = line.strip().partition(" ")
        return (what, folder) if what else None


def follow(uri: str | None = None) -> bool:
    """Deliver running jobs until the training process says how each ended, or dies.

    Outages are waited out: with growing pauses while a job runs, for `GRACE` seconds once it has ended. Once MLflow has
    answered, what killed processes have left in the output folder is set right, too.

    Args:
        uri: tracking URI; None for each job's own.

    Returns:
        Whether MLflow has everything.
    """
    _give_way()
    training = TrainingProcess()
    _import_client()
    jobs: dict[str, FollowedJob] = {}
    tidying: Iterator[None] | None = None
    while training.open or any(job.open for job in jobs.values()):
        for job in jobs.values():
            job.deliver()
        if tidying is None and any(job.reached for job in jobs.values()):
            tidying = tidy(Path(next(iter(jobs))), uri)
        busy = tidying is not None and next(tidying, True) is None
        message = training.hear(0.0 if busy else _seconds_until_due(jobs.values()))
        if message and message[0] == "follow":
            if not jobs:
                _write_to_log(Path(message[1]))
            together = 1 + sum(job.open for job in jobs.values())
            jobs[message[1]] = FollowedJob(Path(message[1]), uri, INTERVAL * together)
        elif message:
            status, name = message
            jobs[name].end(status)
        elif not training.open:
            for job in jobs.values():
                if job.state is State.RUNNING:
                    job.end(final_status(job.folder))
    deadline = time.monotonic() + GRACE
    for _ in tidying or ():
        if time.monotonic() > deadline:
            break
    return all(job.state is State.DELIVERED for job in jobs.values())


def _give_way() -> None:
    """Ignore the signals that are for the training process, and let it have the cores first."""
    # A batch system sends SIGTERM to every process; the training process then reports "killed" here.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(3)  # not more: the end of the job waits for this process


def _import_client() -> None:
    """Import MLflow before there is a job to deliver."""
    with contextlib.suppress(Exception):  # the first delivery meets the same error, and reports it
        from rlexp.tracking.mlflow import deliver, deliver_sweep  # noqa: F401


def _write_to_log(folder: Path) -> None:
    """Let everything that this process prints from now on, also MLflow and its libraries, go to a folder's log."""
    with contextlib.suppress(OSError), open_to_write(folder / "tracking.log", "ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def _seconds_until_due(jobs: Iterable[FollowedJob]) -> float:
    due = [job.due for job in jobs if job.open]
    return min(due) - time.monotonic() if due else INTERVAL
