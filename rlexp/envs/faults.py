"""Faults of environments: the exceptions that stand for them, and the sentences that describe them.

An environment is third-party code: its errors may raise errors when they are printed, and its values when they are
shown.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlexp.envs.watchdog import Hangs
from rlexp.system import stopping
from rlexp.system.errors import Refusal

MAX_TRACE = 20_000  # characters of a traceback that are kept


class Unfit(ValueError):
    """An environment has returned something else than it declares."""


class Misbehaved(Exception):
    """A call into an environment has gone wrong.

    Attributes:
        text: method and fault in a few words, on one line.
        trace: the traceback, if something was raised.
    """

    def __init__(self, text: str, trace: str = "") -> None:
        super().__init__(text)
        self.text, self.trace = text, trace


@dataclass(frozen=True)
class Fault:
    """A fault of one trial's environment.

    Attributes:
        trial: its number, from 0.
        text: one sentence that names environment, trial seed, episode seed and step.
        trace: the traceback, if something was raised.
    """

    trial: int
    text: str
    trace: str = ""


def is_signal(error: BaseException) -> bool:
    """Whether an error is a real Ctrl-C or SIGTERM, and not one that an environment raised itself."""
    if isinstance(error, stopping.Interrupted):
        return True
    return isinstance(error, KeyboardInterrupt) and not stopping.handles_signals()


def raised(error: BaseException, method: str = "") -> str:
    """What a call has raised, in a few words.

    Args:
        error: any exception.
        method: the method that was called.
    """
    if isinstance(error, Misbehaved):
        return error.text
    if isinstance(error, Refusal):
        return f"{method}: {first_line(error)}"
    if isinstance(error, Hangs):
        return f"{method} {error}"
    if isinstance(error, Unfit):
        return f"{method}: {error}"
    try:
        frames = list(traceback.extract_tb(vars(BaseException)["__traceback__"].__get__(error)))
    except Exception:
        frames = []
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    message = first_line(error)
    name = type_name(error)
    return f"{method} raised {name}{f': {message}' if message != name else ''}{where}".strip()


def unreadable(error: BaseException, result: Any) -> str:
    """Why the result of `step` could not be read.

    Args:
        error: raised while reading it.
        result: what `step` returned.
    """
    if isinstance(error, Unfit):
        return str(error)
    if not isinstance(result, tuple) or len(result) != 5:
        return f"expected (observation, reward, terminated, truncated, info) of step, received {shown(result)}"
    what = "numbers of the declared shapes and true or false"
    return f"expected {what}, received {shown(result[:4])} ({first_line(error)})"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, 200 characters at most; the type's name if it has no message."""
    try:
        text = str(error).strip()
    except BaseException as worse:
        if is_signal(worse):
            raise
        return f"its message raises {type_name(worse)}"
    return "".join(c if c.isprintable() else " " for c in (text or type_name(error)).splitlines()[0][:200])


def type_name(value: Any) -> str:
    """The name of a value's type, also if its metaclass hides it."""
    return str(type.__dict__["__name__"].__get__(type(value)))


def shown(value: Any) -> str:
    """A value on one short line."""
    try:
        if isinstance(value, np.ndarray) and value.size > 1_000:
            value = value.ravel()[:100]
        text = " ".join(repr(value.tolist() if isinstance(value, np.ndarray | np.generic) else value).split())
    except Exception as error:  # raised by the value's own __repr__
        return f"a {type_name(value)} that cannot be shown ({type_name(error)})"
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= 100 else f"{text[:97]}..."


def trace(error: BaseException) -> str:
    """The traceback of an error, shortened in the middle."""
    try:
        text = "".join(traceback.format_exception(error))
    except Exception as worse:
        return f"{type_name(error)}, whose traceback raises {type_name(worse)}\n"
    return text if len(text) <= MAX_TRACE else f"{text[: MAX_TRACE // 2]}\n...\n{text[-MAX_TRACE // 2 :]}"
