"""The first process's end of a worker: how it is started, spoken to, watched and ended."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from rlexp.engines.workers.board import shared_file
from rlexp.engines.workers.messages import Close, Message
from rlexp.system import stopping
from rlexp.system.watched import CRASH, Death, Watched

# A new interpreter, not a fork: libraries of this process may have threads, and environments windows, that no fork
# survives. -P: the folder that a command is typed in is searched only where the first process does so.
BOOT = (
    "import sys, json; sys.path[:], *numbers = json.loads(sys.argv[1]); "
    "from rlexp.engines.workers.process import main; main(*numbers)"
)
EXIT_TIMEOUT = 10.0  # seconds that a worker has to close its environments and exit


class Handle(Watched):
    """One worker process.

    Args:
        number: of this worker.
        num_workers: of all.
        board: descriptor of the shared memory of all.
        environment: variables that differ from those of this process.

    Attributes:
        number: of this worker.
        connection: carries messages both ways.
        dead: how it died; None while it lives.
    """

    dead: Death | None
    connection: Connection

    def __init__(self, number: int, num_workers: int, board: int, environment: Mapping[str, str]) -> None:
        page = shared_file()
        super().__init__(mmap.mmap(page, mmap.PAGESIZE))
        self.number, self.dead, self._released = number, None, False
        self.connection, theirs = Pipe()
        descriptors = [theirs.fileno(), board, page, self.write, self.crash.fileno()]
        told = json.dumps([sys.path, *descriptors, number, num_workers])
        try:
            with stopping.blocked():
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", BOOT, told],
                    pass_fds=descriptors,
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, **environment},
                )
        finally:
            theirs.close()
            os.close(page)
            os.close(self.write)
        self.pid = self._process.pid

    def send(self, order: Message) -> None:
        """Send an order; a worker that has died does not get it, which `is_dead` finds out."""
        with contextlib.suppress(OSError):
            self.connection.send(order)

    def is_dead(self, folder: Path) -> bool:
        """Whether the process has died; `dead` then says how, and the job's crash.txt gets its traceback."""
        if self.dead is not None:
            return True
        self.read_notes()
        self.end_if_silent()
        code = self._process.poll()
        if code is None:
            return False
        self.read_notes()
        trace = self.crash_text()
        self.dead = self.death(code, trace)
        if trace:
            with contextlib.suppress(OSError), (folder / CRASH).open("a") as file:  # a full disk: the sentence says it
                file.write(trace)
        return True

    def close(self) -> None:
        """Let the process exit, which closes its environments; one that takes too long is killed by `release`."""
        self.send(Close())

    def exit_status(self) -> int | None:
        """The exit status, or minus the number of a signal; None while the process runs."""
        return self._process.poll()

    def release(self) -> None:
        """Kill the process if it still runs, and let go of everything."""
        if self._released:
            return
        self._released = True
        self._process.kill()
        self._process.wait()
        self.connection.close()
        super().release()


def wait_for_exit(handles: Sequence[Handle]) -> None:
    """Wait until all have exited, for `EXIT_TIMEOUT` seconds at most."""
    end = time.monotonic() + EXIT_TIMEOUT
    while time.monotonic() < end and any(handle.exit_status() is None for handle in handles):
        time.sleep(0.01)
