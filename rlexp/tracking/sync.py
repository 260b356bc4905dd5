"""`python -m rlexp.sync PATH...`: deliver jobs to MLflow; with `--follow`, while they run.

The training process starts the second form (see `rlexp/tracking/follower.py`) and writes lines to its standard input:
"<final status> <folder>" when a job has ended, "follow <folder>" for a further one. An end without them means that it
died. If this process dies with it, their runs are left RUNNING: both forms set such runs right, the second those of its
output folder. A run lives while a process has its folder's lock; where another machine's process had it, while its last
sign of life (see `rlexp/tracking/mlflow/delivery.py`) is younger than `SILENCE`.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rlexp.system.folder_lock import in_use, lock_holder, owner_elsewhere
from rlexp.system.links import LinkFound, check_folder, open_to_write
from rlexp.system.stored_files import find_json, folders_with, read_json
from rlexp.system.stored_schemas import SUMMARY, SWEEP, TRACKING
from rlexp.system.stored_yaml import read_config, select
from rlexp.system.text import clean, same_address
from rlexp.tracking.base import (
    DELIVERED,
    NOT_DELIVERED,
    SET_ASIDE,
    SILENCE,
    local_store,
    one_line,
    resolve_uri,
    sync_command,
)

INTERVAL = 2.0  # seconds between deliveries while a job runs, at least
SHARE = 0.1  # of the time at most is spent on them: the cores are the training's
LONGEST_PAUSE = 60.0  # seconds between attempts during an outage
GRACE = 5.0  # seconds of further attempts once the job has ended, and for what earlier starts have left


def find_jobs(path: Path) -> list[Path]:
    """The job folders at `path`, sorted: itself, those of a study, or those of an output folder's studies."""
    return folders_with(path, "job.json", "*", "*/*")


def find_sweeps(path: Path) -> list[Path]:
    """The sweep folders at `path`, sorted: itself, those of a study, or those of an output folder's studies."""
    return folders_with(path, "sweep.json", "sweeps/*", "*/sweeps/*")


def is_sweep(folder: Path) -> bool:
    """Whether a folder is a sweep's, and not a job's."""
    return os.path.lexists(folder / "sweep.json")


def place(folder: Path) -> tuple[Path, str]:
    """The output folder and the study of a job's or a sweep's folder."""
    study = folder.absolute().parents[1 if is_sweep(folder) else 0]
    return study.parent, study.name


def asked_uri(folder: Path) -> str | None:
    """The tracking URI that a job's or a sweep's folder asks for, with a password masked; None where it names none."""
    if is_sweep(folder):
        own = read_json(folder / "sweep.json", SWEEP, "tracking_uri")["tracking_uri"]
    else:
        own = select(read_config(folder), "tracking", "uri")
    if own is not None and not isinstance(own, str):
        raise ValueError(f"expected a text as tracking.uri in {folder}, received {own!r}")
    return own or None


def job_uri(folder: Path, uri: str | None) -> str:
    """Where to a job or a sweep is delivered: `uri`, else its own store in the output folder, else the default.

    A folder is data, perhaps somebody else's: it does not choose the server that its reader sends to.

    Raises:
        NotNamed: where it asks for another one than its user names, by `uri` or MLFLOW_TRACKING_URI.
    """
    output_dir = place(folder)[0]
    asked = None if uri else asked_uri(folder)
    named = os.environ.get("MLFLOW_TRACKING_URI")
    if asked is None:
        chosen = resolve_uri(uri, output_dir)
        if uri or named or (output_dir / "mlflow.db").resolve().is_relative_to(output_dir.resolve()):
            return chosen
        raise NotNamed(chosen)  # its store is a link to another one
    if named and same_address(asked, named):
        return resolve_uri(None, output_dir)
    if local_store(asked, output_dir):
        return asked
    raise NotNamed(asked)


class NotNamed(ValueError):
    """A folder asks to be sent to a place that the reader has not named."""

    def __init__(self, asked: str) -> None:
        super().__init__(
            f"not sent: its folder asks for {clean(asked, newlines=False)}, which this command does not name"
        )
        self.asked = asked


def final_status(folder: Path) -> str:
    """How a job or a sweep ended by what it left; "killed" if it did not live to say so."""
    if is_sweep(folder):
        status: str = read_json(folder / "sweep.json", SWEEP, "status")["status"]
        return "killed" if status == "running" else status
    summary = find_json(folder / "summary.json", SUMMARY, "status")
    return summary["status"] if summary is not None else "killed"


def job_lock(folder: Path) -> FileLock:
    """Held by the one process that delivers this folder."""
    return FileLock(folder / ".tracking.lock")


def sync(folder: Path, uri: str | None = None) -> tuple[bool, str]:
    """Deliver what a finished or dead job has not delivered yet.

    Args:
        folder: the job's folder.
        uri: tracking URI; `None` for the job's own.

    Returns:
        Whether MLflow has everything, and a line that says so.
    """
    logged = len(_log_of(folder))
    delivered, line = _sync(folder, uri)
    told = [said for said in _log_of(folder)[logged:].splitlines() if said.startswith(SET_ASIDE)]
    return delivered, "\n".join([*told, line])


