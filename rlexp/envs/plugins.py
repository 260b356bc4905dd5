"""Environments of other packages that wait to be registered by Gymnasium, which has not done so since version 1.0.

Such a package names a function in the entry-point group `gymnasium.envs`, as MinAtar's does; importing is not enough.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

import gymnasium as gym

from rlexp.settings import refusal

_ASKED: set[str] = set()  # values of entry points that have been loaded in this process


def register(env_id: str) -> None:
    """Ask the packages whose name is a part of an id that is not registered yet; others stay unloaded.

    Args:
        env_id: a Gymnasium id, perhaps `module:Id`.

    Raises:
        Refusal: for a package that fails.
    """
    if env_id.rsplit(":", 1)[-1] in gym.registry:
        return
    for point in entry_points(group="gymnasium.envs"):
        if point.value not in _ASKED and _package(point) in env_id.lower():
            try:
                point.load()()
            except Exception as error:  # the package's own
                said = f"{env_id!r} ({point.value} raised {type(error).__name__}: {error})"
                raise refusal("env.id", "an environment whose package can be imported", said) from error
            _ASKED.add(point.value)


def _package(point: EntryPoint) -> str:
    return point.module.partition(".")[0].lower()
