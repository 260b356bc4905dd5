"""Ids that installed packages register, such as MiniGrid and MinAtar, found without importing every package.

Packages name a function that registers their ids in the entry-point group `gymnasium.envs`, under the namespace of the
ids or, for ids without one, `__root__`. Gymnasium itself no longer calls it. Other packages register their ids when
they are imported.
"""

from __future__ import annotations

import re
import warnings
from importlib.metadata import entry_points

import gymnasium as gym

from rlexp.system import packages


def register_all() -> None:
    """Let every installed package that is known to register ids do so; a failure is a warning."""
    for point in entry_points(group="gymnasium.envs"):
        try:
            hook = point.load()
            hook()
        except Exception as error:
            warnings.warn(f"{point.value} has registered no environments: {error}", stacklevel=2)
    for start in packages.IDS:
        try:
            packages.import_for_id(start)
        except Exception as error:
            warnings.warn(f"the package of ids like {start}* cannot be imported: {error}", stacklevel=2)


def register(env_id: str) -> None:
    """Let the packages that may know an unregistered id register theirs."""
    module, _, name = env_id.rpartition(":")
    if module or name in gym.registry or not re.search(r"-v\d+$", name):
        return
    namespace = name.partition("/")[0] if "/" in name else "__root__"
    for point in entry_points(group="gymnasium.envs"):
        if point.name != namespace:
            continue
        try:
            hook = point.load()
            if name not in gym.registry:  # importing its module may have registered it
                hook()
        except Exception as error:  # perhaps of a package that has nothing to do with this id
            warnings.warn(f"{point.value} has registered no environments: {error}", stacklevel=2)
        if name in gym.registry:
            return
    try:
        packages.import_for_id(name)
    except Exception as error:
        warnings.warn(f"the package of ids like {name} cannot be imported: {error}", stacklevel=2)
