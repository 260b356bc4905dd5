"""A time limit for each call into an environment.

A timer of the operating system ticks in the main thread. A call that is still running at the second tick is interrupted
by an exception inside it, repeatedly if something catches it. The cost per call is a few attributes. C code that does
not return to Python cannot be interrupted: a thread ends the process with a message and exit status 1, or its
supervisor does, if that code does not let the thread run either. This is for processes that the command line has
started: their checkpoints are kept and other jobs go on. Not covered are threads other than the main one, and systems
without SIGALRM (Windows).
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from rlexp.system import supervisor

AGAIN = 0.25  # seconds between two interruptions of the same call
GRACE = (2.0, 30.0)  # bounds of the seconds that C code is given after the interruption, otherwise the timeout
SILENCE = 30.0  # minimum seconds without a sign of life of the interpreter: imports of large libraries take long


class Hangs(BaseException):
    """A call has not returned in time; not an `Exception`, so that environments rarely catch it."""


class Watch:
    """The call that the timer watches.

    Attributes:
        calls: number of calls that have begun.
        inside: whether one may be running.
        method: name of the last one.
        number: of the environment, if its owner has several.
        where: returns environment, trial, episode and step in words.
    """

    calls = 0
    inside = False
    method = ""
    number = 0
    where: Callable[[], str] | None = None


watch = Watch()


@contextlib.contextmanager
def armed(timeout: float | None) -> Iterator[None]:
    """Interrupt calls that take longer than `timeout` seconds, after twice that at the latest; None: never."""
    seen = -1

    def tick(signum: int, frame: Any) -> None:
        nonlocal seen
        if watch.inside and watch.calls == seen:
            signal.setitimer(signal.ITIMER_REAL, min(AGAIN, timeout or AGAIN), timeout or AGAIN)
            raise Hangs(f"has not returned within {timeout:g} s (env.step_timeout)")
        seen = watch.calls

    if timeout is None or not hasattr(signal, "setitimer"):
        yield
        return
    try:
        previous = signal.signal(signal.SIGALRM, tick)
    except ValueError:  # not the main thread
        yield
        return
    before = signal.setitimer(signal.ITIMER_REAL, timeout, timeout)
    over = threading.Event()
    if supervisor.owns_process():
        limit = 2 * timeout + min(max(timeout, GRACE[0]), GRACE[1])
        supervisor.note(limit=max(limit, SILENCE))  # in this thread, so that it is never written after the end
        threading.Thread(target=_end_if_stuck, args=(timeout, limit, over), daemon=True).start()
    try:
        yield
    finally:
        over.set()
        supervisor.note(limit=None)
        signal.setitimer(signal.ITIMER_REAL, *before)
        signal.signal(signal.SIGALRM, previous)


def _end_if_stuck(timeout: float, limit: float, over: threading.Event) -> None:
    """End the process if a call runs for `limit` seconds although it was interrupted."""
    pause, seen, stuck = min(max(timeout / 4, 0.05), 1.0), -1, 0.0
    while not over.wait(pause):
        supervisor.heartbeat()
        if not supervisor.is_watched():  # nothing else would notice that this thread cannot run
            faulthandler.dump_traceback_later(max(limit, SILENCE), exit=True, file=_crash_stream())
        stuck = stuck + pause if watch.inside and watch.calls == seen else 0.0  # no clock: the process may be stopped
        seen = watch.calls
        if stuck > limit:
            _end(timeout)
    faulthandler.cancel_dump_traceback_later()


def _end(timeout: float) -> None:
    where = f"{watch.where()}: " if watch.where is not None else ""
    how = f"{where}{watch.method} has not returned within {timeout:g} s (env.step_timeout), and cannot be interrupted"
    supervisor.note(died=how)
    with contextlib.suppress(Exception):
        faulthandler.dump_traceback(_crash_stream(), all_threads=True)
        if not supervisor.is_watched():  # no supervisor reports it
            os.write(2, f"failed: {how}; this process ends\n".encode())
    os._exit(1)


def _crash_stream() -> Any:
    return supervisor.crash_stream() or sys.__stderr__
