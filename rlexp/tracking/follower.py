"""The MLflow tracker as the training process sees it: a child process that follows the jobs' folders.

Importing MLflow (3 s), creating its schema (2.7 s) and waiting for a server (up to minutes) all happen in the
child, `python -m rlexp.sync --follow <folder> ...`, one for all jobs that run together, or one after another in a
worker of a sweep. What it has to say of a job goes to `<folder>/tracking.log`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rlexp.system import search_path, supervisor
from rlexp.system.links import open_to_write
from rlexp.system.stored_files import read_json
from rlexp.system.stored_schemas import TRACKING
from rlexp.system.text import clean, mask
from rlexp.tracking import store
from rlexp.tracking.base import (
    DELIVERED,
    NOT_DELIVERED,
    SET_ASIDE,
    TrackingResult,
    resolve_uri,
    sync_command,
    ui_command,
)

MAKING = 600.0  # seconds that a child gets to make a store, beyond the time that its delivery may take

_of_sweep: list[MLflowTracker] = []  # the tracker of the sweep whose jobs run in this process, if any


@contextlib.contextmanager
def shared(tracker: MLflowTracker) -> Iterator[None]:
    """Within it, jobs that run in this process have no child of their own, and do not wait for their delivery."""
    _of_sweep.append(tracker)
    try:
        yield
    finally:
        _of_sweep.remove(tracker)


class _Kept:
    """The child of this process' last job, where it waits for the next one."""

    wanted = False
    child: subprocess.Popen[bytes] | None = None
    uri: str | None = None  # the only one that it delivers to


def keep_child() -> None:
    """From now on, a job's child stays for the next job of this process (importing MLflow again would cost as much as
    delivering a job), and ends with the process; each job still waits for its own delivery."""
    _Kept.wanted = True


