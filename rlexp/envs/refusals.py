"""Refusals of environments that cannot be made, with near matches and the lines that install packages."""

from __future__ import annotations

import difflib
import re
from inspect import signature
from typing import Any

import gymnasium as gym

from rlexp.config.paths import conf_dir
from rlexp.config.schema.env import EnvSettings
from rlexp.envs.faults import first_line
from rlexp.system import packages
from rlexp.system.errors import Refusal, did_you_mean, refusal


def of_making(settings: EnvSettings, error: Exception) -> Refusal:
    """The refusal of an environment whose making has raised an error."""
    if isinstance(error, gym.error.DependencyNotInstalled):
        return not_installed(settings.id, packages.for_error(error) or first_line(error))
    if isinstance(error, gym.error.UnregisteredEnv | gym.error.DeprecatedEnv):
        return _unknown(settings.id)
    if isinstance(error, gym.error.Error | ModuleNotFoundError):
        return refusal(
            "env.id",
            "a Gymnasium id, as in gymnasium.envs.registry, or module:Id",
            f"{settings.id!r} ({first_line(error).partition('. Environment registration')[0]})",
            packages.for_error(error),
        )
    message = first_line(error) if isinstance(error, TypeError) else f"{type(error).__name__}: {first_line(error)}"
    if settings.kwargs:
        message = message.partition(" was raised from the environment creator")[0]
        return refusal(
            "env.kwargs",
            f"arguments that {settings.id} takes",
            f"{settings.kwargs} ({message})",
            _near_argument(settings.id, message),
        )
    fix = packages.for_error(error)
    return refusal("env.id", "an environment that can be made", f"{settings.id!r} ({message})", fix)


def not_installed(env_id: str, install_line: str) -> Refusal:
    """The refusal of an environment whose package is missing.

    Args:
        env_id: the environment.
        install_line: how to install it.
    """
    return refusal("env.id", "an environment whose packages are installed", repr(env_id), install_line)


def check_version(env_id: str) -> None:
    """Raise `Refusal` for an id without a version, which Gymnasium takes for the newest: one day another one."""
    name = env_id.rsplit(":", 1)[-1]
    if name in gym.registry or re.search(r"-v\d+$", name):
        return
    versions = [i for i in gym.registry if re.fullmatch(rf"{re.escape(name)}-v\d+", i)]
    if versions:
        newest = max(versions, key=lambda i: int(i.rsplit("-v", 1)[1]))
        raise refusal("env.id", "an id with its version", repr(env_id), f"Did you mean {newest}?")


def _near_argument(env_id: str, message: str) -> str:
    """Near matches of an argument that an environment's class does not take, or the arguments that it takes."""
    wrong = re.search(r"unexpected keyword argument '(\w+)'", message)
    spec = gym.registry.get(env_id.rpartition(":")[2])
    if wrong is None or spec is None or spec.entry_point is None:
        return ""
    creator: Any = spec.entry_point
    creator = gym.envs.registration.load_env_creator(creator) if isinstance(creator, str) else creator
    try:
        known = [name for name in signature(creator).parameters if name != "render_mode"]
    except ValueError:  # of a class without a signature
        return ""
    return did_you_mean(wrong[1], known) or (f"It takes {', '.join(known)}." if known else "It takes none.")


def _unknown(env_id: str) -> Refusal:
    """The refusal of an id that is not registered, with near matches."""
    module, _, name = env_id.rpartition(":")
    brought = packages.for_id(name)
    if brought:
        return not_installed(env_id, brought)
    known = [i for i in gym.registry if "/" not in i or "/" in name]
    lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.6)
    hint = f"Did you mean {' or '.join(lower[m] for m in near)}? " if near else ""
    shipped = name if (conf_dir() / "env" / f"{name}.yaml").is_file() else ""
    if shipped:
        hint = f"Did you mean env={shipped}? "
    who = f"by another module than {module!r}" if module else "by a module of its own"
    hint += f"Is it registered {who}: env.id=<module>:{name or '<Id>'} or env.imports=[<module>]"
    what = f"{env_id!r}, which {f'{module!r} does not register' if module else 'is not registered or out of date'}"
    return refusal("env.id", "a Gymnasium id", what, hint)
