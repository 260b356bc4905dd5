"""`python -m rlexp.sync PATH...`: deliver jobs to MLflow; with `--follow`, while one of them runs.

The training process starts the second form (see `rlexp/trackers/follower.py`) and writes one line, the job's
final status, to its standard input. A line that never comes means that the training process died.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from rlexp.trackers.base import one_line, resolve_uri, ui_command

INTERVAL = 2.0  # seconds between deliveries while a job runs
LONGEST_PAUSE = 60.0  # seconds between attempts during an outage
GRACE = 5.0  # seconds of further attempts once the job has ended


def find_jobs(path: Path) -> list[Path]:
    """The job folders at `path`, sorted: itself, those of a study, or those of an output folder's studies."""
    return sorted(file.parent for depth in ("", "*/", "*/*/") for file in path.glob(f"{depth}job.json"))


def job_uri(folder: Path, uri: str | None) -> str:
    """The tracking URI of a job: `uri`, else `tracking.uri` of its `config.yaml`, else the default."""
    config = OmegaConf.load(folder / "config.yaml")
    output_dir = folder.absolute().parent.parent
    return resolve_uri(uri or OmegaConf.select(config, "tracking.uri"), output_dir)


def final_status(folder: Path) -> str:
    """How a job ended by its `summary.json`; "killed" if it did not live to write one."""
    summary = folder / "summary.json"
    return json.loads(summary.read_text())["status"] if summary.exists() else "killed"


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
    try:
        with job_lock(folder).acquire(timeout=0):
            from rlexp.trackers.mlflow import Delivery

            delivery = Delivery(folder, job_uri(folder, uri))
            num_records = delivery.send()
            failures = delivery.finish(final_status(folder))
    except Timeout:
        return False, "failed: another process delivers it now (the job runs?)"
    except Exception as error:
        return False, f"failed: {one_line(error)}"
    num_files = len(delivery.sent_files)
    line = f"delivered {num_records} records, {num_files} files" if delivery.changed else "nothing new"
    if failures:
        line += f"; failed: {'; '.join(failures)}"
    return not failures, line


def follow(folder: Path, uri: str | None = None) -> bool:
    """Deliver a running job until its process says how it ended, or dies.

    Outages are waited out: with growing pauses while the job runs, for `GRACE` seconds once it has ended.

    Args:
        folder: the job's folder.
        uri: tracking URI; `None` for the job's own.

    Returns:
        Whether MLflow has everything.
    """
    # A batch system's SIGTERM to every process is for the training process, which then says "killed" here.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(3)  # training comes first; not far behind it, since the end of the job waits for this
    status: str | None = None
    said: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: said.put(os.read(0, 64).decode().strip()), daemon=True).start()
    parent = os.getppid()
    delivery, pause, grace = None, INTERVAL, GRACE
    with job_lock(folder):  # waits for the follower of a start that was killed
        while status is None:
            try:
                from rlexp.trackers.mlflow import Delivery

                delivery = delivery or Delivery(folder, job_uri(folder, uri), running=True)
                delivery.send()
                pause, grace = INTERVAL, GRACE
            except Exception as error:
                pause, grace = min(2 * pause, LONGEST_PAUSE), 0.0
                print(f"Not delivered, next attempt within {pause:g} s: {one_line(error)}", flush=True)
            status = _wait(said, pause, parent)
        deadline = time.monotonic() + grace
        while True:
            try:
                delivery = delivery or Delivery(folder, job_uri(folder, uri), running=True)
                delivery.send()
                failures = delivery.finish(status or final_status(folder))
            except Exception as error:
                failures = [one_line(error)]
            if not failures or time.monotonic() > deadline:
                print(f"Not delivered: {'; '.join(failures)}" if failures else "Delivered.", flush=True)
                return not failures
            time.sleep(1.0)


def _wait(said: queue.Queue[str], seconds: float, parent: int) -> str | None:
    """What the training process said within `seconds`; "" if it died, `None` if it still runs."""
    try:
        return said.get(timeout=seconds)
    except queue.Empty:  # a forked worker of a dead parent can hold our standard input open
        return None if os.getppid() == parent else ""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code: 0 all delivered, 1 something not delivered, 2 wrong path."""
    parser = argparse.ArgumentParser(
        prog="python -m rlexp.sync",
        description="Deliver jobs to MLflow: records, artifacts, final status and best weights, read from "
        "the jobs' folders. What was delivered before is not sent again.",
        epilog="exit code: 0 all delivered, 1 something was not delivered, 2 wrong path",
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="job, study or output folder")
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="sqlite:///<file> or http(s)://<server>; default: tracking.uri of the job's config.yaml, "
        "else MLFLOW_TRACKING_URI, else mlflow.db in the output folder",
    )
    parser.add_argument("--follow", action="store_true", help="deliver one running job; used by the training process")
    args = parser.parse_args(argv)
    jobs = {path: find_jobs(path) for path in args.paths}
    for path, folders in jobs.items():
        if not folders:
            print(f"{path}: no job.json here, in its folders or in theirs", file=sys.stderr)
            return 2
    if args.follow:
        return 0 if follow(args.paths[0], args.tracking_uri) else 1
    all_delivered = True
    uris: dict[str, None] = {}
    for folder in dict.fromkeys(folder for folders in jobs.values() for folder in folders):
        delivered, line = sync(folder, args.tracking_uri)
        print(f"{folder}: {line}", flush=True)
        all_delivered &= delivered
        if delivered:
            uris[job_uri(folder, args.tracking_uri)] = None
    for uri in uris:
        print(f"See: {ui_command(uri)}")
    return 0 if all_delivered else 1


if __name__ == "__main__":
    sys.exit(main())
