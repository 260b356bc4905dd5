"""Inside a job's folder, and inside a report's, there are no symbolic links: nothing is written or sent through one.

The output folder or a study's may be a link that its user has made (to a larger disk, say): what is meant is what lies
inside `<output_dir>/<study>/<job>`, `.../sweeps/<id>` and `.../report`, and these themselves.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


class LinkFound(OSError):
    """What was to be a file or a folder is something else; the message says what, and what to do."""


def check_folder(folder: Path) -> None:
    """Refuse a job's, a sweep's or a report's folder that holds anything but files and folders, or is a link itself.

    Raises:
        LinkFound: names the first.
    """
    folder = Path(folder)
    if folder.parent.name == "sweeps" and folder.parent.is_symlink():
        raise _found(folder.parent)
    for path in _others(folder):
        raise _found(path)


def _found(path: Path) -> LinkFound:
    what = f"a symbolic link to {os.readlink(path)}" if path.is_symlink() else "neither a file nor a folder"
    return LinkFound(f"{path}: expected a file or a folder of its own, received {what}.\nRemove it: rm '{path}'")


def _others(folder: Path) -> Iterator[Path]:
    try:
        if folder.is_symlink():
            yield folder
            return
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return  # somebody has just removed it
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _others(Path(entry.path))
        elif not entry.is_file(follow_symlinks=False):
            yield Path(entry.path)


def owned(path: Path, folder: Path) -> bool:
    """Whether a path below a folder is reached, and is, without a link: then it may be read to be sent."""
    try:
        parts = path.relative_to(folder).parts
    except ValueError:
        return False
    for part in parts:
        folder = folder / part
        if folder.is_symlink() or part == "..":
            return False
    return True


def open_to_write(path: Path, mode: str, inside: Path | None = None, **options: Any) -> IO[Any]:
    """`open` for writing that follows no link.

    Args:
        path: of the file; made where it is missing.
        mode: as of `open`: "w" and "x" replace what is there, whatever it is; "a" and "r+" go on with a regular file.
        inside: the folder below which no part of the path may be a link; by default the file's own.
        **options: of `open`.

    Raises:
        LinkFound: where there is a link, or a pipe or a device.
    """
    inside = inside if inside is not None else path.parent
    for parent in path.parents:
        if parent == inside or not parent.is_relative_to(inside):
            break
        if parent.is_symlink():
            raise _found(parent)
    if mode[0] in "wx" and (path.is_symlink() or path.exists()):
        path.unlink()  # a link is replaced, and not what it points to

    def opener(name: str, flags: int) -> int:
        try:
            descriptor = os.open(name, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)
        except OSError:
            if path.is_symlink():
                raise _found(path) from None
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _found(path)
        return descriptor

    return open(path, mode, opener=opener, **options)
