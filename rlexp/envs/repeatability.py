"""Whether an environment does the same again: two instances, reset with one seed, given the same actions.

One that draws numbers which its seed does not give makes two results of one `config_id`. A look of some milliseconds at
the start finds the usual cases; that it finds nothing is no proof.
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
from rlexp.envs.watchdog import watch

SEED = 1_987_654_321  # of the first episode
MAX_STEPS = 32
MAX_SECONDS = 0.01  # of steps, for each instance
SLOW_TO_MAKE = 0.25  # seconds: a second instance costs too much, and the first is played again

_looked_at: set[str] = set()  # environments of this process: one look at each


def why_not_repeatable(settings: EnvSettings, tabular: bool) -> str | None:
    """What differs from one instance to the next, and what to do; None where nothing was seen, or once it was said."""
    key = repr(replace(settings, step_timeout=None))
    if key in _looked_at:
        return None
    _looked_at.add(key)
    numpy_state, python_state = np.random.get_state(legacy=False), random.getstate()
    try:
        difference = _difference(settings, tabular)
        moved = []
        if pickle.dumps(numpy_state) != pickle.dumps(np.random.get_state(legacy=False)):
            moved.append("NumPy's")
        if python_state != random.getstate():
            moved.append("Python's")
    except Exception:  # it misbehaves, which its trials will tell with their seeds
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
    began = time.monotonic()
    first = call("__init__", partial(making.make, settings, tabular=tabular))
    slow = time.monotonic() - began > SLOW_TO_MAKE
    second = first
    try:
        seen = _play(first, MAX_STEPS)
        if not slow:
            second = call("__init__", partial(making.make, settings, tabular=tabular))
        again = _play(second, len(seen))
        if not _equal(_table(first), _table(second)):
            return "two instances have different transition tables"
        for step, (one, other) in enumerate(zip(seen, again, strict=False)):
            if not _equal(one, other):
                who = "two instances" if first is not second else "two episodes"
                return f"{who} that were reset with the same seed differ at step {step}"
    finally:
        guard.close_all([first] if second is first else [first, second])
    return None


def _play(env: gym.Env, num_steps: int) -> list[Any]:
    """Observation, reward and ends of some steps, the reset first; ends early where the environment is slow."""
    observation, info = call("reset", partial(env.reset, seed=SEED))
    seen: list[Any] = [_kept(observation)]
    watch.where = lambda: f"two instances of {env.spec and env.spec.id}, episode seed {SEED}, step {len(seen)}"
    start, count = int(env.action_space.start), int(env.action_space.n)  # type: ignore[attr-defined]
    deadline = time.monotonic() + MAX_SECONDS
    for i in range(1, num_steps):
        action = np.int64(start + _allowed(info, count, i))
        try:
            observation, reward, terminated, truncated, info = call("step", env.step, action)
        except Misbehaved as fault:
            seen.append(fault.text)
            break
        seen.append((_kept(observation), _kept(reward), bool(terminated), bool(truncated)))
        if terminated or truncated or time.monotonic() > deadline:
            break
    return seen


def _allowed(info: Any, count: int, i: int) -> int:
    mask = info.get("action_mask") if isinstance(info, Mapping) else None
    actions = np.flatnonzero(mask) if mask is not None else np.arange(count)
    return int(actions[i % len(actions)])


def _kept(value: Any) -> Any:
    """A copy: some environments fill one buffer again and again."""
    return np.array(value)


def _table(env: gym.Env) -> Any:
    return env.unwrapped.P if toy_text.has_table(env) else None  # type: ignore[attr-defined]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)
