"""Environments of other packages that register themselves when Gymnasium asks, which it has not done since version 1.0.

Such a package names a function in the entry-point group `gymnasium.envs`, as MinAtar's does: importing it is not enough.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

import gymnasium as gym

_ASKED: set[str] = set()  # values of entry points that have been loaded in this process


def register(env_id: str) -> None:
    """Ask the packages whose name is a part of an id that is not registered yet; others stay unloaded.

    Args:
        env_id: a Gymnasium id, perhaps `module:Id`.
    """
    if env_id.rsplit(":", 1)[-1] in gym.registry:
        return
    for point in entry_points(group="gymnasium.envs"):
        if _package(point) in env_id.lower() and point.value not in _ASKED:
            _ASKED.add(point.value)
            point.load()()


def _package(point: EntryPoint) -> str:
    return point.module.partition(".")[0].lower()
