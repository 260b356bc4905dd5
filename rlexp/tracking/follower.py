"""The MLflow tracker in the training process: it starts a child that delivers the jobs' folders, and waits for it.

Importing MLflow (3 s), creating its schema (2.7 s) and waiting for a server (up to minutes) all happen in the child,
`rlexp sync --follow OUTPUT_DIR` (see `rlexp.tracking.delivery_loop`). It is started before this process imports
TensorFlow, on one core, and imports MLflow on another one. Jobs that run together share a child, and so do the
successive jobs of a sweep's worker. What the child has to say about a job goes to `<folder>/tracking.log`.
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
from typing import IO

from rlexp.system import search_path, supervisor
from rlexp.system.links import open_to_write
from rlexp.system.stored_files import read_json
from rlexp.system.stored_schemas import TRACKING
from rlexp.system.text import clean, mask
from rlexp.tracking import store_file
from rlexp.tracking.addresses import resolve_uri, sync_command, ui_command
from rlexp.tracking.base import Tracker, TrackingResult, parts
from rlexp.tracking.folders import find_experiment, place
from rlexp.tracking.log import has_ended, is_delivered, log_size, read_log, set_aside_lines, write_log

CREATION = 600.0  # seconds for a child to create a store, beyond the time for its delivery
POLL = 0.05  # seconds

_of_sweep: list[MLflowTracker] = []  # the tracker of the sweep whose jobs run in this process, if any


@contextlib.contextmanager
def shared(tracker: Tracker) -> Iterator[None]:
    """Within this context, jobs of this process use the child of `tracker`, if it has one, and do not wait for it."""
    ours = _children(tracker)
    _of_sweep.extend(ours)
    try:
        yield
    finally:
        for each in ours:
            _of_sweep.remove(each)


def adopt(tracker: Tracker, followed: Iterable[tuple[str, int]]) -> None:
    """Let a tracker wait for the jobs that a worker of this process follows with the tracker's child, too.

    Args:
        tracker: of a sweep.
        followed: the jobs' folders, and the bytes of their logs before.
    """
    for each in _children(tracker):
        each.adopt(followed)


def _children(tracker: Tracker) -> list[MLflowTracker]:
    return [part for part in parts(tracker) if isinstance(part, MLflowTracker)]


class _Kept:
    """A child without a job: that of this process' last job, if it waits for the next one, or one started early."""

    wanted = False
    child: subprocess.Popen[bytes] | None = None
    uri: str | None = None  # the only store to which it delivers


def keep_child() -> None:
    """From now on, let a job's child stay for the next job of this process.

    Importing MLflow again would cost as much as delivering a job. The child ends with the process; each job still waits
    for its own delivery.
    """
    _Kept.wanted = True


@contextlib.contextmanager
def started_early(uri: str | None, output_dir: Path) -> Iterator[None]:
    """Within this context, there is a child for the next job, which imports MLflow; at its end, only if a job took it.

    Args:
        uri, output_dir: as of `MLflowTracker`.
    """
    address = resolve_uri(uri, output_dir)
    if (_of_sweep and _of_sweep[-1].uri == address) or _living(address) is not None:
        yield
        return
    with contextlib.suppress(OSError):  # `MLflowTracker.start` tries again, and reports it
        _Kept.child, _Kept.uri = _start_child(address, output_dir, subprocess.DEVNULL), address
    early = _Kept.child
    try:
        yield
    finally:
        if early is not None and early is _Kept.child and not _Kept.wanted:  # no job was started
            _Kept.child = None
            early.kill()
            early.communicate()


def _living(uri: str) -> subprocess.Popen[bytes] | None:
    """The child without a job that delivers to `uri`; None if there is none, or it has died."""
    child = _Kept.child
    return child if child is not None and _Kept.uri == uri and child.poll() is None else None