def _log_of(folder: Path) -> str:
    path = folder / "tracking.log"
    return path.read_text(errors="replace") if path.is_file() else ""


def _sync(folder: Path, uri: str | None) -> tuple[bool, str]:
    try:
        check_folder(folder)
        with job_lock(folder).acquire(timeout=0):
            from rlexp.tracking.mlflow.delivery import Delivery, SweepDelivery

            runs = in_use(folder)
            own_uri = job_uri(folder, uri)
            named = uri or own_uri == os.environ.get("MLFLOW_TRACKING_URI")
            inside = None if named else place(folder)[0]
            delivery = (
                SweepDelivery(folder, own_uri, inside) if is_sweep(folder) else Delivery(folder, own_uri, runs, inside)
            )
            if not runs and owner_elsewhere(folder) and delivery.silent < SILENCE:
                return False, f"failed: {lock_holder(folder)}, and was {delivery.silent:.0f} s ago"
            if isinstance(delivery, SweepDelivery):
                if runs:
                    return False, f"the sweep runs ({lock_holder(folder)})"
                failures = delivery.finish()
                return not failures, f"failed: {'; '.join(failures)}" if failures else "delivered the sweep"
            num_records = delivery.send()
            if runs:
                return False, f"delivered {num_records} records; the rest once it has ended ({lock_holder(folder)})"
            failures = delivery.finish(final_status(folder))
    except Timeout:
        return False, "failed: another process delivers it now (the job runs?)"
    except NotNamed as error:
        return False, str(error)
    except LinkFound as error:
        return False, f"failed: {clean(error).splitlines()[0]}"
    except Exception as error:
        return False, f"failed: {_why(error, folder)}"
    num_files = len(delivery.sent_files)
    line = f"delivered {num_records} records, {num_files} files" if delivery.changed else "nothing new"
    if failures:
        line += f"; failed: {'; '.join(failures)}"
    return not failures, line


def _why(error: Exception, folder: Path) -> str:
    """What went wrong, in a line; with what to do where SQLite finds a store damaged that looked whole."""
    text = one_line(error)
    if "disk image is malformed" in text or "is not a database" in text:
        text += f"; this makes the store anew from the folders: {sync_command(place(folder)[0])} --rebuild"
    return text


def leftovers(output_dir: Path, uri: str) -> list[Path]:
    """Folders of jobs and sweeps that no process works on, and whose end has not reached MLflow."""
    found = []
    for folder in (*find_jobs(output_dir), *find_sweeps(output_dir)):
        # what cannot be read is no business of a job that has just started: `rlexp.sync` says what is wrong with it
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            check_folder(folder)
            if (folder / "tracking.json").exists():
                state = read_json(folder / "tracking.json", TRACKING, "uri", "status")
                left = same_address(state["uri"], uri) and state["status"] is None
            else:
                left = _never_reached(folder, uri)
            if left and not in_use(folder):
                found.append(folder)
    return found


def _never_reached(folder: Path, uri: str) -> bool:
    """Whether a folder without a run is a finished job's that should have one: who delivered it never got so far."""
    if not (folder / "summary.json").exists():
        return False  # its next start delivers it, and no run of it is open
    if select(read_config(folder), "tracking", "name") != "mlflow":
        return False
    return same_address(asked_uri(folder) or resolve_uri(None, place(folder)[0]), uri)


def close_silent(output_dir: Path, study: str, uri: str) -> list[str]:
    """Close the runs of a study that have given no sign of life for long; the names of their jobs and sweeps."""
    from rlexp.tracking.mlflow import delivery

    living = set()
    for folder in (*find_jobs(output_dir / study), *find_sweeps(output_dir / study)):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # it has no run
            run_id = read_json(folder / "tracking.json", TRACKING, "run_id")["run_id"]
            if in_use(folder):
                living.add(run_id)
    return delivery.close_silent(uri, study, living)


def follow(folders: Sequence[Path], uri: str | None = None) -> bool:
    """Deliver running jobs until their process says how each ended, or dies.

    Outages are waited out: with growing pauses while a job runs, for `GRACE` seconds once it has ended. Once MLflow
    has answered, what killed processes have left in the output folder is set right, too.

    Args:
        folders: the jobs' folders.
        uri: tracking URI; `None` for each job's own.

    Returns:
        Whether MLflow has everything.
    """
    # A batch system's SIGTERM to every process is for the training process, which then says "killed" here.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(3)  # training comes first; not far behind it, since the end of the job waits for this
    said: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=[said], daemon=True).start()
    parent, open_ = os.getppid(), True
    jobs = {str(folder): _Followed(folder, uri, INTERVAL * len(folders)) for folder in folders}
    tidying: Iterator[None] | None = None
    while open_ or any(job.delivered is None for job in jobs.values()):
        for job in jobs.values():
            job.deliver()
        if tidying is None and any(job.reached for job in jobs.values()):
            tidying = _tidy(folders[0], uri)
        busy = tidying is not None and next(tidying, True) is None
        due = [job.due for job in jobs.values() if job.delivered is None]
        line = _wait(said, [0.0] if busy else due, parent)
        what, _, name = line.strip().partition(" ") if line else ("", "", "")
        if what == "follow":
            jobs[name] = _Followed(Path(name), uri, INTERVAL)
        elif what:
            jobs[name].end(what)
        elif line == "":
            open_ = False
            for job in jobs.values():
                job.end(final_status(job.folder))
    deadline = time.monotonic() + GRACE
    for _ in tidying or ():
        if time.monotonic() > deadline:
            break
    return all(job.delivered for job in jobs.values())


