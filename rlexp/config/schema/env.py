"""The schema of an environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlexp.config.schema.fields import opt


@dataclass
class DiscretizerSettings:
    """Uniform bins that turn a Box observation into one discrete state; dimensions not listed are ignored."""

    dimensions: list[int] = opt([], "the dimensions of the observation that are binned, in this order", low=0)
    low: list[float] = opt([], "lower end of the first bin per dimension; smaller values fall into that bin")
    high: list[float] = opt([], "upper end of the last bin per dimension; larger values fall into that bin")
    num_bins: list[int] = opt([], "number of bins per dimension", low=1, high=100_000)


@dataclass
class EnvSettings:
    """A Gymnasium environment."""

    name: str = opt("cartpole", "name in folder names and reports")
    id: str = opt("CartPole-v1", "Gymnasium id, or module:Id")
    kwargs: dict[str, Any] = opt({}, "arguments of gymnasium.make")
    max_episode_steps: int | None = opt(None, "time limit of an episode; null: the environment's own", low=1)
    imports: list[str] = opt([], "modules to import first")
    wrappers: list[Any] = opt([], "Gymnasium wrappers in this order: class paths, or mappings of name and arguments")
    preprocessing: str = opt("none", "preprocessing of observations and rewards", choices=("none", "atari"))
    frame_stack: int = opt(1, "number of recent observations stacked into one", low=1, high=64)
    step_timeout: float | None = opt(600.0, "time limit of one call of the environment, seconds; null: none", above=0)
    workers: int = opt(1, "processes that share a job's environments on the host engine", low=1, high=256)
    discretizer: DiscretizerSettings = opt(DiscretizerSettings, "bins through which tables see a Box observation")
    default_steps: int = opt(50_000, "env steps per trial if no budget is given", low=1)
