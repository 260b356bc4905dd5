"""What is known of an environment before anything is trained in it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EnvInfo:
    """What an algorithm needs to know of an environment."""

    observation_shape: tuple[int, ...]
    observation_dtype: str  # "float32", "uint8" for bytes and booleans, "int64" for numbered states
    num_actions: int
    max_episode_steps: int | None
    rgb_array: bool  # can be rendered to pictures
    tabular: bool = False  # made for algorithms with tables
    num_states: int | None = None  # of numbered states; None for everything else
    masked: bool = False  # for tabular algorithms: the action mask stands behind the observation
    table: bool = False  # has a transition table `P` over numbered states
    restricted: bool = False  # the table lacks some actions in some states
    is_table: bool = False  # the table says all that the environment does
    small_numbers: bool = False  # of images: no brightnesses from 0 to 255
