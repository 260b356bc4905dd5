"""Ctrl-C and SIGTERM: the first asks a job to stop and is acknowledged at once, the second stops it at once.

One signal may arrive twice: a terminal or `timeout` sends it to a whole group, and the supervisor passes it on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

MERGED = 0.5  # seconds within which a second signal is the same one
SIGNALS = (signal.SIGINT, signal.SIGTERM)

_late: list[int] = []  # signals that found nothing to stop: their job had all its results, and has ended as it should
_acknowledged: Callable[[], bool] | None = None  # see `acknowledge_once`


class Interrupted(KeyboardInterrupt):
    """A signal asked the job to stop; its checkpoint is written. Other KeyboardInterrupts are no signals."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum


class _Handler:
    """What signals do: within a job the first is noted, elsewhere it is raised."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.in_job = False
        self._last = -MERGED

    def __call__(self, signum: int, frame: Any) -> None:
        now = time.monotonic()
        if now - self._last < MERGED:
            return
        self._last = now
        self.asked.append(signum)
        if len(self.asked) == 1:
            acknowledge(signum)
        if len(self.asked) > 1 or not self.in_job:
            raise Interrupted(signum)


def acknowledge(signum: int) -> None:
    """Say that a signal has arrived; written past Python's buffers, which may be in use."""
    if _acknowledged is not None and _acknowledged():
        return
    line = (
        f"{signal.Signals(signum).name}: stopping after this step, the checkpoint is kept; a second one stops at once\n"
    )
    with contextlib.suppress(OSError, ValueError):  # no stderr (a notebook): nobody to tell
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, line.encode())


def acknowledge_once(test_and_set: Callable[[], bool]) -> None:
    """Let the supervisor and its child print one line for both; `test_and_set` returns whether it is printed."""
    global _acknowledged
    _acknowledged = test_and_set


def are_signals_ours() -> bool:
    """Whether Ctrl-C raises `Interrupted`, so that another KeyboardInterrupt is no Ctrl-C."""
    return isinstance(signal.getsignal(signal.SIGINT), _Handler)


def install() -> None:
    """From now on, outside of jobs, signals raise `Interrupted`: for processes that the command line has started."""
    handler = _Handler()
    with contextlib.suppress(ValueError):  # not the main thread: the caller handles signals
        for signum in SIGNALS:
            if signal.getsignal(signum) is not signal.SIG_IGN:
                signal.signal(signum, handler)


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], int | None]]:
    """Within it SIGINT and SIGTERM ask to stop at the next step; yields what was asked, if anything."""
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
    """Within it SIGTERM calls a handler; in other threads than the main one the caller handles signals."""
    previous: Any = None
    with contextlib.suppress(ValueError):  # not the main thread
        previous = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)


def heed(stop: Callable[[], int | None]) -> None:
    """Stop where it was asked for: a checkpoint is written, and nothing since is worth one."""
    signum = stop()
    if signum is not None:
        raise Interrupted(signum)


def heed_late() -> None:
    """Between two jobs of a sweep: stop for a signal that came too late to stop the last one.

    Raises:
        Interrupted: if there was one.
    """
    if _late:
        signum = _late[0]
        _late.clear()
        raise Interrupted(signum)
