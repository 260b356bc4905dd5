"""Where modules are found, for commands that read what others may have sent; imported before anything else."""

from __future__ import annotations

import os
import sys

READERS = ("best", "ls", "play", "report", "sync", "ui")  # commands that run no code of the working directory
PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
left_out: str | None = None  # what has been taken from sys.path


def leave_out_working_directory() -> None:
    """Take the working directory, which `python -m` puts first, from the search path of a command that only reads.

    A `numpy.py` in a folder that somebody sent would pass for NumPy.
    """
    global left_out
    words = sys.orig_argv
    reading = sys.argv[:1] == ["-m"] and {f"rlexp.{name}" for name in READERS} & {*words}
    if reading and not sys.flags.safe_path and sys.path[0] not in ("", os.path.dirname(PACKAGE)):
        left_out = sys.path.pop(0)


def put_back_working_directory() -> None:
    """Undo `leave_out_working_directory`, for a reader who trusts what lies there."""
    global left_out
    if left_out is not None:
        sys.path.insert(0, left_out)
        left_out = None
