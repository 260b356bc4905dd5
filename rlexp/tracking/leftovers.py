"""What processes have left that were killed together with those that delivered for them: runs that still say RUNNING.

The next start in the same output folder sets them right, and so does `rlexp sync`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from rlexp.system.folder_lock import in_use
from rlexp.system.links import check_folder
from rlexp.system.stored_files import read_json
from rlexp.system.stored_schemas import TRACKING
from rlexp.system.text import same_address
from rlexp.tracking.addresses import resolve_uri
from rlexp.tracking.folders import asked_trackers, asked_uri, find_jobs, find_sweeps, job_uri, place
from rlexp.tracking.log import add_note, one_line, write_log
from rlexp.tracking.sync import sync


def leftovers(output_dir: Path, uri: str) -> list[Path]:
    """The folders of jobs and sweeps on which no process works, and whose end has not reached the store at `uri`."""
    found = []
    for folder in (*find_jobs(output_dir), *find_sweeps(output_dir)):
        # A job that has just started does not report damaged folders of others: `rlexp sync` does.
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            check_folder(folder)
            if (folder / "tracking.json").exists():
                receipt = read_json(folder / "tracking.json", TRACKING, "uri", "status")
                left = same_address(receipt["uri"], uri) and receipt["status"] is None
            else:
                left = _never_delivered(folder, uri)
            if left and not in_use(folder):
                found.append(folder)
    return found


def _never_delivered(folder: Path, uri: str) -> bool:
    """Whether a folder without a receipt is that of a finished job that should have a run in the store at `uri`."""
    if not (folder / "summary.json").exists():
        return False  # its next start delivers it, and none of its runs is open
    if "mlflow" not in asked_trackers(folder):
        return False
    return same_address(asked_uri(folder) or resolve_uri(None, place(folder)[0]), uri)


def close_silent(output_dir: Path, study: str, uri: str) -> list[str]:
    """Close the runs of a study that have given no sign of life for `SILENCE`; returns the names of jobs and sweeps."""
    from rlexp.tracking.mlflow import alive

    living = set()
    for folder in (*find_jobs(output_dir / study), *find_sweeps(output_dir / study)):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # it has no run
            run_id = read_json(folder / "tracking.json", TRACKING, "run_id")["run_id"]
            if in_use(folder):
                living.add(run_id)
    return alive.close_silent(uri, study, living)


def tidy(folder: Path, uri: str | None) -> Iterator[None]:
    """Set right what killed processes have left in the output folder of a followed job, one folder per iteration.

    Args:
        folder: of the job that is followed; its log tells what could not be done.
        uri: tracking URI; None for the folder's own.
    """
    (output_dir, study), own_uri = place(folder), job_uri(folder, uri)
    for left in leftovers(output_dir, own_uri):
        delivered, line = sync(left, own_uri)  # to the store of this start, and to no other
        if delivered:
            with contextlib.suppress(OSError):
                write_log(left, f"A later start: {line}")
        yield
    try:
        close_silent(output_dir, study, own_uri)
    except Exception as error:  # it does not concern the jobs that are followed; the next start tries again
        add_note(folder, f"The silent runs of {study} were not closed: {one_line(error)}")
