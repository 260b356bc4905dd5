"""Where modules are found: user code of the working directory is for training, never for what only reads.

Imported before anything else, and imports nothing of this package.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODULES = ("best", "chain", "env", "ls", "play", "report", "sync", "ui")  # `python -m rlexp.<name>` is a tool
left_out: str | None = None  # the working directory, where a tool does not import from it
_was_first = False  # whether it had been first in sys.path


def trains(words: Sequence[str]) -> bool:
    """Whether the words after `rlexp` start training: `run`, an override or a flag of Hydra's comes first."""
    first = words[0] if words else ""
    if first in ("-h", "--help", "--version"):
        return False
    return first == "run" or "=" in first or first.startswith(("-", "+", "~", "schedule@"))


def leave_out_working_directory() -> None:
    """Take the working directory, which `python -m` puts first, from the search path of whatever does not train.

    A `numpy.py` in a folder that somebody sent would pass for NumPy.
    """
    global left_out, _was_first
    if sys.argv[:1] != ["-m"] or sys.flags.safe_path or sys.path[0] in ("", os.path.dirname(PACKAGE)):
        return
    module, words = sys.orig_argv[-len(sys.argv)], sys.argv[1:]
    if module.startswith("-"):  # -mrlexp, -Bmrlexp
        module = module.partition("m")[2]
    package, _, name = module.partition(".")
    if package == "rlexp" and (name in MODULES if name else words and not trains(words)):
        left_out, _was_first = sys.path.pop(0), True


def note_working_directory() -> None:
    """Let a tool that was started as a console script say what lies in the working directory, as `python -m` would."""
    global left_out
    with contextlib.suppress(OSError):  # it has been deleted
        if left_out is None and not sys.flags.safe_path and not {"", os.getcwd()} & {*sys.path}:
            left_out = os.getcwd()


def put_back_working_directory() -> None:
    """Let a tool import from the working directory after all, for a reader who trusts what lies there."""
    global left_out
    if left_out is not None:
        sys.path.insert(0 if _was_first else len(sys.path), left_out)
        left_out = None


def add_working_directory() -> None:
    """Let training find modules of the working directory, after all others, where it was started as a console script.

    `python -m` has it first; -P and PYTHONSAFEPATH keep it out of both.
    """
    with contextlib.suppress(OSError):  # it has been deleted
        if not sys.flags.safe_path and not {"", os.getcwd()} & {*sys.path}:
            sys.path.append(os.getcwd())
