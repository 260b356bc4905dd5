"""A supervising process, with which `rlexp` survives the death of a job's process.

    command line, refusals ──fork──> one worker: all jobs, TensorFlow, compiled programs
        waits, forwards signals         notes what it is doing

The fork happens before anything heavy is imported, so it costs milliseconds. If a worker dies (a segmentation fault,
`os._exit`, no memory), the supervisor reports how in one sentence, and a sweep starts another worker. A worker dies
with its supervisor. Supervision exists only on Linux and for the command line: `rlexp.run`, and RLEXP_SUPERVISE=0 (for
debuggers), run in the calling process.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import json
import mmap
import os
import re
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlexp.system import stopping

POLL = 0.05  # seconds between two checks of a worker
STOP_TIMEOUT = 3.0  # seconds that a worker has to stop after the second signal
EXIT_TIMEOUT = 10.0  # seconds that a worker has for its atexit functions
CRASH = "crash.txt"  # in a job's folder: the traceback of its process when it died
WATCHED = {signal.SIGINT, signal.SIGTERM, signal.SIGCHLD} if os.name == "posix" else set()
SI_KERNEL = 0x80  # si_code of a signal from a terminal, which goes to all processes of its group
REASONS = {
    "SIGSEGV": "a segmentation fault",
    "SIGBUS": "a bus error",
    "SIGFPE": "an arithmetic error",
    "SIGILL": "an illegal instruction",
    "SIGABRT": "it called abort",
    "SIGKILL": "ended by another process, or by the system for lack of memory",
}

_enabled = False  # whether this process may become a supervisor
_owned = False  # whether it runs jobs and nothing else
_link: _Link | None = None  # from a worker to its supervisor
_crash_files: list[Any] = []  # the file of the running job, if there is one


def enable() -> None:
    """Let this process become a supervisor when it starts to run jobs; no effect on systems other than Linux."""
    global _enabled
    own_process()
    _enabled = hasattr(signal, "sigtimedwait") and os.environ.get("RLEXP_SUPERVISE", "1") != "0"


def own_process() -> None:
    """Declare that this process runs jobs and nothing else, so that a job that cannot continue may end it."""
    global _owned
    _owned = True


def owns_process() -> bool:
    """Whether a job may end this process; never true in a process that calls `rlexp.run`."""
    return _owned


def is_enabled() -> bool:
    """Whether jobs run in a worker of this process."""
    return _enabled


def note(**facts: Any) -> None:
    """Report facts about this process to its supervisor, if there is one: env, folder, job, limit, died."""
    if _link is not None:
        _link.send(facts)


def is_watched() -> bool:
    """Whether this process is a worker of a supervisor."""
    return _link is not None


def crash_stream() -> Any:
    """The file to which this process writes its traceback when it dies; None if it writes none."""
    return _crash_files[-1] if _crash_files else _link.crash if _link is not None else None


def heartbeat() -> None:
    """Show the supervisor that the interpreter is running; see `note(limit=...)`."""
    if _link is not None:
        _link.page[1] = (_link.page[1] + 1) % 256


@dataclass
class _Link:
    """A worker's connection to its supervisor. `page` is shared memory: [signal acknowledged, heartbeat counter]."""

    write: int
    page: mmap.mmap
    crash: Any = None  # the file for fatal signals outside of a job

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


