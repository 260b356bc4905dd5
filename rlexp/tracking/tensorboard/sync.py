"""Event files of jobs that have ended, or died, or were trained with another tracker: `rlexp sync --to tensorboard`."""

from __future__ import annotations

import time
from pathlib import Path

from filelock import Timeout

from rlexp.system.folder_lock import in_use, lock_holder, owner_elsewhere
from rlexp.system.links import LinkFound, check_folder
from rlexp.system.text import clean
from rlexp.tracking.base import SILENCE
from rlexp.tracking.folders import final_status
from rlexp.tracking.log import one_line
from rlexp.tracking.tensorboard import place
from rlexp.tracking.tensorboard.deliver import Delivery, is_delivered


def sync(folder: Path) -> tuple[bool, str]:
    """Write the event files of a job, unless they are complete; of a running job, those of its records so far.

    Args:
        folder: of the job.

    Returns:
        Whether they hold everything, and a line that says so.
    """
    folder = folder.absolute()
    try:
        check_folder(folder)
        with place.lock(folder).acquire(timeout=0):
            return _sync(folder)
    except Timeout:
        return False, "failed: another process delivers it now (the job runs?)"
    except LinkFound as error:
        return False, f"failed: {clean(error).splitlines()[0]}"
    except Exception as error:  # of one folder: the others are delivered all the same
        return False, f"failed: {one_line(error)}"


def _sync(folder: Path) -> tuple[bool, str]:
    if _is_at_work_elsewhere(folder):
        return False, f"failed: {lock_holder(folder)}"
    runs = in_use(folder)
    if not runs and is_delivered(folder):
        return True, "nothing new"
    delivery = Delivery(folder)
    try:
        num_records = delivery.send()
        if runs:
            return False, f"delivered {num_records} records; the rest once it has ended ({lock_holder(folder)})"
        delivery.finish(final_status(folder))
    finally:
        delivery.close()
    return True, f"delivered {num_records} records"


def _is_at_work_elsewhere(folder: Path) -> bool:
    """Whether a process of another machine has written to a job's folder of late."""
    records = folder / "metrics.jsonl"
    return owner_elsewhere(folder) and records.exists() and time.time() - records.stat().st_mtime < SILENCE
