"""How every command ends: an exception of its `main` becomes one or two lines on stderr and an exit status.

0 done      1 failed      2 refused: nothing was done      130 Ctrl-C      143 SIGTERM      141 broken pipe
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from rlexp.system.errors import WRONG_PATH, Refusal, refusal
from rlexp.system.stopping import terminated_by
from rlexp.system.text import clean, clean_output

DONE, FAILED, REFUSED, INTERRUPTED, BROKEN_PIPE, TERMINATED = 0, 1, 2, 130, 141, 143

Main = TypeVar("Main", bound=Callable[..., int])


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C would."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are refusals of two lines.

    Args:
        examples: command lines that end the help page, one per line.
        others: argparse's own.
    """

    def __init__(self, *, examples: Iterable[str] = (), **others: Any) -> None:
        super().__init__(**others)
        self._examples = tuple(examples)

    def format_help(self) -> str:
        """argparse's help page and the examples."""
        shown = "".join(f"  {example}\n" for example in self._examples)
        return super().format_help() + (f"\nexamples:\n{shown}" if shown else "")

    def error(self, message: str) -> NoReturn:
        """Raise `Refusal`."""
        raise Refusal(f"{message[:400]}\n{self.prog} --help shows what there is.")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but refuse NUL, which no path, name or address contains."""
        args = list(sys.argv[1:] if args is None else args)
        for arg in args:
            if "\0" in str(arg):
                raise refusal(clean(str(arg)[:40], newlines=False), "a text without NUL", "one with it")
        return super().parse_args(args, namespace)


def tool(main: Main) -> Main:
    """Decorate the `main` of a command, which returns its exit status; its output is cleaned (see `clean_output`)."""

    @functools.wraps(main)
    def run(*args: Any, **kwargs: Any) -> int:
        with clean_output():
            return _status(lambda: main(*args, **kwargs))

    return run  # type: ignore[return-value]


def _status(main: Callable[[], int]) -> int:
    try:
        with terminated_by(_terminate):
            status = main()
            sys.stdout.flush()
            return status
    except Refusal as refused:
        return refuse(str(refused))
    except Terminated:
        return TERMINATED
    except KeyboardInterrupt as interrupt:
        return 128 + getattr(interrupt, "signum", 2)
    except BrokenPipeError:
        with contextlib.suppress(OSError, ValueError):  # the flush at exit must not raise again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        return fail(error)


def refuse(text: str) -> int:
    """Print why nothing was done; returns the exit status."""
    lines = [line if len(line) <= 1_000 else f"{line[:500]}...{line[-300:]}" for line in text.splitlines()]
    print("\n".join(lines if text.startswith("refused: ") else ["refused: " + lines[0], *lines[1:]]), file=sys.stderr)
    return REFUSED


def fail(error: Exception) -> int:
    """Print what went wrong; returns the exit status."""
    if isinstance(error, ModuleNotFoundError):
        return refuse(f"expected the module {error.name}, which is not installed ({error}).")
    if isinstance(error, OSError) and error.errno is not None:
        where, why = error.filename, (error.strerror or type(error).__name__)
        if isinstance(where, str | Path) and error.errno in WRONG_PATH:
            return refuse(f"{shortened(where)}: expected a path that can be used, received: {why}.")
        print(f"failed: {f'{shortened(where)}: ' if where else ''}{why}", file=sys.stderr)
        return FAILED
    if isinstance(error, ValueError) and hasattr(error, "path"):  # a damaged file: its message is complete
        return refuse(str(error))
    if isinstance(error, MemoryError):
        print("failed: there is not enough memory", file=sys.stderr)
        return FAILED
    said = clean((str(error).strip() or type(error).__name__).splitlines()[0], newlines=False)[:300]
    print(f"failed: {type(error).__name__}: {said}; an error of rlexp's own: please report it{_kept(error)}",
          file=sys.stderr)  # fmt: skip
    return FAILED


def shortened(path: Any) -> str:
    """A path, shortened to fit into a sentence."""
    text = clean(path, newlines=False)
    return text if len(text) <= 200 else f"{text[:100]}...{text[-60:]} ({len(text):,} letters)"


def warn(text: str) -> None:
    """Print a warning of one line on stderr."""
    print(f"warning: {clean(' '.join(text.split()), newlines=False)}", file=sys.stderr)


def _kept(error: Exception) -> str:
    """Write the traceback to a file; returns the words that name it."""
    try:
        descriptor, name = tempfile.mkstemp(prefix="rlexp-error-", suffix=".txt")
        with open(descriptor, "w", errors="replace") as file:
            file.write(clean("".join(traceback.format_exception(error))))
    except OSError:
        return ""
    return f", with {name}"


def _terminate(signum: int, frame: Any) -> None:
    raise Terminated
