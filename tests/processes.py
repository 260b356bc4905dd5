"""Processes, for tests that kill them."""

from __future__ import annotations

from pathlib import Path


def descendants(pid: int) -> list[int]:
    """The ids of a process's children, grandchildren and so on."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, new = [], [pid]
    while new:
        own = children.get(new.pop(), [])
        found += own
        new += own
    return found