class Worker:
    """A fork of this process that runs the jobs.

    Args:
        serve: the function that the worker calls for each request of `ask`; the worker then exits. None: both processes
            return from the constructor, and the worker continues the program (`is_worker`).
    """

    def __init__(self, serve: Callable[[Any], None] | None = None) -> None:
        import tempfile

        self.page = mmap.mmap(-1, mmap.PAGESIZE)
        self._crash = tempfile.TemporaryFile()  # noqa: SIM115  (for crashes before there is a job folder)
        self._read, write = os.pipe()
        asked, self._ask = os.pipe()
        self._buffer, self.facts = b"", dict[str, Any]()
        self.followed: list[tuple[str, int]] = []  # folders that are delivered to MLflow, from `note(follow=...)`
        self._closed: float | None = None  # when the worker was asked to exit
        self._signals: list[tuple[float, int]] = []
        self._dead: Death | int | None = None
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        supervisor, before = os.getpid(), signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        try:
            self.pid = os.fork()
            self.is_worker = self.pid == 0
            if self.is_worker:
                _die_with(supervisor)
                self._begin(write)
            stopping.acknowledge_once(_Link(write, self.page).acknowledged)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for end in (self._read, self._ask) if self.is_worker else (write, asked):
            os.close(end)
        if self.is_worker and serve is not None:
            _serve(asked, serve)

    def _begin(self, write: int) -> None:
        """In the worker: connect to the supervisor, and direct the output of fatal signals."""
        global _link, _enabled
        _link, _enabled = _Link(write, self.page, self._crash), False
        stopping.install()
        faulthandler.enable(self._crash)

    def ask(self, request: Any) -> Death | None:
        """Let the worker serve one request; returns its death, or None if it lives.

        Raises:
            Interrupted: if a signal ended the worker.
        """
        self.facts.pop("served", None)
        with contextlib.suppress(BrokenPipeError), open(self._ask, "wb", closefd=False) as pipe:
            pipe.write(json.dumps(request).encode() + b"\n")  # if it is dead, `wait` returns how
        ended = self.wait()
        if isinstance(ended, int):
            if "served" in self.facts:
                return None
            ended = Death(f"exit status {ended}", self.facts, ended - 128 if ended > 128 else None)
        if ended.signum is not None:
            raise stopping.Interrupted(ended.signum)
        return ended

    def alive(self) -> bool:
        """Whether the worker can serve another request."""
        return self._dead is None

    def wait(self) -> Death | int:
        """Wait until the worker has served a request (returns 0) or ended (returns its exit status or its death)."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        beats, silent = self.page[1], 0
        try:
            while self._dead is None:
                got = signal.sigtimedwait(WATCHED, POLL)
                if got is not None and got.si_signo in stopping.SIGNALS:
                    self._forward(got)
                ended, status = os.waitpid(self.pid, os.WNOHANG)
                self._read_notes()
                if ended:
                    self._dead = self._ended(status)
                elif "served" in self.facts:
                    return 0
                beats, silent = self.page[1], silent + 1 if self.page[1] == beats else 0
                limit = self.facts.get("limit")
                if limit is not None and silent * POLL > limit:  # counted in checks: a suspended time does not count
                    self.facts["died"] = f"nothing returned to Python within {silent * POLL:.0f} s (env.step_timeout)"
                    os.kill(self.pid, signal.SIGABRT)  # makes faulthandler write the traceback
                    silent = 0
            return self._dead
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def close(self) -> None:
        """Ask a serving worker to exit, and wait for it."""
        os.close(self._ask)
        self.facts.pop("served", None)
        self._closed = time.monotonic()
        self.wait()
        self._crash.close()

    def _forward(self, got: Any) -> None:
        """Forward a signal to the worker, unless a terminal has sent it to both."""
        now, signum = time.monotonic(), int(got.si_signo)
        if not self._signals:
            stopping.acknowledge(signum)
            self._signals.append((now, signum))
        elif now - self._signals[-1][0] >= stopping.DEBOUNCE:
            self._signals.append((now, signum))
        if got.si_code != SI_KERNEL:
            os.kill(self.pid, signum)

    def _is_overdue(self) -> bool:
        """Whether the worker has exceeded a time limit for its end."""
        now = time.monotonic()
        if len(self._signals) > 1 and now - self._signals[1][0] > STOP_TIMEOUT:
            return True
        return self._closed is not None and now - self._closed > EXIT_TIMEOUT

    def _read_notes(self) -> None:
        """Read what the worker has noted; kill a worker that is overdue."""
        if self._is_overdue():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        while select.select([self._read], [], [], 0)[0]:
            part = os.read(self._read, 65_536)
            if not part:
                break
            *lines, self._buffer = (self._buffer + part).split(b"\n")
            for line in lines:
                with contextlib.suppress(ValueError):  # a line that was too long and is cut
                    self.facts |= json.loads(line)
                if "follow" in self.facts:
                    self.followed.append(tuple(self.facts.pop("follow")))

    def _ended(self, status: int) -> Death | int:
        """The exit status or the death behind a status of `os.waitpid`."""
        code = os.waitstatus_to_exitcode(status)
        if "status" in self.facts:
            return int(self.facts["status"])
        first = self._signals[0][1] if self._signals else None
        if first is None and -code in stopping.SIGNALS:
            first = -code
        if first is not None and (code < 0 or code == 128 + first):
            return Death("stopped", self.facts, first)
        if "died" in self.facts:
            how = str(self.facts["died"])
        elif code < 0:
            name = signal.Signals(-code).name
            how = f"{name}: {REASONS[name]}" if name in REASONS else name
        else:
            how = f"something called os._exit({code})"
        death = Death(how, self.facts)
        self._keep_crash(death)
        return death

    def _keep_crash(self, death: Death) -> None:
        """Keep the traceback in the job's folder, and add its innermost frame to the sentence."""
        self._crash.seek(0)
        text = self._crash.read().decode(errors="replace")
        folder = self.facts.get("folder")
        if folder is not None:
            path = Path(folder) / CRASH
            with contextlib.suppress(OSError):  # a full disk or a removed folder: the sentence still says what happened
                if text and not path.is_file():
                    path.write_text(text)
                if path.is_file():
                    text = path.read_text(errors="replace")
                if not text:
                    path.unlink(missing_ok=True)
        death.how += _innermost_frame(text)


