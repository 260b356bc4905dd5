"""A process that another one watches: what it notes about itself, its signs of life, and how it has ended."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import re
import select
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

POLL = 0.05  # seconds between two checks of a process
CRASH = "crash.txt"  # in a job's folder: the traceback of its process when it died
REASONS = {
    "SIGSEGV": "a segmentation fault",
    "SIGBUS": "a bus error",
    "SIGFPE": "an arithmetic error",
    "SIGILL": "an illegal instruction",
    "SIGABRT": "it called abort",
    "SIGKILL": "ended by another process, or by the system for lack of memory",
}


@dataclass
class Link:
    """The watched process's end: a pipe for notes, and shared memory: [signal acknowledged, heartbeat counter].

    Attributes:
        write: file descriptor of the pipe.
        page: the shared memory.
        crash: the file for fatal signals outside of a job.
    """

    write: int
    page: mmap.mmap
    crash: Any = None

    def send(self, facts: Mapping[str, Any]) -> None:
        """Send one line; a pipe takes up to 4,096 bytes atomically, so lines do not mix."""
        os.write(self.write, json.dumps(facts).encode()[:4_000] + b"\n")

    def acknowledged(self) -> bool:
        """Whether the signal has been acknowledged before; marks it as acknowledged."""
        before, self.page[0] = self.page[0], 1
        return bool(before)


@dataclass
class Death:
    """The unexpected end of a worker.

    Attributes:
        how: the cause, in a few words.
        facts: what the worker has noted about itself.
        signum: the signal that asked it to stop, if there was one.
    """

    how: str
    facts: dict[str, Any] = field(default_factory=dict)
    signum: int | None = None

    def sentence(self) -> str:
        """A sentence that says what happened, where, and what to do."""
        folder, env = self.facts.get("folder"), self.facts.get("env")
        method = self.facts.get("method")
        during = f" in {method}" if method and folder is None else ""
        text = f"the process{f' of {env}' if env else ''} died{during} ({self.how})"
        if "died" in self.facts:  # the worker or its supervisor ended it and noted why
            text = f"{self.how}; its process was ended"
        if folder is None:
            return f"{text} before its training began; nothing was written"
        where = f"; {CRASH} there says where it was" if (Path(folder) / CRASH).is_file() else ""
        return f"{text}: {folder}{where}; the same command continues from the last checkpoint, if there is one"


class Watched:
    """The watching end of a `Link`.

    Args:
        page: the shared memory.

    Attributes:
        pid: of the process.
        facts: what it has noted about itself.
        write: the pipe's other end, for the process.
        crash: the file for its fatal signals outside of a job.
    """

    pid: int

    def __init__(self, page: mmap.mmap) -> None:
        self.page, self.facts = page, dict[str, Any]()
        self.crash = tempfile.TemporaryFile()  # noqa: SIM115  (for crashes before there is a job folder)
        self._read, self.write = os.pipe()
        self._buffer = b""
        self._beats, self._silent = -1, 0

    def read_notes(self) -> None:
        """Read what the process has noted."""
        while select.select([self._read], [], [], 0)[0]:
            part = os.read(self._read, 65_536)
            if not part:
                break
            *lines, self._buffer = (self._buffer + part).split(b"\n")
            for line in lines:
                with contextlib.suppress(ValueError):  # a line that was too long and is cut
                    self.hear(json.loads(line))

    def hear(self, facts: dict[str, Any]) -> None:
        """Take what the process has noted."""
        self.facts |= facts

    def end_if_silent(self) -> None:
        """End a process that has set a limit and whose interpreter shows no sign of life; call it every `POLL`."""
        self._silent = self._silent + 1 if self.page[1] == self._beats else 0
        self._beats = self.page[1]
        limit = self.facts.get("limit")
        if limit is not None and self._silent * POLL > limit:  # counted in checks: a suspended time does not count
            self.facts["died"] = f"nothing returned to Python within {self._silent * POLL:.0f} s (env.step_timeout)"
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGABRT)  # makes faulthandler write the traceback
            self._silent = 0

    def crash_text(self) -> str:
        """The traceback that the process has written outside of a job."""
        self.crash.seek(0)
        return self.crash.read().decode(errors="replace")

    def death(self, code: int, traceback: str) -> Death:
        """How the process has died.

        Args:
            code: its exit status, or minus the number of the signal that ended it.
            traceback: what faulthandler has written; empty if nothing.
        """
        if "died" in self.facts:
            how = str(self.facts["died"])
        elif code < 0:
            name = signal.Signals(-code).name
            how = f"{name}: {REASONS[name]}" if name in REASONS else name
        else:
            how = f"something called os._exit({code})"
        return Death(how + _innermost_frame(traceback), self.facts)

    def release(self) -> None:
        """Close the pipe and the file, once the process has ended."""
        os.close(self._read)
        self.crash.close()


def _innermost_frame(text: str) -> str:
    """The innermost frame of faulthandler's output that is not in Python's standard library, in words."""
    _, _, text = text.rpartition("Current thread")
    frames = re.findall(r'^  File "(.+)", line (\d+) in (.+)$', text, re.MULTILINE)
    library = str(Path(os.__file__).parent) + os.sep
    own = [f for f in frames if not f[0].startswith(library) and Path(f[0]).name != "watchdog.py"]
    for file, line, function in (own or frames)[:1]:
        return f", in {function} ({Path(file).name}, line {line})"
    return ""
