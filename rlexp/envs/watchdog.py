"""A limit on how long an environment may take for one call.

A timer of the operating system ticks in the main thread; a call that is still the same one at two ticks is interrupted
by an exception inside it, again and again where something catches it. This costs a call some attributes. Against C code
that does not return to Python a thread ends the process, with a sentence and exit status 1 (its supervisor does where
that code does not let the thread run, either); only a process that the command line has started: its checkpoint is kept
and other jobs go on. What is not covered: threads other than the main one, and systems without SIGALRM (Windows).
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

AGAIN = 0.25  # seconds between two interruptions of a call that goes on
GRACE = (2.0, 30.0)  # seconds that C code is given after the interruption: the timeout, but within these bounds
SILENCE = 30.0  # seconds at least without a sign of life of the interpreter: large libraries are imported, too


class Hangs(BaseException):
    """A call that did not return in time; no `except Exception` of an environment catches it."""


class Watch:
    """What the timer looks at.

    Attributes:
        calls: how many calls have begun.
        inside: whether one may be under way.
        method: the one that began last.
        number: of the environment, where its owner has several.
        where: says in a few words which environment, trial, episode and step the calls are about.
    """

    calls = 0
    inside = False
    method = ""
    number = 0
    where: Callable[[], str] | None = None


watch = Watch()


@contextlib.contextmanager
def armed(timeout: float | None) -> Iterator[None]:
    """Interrupt calls of environments that take longer than `timeout` seconds, at most twice as long; None: never."""
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
        supervisor.note(limit=max(limit, SILENCE))  # by this thread, so that it never comes after the end
        threading.Thread(target=_end_if_stuck, args=(timeout, limit, over), daemon=True).start()
    try:
        yield
    finally:
        over.set()
        supervisor.note(limit=None)
        signal.setitimer(signal.ITIMER_REAL, *before)
        signal.signal(signal.SIGALRM, previous)


def _end_if_stuck(timeout: float, limit: float, over: threading.Event) -> None:
    """End the process where a call goes on for so long after it was interrupted."""
    pause, seen, stuck = min(max(timeout / 4, 0.05), 1.0), -1, 0.0
    while not over.wait(pause):
        supervisor.heartbeat()
        if not supervisor.is_watched():  # nobody else would see that this thread cannot run
            faulthandler.dump_traceback_later(max(limit, SILENCE), exit=True, file=_crash_stream())
        stuck = stuck + pause if watch.inside and watch.calls == seen else 0.0  # not by the clock: it may be stopped
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
        if not supervisor.is_watched():  # who else says it
            os.write(2, f"failed: {how}; this process ends\n".encode())
    os._exit(1)


def _crash_stream() -> Any:
    return supervisor.crash_stream() or sys.__stderr__
