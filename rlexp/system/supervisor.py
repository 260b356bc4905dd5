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
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rlexp.system import stopping
from rlexp.system.watched import CRASH, POLL, Death, Link, Watched

STOP_TIMEOUT = 3.0  # seconds that a worker has to stop after the second signal
EXIT_TIMEOUT = 10.0  # seconds that a worker has for its atexit functions
WATCHED = {signal.SIGINT, signal.SIGTERM, signal.SIGCHLD} if os.name == "posix" else set()
SI_KERNEL = 0x80  # si_code of a signal from a terminal, which goes to all processes of its group

_enabled = False  # whether this process may become a supervisor
_owned = False  # whether it runs jobs and nothing else
_link: Link | None = None  # from a worker to its supervisor
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


def connect(link: Link) -> None:
    """Let this process be watched through a link, and direct the output of fatal signals."""
    global _link
    _link = link
    faulthandler.enable(link.crash)


def crash_stream() -> Any:
    """The file to which this process writes its traceback when it dies; None if it writes none."""
    return _crash_files[-1] if _crash_files else _link.crash if _link is not None else None


def heartbeat() -> None:
    """Show the supervisor that the interpreter is running; see `note(limit=...)`."""
    if _link is not None:
        _link.page[1] = (_link.page[1] + 1) % 256


class Worker(Watched):
    """A fork of this process that runs the jobs.

    Args:
        serve: the function that the worker calls for each request of `ask`; the worker then exits. None: both processes
            return from the constructor, and the worker continues the program (`is_worker`).
    """

    def __init__(self, serve: Callable[[Any], None] | None = None) -> None:
        super().__init__(mmap.mmap(-1, mmap.PAGESIZE))
        asked, self._ask = os.pipe()
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
                die_with(supervisor)
                self._begin()
            stopping.acknowledge_once(Link(self.write, self.page).acknowledged)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for end in (self._read, self._ask) if self.is_worker else (self.write, asked):
            os.close(end)
        if self.is_worker and serve is not None:
            _serve(asked, serve)

    def _begin(self) -> None:
        """In the worker: connect to the supervisor, and direct the output of fatal signals."""
        global _enabled
        _enabled = False
        connect(Link(self.write, self.page, self.crash))
        stopping.install()

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
        try:
            while self._dead is None:
                got = signal.sigtimedwait(WATCHED, POLL)
                if got is not None and got.si_signo in stopping.SIGNALS:
                    self._forward(got)
                ended, status = os.waitpid(self.pid, os.WNOHANG)
                self._kill_if_overdue()
                self.read_notes()
                if ended:
                    self._dead = self._ended(status)
                elif "served" in self.facts:
                    return 0
                self.end_if_silent()
            return self._dead
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def close(self) -> None:
        """Ask a serving worker to exit, and wait for it."""
        os.close(self._ask)
        self.facts.pop("served", None)
        self._closed = time.monotonic()
        self.wait()
        self.release()

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

    def _kill_if_overdue(self) -> None:
        if self._is_overdue():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def hear(self, facts: dict[str, Any]) -> None:
        """Take what the worker has noted; folders to follow are collected."""
        if "follow" in facts:
            self.followed.append(tuple(facts.pop("follow")))
        super().hear(facts)

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
        return self.death(code, self._kept_crash())

    def _kept_crash(self) -> str:
        """The traceback of a worker that has died; it is kept in the job's folder, if there is one."""
        text, folder = self.crash_text(), self.facts.get("folder")
        if folder is None:
            return text
        path = Path(folder) / CRASH
        with contextlib.suppress(OSError):  # a full disk or a removed folder: the sentence still says what happened
            if text and not path.is_file():
                path.write_text(text)
            if path.is_file():
                text = path.read_text(errors="replace")
            if not text:
                path.unlink(missing_ok=True)
        return text


def run_in_worker() -> Death | int | None:
    """Continue in a worker. Returns None in the worker, and without supervision; in the supervisor, how it ended."""
    if not _enabled:
        return None
    worker = Worker()
    return None if worker.is_worker else worker.wait()


def exit_status(ended: Death | int) -> int:
    """The exit status of a command after its worker: of one that died, which is told, 1 or the signal's."""
    if isinstance(ended, int):
        return ended
    if ended.signum is not None:
        return 128 + ended.signum
    print(f"failed: {ended.sentence()}", file=sys.stderr)
    return 1


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


def die_with(supervisor: int) -> None:
    """Let the system kill this process when its supervisor dies; files are complete at any moment (Linux only)."""
    import ctypes

    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != supervisor:  # the supervisor died before the call
        os._exit(1)