def _innermost_frame(text: str) -> str:
    """The innermost frame of faulthandler's output that is not in Python's standard library, in words."""
    _, _, text = text.rpartition("Current thread")
    frames = re.findall(r'^  File "(.+)", line (\d+) in (.+)$', text, re.MULTILINE)
    library = str(Path(os.__file__).parent) + os.sep
    own = [f for f in frames if not f[0].startswith(library) and Path(f[0]).name != "watchdog.py"]
    for file, line, function in (own or frames)[:1]:
        return f", in {function} ({Path(file).name}, line {line})"
    return ""


def run_in_worker() -> Death | int | None:
    """Continue in a worker. Returns None in the worker, and without supervision; in the supervisor, how it ended."""
    if not _enabled:
        return None
    worker = Worker()
    return None if worker.is_worker else worker.wait()


@contextlib.contextmanager
def crash_file(folder: Path) -> Iterator[None]:
    """While a job runs, write the tracebacks of fatal signals to its folder, unless the process has its own handler."""
    if faulthandler.is_enabled() and _link is None:  # enabled by a test runner or an application
        yield
        return
    path = folder / CRASH
    with path.open("w") as file:
        faulthandler.enable(file)
        _crash_files.append(file)
        try:
            yield
        finally:
            faulthandler.disable()
            _crash_files.clear()
            if _link is not None:
                faulthandler.enable(_link.crash)
            with contextlib.suppress(OSError):
                if not path.stat().st_size:
                    path.unlink()


def _serve(asked: int, serve: Callable[[Any], None]) -> None:
    """Serve requests until there are no more; never returns."""
    status = 1
    atexit._clear()
    try:
        with os.fdopen(asked) as lines:
            for line in lines:
                serve(json.loads(line))
                note(served=True)
        status = 0
    except KeyboardInterrupt as interrupt:
        status = 128 + getattr(interrupt, "signum", signal.SIGINT)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            note(status=status)
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _die_with(supervisor: int) -> None:
    """Let the system kill this worker when its supervisor dies; its files are complete at any moment."""
    import ctypes

    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != supervisor:  # the supervisor died before the call
        os._exit(1)
