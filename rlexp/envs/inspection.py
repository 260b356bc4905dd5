"""The description of an environment, found by making it once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from rlexp.config import hints
from rlexp.config.images import has_small_numbers
from rlexp.config.schema.env import EnvSettings
from rlexp.envs.action_mask import MaskedObservation
from rlexp.envs.category_numbers import num_states
from rlexp.envs.faults import is_signal, raised
from rlexp.envs.guard import close_all
from rlexp.envs.info import EnvInfo
from rlexp.envs.making import make
from rlexp.envs.spaces import from_action_space, from_space
from rlexp.envs.spec import SPECS, Discrete, Spec, title
from rlexp.envs.toy_text import has_table, is_table
from rlexp.envs.watchdog import armed, watch
from rlexp.system.errors import Refusal, refusal


def inspect(settings: EnvSettings, tabular: bool = False) -> EnvInfo:
    """Make the environment once and describe it.

    Args:
        settings: the environment.
        tabular: describe it as algorithms with tables see it.

    Raises:
        Refusal: as `make` does, for actions that no spec can describe, and for anything that the environment raises.
    """
    with looking_at(settings):
        return _described(settings, tabular)


@contextlib.contextmanager
def looking_at(settings: EnvSettings) -> Iterator[None]:
    """Around calls into an environment that is no job's: whatever it raises, or a call without end, is a `Refusal`.

    Code that makes several calls, each of which may take `step_timeout`, counts them in `watch.calls`.
    """
    try:
        with armed(settings.step_timeout):
            watch.calls += 1
            watch.inside, watch.where = True, lambda: settings.id
            yield
    except Refusal:
        raise
    except BaseException as error:
        if is_signal(error):
            raise
        problem = f"{settings.id!r} ({raised(error, watch.method)})"
        raise refusal("env.id", "an environment that can be made", problem) from error
    finally:
        watch.inside = False


def action_spec(env: gym.Env, env_id: str) -> Spec:
    """What agents choose in an environment; closes it and raises `Refusal` for actions that no spec can describe."""
    space = env.action_space
    spec = from_action_space(space)
    if spec is None:
        env.close()
        raise refusal(
            "env.id",
            f"an environment with a {' or '.join(map(title, SPECS))} action space",
            f"{env_id!r} with {type(space).__name__} actions ({space})",
            hints.for_actions(env_id, box=False),
        )
    return spec


def _described(settings: EnvSettings, tabular: bool) -> EnvInfo:
    env = make(settings, tabular=tabular)
    action = action_spec(env, settings.id)
    raw: Any = env.unwrapped
    states = _numbered_states(env, tabular)
    P: Any = raw.P if has_table(env) else None
    table = P is not None and not settings.wrappers  # wrappers may change what it says
    info = EnvInfo(
        observation=_observation_spec(env, states if tabular else None),
        action=action,
        max_episode_steps=env.spec.max_episode_steps if env.spec else None,
        rgb_array="rgb_array" in (env.metadata.get("render_modes") or []),
        tabular=tabular,
        num_states=states,
        masked=isinstance(env, MaskedObservation),
        table=table,
        restricted=P is not None and any(len(P[s]) < raw.action_space.n for s in range(int(raw.observation_space.n))),
        is_table=table and is_table(env),
        small_numbers=has_small_numbers(env),
    )
    close_all([env])  # problems are reported when the job's own environments are closed
    return info


def _numbered_states(env: gym.Env, tabular: bool) -> int | None:
    """How many numbered states an environment has; None if its observations are something else."""
    space = env.unwrapped.observation_space
    if tabular:
        space = env.env.observation_space if isinstance(env, MaskedObservation) else env.observation_space
    return num_states(space) if isinstance(space, gym.spaces.Discrete) else None


def _observation_spec(env: gym.Env, states: int | None) -> Spec:
    """What agents observe; `states`: how many numbered states algorithms with tables see."""
    space = env.observation_space
    if states is not None and isinstance(space, gym.spaces.Discrete):
        return Discrete(states, dtype="int64")
    small = space.dtype in (np.uint8, np.bool_)
    spec = from_space(space, "int64" if states is not None else "uint8" if small else "float32")
    assert spec is not None, "`make` gives observations that are Box, or Discrete for algorithms with tables"
    return spec
