"""What environments cost on the host engine, for `benchmark.py engines --write`: played at random in this process."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from rlexp.config.schema.job import Settings
from rlexp.envs import inspection
from rlexp.envs.episodes import EpisodePlayer
from rlexp.envs.info import EnvInfo
from rlexp.envs.trial_envs import TrialEnvs
from rlexp.jobs.runner import compose

FEW, MANY = 2, 12  # environments side by side
STEPS = 1_500, 100  # env steps of each in training; of slow ones
EPISODES = 20, 2  # of an evaluation
LONG = 500  # env steps of an episode of an evaluation, at most


def _actions(observation: np.ndarray, info: EnvInfo, random: np.random.Generator) -> np.ndarray:
    """Random actions, one for each row of the observations; an impossible one is replaced by the first possible."""
    lead = observation.shape[: observation.ndim - len(info.observation_shape)]
    chosen = random.integers(info.num_actions, size=lead)
    if not info.masked:
        return chosen
    mask = observation[..., -info.num_actions :] > 0
    return np.where(np.take_along_axis(mask, chosen[..., None], -1)[..., 0], chosen, mask.argmax(-1))


def _trained(settings: Settings, info: EnvInfo, trials: int, steps: int) -> float:
    """Seconds of a lock-step of so many training environments."""
    envs, active, random = TrialEnvs(settings.env, info, list(range(trials))), np.ones(trials, bool), _random()
    began = time.perf_counter()
    for _ in range(steps):
        faults = envs.step(_actions(envs.observation, info, random), active).faults
        assert not faults, faults
    seconds = time.perf_counter() - began
    envs.close()
    return seconds / steps


def _played(settings: Settings, info: EnvInfo, episodes: int, max_steps: int) -> tuple[float, float]:
    """Seconds of some evaluation episodes of at most so many env steps, and their steps."""
    player, everyone, random = EpisodePlayer(settings.env, info, [0], episodes, max_steps), np.ones(1, bool), _random()

    def play() -> tuple[float, float]:
        began = time.perf_counter()
        _, lengths = player.play(lambda o: _actions(o, info, random), range(episodes), everyone)
        return time.perf_counter() - began, float(lengths.sum())

    play()  # makes the environments
    found = play()
    player.close()
    return found


def _random() -> np.random.Generator:
    return np.random.default_rng(0)


def measure(env: str, tabular: bool, slow: bool, fastest: Callable[..., dict[str, float]]) -> dict[str, float]:
    """The costs of an environment in microseconds.

    Args:
        env: its file in conf/env/.
        tabular: as algorithms with tables see it.
        slow: fewer steps will do.
        fastest: calls a function several times and returns the smallest of each figure.

    Returns:
        `step`, `played` and `reset` of `rlexp.engines.costs.EnvCost`.
    """
    settings = compose(f"env={env}", f"algo={'q_learning' if tabular else 'random'}")
    info = inspection.inspect(settings.env, tabular=tabular)
    steps, episodes = STEPS[slow], EPISODES[slow]

    def once() -> dict[str, float]:
        few, many = (_trained(settings, info, trials, steps) for trials in (FEW, MANY))
        (one, resets), (whole, played) = _played(settings, info, episodes, 1), _played(settings, info, episodes, LONG)
        return {"few": few, "many": many, "one": one, "resets": resets, "whole": whole, "played": played}

    found = fastest(once)
    each = (found["whole"] - found["one"]) / max(1.0, found["played"] - found["resets"])
    figures = {
        "step": (found["many"] - found["few"]) / (MANY - FEW),
        "played": each,
        "reset": found["one"] / found["resets"] - each,
    }
    return {name: 1e6 * max(0.0, value) for name, value in figures.items()}
