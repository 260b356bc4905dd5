"""A process that watches the one which does the work: `python -m rlexp` survives the death of a job's process.

    command line, refusals ──fork──> one worker: all jobs, TensorFlow, compiled programs
        waits, passes signals on        notes what it is about

The fork happens before anything heavy is imported, so that it costs milliseconds. A worker that dies (a segmentation
fault, `os._exit`, no memory) is named in a sentence by the supervisor, which starts another one where a sweep goes on.
The worker dies with its supervisor. Only on Linux, and only for the command line: `rlexp.run` and RLEXP_SUPERVISE=0
(for debuggers) run in the process that calls them.
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

POLL = 0.05  # seconds between two looks at a worker
PATIENCE = 3.0  # seconds that a worker has to stop after the second signal
FAREWELL = 10.0  # seconds that it has for what is registered with atexit
CRASH = "crash.txt"  # in a job's folder: where its process was when it died
WATCHED = {signal.SIGINT, signal.SIGTERM, signal.SIGCHLD} if os.name == "posix" else set()
SI_KERNEL = 0x80  # of a signal that a terminal has sent, to all processes of its group
REASONS = {
    "SIGSEGV": "a segmentation fault",
    "SIGBUS": "a bus error",
    "SIGFPE": "an arithmetic error",
    "SIGILL": "an illegal instruction",
    "SIGABRT": "it called abort",
    "SIGKILL": "ended by another process, or by the system for lack of memory",
}

_wanted = False  # whether this process may become a supervisor
_claimed = False  # whether it runs jobs and nothing else
_link: _Link | None = None  # of a worker to its supervisor
_crash_files: list[Any] = []  # of the job that runs


def want() -> None:
    """Let this process become a supervisor when it is about to run jobs; has no effect where it cannot."""
    global _wanted
    claim()
    _wanted = hasattr(signal, "sigtimedwait") and os.environ.get("RLEXP_SUPERVISE", "1") != "0"


def claim() -> None:
    """Say that this process runs jobs and nothing else: one that cannot go on may end it."""
    global _claimed
    _claimed = True


def claimed() -> bool:
    """Whether this process may be ended for its job's sake; never that of a caller of `rlexp.run`."""
    return _claimed


def wanted() -> bool:
    """Whether jobs run in a worker of this process."""
    return _wanted


def note(**facts: Any) -> None:
    """Tell the supervisor, if there is one, what this process is about: env, folder, job, limit, died."""
    if _link is not None:
        _link.send(facts)


def is_watched() -> bool:
    """Whether this process is a worker of a supervisor."""
    return _link is not None


def crash_stream() -> Any:
    """Where the process writes its traceback when it dies; None where that is nobody's business."""
    return _crash_files[-1] if _crash_files else _link.crash if _link is not None else None


def beat() -> None:
    """A sign of life of the interpreter; see `note(limit=...)`."""
    if _link is not None:
        _link.page[1] = (_link.page[1] + 1) % 256


@dataclass
class _Link:
    """What a worker holds of its supervisor; `page` is memory of both: signal acknowledged, sign of life."""

    write: int
    page: mmap.mmap
    crash: Any = None  # the file that fatal signals write to where there is no job's folder

    def send(self, facts: Mapping[str, Any]) -> None:
        """One line, whole: a pipe takes so many bytes at once."""
        os.write(self.write, json.dumps(facts).encode()[:4_000] + b"\n")

    def acknowledged(self) -> bool:
        """Whether a signal is acknowledged; from now on it is."""
        before, self.page[0] = self.page[0], 1
        return bool(before)


@dataclass
class Death:
    """How a worker has ended that did not say that it would.

    Attributes:
        how: in a few words.
        facts: what it was about, as it noted it.
        signum: of the signal that asked it to stop, if one did.
    """

    how: str
    facts: dict[str, Any] = field(default_factory=dict)
    signum: int | None = None

    def sentence(self) -> str:
        """What happened, where, and what to do."""
        folder, env = self.facts.get("folder"), self.facts.get("env")
        method = self.facts.get("method")
        during = f" in {method}" if method and folder is None else ""
        text = f"the process{f' of {env}' if env else ''} died{during} ({self.how})"
        if "died" in self.facts:  # the worker or its supervisor has ended it, and says why
            text = f"{self.how}; its process was ended"
        if folder is None:
            return f"{text} before its training began; nothing was written"
        where = f"; {CRASH} there says where it was" if (Path(folder) / CRASH).is_file() else ""
        return f"{text}: {folder}{where}; the same command continues from the last checkpoint, if there is one"