class MLflowTracker:
    """Starts the child, tells it how each job ended, and waits for it within limits."""

    def __init__(self, uri: str | None, folders: Sequence[Path], output_dir: Path) -> None:
        self.folders = list(folders)
        self.uri, self._output_dir = resolve_uri(uri, output_dir), output_dir
        shared_uri = _of_sweep[-1].uri if _of_sweep else None
        self._shared = _of_sweep[-1] if shared_uri == self.uri else None
        self.process: subprocess.Popen[bytes] | None = None
        self._old_log: dict[Path, int] = {}  # bytes of each log before this start

    def start(self) -> None:
        """Start the child in a session of its own, so that Ctrl-C does not reach it."""
        if self._shared is not None:
            self._shared.follow(self.folders)
            return
        if _Kept.child is not None and _Kept.uri == self.uri and _Kept.child.poll() is None:
            self.process = _Kept.child
            for folder in self.folders:
                self._follow(folder)
            return
        self._old_log = {folder: len(_read(folder)) for folder in self.folders}
        package_dir = os.path.dirname(search_path.PACKAGE)
        python_path = [package_dir, *filter(None, [os.environ.get("PYTHONPATH")])]
        try:
            with open_to_write(self.folders[0] / "tracking.log", "ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "rlexp.sync", "--follow", *map(str, self.folders)],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    # where to is said here: others can read a command line, and folders do not hold passwords
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(python_path), "MLFLOW_TRACKING_URI": self.uri},
                )
        except OSError as error:  # no memory or no file handle left: training goes on
            for folder in self.folders:
                _log(folder, f"The tracking process did not start: {error}")
        _Kept.child, _Kept.uri = (self.process, self.uri) if _Kept.wanted else (None, None)

    def follow(self, folders: Sequence[Path]) -> None:
        """Follow further jobs."""
        for folder in folders:
            if folder not in self.folders:
                self.folders.append(folder)
                self._follow(folder)

    def adopt(self, followed: Iterable[tuple[str, int]]) -> None:
        """Wait for what a worker of this process follows, too: folders, and the bytes of each log before."""
        for name, old_log in followed:
            folder = Path(name)
            if folder not in self.folders:
                self.folders.append(folder)
                self._old_log[folder] = old_log

    def _follow(self, folder: Path) -> None:
        self._old_log[folder] = len(_read(folder))
        supervisor.note(follow=[str(folder), self._old_log[folder]])
        self._tell("follow", folder)

    def end(self, folder: Path, status: str) -> None:
        """Tell the child how a job ended."""
        (self._shared or self)._tell(status, folder)

    def _tell(self, what: str, folder: Path) -> None:
        if self.process is not None and self.process.stdin is not None:
            with contextlib.suppress(OSError):  # the child is gone: `close` tells
                self.process.stdin.write(f"{what} {folder}\n".encode())
                self.process.stdin.flush()

    def close(self, timeout: float = 60.0, say: Callable[[str], None] = print) -> dict[Path, TrackingResult]:
        """Wait at most `timeout` seconds for the child to deliver; then it is stopped, unless it is making a store."""
        if self._shared is not None:
            return {folder: TrackingResult(False, "MLflow receives it beside the next jobs") for folder in self.folders}
        if self.process is not None:
            self._wait(self.process, timeout, say)
        return {folder: self._result(folder) for folder in self.folders}

    def _wait(self, process: subprocess.Popen[bytes], timeout: float, say: Callable[[str], None]) -> None:
        try:
            try:
                self._wait_within(process, timeout)
            except subprocess.TimeoutExpired:
                if not self._wait_for_store(process, say):
                    raise
                self._wait_within(process, timeout)
        except subprocess.TimeoutExpired:
            process.kill()  # safe at any moment: what it has delivered is in tracking.json
            process.wait()
            for folder in self.folders:
                if not self._delivered(folder):
                    _log(folder, f"Stopped: not finished {timeout:g} s after the end of the job.")
        except OSError as error:
            process.wait()
            for folder in self.folders:
                if not self._delivered(folder):
                    _log(folder, f"The tracking process is gone: {error}")

    def _wait_within(self, process: subprocess.Popen[bytes], timeout: float) -> None:
        if process is _Kept.child:
            self._wait_for_delivery(process, timeout)
        else:
            process.communicate(timeout=timeout)

    def _wait_for_store(self, process: subprocess.Popen[bytes], say: Callable[[str], None]) -> bool:
        """Wait while the child makes a store; whether it did."""
        if not store.being_made(self.uri, process.pid):
            return False
        say(f"MLflow's store is being made, for the first time: waiting until it is whole ({self.uri})")
        deadline = time.monotonic() + MAKING
        while store.being_made(self.uri, process.pid) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return True

    def _wait_for_delivery(self, process: subprocess.Popen[bytes], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while process.poll() is None and not all(map(self._given_up_or_delivered, self.folders)):
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(process.args, timeout)
            time.sleep(0.05)

    def _given_up_or_delivered(self, folder: Path) -> bool:
        lines = _read(folder)[self._old_log[folder] :].splitlines()
        return any(line == DELIVERED.encode() or line.startswith(NOT_DELIVERED.encode()) for line in lines)

    def _result(self, folder: Path) -> TrackingResult:
        found = self._found(folder)
        log = _read(folder)[self._old_log.get(folder, 0) :].decode(errors="replace")
        told = [line for line in log.splitlines() if line.startswith(SET_ASIDE)]
        return replace(found, message="\n".join([*told, found.message]))

    def _found(self, folder: Path) -> TrackingResult:
        if not self._delivered(folder):
            return TrackingResult(delivered=False, message=self._warning(folder), ui_command=ui_command(self.uri))
        if (folder / "sweep.json").is_file():
            return TrackingResult(True, f"MLflow: the sweep is in {mask(self.uri)}", ui_command(self.uri))
        run_id = read_json(folder / "tracking.json", TRACKING, "run_id")["run_id"]
        return TrackingResult(True, f"MLflow: run {run_id} is in {mask(self.uri)}", ui_command(self.uri), run_id)

    def _delivered(self, folder: Path) -> bool:
        return _read(folder)[self._old_log[folder] :].splitlines()[-1:] == [DELIVERED.encode()]

    def _warning(self, folder: Path) -> str:
        lines = _read(folder).decode(errors="replace").splitlines()
        reason = lines[-1] if lines else "no tracking.log"
        return (
            f"Warning: MLflow has not received all of this job ({clean(reason)}).\n"
            "Nothing is lost; this delivers the rest:\n"
            f"  {sync_command(folder, self.uri, self._output_dir)}"
        )


def _read(folder: Path) -> bytes:
    log = folder / "tracking.log"
    return log.read_bytes() if log.exists() else b""


def _log(folder: Path, line: str) -> None:
    with open_to_write(folder / "tracking.log", "a") as log:
        log.write(f"{clean(line)}\n")
