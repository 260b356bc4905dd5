"""The lock of a job's or a sweep's folder: one process at a time works in it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from rlexp.system.disk import disk_failures, wrong_path_refused
from rlexp.system.errors import Refusal, refusal
from rlexp.system.links import LinkFound, check_folder, open_to_write
from rlexp.system.stored_files import read_json, remove_folder
from rlexp.system.stored_schemas import OWNER

ACQUIRE_TIMEOUT = 0.5  # seconds that a start waits for a folder's lock, which `in_use` holds for an instant


@contextlib.contextmanager
def folder_lock(
    folder: Path,
    where: str = "output_dir",
    expected: str = "a job folder that no other process uses",
    hint: str = "Wait for it, or run another configuration, seed or output_dir.",
) -> Iterator[None]:
    """Create a folder and hold its lock.

    Args:
        folder: the job's or the sweep's folder; created if it is missing.
        where: the configuration key to blame in a refusal.
        expected: what the refusal says was expected.
        hint: what the refusal says to do.

    Raises:
        Refusal: if another process holds the lock, the folder contains links, or it cannot be created.
        Failure: if the disk is full or read-only.
    """
    from filelock import FileLock, Timeout

    owner = folder / "owner.json"
    try:
        check_folder(folder)
    except LinkFound as found:
        raise Refusal(f"{where}: {found}") from found
    with disk_failures(folder), wrong_path_refused(folder):
        folder.mkdir(parents=True, exist_ok=True)
        remove_folder(folder / ".lock")
        remove_folder(owner)
    with disk_failures(folder):
        lock = FileLock(folder / ".lock", timeout=ACQUIRE_TIMEOUT)
        try:
            lock.acquire()
        except Timeout as error:
            raise refusal(where, expected, f"{folder}, where {lock_holder(folder)}", hint) from error
    try:
        with disk_failures(folder), open_to_write(owner, "w") as file:
            file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        yield
    finally:
        with contextlib.suppress(OSError):
            owner.unlink(missing_ok=True)
        lock.release()


def in_use(folder: Path) -> bool:
    """Whether a process of this machine holds the lock of a folder; the system frees the lock of a dead process.

    Some network file systems do not show locks of other machines: see `owner_elsewhere`.
    """
    from filelock import FileLock, Timeout

    try:
        if (folder / ".lock").is_symlink() or not (folder / ".lock").is_file():
            return False
        with FileLock(folder / ".lock", timeout=0):  # for less than ACQUIRE_TIMEOUT, so no start is refused
            return False
    except Timeout:
        return True
    except OSError:  # another user's folder, which cannot be written
        return False


def lock_holder(folder: Path) -> str:
    """The process that holds a folder's lock, in words for a message."""
    try:
        owner = read_json(folder / "owner.json", OWNER, "pid", "host")
        return f"process {owner['pid']} on {owner['host']} is at work"
    except (OSError, ValueError):  # it is just starting
        return "one is at work"


def owner_elsewhere(folder: Path) -> bool:
    """Whether the last process that locked a folder ran on another machine and has not released the lock."""
    try:
        return bool(read_json(folder / "owner.json", OWNER, "host")["host"] != socket.gethostname())
    except (OSError, ValueError):
        return False