class Worker:
    """A fork of this process that does the work.

    Args:
        serve: run in the worker for each line that `ask` sends, which then exits; None: the worker returns from the
            constructor like its supervisor, and goes on (`is_worker`).
    """

    def __init__(self, serve: Callable[[Any], None] | None = None) -> None:
        import tempfile

        self.page = mmap.mmap(-1, mmap.PAGESIZE)
        self._crash = tempfile.TemporaryFile()  # noqa: SIM115  (for crashes before there is a folder)
        self._read, write = os.pipe()
        asked, self._ask = os.pipe()
        self._buffer, self.facts = b"", dict[str, Any]()
        self.followed: list[tuple[str, int]] = []  # folders delivered to MLflow, as `note(follow=...)` has them
        self._closed: float | None = None  # when it was told that there is nothing left to do
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
        """In the worker: the link to the supervisor, and what fatal signals write."""
        global _link, _wanted
        _link, _wanted = _Link(write, self.page, self._crash), False
        stopping.install()
        faulthandler.enable(self._crash)

    def ask(self, what: Any) -> Death | None:
        """Let the worker serve one request; how it died, if it did.

        Raises:
            Interrupted: where a signal ended the worker.
        """
        self.facts.pop("served", None)
        with contextlib.suppress(BrokenPipeError), open(self._ask, "wb", closefd=False) as pipe:
            pipe.write(json.dumps(what).encode() + b"\n")  # where it is dead `wait` says how
        ended = self.wait()
        if isinstance(ended, int):
            if "served" in self.facts:
                return None
            ended = Death(f"exit status {ended}", self.facts, ended - 128 if ended > 128 else None)
        if ended.signum is not None:
            raise stopping.Interrupted(ended.signum)
        return ended

    def alive(self) -> bool:
        """Whether it can be asked again."""
        return self._dead is None

    def wait(self) -> Death | int:
        """Wait until the worker has served a request (0), or has ended: its exit status, or how it died."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        beats, silent = self.page[1], 0
        try:
            while self._dead is None:
                got = signal.sigtimedwait(WATCHED, POLL)
                if got is not None and got.si_signo in stopping.SIGNALS:
                    self._pass_on(got)
                ended, status = os.waitpid(self.pid, os.WNOHANG)
                self._listen()
                if ended:
                    self._dead = self._how_ended(status)
                elif "served" in self.facts:
                    return 0
                beats, silent = self.page[1], silent + 1 if self.page[1] == beats else 0
                limit = self.facts.get("limit")
                if limit is not None and silent * POLL > limit:  # looks, not seconds: both may have been stopped
                    self.facts["died"] = f"nothing returned to Python within {silent * POLL:.0f} s (env.step_timeout)"
                    os.kill(self.pid, signal.SIGABRT)  # faulthandler writes where it is
                    silent = 0
            return self._dead
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def close(self) -> None:
        """Let a worker that serves end; it has nothing left to do."""
        os.close(self._ask)
        self.facts.pop("served", None)
        self._closed = time.monotonic()
        self.wait()
        self._crash.close()

    def _pass_on(self, got: Any) -> None:
        """A signal for the worker, which has the terminal's already."""
        now, signum = time.monotonic(), int(got.si_signo)
        if not self._signals:
            stopping.acknowledge(signum)
            self._signals.append((now, signum))
        elif now - self._signals[-1][0] >= stopping.DEBOUNCE:
            self._signals.append((now, signum))
        if got.si_code != SI_KERNEL:
            os.kill(self.pid, signum)

    def _impatient(self) -> bool:
        now = time.monotonic()
        if len(self._signals) > 1 and now - self._signals[1][0] > PATIENCE:
            return True
        return self._closed is not None and now - self._closed > FAREWELL

    def _listen(self) -> None:
        """Read what the worker has noted."""
        if self._impatient():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        while select.select([self._read], [], [], 0)[0]:
            part = os.read(self._read, 65_536)
            if not part:
                break
            *lines, self._buffer = (self._buffer + part).split(b"\n")
            for line in lines:
                with contextlib.suppress(ValueError):  # cut, since it was too long
                    self.facts |= json.loads(line)
                if "follow" in self.facts:
                    self.followed.append(tuple(self.facts.pop("follow")))

    def _how_ended(self, status: int) -> Death | int:
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
        """Where the worker was, for the job's folder, or for the sentence where there is none."""
        self._crash.seek(0)
        text = self._crash.read().decode(errors="replace")
        folder = self.facts.get("folder")
        if folder is not None:
            path = Path(folder) / CRASH
            with contextlib.suppress(OSError):  # a full disk, or a folder that is gone: the sentence is what counts
                if text and not path.is_file():
                    path.write_text(text)
                if path.is_file():
                    text = path.read_text(errors="replace")
                if not text:
                    path.unlink(missing_ok=True)
        death.how += _innermost(text)


def _innermost(text: str) -> str:
    """Where a process was, as faulthandler has it: the first frame that is not of Python's own library."""
    _, _, text = text.rpartition("Current thread")
    frames = re.findall(r'^  File "(.+)", line (\d+) in (.+)$', text, re.MULTILINE)
    library = str(Path(os.__file__).parent) + os.sep
    own = [f for f in frames if not f[0].startswith(library) and Path(f[0]).name != "watchdog.py"]
    for file, line, function in (own or frames)[:1]:
        return f", in {function} ({Path(file).name}, line {line})"
    return ""


def run_apart() -> Death | int | None:
    """Go on in a worker: None there, and wherever nothing is supervised; in the supervisor how the worker has ended."""
    if not _wanted:
        return None
    worker = Worker()
    return None if worker.is_worker else worker.wait()


@contextlib.contextmanager
def crash_file(folder: Path) -> Iterator[None]:
    """Where fatal signals write while a job runs, in a process that has nothing better to do with them."""
    if faulthandler.is_enabled() and _link is None:  # somebody's own: a test runner, an application
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
    """The life of a worker that is asked; never returns."""
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
    """No worker outlives its supervisor: what it has written is whole at any moment."""
    import ctypes

    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != supervisor:  # it died before
        os._exit(1)
