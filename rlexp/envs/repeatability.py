"""A check whether an environment is repeatable: two instances, reset with one seed, are given the same actions.

An environment with randomness beyond its seed gives two results for one `config_id`. A check of some milliseconds at
the start finds the usual cases; it proves nothing if it finds none.
"""

from __future__ import annotations

import pickle
import random
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from rlexp.config.schema.env import EnvSettings
from rlexp.envs import guard, making, toy_text
from rlexp.envs.faults import Misbehaved
from rlexp.envs.guard import call
from rlexp.envs.spaces import from_space
from rlexp.envs.spec import Discrete
from rlexp.envs.watchdog import watch

SEED = 1_987_654_321  # of the first episode
MAX_STEPS = 32
MAX_SECONDS = 0.01  # of steps, per instance
SLOW_TO_MAKE = 0.25  # seconds; of a slower environment no second instance is made, but the first is played again

_checked: set[str] = set()  # environments that this process has checked: each once


def why_not_repeatable(settings: EnvSettings, tabular: bool) -> str | None:
    """What differs between instances, and what to do about it; None if nothing does, or if it was checked before."""
    key = repr(replace(settings, step_timeout=None))
    if key in _checked:
        return None
    _checked.add(key)
    numpy_state, python_state = np.random.get_state(legacy=False), random.getstate()
    try:
        difference = _difference(settings, tabular)
        moved = []
        if pickle.dumps(numpy_state) != pickle.dumps(np.random.get_state(legacy=False)):
            moved.append("NumPy's")
        if python_state != random.getstate():
            moved.append("Python's")
    except Exception:  # a fault, which its trials will report with their seeds
        return None
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
    if difference is None and not moved:
        return None
    what = f"{settings.id} is not repeatable: "
    what += difference or f"it draws from {' and '.join(moved)} global generator, which no seed of a trial sets"
    empty = [name for name, value in settings.kwargs.items() if value is None]
    if empty:
        names = ", ".join(f"env.kwargs.{name}=null" for name in empty)
        return f"{what}; each instance draws what {names} leaves open: give a value (FrozenLake: map_name=8x8)"
    return f"{what}; one config_id then means two results. Draw from self.np_random, after super().reset(seed=seed)"


def _difference(settings: EnvSettings, tabular: bool) -> str | None:
    """How two instances differ, in words; None if they do not."""
    began = time.monotonic()
    first = call("__init__", partial(making.make, settings, tabular=tabular))
    slow = time.monotonic() - began > SLOW_TO_MAKE
    second = first
    try:
        played = _play(first, MAX_STEPS)
        if not slow:
            second = call("__init__", partial(making.make, settings, tabular=tabular))
        again = _play(second, len(played))
        if not _equal(_table(first), _table(second)):
            return "two instances have different transition tables"
        for step, (one, other) in enumerate(zip(played, again, strict=False)):
            if not _equal(one, other):
                who = "two instances" if first is not second else "two episodes"
                return f"{who} that were reset with the same seed differ at step {step}"
    finally:
        guard.close_all([first] if second is first else [first, second])
    return None


def _play(env: gym.Env, num_steps: int) -> list[Any]:
    """The reset and some steps: observation, reward and ends of each; fewer steps if the environment is slow."""
    observation, info = call("reset", partial(env.reset, seed=SEED))
    played: list[Any] = [_copy(observation)]
    watch.where = lambda: f"two instances of {env.spec and env.spec.id}, episode seed {SEED}, step {len(played)}"
    env.action_space.seed(SEED)
    deadline = time.monotonic() + MAX_SECONDS
    for i in range(1, num_steps):
        action = _action(env.action_space, info, i)
        try:
            observation, reward, terminated, truncated, info = call("step", env.step, action)
        except Misbehaved as fault:
            played.append(fault.text)
            break
        played.append((_copy(observation), _copy(reward), bool(terminated), bool(truncated)))
        if terminated or truncated or time.monotonic() > deadline:
            break
    return played


def _action(space: gym.Space, info: Any, i: int) -> Any:
    """The action of step `i`: one possible action of a Discrete after the other, samples of other spaces."""
    spec = from_space(space)
    if not isinstance(spec, Discrete):
        return space.sample()
    mask = info.get("action_mask") if isinstance(info, Mapping) else None
    actions = np.flatnonzero(mask) if mask is not None else np.arange(spec.n)
    return spec.to_env(actions)[i % len(actions)]


def _copy(value: Any) -> Any:
    """A copy, since some environments return the same buffer again and again."""
    return np.array(value)


def _table(env: gym.Env) -> Any:
    return env.unwrapped.P if toy_text.has_table(env) else None  # type: ignore[attr-defined]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)
