"""One process per folder of a job or a sweep."""

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

PROBED = 0.5  # seconds that a start waits for a folder's lock, which `in_use` holds for an instant


@contextlib.contextmanager
def folder_lock(
    folder: Path,
    where: str = "output_dir",
    expected: str = "a job folder that no other process uses",
    hint: str = "Wait for it, or run another configuration, seed or output_dir.",
) -> Iterator[None]:
    """One process per folder of a job or a sweep; raises `Refusal` in these words where another is at work."""
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
        lock = FileLock(folder / ".lock", timeout=PROBED)
        try:
            lock.acquire()
        except Timeout as error:
            raise refusal(where, expected, f"{folder}, where {who_works(folder)}", hint) from error
    try:
        with disk_failures(folder), open_to_write(owner, "w") as file:
            file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        yield
    finally:
        with contextlib.suppress(OSError):
            owner.unlink(missing_ok=True)
        lock.release()


def in_use(folder: Path) -> bool:
    """Whether a process of this machine works in a job's or a sweep's folder: the system frees the lock of a dead one.

    It is not to be seen from other machines on every network file system: see `owner_elsewhere`.
    """
    from filelock import FileLock, Timeout

    try:
        if (folder / ".lock").is_symlink() or not (folder / ".lock").is_file():
            return False
        with FileLock(folder / ".lock", timeout=0):  # for less than PROBED, so that no start is refused for it
            return False
    except Timeout:
        return True
    except OSError:  # a folder of somebody else's, which cannot be written
        return False


def who_works(folder: Path) -> str:
    """The process whose lock a job's folder has, as far as it is known."""
    try:
        first = read_json(folder / "owner.json", OWNER, "pid", "host")
        return f"process {first['pid']} on {first['host']} is at work"
    except (OSError, ValueError):  # it is just starting
        return "one is at work"


def owner_elsewhere(folder: Path) -> bool:
    """Whether the process that last worked on a job was of another machine, and did not say that it left."""
    try:
        return bool(read_json(folder / "owner.json", OWNER, "host")["host"] != socket.gethostname())
    except (OSError, ValueError):
        return False
