"""Ctrl-C and SIGTERM: the first signal asks a job to stop after its step, the second stops it at once.

One signal may arrive twice: a terminal or `timeout` sends it to a whole process group, and the supervisor passes it on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from rlexp.system.errors import InWords

DEBOUNCE = 0.5  # seconds within which a second signal counts as the same one
SIGNALS = (signal.SIGINT, signal.SIGTERM)

_late: list[int] = []  # signals that came too late to stop their job, which ended normally
_acknowledged: Callable[[], bool] | None = None  # see `acknowledge_once`


class Interrupted(InWords, KeyboardInterrupt):
    """A signal stopped the job after its checkpoint was written. Any other KeyboardInterrupt is not from a signal."""

    kind = "interrupted"
    __module__ = "rlexp"  # where users find it

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum


class _Handler:
    """Signal handler: within a job it records the first signal, elsewhere it raises `Interrupted`."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.in_job = False
        self._last = -DEBOUNCE

    def __call__(self, signum: int, frame: Any) -> None:
        now = time.monotonic()
        if now - self._last < DEBOUNCE:
            return
        self._last = now
        self.asked.append(signum)
        if len(self.asked) == 1:
            acknowledge(signum)
        if len(self.asked) > 1 or not self.in_job:
            raise Interrupted(signum)


class _Deaf:
    """Signal handler that does nothing: another process acts.

    SIG_IGN would be inherited by programs that an environment starts.
    """

    def __call__(self, signum: int, frame: Any) -> None: ...


def leave_to_another_process() -> None:
    """Let signals do nothing here: a terminal sends them to all processes of a job, and the first one stops all.

    They are blocked when such a process is started, so that none comes too early.
    """
    for signum in SIGNALS:
        signal.signal(signum, _Deaf())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Within it, processes start with SIGINT and SIGTERM blocked, until they say what these should do."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def acknowledge(signum: int) -> None:
    """Print that a signal has arrived, past Python's buffers, which may be in use."""
    if _acknowledged is not None and _acknowledged():
        return
    line = (
        f"{signal.Signals(signum).name}: stopping after this step, the checkpoint is kept; a second one stops at once\n"
    )
    with contextlib.suppress(OSError, ValueError):  # there is no stderr (a notebook)
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, line.encode())


def acknowledge_once(test_and_set: Callable[[], bool]) -> None:
    """Let supervisor and child print one line together; `test_and_set` returns whether the other has printed it."""
    global _acknowledged
    _acknowledged = test_and_set


def handles_signals() -> bool:
    """Whether Ctrl-C raises `Interrupted` or nothing; any KeyboardInterrupt then has another origin."""
    return isinstance(signal.getsignal(signal.SIGINT), _Handler | _Deaf)


def install() -> None:
    """Make signals outside of jobs raise `Interrupted`; for processes started by the command line."""
    handler = _Handler()
    with contextlib.suppress(ValueError):  # not the main thread: the caller handles signals
        for signum in SIGNALS:
            if signal.getsignal(signum) is not signal.SIG_IGN:
                signal.signal(signum, handler)


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], int | None]]:
    """Within it SIGINT and SIGTERM ask to stop after the step; yields a function that returns the signal, or None."""
    handler = _Handler()
    handler.in_job = True
    _late.clear()
    previous: dict[int, Any] = {}
    with contextlib.suppress(ValueError):  # not the main thread: the caller handles signals
        for signum in map(int, SIGNALS):
            previous[signum] = signal.signal(signum, handler)
    try:
        yield lambda: handler.asked[0] if handler.asked else None
        _late.extend(handler.asked)
    finally:
        for signum, old in previous.items():
            signal.signal(signum, old)


@contextlib.contextmanager
def terminated_by(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Within it SIGTERM calls a handler; no effect outside the main thread, where the caller handles signals."""
    previous: Any = None
    with contextlib.suppress(ValueError):  # not the main thread
        previous = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)


def raise_if_stopped(stop: Callable[[], int | None]) -> None:
    """Raise `Interrupted` if a stop was asked for. Call it right after a checkpoint."""
    signum = stop()
    if signum is not None:
        raise Interrupted(signum)


def raise_if_stopped_late() -> None:
    """Between two jobs of a sweep: raise `Interrupted` for a signal that came too late to stop the last job."""
    if _late:
        signum = _late[0]
        _late.clear()
        raise Interrupted(signum)
