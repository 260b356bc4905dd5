"""Whether a folder can be created at a path: found out from names and permissions, before anything is written."""

from __future__ import annotations

import os
from pathlib import Path

MAX_NAME, MAX_PATH = 255, 4_000  # bytes; leaves room for a job's folder and files below the path
NO_FILES = ("/proc", "/sys")  # file systems in which no files can be created


def why_not(named: str | Path) -> str | None:
    """The reason why no files can be created in a folder, in words; None if nothing speaks against it."""
    text = str(named)
    if "\0" in text:
        return "a name with a NUL"
    if len(os.fsencode(text)) > MAX_PATH:
        return f"a path of {len(text):,} letters"
    try:
        path = Path(text).expanduser().absolute()
    except RuntimeError as error:
        return str(error).rstrip(".")
    long = next((part for part in path.parts if len(os.fsencode(part)) > MAX_NAME), None)
    if long is not None:
        return f"a name of {len(long):,} letters"
    try:
        real = path.resolve()
        there = next(place for place in (path, *path.parents) if os.path.lexists(place))
        if not there.is_dir():
            return f"{there}, which is {'a link to nothing' if there.is_symlink() and not there.exists() else 'a file'}"
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        return getattr(error, "strerror", None) or str(error)
    if any(real.is_relative_to(place) for place in NO_FILES):
        return f"{path}, where no files can be created"
    if not os.access(there, os.W_OK | os.X_OK) and there != path:
        return f"{there}, in which this user cannot create folders"
    return None
