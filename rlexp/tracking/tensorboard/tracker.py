"""The TensorBoard tracker in the training process: a thread that writes event files while the jobs run.

TensorFlow is loaded here as a rule, while a process of its own would need 3 s and 0.5 GB to load it. The thread waits
until training has loaded it; where training does without (tables), it is loaded at the end.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import Timeout

from rlexp.system.links import LinkFound
from rlexp.system.stored_files import find_json, read_json
from rlexp.system.stored_schemas import JOB, SWEEP
from rlexp.system.text import clean
from rlexp.tracking.base import TrackingResult
from rlexp.tracking.folders import is_sweep
from rlexp.tracking.log import one_line
from rlexp.tracking.tensorboard import hyperparameters, place
from rlexp.tracking.tensorboard.deliver import Delivery, is_delivered

INTERVAL = 5.0  # seconds between two deliveries, at least; TensorBoard looks every 5 s at the earliest
SHARE = 0.02  # of the time at most is spent on them: the cores are for training
LONGEST_PAUSE = 60.0  # seconds between two deliveries at most
WAIT = 5.0  # seconds for another process that writes the event files of a job that has ended
TITLE = "TensorBoard"


class FollowedJob:
    """A job whose event files are written while it runs.

    Args:
        folder: of the job.

    Attributes:
        failure: why the last delivery failed; None if it did not.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failure: str | None = None
        self._delivery: Delivery | None = None
        self._lock = place.lock(folder)

    def deliver(self, status: str | None = None) -> None:
        """Write what is new, and everything if the job has ended with `status`; never raises."""
        try:
            if not self._lock.is_locked:
                self._lock.acquire(timeout=0 if status is None else WAIT)
            self._delivery = self._delivery or Delivery(self.folder)
            if status is None:
                self._delivery.send()
            else:
                self._delivery.finish(status)
            self.failure = None
        except Timeout:
            self.failure = "another process writes its event files"
        except LinkFound as found:
            self.failure, self._delivery = clean(found).splitlines()[0], None
        except Exception as error:  # a full disk, a folder that was replaced: training goes on
            self.failure, self._delivery = one_line(error), None
        if status is not None:
            self._lock.release(force=True)


class TensorBoardTracker:
    """Writes the event files of jobs that run together; of a sweep, it looks after the names.

    Args:
        uri: of other trackers.
        folders: of the jobs, or of one sweep.
        output_dir: the folder of the studies.
    """

    title = TITLE

    def __init__(self, uri: str | None, folders: Sequence[Path], output_dir: Path) -> None:
        self._folders = list(folders)
        self._jobs: list[FollowedJob] = []
        self._statuses: dict[Path, str] = {}
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._jobs = [FollowedJob(folder) for folder in self._folders if not is_sweep(folder)]
        if self._jobs:
            thread = threading.Thread(target=self._run, name="tensorboard", daemon=True)
            with contextlib.suppress(RuntimeError):  # no thread left: `close` delivers
                thread.start()
                self._thread = thread

    def end(self, folder: Path, status: str) -> None:
        """Note how a job ended; `close` delivers it."""
        self._statuses[folder] = status

    def _run(self) -> None:
        pause = INTERVAL
        while not self._closing.wait(pause):
            if "tensorflow" not in sys.modules:
                continue
            began = time.thread_time()
            for job in self._jobs:
                if job.folder not in self._statuses:
                    job.deliver()
            failed = any(job.failure for job in self._jobs)
            taken = (time.thread_time() - began) / SHARE
            pause = min(2 * pause, LONGEST_PAUSE) if failed else min(max(INTERVAL, taken), LONGEST_PAUSE)
        self._finish()

    def _finish(self) -> None:
        for job in self._jobs:
            job.deliver(self._statuses.get(job.folder, "killed"))
        if self._jobs and not any(_is_of_sweep(job.folder) for job in self._jobs):  # a sweep does it once
            _settle(self._jobs[0].folder.parent)

    def close(self, timeout: float = 60.0, say: Callable[[str], None] = print) -> dict[Path, TrackingResult]:
        """Wait at most `timeout` seconds for the event files."""
        self._closing.set()
        if self._thread is None:
            self._finish()
        else:
            self._thread.join(timeout)
        late = self._thread is not None and self._thread.is_alive()
        found = {job.folder: _result(job.folder, f"not finished after {timeout:g} s" if late else job.failure)
                 for job in self._jobs}  # fmt: skip
        for folder in self._folders:
            if is_sweep(folder):
                found |= _results_of_sweep(folder)
        return found

    def sync_command(self, path: Path) -> str:
        """`rlexp sync --to tensorboard` with the path."""
        return place.sync_command(path)


def deliver_late(folder: Path) -> TrackingResult:
    """Write the event files of a job that is done, and wait for them."""
    job = FollowedJob(folder)
    job.deliver("done")
    _settle(folder.parent)
    return _result(folder, job.failure)


def _result(folder: Path, failure: str | None) -> TrackingResult:
    """What to say of a job."""
    study = folder.parent
    if failure is not None:
        again = place.sync_command(folder)
        message = f"Warning: {TITLE} has not received all of this job ({failure}); this delivers the rest: {again}"
        return TrackingResult(False, message)
    message = f"{TITLE}: event files are in {place.root(study)}"
    if not hyperparameters.available():
        return TrackingResult(True, f"{message}; {hyperparameters.MISSING}")
    return TrackingResult(True, message, place.ui_command(study))


def _results_of_sweep(folder: Path) -> dict[Path, TrackingResult]:
    """What to say at the end of a sweep: of its own, and of jobs whose event files are not complete."""
    study = folder.parents[1]
    _settle(study)
    command = place.ui_command(study) if hyperparameters.available() else None
    found = {folder: TrackingResult(True, f"{TITLE}: event files are in {place.root(study)}", command)}
    with contextlib.suppress(OSError, ValueError):  # a plan that is damaged, which the sweep itself reports
        jobs = (find_json(folder / "sweep.json", SWEEP) or {}).get("jobs", [])
        for job in {Path(name) for each in jobs if (name := each.get("folder"))}:
            if job.parent == study and (job / "job.json").exists() and not is_delivered(job):
                found[job] = _result(job, "see its own message")
    return found


def _is_of_sweep(folder: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return bool(read_json(folder / "job.json", JOB).get("sweep"))
    return False


def _settle(study: Path) -> None:
    """Call the event files of a study's jobs by their names there."""
    with contextlib.suppress(Exception):  # they keep the names that they have; the next job tries again
        place.settle(study)
