"""MiniGrid's empty room as an image of symbols, registered as `minigrids/EmptyRoom-v0` on import."""

from __future__ import annotations

from typing import Any

import gymnasium as gym


def empty_room(**options: Any) -> gym.Env:
    """A room of 5 x 5 tiles with seven actions: left, right, forward, ..."""
    from minigrid.wrappers import ImgObsWrapper

    return ImgObsWrapper(gym.make("MiniGrid-Empty-5x5-v0", **options))


if "minigrids/EmptyRoom-v0" not in gym.registry:
    gym.register("minigrids/EmptyRoom-v0", entry_point=empty_room)
