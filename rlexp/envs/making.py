"""Gymnasium environments as agents expect them, made from settings."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium as gym

import rlexp.envs.chapter  # noqa: F401  (registers the chapter's environments)
from rlexp.config.schema.env import EnvSettings
from rlexp.envs import atari, plugins, refusals, wrappers
from rlexp.envs.action_mask import MaskedObservation, has_action_mask
from rlexp.envs.category_numbers import NumberedObservation, num_states
from rlexp.envs.faults import first_line
from rlexp.envs.flattening import check_vector
from rlexp.envs.guard import announce
from rlexp.envs.space_check import SpaceCheck
from rlexp.system import backend, packages
from rlexp.system.errors import Refusal, refusal


def make(settings: EnvSettings, render_mode: str | None = None, tabular: bool = False) -> gym.Env:
    """Make one environment with the observations that agents expect.

    Observations that are no Box (Discrete, Dict, Tuple, ...) are flattened to one vector, categories one-hot. For
    algorithms with tables, a Discrete observation stays a number, an observation made of several categories becomes a
    number (see `category_numbers.py`), and an action mask in `info` is put behind the observation.

    Args:
        settings: the environment.
        render_mode: as of `gymnasium.make`.
        tabular: for an algorithm with tables.

    Raises:
        Refusal: for an unknown id (with near matches), a missing package (with the line that installs it), arguments
            that the environment does not take, or observations that cannot become numbers.
    """
    for module in settings.imports:
        _import_named(module)
    classes = wrappers.load(settings.wrappers)
    refusals.check_version(settings.id)
    _register(settings.id)
    announce("__init__")
    try:
        env = _made(settings, render_mode, classes)
    except Refusal:
        raise
    except Exception as error:
        raise refusals.of_making(settings, error) from error
    return _as_observed(env, settings, tabular)


def _import_named(module: str) -> None:
    """Import a module of `env.imports`."""
    announce(f"import of {module}")
    try:
        _import(module)
    except Exception as error:  # the module's own errors included
        raise refusal(
            "env.imports",
            "modules that can be imported",
            f"{module!r} ({first_line(error)})",
            packages.for_error(error),
        ) from error


def _import(module: str) -> None:
    """Import a third-party module, once."""
    if module not in sys.modules:
        with backend.importing_others():
            importlib.import_module(module)


def _register(env_id: str) -> None:
    """Let the packages that know an id register it."""
    if env_id.startswith("ALE/"):
        try:
            atari.register()
        except ImportError as error:
            raise refusals.not_installed(env_id, "pip install 'rlexp[atari]' brings it.") from error
    plugins.register(env_id)


def _made(
    settings: EnvSettings, render_mode: str | None, classes: Sequence[tuple[type[gym.Wrapper], dict[str, Any]]]
) -> gym.Env:
    """The environment inside the wrappers of its settings."""
    is_atari = settings.preprocessing == "atari"
    options = {
        "max_episode_steps": None if is_atari else settings.max_episode_steps,
        "render_mode": render_mode,
        "frameskip": 1 if is_atari else None,
    }
    # Only what is asked for: many third-party environments take no render_mode.
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if ":" in settings.id:
        _import(settings.id.rpartition(":")[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # an outdated id is refused, in one sentence
        env = gym.make(settings.id, disable_env_checker=True, **given, **settings.kwargs)
    env = wrappers.apply(env, classes, settings.id)
    return atari.preprocess(env, settings.max_episode_steps) if is_atari else env


def _as_observed(env: gym.Env, settings: EnvSettings, tabular: bool) -> gym.Env:
    """The environment inside rlexp's own wrappers of observations."""
    numbered = num_states(env.observation_space) is not None
    if tabular and numbered and not isinstance(env.observation_space, gym.spaces.Discrete):
        env = NumberedObservation(env)
    if tabular and (numbered or isinstance(env.observation_space, gym.spaces.Box)):
        return MaskedObservation(env) if has_action_mask(env, settings.id) else env
    if not isinstance(env.observation_space, gym.spaces.Box):
        check_vector(env, settings.id)
        env = gym.wrappers.FlattenObservation(SpaceCheck(env))
    if settings.frame_stack > 1:
        env = gym.wrappers.FrameStackObservation(env, settings.frame_stack)
    return env
