"""A limit on how long an environment may take for one step or reset.

A timer of the operating system ticks in the main thread; a call that is still the same one at two ticks is interrupted
by an exception inside it. This costs a step one attribute. What it cannot do: stop C code that neither returns nor lets
Python run, or work in another thread than the main one, or where there is no SIGALRM (Windows); there a step that hangs
hangs.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any


class Hangs(Exception):
    """A step or reset that did not return in time."""


class Watch:
    """What the timer looks at.

    Attributes:
        calls: how many steps and resets have begun.
        inside: whether one may be under way.
    """

    calls = 0
    inside = False


watch = Watch()


@contextlib.contextmanager
def calling() -> Iterator[None]:
    """Around one call of an environment; hot loops set the attributes themselves."""
    watch.calls += 1
    watch.inside = True
    try:
        yield
    finally:
        watch.inside = False


@contextlib.contextmanager
def armed(timeout: float | None) -> Iterator[None]:
    """Interrupt calls of environments that take longer than `timeout` seconds, at most twice as long; None: never."""
    seen = -1

    def tick(signum: int, frame: Any) -> None:
        nonlocal seen
        if watch.inside and watch.calls == seen:
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
    signal.setitimer(signal.ITIMER_REAL, timeout, timeout)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
