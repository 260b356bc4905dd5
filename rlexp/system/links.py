"""Protection against symbolic links: nothing is written or sent through one inside a job's, sweep's or report's folder.

The rule covers `<output_dir>/<study>/<job>`, `.../sweeps/<id>` and `.../report` and everything inside them. The output
folder and a study's folder may be links, for example to a larger disk.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


class LinkFound(OSError):
    """A link, a pipe or a device in place of a file or a folder; the message says which, and what to do."""


def check_folder(folder: Path) -> None:
    """Refuse a folder that is a link, or that contains anything but regular files and folders.

    Raises:
        LinkFound: for the first such entry.
    """
    folder = Path(folder)
    if folder.parent.name == "sweeps" and folder.parent.is_symlink():
        raise _link_error(folder.parent)
    for path in _irregular_entries(folder):
        raise _link_error(path)


def _link_error(path: Path) -> LinkFound:
    what = f"a symbolic link to {os.readlink(path)}" if path.is_symlink() else "neither a file nor a folder"
    return LinkFound(f"{path}: expected a file or a folder of its own, received {what}.\nRemove it: rm '{path}'")


def _irregular_entries(folder: Path) -> Iterator[Path]:
    """The links, pipes and devices in a folder, at any depth; the folder itself if it is a link."""
    try:
        if folder.is_symlink():
            yield folder
            return
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return  # removed in the meantime
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _irregular_entries(Path(entry.path))
        elif not entry.is_file(follow_symlinks=False):
            yield Path(entry.path)


def owned(path: Path, folder: Path) -> bool:
    """Whether a path lies below a folder and no part of it is a link: only such files are sent to a server."""
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
    """Open a file for writing, without following links.

    Args:
        path: the file; created if it is missing.
        mode: as in `open`. "w" and "x" replace any entry of that name; "a" and "r+" continue a regular file.
        inside: the folder below which no part of the path may be a link; default: the file's own folder.
        **options: further arguments of `open`.

    Raises:
        LinkFound: for a link, a pipe or a device.
    """
    inside = inside if inside is not None else path.parent
    for parent in path.parents:
        if parent == inside or not parent.is_relative_to(inside):
            break
        if parent.is_symlink():
            raise _link_error(parent)
    if mode[0] in "wx" and (path.is_symlink() or path.exists()):
        path.unlink()  # replaces a link, not its target

    def opener(name: str, flags: int) -> int:
        try:
            descriptor = os.open(name, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)
        except OSError:
            if path.is_symlink():
                raise _link_error(path) from None
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _link_error(path)
        return descriptor

    return open(path, mode, opener=opener, **options)