def _start_child(uri: str, output_dir: Path, log: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, so that Ctrl-C does not reach it."""
    package_dir = os.path.dirname(search_path.PACKAGE)
    python_path = [package_dir, *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-m", "rlexp.sync", "--follow", str(output_dir)],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        start_new_session=True,
        # The URI is in the environment: other users can read a command line, and folders hold no passwords.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(python_path), "MLFLOW_TRACKING_URI": uri},
    )


class MLflowTracker:
    """Starts the child, tells it how each job ended, and waits for it within limits.

    Args:
        uri: tracking URI; None for the default.
        folders: of the jobs.
        output_dir: the folder of the studies.
    """

    title = "MLflow"

    def __init__(self, uri: str | None, folders: Sequence[Path], output_dir: Path) -> None:
        self.folders = list(folders)
        self.uri, self._output_dir = resolve_uri(uri, output_dir), output_dir
        shared_uri = _of_sweep[-1].uri if _of_sweep else None
        self._shared = _of_sweep[-1] if shared_uri == self.uri else None
        self.process: subprocess.Popen[bytes] | None = None
        self._log_start: dict[Path, int] = {}  # bytes of each log before this start

    def start(self) -> None:
        """Let a child follow the folders: one that is there, or a new one."""
        if self._shared is not None:
            self._shared.follow(self.folders)
            return
        self._log_start = {folder: log_size(folder) for folder in self.folders}
        self.process = _living(self.uri)
        try:
            if self.process is None:
                with open_to_write(self.folders[0] / "tracking.log", "ab") as log:
                    self.process = _start_child(self.uri, self._output_dir, log)
        except OSError as error:  # no memory or no file handle left: training goes on
            for folder in self.folders:
                write_log(folder, f"The tracking process did not start: {error}")
        if _Kept.wanted:
            _Kept.child, _Kept.uri = self.process, self.uri
        elif self.process is _Kept.child:
            _Kept.child = None
        for folder in self.folders:
            self._tell("follow", folder)

    def follow(self, folders: Sequence[Path]) -> None:
        """Follow further jobs."""
        for folder in folders:
            if folder not in self.folders:
                self.folders.append(folder)
                self._follow(folder)

    def adopt(self, followed: Iterable[tuple[str, int]]) -> None:
        """Wait for the jobs that a worker of this process follows, too: folders, and the bytes of their logs before."""
        for name, log_start in followed:
            folder = Path(name)
            if folder not in self.folders:
                self.folders.append(folder)
                self._log_start[folder] = log_start

    def _follow(self, folder: Path) -> None:
        self._log_start[folder] = log_size(folder)
        supervisor.note(follow=[str(folder), self._log_start[folder]])
        self._tell("follow", folder)

    def end(self, folder: Path, status: str) -> None:
        """Tell the child how a job ended."""
        (self._shared or self)._tell(status, folder)

    def _tell(self, what: str, folder: Path) -> None:
        if self.process is not None and self.process.stdin is not None:
            with contextlib.suppress(OSError):  # the child is gone: `close` reports it
                self.process.stdin.write(f"{what} {folder}\n".encode())
                self.process.stdin.flush()

    def sync_command(self, path: Path) -> str:
        """`rlexp sync` with the path, and with the store where that is needed."""
        return sync_command(path, self.uri, self._output_dir)

    def close(self, timeout: float = 60.0, say: Callable[[str], None] = print) -> dict[Path, TrackingResult]:
        """Wait at most `timeout` seconds for the child to deliver, then stop it, unless it is creating a store."""
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
            self._log_failure(f"Stopped: not finished {timeout:g} s after the end of the job.")
        except OSError as error:
            process.wait()
            self._log_failure(f"The tracking process is gone: {error}")

    def _log_failure(self, line: str) -> None:
        for folder in self.folders:
            if not is_delivered(self._log(folder)):
                write_log(folder, line)

    def _wait_within(self, process: subprocess.Popen[bytes], timeout: float) -> None:
        if process is _Kept.child:
            self._wait_for_delivery(process, timeout)
        else:
            process.communicate(timeout=timeout)

    def _wait_for_store(self, process: subprocess.Popen[bytes], say: Callable[[str], None]) -> bool:
        """Wait while the child creates a store; returns whether it did."""

        def creating() -> bool:
            return store_file.being_created(self.uri, process.pid)

        if not creating():
            return False
        say(f"MLflow's store is being created, for the first time: waiting for it ({self.uri})")
        deadline = time.monotonic() + CREATION
        while creating() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL)
        return True

    def _wait_for_delivery(self, process: subprocess.Popen[bytes], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while process.poll() is None and not all(has_ended(self._log(folder)) for folder in self.folders):
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(process.args, timeout)
            time.sleep(POLL)

    def _log(self, folder: Path) -> str:
        """What the log of a job has received since this start."""
        return read_log(folder, self._log_start.get(folder, 0))

    def _result(self, folder: Path) -> TrackingResult:
        log = self._log(folder)
        found = self._delivered_result(folder) if is_delivered(log) else self._warning(folder)
        return replace(found, message="\n".join([*set_aside_lines(log), found.message]))

    def _delivered_result(self, folder: Path) -> TrackingResult:
        experiment_id = find_experiment(folder)
        look = ui_command(self.uri, place(folder)[1], experiment_id or "")
        if (folder / "sweep.json").is_file():
            return TrackingResult(True, f"MLflow: the sweep is in {mask(self.uri)}", look)
        run_id = read_json(folder / "tracking.json", TRACKING, "run_id")["run_id"]
        return TrackingResult(True, f"MLflow: run {run_id} is in {mask(self.uri)}", look, run_id)

    def _warning(self, folder: Path) -> TrackingResult:
        lines = read_log(folder).splitlines()
        reason = lines[-1] if lines else "no tracking.log"
        message = (
            f"Warning: MLflow has not received all of this job ({clean(reason)}).\n"
            "Nothing is lost; this delivers the rest:\n"
            f"  {sync_command(folder, self.uri, self._output_dir)}"
        )
        return TrackingResult(delivered=False, message=message, ui_command=ui_command(self.uri, place(folder)[1]))
