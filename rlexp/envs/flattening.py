"""Which observations become a vector of numbers, and what to do about those that do not."""

from __future__ import annotations

import gymnasium as gym
from gymnasium import spaces

from rlexp.system.errors import refusal


def check_vector(env: gym.Env, env_id: str) -> None:
    """Close an environment and raise `Refusal` where its observations cannot be flattened to one vector."""
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
    """Parts of a space that cannot become numbers in a vector of one length, by name and kind.

    Gymnasium says which spaces it flattens to an array. A Text is refused although it does: a letter's number is no
    quantity that a network could learn from.
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


def _flattens(space: gym.Space) -> bool:
    try:
        return bool(space.is_np_flattenable)
    except NotImplementedError:  # of spaces that Gymnasium does not know
        return False


def _named(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
