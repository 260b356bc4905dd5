"""Failures of the disk, as sentences."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from rlexp.system.errors import WRONG_PATH, Failure, refusal
from rlexp.system.tool import shortened

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG)


def disk_failure(error: OSError, folder: Path) -> Failure:
    """A full or read-only disk: what is there is whole, and the same command goes on from it."""
    where = error.filename or folder
    return Failure(
        f"{where}: cannot be written ({error.strerror}); what was written before is whole, and the same command "
        "continues once there is room"
    )


def as_failure(error: Exception | None, folder: Path) -> Exception | None:
    return disk_failure(error, folder) if isinstance(error, OSError) and error.errno in DISK_ERRORS else error


@contextlib.contextmanager
def disk_failures(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise disk_failure(error, folder) from error


@contextlib.contextmanager
def wrong_path_refused(folder: Path) -> Iterator[None]:
    """Around what makes a job's folder: one that cannot be made was named wrongly."""
    try:
        yield
    except OSError as error:
        if error.errno not in WRONG_PATH:
            raise
        raise refusal("output_dir", "a folder in which this user can make others", f"{shortened(folder)} "
                      f"({error.strerror})") from error  # fmt: skip
