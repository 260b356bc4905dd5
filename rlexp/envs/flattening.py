"""Observations as vectors of numbers, and refusals of those that cannot be."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium import spaces

from rlexp.envs.category_numbers import num_states, number
from rlexp.system.errors import refusal


def check_vector(env: gym.Env, env_id: str) -> None:
    """Close an environment and raise `Refusal` if its observations cannot be flattened to one vector."""
    space = env.observation_space
    bad = obstacles(space)
    if not bad:
        return
    env.close()
    hint = "A wrapper that observes numbers makes them one: env.wrappers=[module.Class]"
    if isinstance(space, spaces.Dict):
        good = [str(key) for key, part in space.spaces.items() if not obstacles(part)]
        if good:
            keys = ", ".join(good)
            hint = f"Leave out the others: env.wrappers='[{{name: FilterObservation, filter_keys: [{keys}]}}]'"
        if env_id.rpartition(":")[2].startswith(("MiniGrid-", "BabyAI-")):
            hint = "For example env.wrappers=[minigrid.wrappers.ImgObsWrapper]"
    raise refusal("env.id", "an environment whose observations can become a vector of numbers",
                  f"{env_id!r}, which observes {' and '.join(bad)}", hint)  # fmt: skip


def obstacles(space: gym.Space, where: str = "") -> list[str]:
    """The parts of a space that cannot become numbers in a vector of fixed length, by name and type.

    Gymnasium says which spaces it can flatten to an array. Text is refused all the same: networks cannot learn from the
    numbers of letters.
    """
    if isinstance(space, spaces.Dict):
        return [found for key, part in space.spaces.items() for found in obstacles(part, _named(where, str(key)))]
    if isinstance(space, spaces.Tuple):
        return [found for i, part in enumerate(space.spaces) for found in obstacles(part, _named(where, str(i)))]
    if _flattens(space) and not isinstance(space, spaces.Text):
        return (
            [found for part in space.spaces for found in obstacles(part, where)]
            if isinstance(space, spaces.OneOf)
            else []
        )
    return [f"{where} ({type(space).__name__})" if where else f"a {type(space).__name__}"]


def as_observed(space: gym.Space, observation: Any, tabular: bool, is_number: bool) -> Any:
    """A raw observation of an environment as agents observe it.

    Args:
        space: its space.
        observation: in this space.
        tabular: for an algorithm with tables.
        is_number: whether that algorithm observes one number.
    """
    if isinstance(space, spaces.Box) or (tabular and isinstance(space, spaces.Discrete)):
        return observation
    if tabular and is_number and num_states(space) is not None:
        return number(space, observation)
    return spaces.flatten(space, observation)


def _flattens(space: gym.Space) -> bool:
    try:
        return bool(space.is_np_flattenable)
    except NotImplementedError:  # of a third-party space
        return False


def _named(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
