"""The Gymnasium wrappers of a configuration: `env.wrappers`.

An entry is a class path, or a mapping of `name` (the class path) and the wrapper's arguments:

    env.wrappers=[minigrid.wrappers.ImgObsWrapper]
    env.wrappers='[FlattenObservation, {name: RescaleObservation, min_obs: 0, max_obs: 1}]'

A path is `module.Class` (or `module:Class`); a class name alone is one of `gymnasium.wrappers`. The wrappers are
applied in the order of the list to what `gymnasium.make` returns, inside of rlexp's own (preprocessing, flattening,
frame_stack). The form of the entries is checked without Gymnasium, in `rlexp/config/wrapper_entries.py`.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
from collections.abc import Sequence
from typing import Any

import gymnasium as gym

from rlexp.config.wrapper_entries import parse
from rlexp.system import backend, packages
from rlexp.system.errors import Refusal, did_you_mean, refusal

STATISTICS = (gym.wrappers.NormalizeObservation, gym.wrappers.NormalizeReward)  # kept over several episodes


class Configured(gym.Wrapper):
    """Marks the place between the wrappers of a configuration and rlexp's own (see `configured_space`)."""


def load(entries: Sequence[Any]) -> list[tuple[type[gym.Wrapper], dict[str, Any]]]:
    """The classes of `env.wrappers` with their arguments. Importing their modules may register ids."""
    named = [(entry.pop("name"), entry) for entry in parse(entries)]
    return [(import_wrapper(path, f"env.wrappers[{i}]"), entry) for i, (path, entry) in enumerate(named)]


def apply(env: gym.Env, classes: Sequence[tuple[type[gym.Wrapper], dict[str, Any]]], env_id: str) -> gym.Env:
    """Apply wrappers to an environment; closes it and raises `Refusal` if one cannot be applied."""
    for i, (wrapper, arguments) in enumerate(classes):
        try:
            env = _wrapped(env, wrapper, arguments, f"env.wrappers[{i}]", env_id)
        except Refusal:
            env.close()
            raise
    return Configured(env) if classes else env


def import_wrapper(path: str, where: str = "env.wrappers") -> type[gym.Wrapper]:
    """Import a wrapper class: the one place that imports what `env.wrappers` names.

    Args:
        path: of the class.
        where: the key of the configuration, for messages.

    Raises:
        Refusal: for a path that cannot be imported, a class that is no wrapper, or a wrapper that keeps statistics.
    """
    module, _, name = path.rpartition(".")
    module = module or "gymnasium.wrappers"
    try:
        with contextlib.nullcontext() if module in sys.modules else backend.importing_others():
            found: Any = getattr(importlib.import_module(module), name)
    except AttributeError as error:
        known = [key for key, value in vars(sys.modules.get(module, gym.wrappers)).items() if _is_wrapper(value)]
        near = did_you_mean(name, known)
        if "." not in path and not near:
            near = f"One of another package is named with its module: env.wrappers=[<module>.{name}]"
        raise refusal(where, f"a wrapper of {module}", repr(name), near or _list(known)) from error
    except Exception as error:  # the module's own errors included
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise refusal(
            where, "a wrapper that can be imported", f"{path!r} ({reason})", packages.for_error(error)
        ) from error
    if not _is_wrapper(found):
        raise refusal(where, "a class derived from gymnasium.Wrapper", f"{path!r}, which is none")
    if issubclass(found, STATISTICS):
        raise refusal(
            where, "a wrapper whose state ends with the episode", f"{path!r}, which keeps statistics over episodes",
            "Evaluation and resumed jobs would see other numbers; RescaleObservation and ClipReward keep none.",
        )  # fmt: skip
    wrapper: type[gym.Wrapper] = found
    return wrapper


def _wrapped(env: gym.Env, wrapper: type[gym.Wrapper], given: dict[str, Any], where: str, env_id: str) -> gym.Env:
    name, arguments = wrapper.__name__, {key: _tuples(value) for key, value in given.items()}
    _check_arguments(env, wrapper, arguments, given, where)
    try:
        return wrapper(env, **arguments)
    except Exception as error:  # the wrapper's own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        what = f"{name} with {given}" if given else name
        raise refusal(
            where, f"a wrapper and arguments that fit {env_id} with observations {_short(env.observation_space)}",
            f"{what} ({type(error).__name__}: {reason})", packages.for_error(error),
        ) from error  # fmt: skip


def _check_arguments(
    env: gym.Env, wrapper: type[gym.Wrapper], arguments: dict[str, Any], given: dict[str, Any], where: str
) -> None:
    """Raise `Refusal` for arguments that a wrapper does not take; they are shown as `given`."""
    try:
        signature = inspect.signature(wrapper)
    except ValueError:  # a class without a signature: the wrapper itself will judge
        return
    try:
        signature.bind(env, **arguments)
    except TypeError as error:
        takes = list(signature.parameters)[1:]
        what = f"{given} ({error})" if given else f"none ({error})"
        raise refusal(
            where, f"arguments that {wrapper.__name__} takes", what, _list(takes) or "It takes none."
        ) from error


def configured_space(env: gym.Env) -> gym.Space:
    """The observations of an environment before rlexp's own wrappers."""
    layer = env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, Configured):
            return layer.observation_space
        layer = layer.env
    return layer.observation_space


def _is_wrapper(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, gym.Wrapper)


def _tuples(value: Any) -> Any:
    """A value of YAML with tuples for lists, as Gymnasium's arguments are."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _list(names: Sequence[str]) -> str:
    return f"There are {', '.join(names)}." if names else ""


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
