"""Errors that end a command or a job with one or two lines: refusals and failures."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

from rlexp.system.text import clean


class Refusal(ValueError):
    """A configuration that cannot run. The message says what was expected, what was received, what to do.

    The message may quote files, servers and command lines: control characters are escaped and secrets masked.
    """

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


class Failure(RuntimeError):
    """An error that ends a job with one sentence instead of a traceback."""


class Diverged(Failure):
    """Some trials of a job diverged, or failed because of their environment; the results of the others are complete."""


WRONG_PATH = (  # errors of a path that the user named, not of the disk
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL,
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENXIO,
)  # fmt: skip
