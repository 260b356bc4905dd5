"""Refusals and failures: what ends a command or a job in one or two lines."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

from rlexp.system.text import clean


class Refusal(ValueError):
    """A configuration that cannot run. The message says what was expected, what was received, what to do.

    What it quotes of files, servers and command lines is shown, and not obeyed by a terminal; secrets are masked.
    """

    def __init__(self, message: str) -> None:
        super().__init__(clean(message))


def refusal(where: str, expected: str, received: str, fix: str = "") -> Refusal:
    """Build a `Refusal` of one line, or two where there is something to do."""
    where, received = clean(where, newlines=False), clean(received, newlines=False)
    return Refusal(f"{where}: expected {expected}, received {received}." + (f"\n{fix}" if fix else ""))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """'Did you mean ...?' for near matches of a misspelt name, else an empty string."""
    known = list(known)
    lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(lower[n] for n in near)}?" if near else ""


class Failure(RuntimeError):
    """What ends a job in one sentence."""


class Diverged(Failure):
    """Some trials of a job diverged, or failed for their environment's sake; everything of the others is there."""


WRONG_PATH = (  # errors of paths that were named, rather than of a disk
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL,
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENXIO,
)  # fmt: skip
