"""The log of a folder's delivery, `tracking.log`: written by the process that delivers, read by the one that trains."""

from __future__ import annotations

from pathlib import Path

from rlexp.system.links import open_to_write
from rlexp.system.text import clean
from rlexp.tracking.store_file import Unusable

DELIVERED = "Delivered."  # the last line, once the tracker has everything
NOT_DELIVERED = "Not delivered: "  # begins the line with which the tracker gives up
SET_ASIDE = "Set aside: "  # begins the line about a damaged store
STUDY_NOTE = "Names and views of the study in MLflow are as they were: "  # begins the line about why


def read_log(folder: Path, start: int = 0) -> str:
    """The log of a folder from byte `start` on; empty where there is none."""
    path = folder / "tracking.log"
    return path.read_bytes()[start:].decode(errors="replace") if path.is_file() else ""


def log_size(folder: Path) -> int:
    """Bytes of a folder's log."""
    path = folder / "tracking.log"
    return path.stat().st_size if path.is_file() else 0


def write_log(folder: Path, line: str) -> None:
    """Add a line to a folder's log."""
    with open_to_write(folder / "tracking.log", "a") as log:
        log.write(f"{clean(line)}\n")


def add_note(folder: Path, line: str) -> None:
    """Add a line that is not about the folder's own delivery: `DELIVERED` stays the last line."""
    was_delivered = is_delivered(read_log(folder))
    write_log(folder, line)
    if was_delivered:
        write_log(folder, DELIVERED)


def is_delivered(log: str) -> bool:
    """Whether a log ends with a complete delivery."""
    return log.splitlines()[-1:] == [DELIVERED]


def has_ended(log: str) -> bool:
    """Whether a log has a delivery that was completed or given up."""
    return any(line == DELIVERED or line.startswith(NOT_DELIVERED) for line in log.splitlines())


def set_aside_lines(log: str) -> list[str]:
    """The lines of a log about stores that were set aside, and about a study's page that could not be updated."""
    return list(dict.fromkeys(line for line in log.splitlines() if line.startswith((SET_ASIDE, STUDY_NOTE))))


def one_line(error: Exception) -> str:
    """The first line of an error's message, cut to 160 characters; the whole message of an unusable store."""
    if isinstance(error, Unusable):
        return clean(error)
    text = repr(error) if isinstance(error, KeyError) else str(error)
    lines = text.strip().splitlines() or [repr(error)]
    return clean(lines[0])[:160]
