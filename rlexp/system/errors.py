"""Errors that end a command or a job with one or two lines: refusals and failures."""

from __future__ import annotations

import difflib
import errno
import functools
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from rlexp.system.text import clean

P = ParamSpec("P")
R = TypeVar("R")


class InWords:
    """An exception whose message says everything: notebooks show it without a traceback."""

    kind = "failed"

    def _render_traceback_(self) -> list[str]:  # called by IPython
        return f"{self.kind}: {clean(self)}".splitlines()


class Refusal(InWords, ValueError):
    """A configuration that cannot run. The message says what was expected, what was received, what to do.

    The message may quote files, servers and command lines: control characters are escaped and secrets masked.
    """

    kind = "refused"
    __module__ = "rlexp"  # where users find it

    def __init__(self, message: str) -> None:
        super().__init__(clean(message))


def refusal(where: str, expected: str, received: str, fix: str = "") -> Refusal:
    """A `Refusal` of one line, or of two lines if `fix` says what to do."""
    where, received = clean(where, newlines=False), clean(received, newlines=False)
    return Refusal(f"{where}: expected {expected}, received {received}." + (f"\n{fix}" if fix else ""))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """'Did you mean ...?' with the known names nearest to a misspelt one; an empty string if none is near."""
    known = list(known)
    lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(lower[n] for n in near)}?" if near else ""


def refuse_briefly(function: Callable[P, R]) -> Callable[P, R]:
    """Let a public function raise refusals with a short traceback: the message says what the caller can change."""

    @functools.wraps(function)
    def called(*args: P.args, **options: P.kwargs) -> R:
        try:
            return function(*args, **options)
        except Refusal as refused:
            raise refused.with_traceback(None) from None

    return called


class Failure(InWords, RuntimeError):
    """An error that ends a job with one sentence instead of a traceback."""

    __module__ = "rlexp"


class Diverged(Failure):
    """Some trials of a job diverged, or failed because of their environment; the results of the others are complete."""

    __module__ = "rlexp"


WRONG_PATH = (  # errors of a path that the user named, not of the disk
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL,
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENXIO,
)  # fmt: skip