def _tidy(folder: Path, uri: str | None) -> Iterator[None]:
    """Set right, a job or a sweep at a time, what killed processes have left beside a folder that is followed."""
    (output_dir, study), own_uri = place(folder), job_uri(folder, uri)
    for left in leftovers(output_dir, own_uri):
        delivered, said = sync(left, own_uri)  # to the store that this start uses, and to no other
        if delivered:
            with contextlib.suppress(OSError), open_to_write(left / "tracking.log", "a") as log:
                log.write(f"A later start: {clean(said)}\n")
        yield
    try:
        close_silent(output_dir, study, own_uri)
    except Exception as error:  # of no use to the jobs that are followed; it is done again by the next start
        _note(folder, f"Runs of {study} whose processes are silent were not closed: {one_line(error)}")


def _note(folder: Path, line: str) -> None:
    """Add to a followed folder's log what says nothing of its own delivery: `DELIVERED` stays the last line."""
    path = folder / "tracking.log"
    last = path.read_text().splitlines()[-1:] if path.exists() else []
    with open_to_write(path, "a") as log:
        log.write("\n".join([clean(line), *(last if last == [DELIVERED] else []), ""]))


class _Followed:
    """One of the jobs that are followed.

    Attributes:
        reached: whether MLflow has answered.
        status: how it ended; None while it runs.
        delivered: whether MLflow has everything; None while that may change.
        due: when to deliver next, in seconds of `time.monotonic`.
    """

    def __init__(self, folder: Path, uri: str | None, interval: float) -> None:
        self.folder, self._uri, self._interval = folder, uri, interval
        self._lock = job_lock(folder)
        self._lock.acquire()  # waits for the follower of a start that was killed
        self.status: str | None = None
        self.delivered: bool | None = None
        self.due, self.reached = 0.0, False
        self._delivery: Any = None
        self._pause, self._grace, self._deadline = interval, GRACE, 0.0

    def end(self, status: str) -> None:
        """The job has ended."""
        if self.status is None:
            self.status, self.due, self._deadline = status, 0.0, time.monotonic() + self._grace

    def deliver(self) -> None:
        """Send what is new, where that is due; the rest as well once the job has ended."""
        if self.delivered is not None or time.monotonic() < self.due:
            return
        failures: list[str] = []
        first, began = self._delivery is None, time.monotonic()
        try:
            failures = self._send()
            self.reached = True
            # The first one imports MLflow, and may make its schema.
            taken = 0.0 if first else time.monotonic() - began
            self._pause, self._grace = min(max(self._interval, taken / SHARE), LONGEST_PAUSE), GRACE
        except Exception as error:
            failures = [_why(error, self.folder)]
            self._pause, self._grace = min(2 * self._pause, LONGEST_PAUSE), 0.0
        if self.status is None:
            self.due = time.monotonic() + self._pause
            if failures:
                self._say(f"Not delivered, next attempt within {self._pause:g} s: {failures[0]}")
        elif not failures or time.monotonic() > self._deadline:
            self.delivered, self._delivery = not failures, None
            self._lock.release()
            self._say(f"{NOT_DELIVERED}{'; '.join(failures)}" if failures else DELIVERED)
        else:
            self.due = time.monotonic() + 1.0

    def _send(self) -> list[str]:
        """What could not be sent."""
        from rlexp.tracking.mlflow.delivery import Delivery, SweepDelivery

        uri = job_uri(self.folder, self._uri)
        if self._delivery is None:
            sweep = is_sweep(self.folder)
            self._delivery = SweepDelivery(self.folder, uri) if sweep else Delivery(self.folder, uri, running=True)
        delivery = self._delivery
        delivery.beat()
        if isinstance(delivery, SweepDelivery):
            return delivery.finish() if self.status is not None else []
        delivery.send()
        return delivery.finish(self.status) if self.status is not None else []

    def _say(self, line: str) -> None:
        with open_to_write(self.folder / "tracking.log", "a") as log:
            log.write(f"{clean(line)}\n")


def _listen(said: queue.Queue[str]) -> None:
    """Pass on what the training process says, a line at a time; "" once it is dead."""
    for line in sys.stdin:
        said.put(line)
    said.put("")


def _wait(said: queue.Queue[str], due: Sequence[float], parent: int) -> str | None:
    """What the training process says before something is due; "" once it is dead, None where it says nothing."""
    seconds = min(due) - time.monotonic() if due else INTERVAL
    try:
        return said.get(timeout=seconds) if seconds > 0 else said.get_nowait()
    except queue.Empty:  # a forked worker of a dead parent can hold our standard input open
        return None if os.getppid() == parent else ""
