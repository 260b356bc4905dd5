"""Delivery of one folder, once: what MLflow has not received of a job or a sweep that has ended, or died.

A job lives while a process holds its folder's lock. If a process of another machine holds it, the job lives while its
last sign of life in MLflow is younger than `SILENCE`.
"""

from __future__ import annotations

import os
from pathlib import Path

from filelock import Timeout

from rlexp.system.folder_lock import in_use, lock_holder, owner_elsewhere
from rlexp.system.links import LinkFound, check_folder
from rlexp.system.text import clean
from rlexp.tracking.addresses import sync_command
from rlexp.tracking.base import SILENCE
from rlexp.tracking.folders import NotNamed, delivery_lock, final_status, is_sweep, job_uri, place
from rlexp.tracking.log import log_size, one_line, read_log, set_aside_lines


def sync(folder: Path, uri: str | None = None) -> tuple[bool, str]:
    """Deliver what a finished or dead job or sweep has not delivered yet; of a running job, its records.

    Args:
        folder: of the job or the sweep.
        uri: tracking URI; None for the folder's own.

    Returns:
        Whether MLflow has everything, and a line that says so, after lines about a store that was set aside.
    """
    logged = log_size(folder)
    delivered, line = _sync(folder, uri)
    return delivered, "\n".join([*set_aside_lines(read_log(folder, logged)), line])


def _sync(folder: Path, uri: str | None) -> tuple[bool, str]:
    try:
        check_folder(folder)
        with delivery_lock(folder).acquire(timeout=0):
            own_uri = job_uri(folder, uri)
            named = uri or own_uri == os.environ.get("MLFLOW_TRACKING_URI")
            inside = None if named else place(folder)[0]
            return (_sync_sweep if is_sweep(folder) else _sync_job)(folder, own_uri, inside)
    except Timeout:
        return False, "failed: another process delivers it now (the job runs?)"
    except NotNamed as error:
        return False, str(error)
    except LinkFound as error:
        return False, f"failed: {clean(error).splitlines()[0]}"
    except Exception as error:
        return False, f"failed: {reason(error, folder)}"


def _sync_job(folder: Path, uri: str, inside: Path | None) -> tuple[bool, str]:
    from rlexp.tracking.mlflow.deliver import Delivery

    runs = in_use(folder)
    delivery = Delivery(folder, uri, runs, inside)
    if alive := _alive_elsewhere(folder, runs, delivery.silent):
        return False, alive
    num_records = delivery.send()
    if runs:
        return False, f"delivered {num_records} records; the rest once it has ended ({lock_holder(folder)})"
    failures = delivery.finish(final_status(folder))
    num_files = len(delivery.sent_files)
    line = f"delivered {num_records} records, {num_files} files" if delivery.changed else "nothing new"
    if failures:
        line += f"; failed: {'; '.join(failures)}"
    return not failures, line


def _sync_sweep(folder: Path, uri: str, inside: Path | None) -> tuple[bool, str]:
    from rlexp.tracking.mlflow.deliver_sweep import SweepDelivery

    runs = in_use(folder)
    delivery = SweepDelivery(folder, uri, inside)
    if alive := _alive_elsewhere(folder, runs, delivery.silent):
        return False, alive
    if runs:
        return False, f"the sweep runs ({lock_holder(folder)})"
    failures = delivery.finish()
    return not failures, f"failed: {'; '.join(failures)}" if failures else "delivered the sweep"


def _alive_elsewhere(folder: Path, runs: bool, silent: float) -> str | None:
    """The line about a folder that a process of another machine works on; None if there is none."""
    if not runs and owner_elsewhere(folder) and silent < SILENCE:
        return f"failed: {lock_holder(folder)}; its last sign of life was {silent:.0f} s ago"
    return None


def reason(error: Exception, folder: Path) -> str:
    """One line on why a delivery failed; for a store that SQLite finds damaged, with the command that helps."""
    text = one_line(error)
    if "disk image is malformed" in text or "is not a database" in text:
        text += f"; this recreates the store from the folders: {sync_command(place(folder)[0])} --rebuild"
    return text
