"""Errors of the disk as failures and refusals of one sentence."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from rlexp.system.errors import WRONG_PATH, Failure, refusal
from rlexp.system.tool import shortened

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG)


def disk_failure(error: OSError, folder: Path) -> Failure:
    """The failure for a full or read-only disk."""
    where = error.filename or folder
    return Failure(
        f"{where}: cannot be written ({error.strerror}); everything written before is intact, and the same command "
        "continues once there is room"
    )


def as_failure(error: Exception | None, folder: Path) -> Exception | None:
    """The failure for an error of the disk; any other error as it is."""
    return disk_failure(error, folder) if isinstance(error, OSError) and error.errno in DISK_ERRORS else error


@contextlib.contextmanager
def disk_failures(folder: Path) -> Iterator[None]:
    """Raise a `Failure` in place of an error of the disk."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise disk_failure(error, folder) from error


@contextlib.contextmanager
def wrong_path_refused(folder: Path) -> Iterator[None]:
    """Refuse the output folder if a job's folder in it cannot be created."""
    try:
        yield
    except OSError as error:
        if error.errno not in WRONG_PATH:
            raise
        raise refusal("output_dir", "a folder in which this user can create folders", f"{shortened(folder)} "
                      f"({error.strerror})") from error  # fmt: skip
