"""What there is to know of an environment before anything is trained in it: for readers, not for agents.

Environments are third-party code: each call into one happens in `inspection.looking_at`.
"""

from __future__ import annotations

import contextlib
import fnmatch
import importlib.metadata
import math
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np

from rlexp.config.schema.env import EnvSettings
from rlexp.envs import atari, making, plugins, toy_text
from rlexp.envs.faults import first_line, shown, type_name
from rlexp.envs.guard import announce, close_all
from rlexp.envs.inspection import looking_at
from rlexp.envs.watchdog import watch
from rlexp.system import packages
from rlexp.system.backend import quiet_stderr
from rlexp.system.errors import refusal
from rlexp.system.version import __version__
from rlexp.system.words import plural

MOST_NUMBERS = 12  # of an observation whose bounds are listed one by one
MOST_WRAPPERS = 100
NUM_ACTIONS = 1_000  # drawn beforehand for `measure`


@dataclass(frozen=True)
class Facts:
    """Facts of an environment.

    Attributes:
        observation, action: its own spaces in words, one line or several.
        shape: of its observations; None if they have none.
        time_limit: of an episode, in env steps; None: no limit.
        reward_threshold: the mean return that counts as solved, where it says one.
        table_rewards: the smallest and the largest reward in its transition table, if it has one.
        wrappers: names of what is around it, the innermost first.
        package: distribution and version that its class is from.
        cls: where its class is, as module:name.
        render_modes: what it can be rendered to.
    """

    observation: list[str]
    action: list[str]
    shape: tuple[int, ...] | None
    time_limit: int | None
    reward_threshold: float | None
    table_rewards: tuple[float, float] | None
    wrappers: list[str]
    package: str
    cls: str
    render_modes: list[str]


@dataclass(frozen=True)
class Pace:
    """What some steps with random actions have shown.

    Attributes:
        steps, episodes: how many were taken, and how many episodes ended.
        seconds: how long they took, resets included.
        rewards: the smallest and the largest.
        mean_return: of the episodes that ended; None without any.
    """

    steps: int
    episodes: int
    seconds: float
    rewards: tuple[float, float]
    mean_return: float | None


def gather(settings: EnvSettings) -> Facts:
    """Make an environment once and describe it; raises `Refusal` for whatever goes wrong with that."""
    with looking_at(settings):
        env = making.make(settings)
        raw: Any = env.unwrapped
        spec = env.spec
        facts = Facts(
            space_words(raw.observation_space),
            space_words(raw.action_space),
            raw.observation_space.shape,
            spec.max_episode_steps if spec is not None else None,
            _number(spec.reward_threshold) if spec is not None else None,
            _table_rewards(env),
            list(_wrappers(env)),
            "",
            f"{type(raw).__module__}:{type_name(raw)}",
            [str(mode) for mode in (env.metadata.get("render_modes") or [])],
        )
        close_all([env])
    return replace(facts, package=_package(type(raw)))  # which takes longer than a call of an environment may


def measure(settings: EnvSettings, seconds: float) -> Pace:
    """Step one instance with random actions that its action mask permits, as a job's own environments are made.

    Args:
        settings: the environment.
        seconds: how long, at least one step.
    """
    with looking_at(settings):
        env = making.make(settings)
        env.action_space.seed(0)
        actions = [env.action_space.sample() for _ in range(NUM_ACTIONS)]
        draws = np.random.default_rng(0).random(NUM_ACTIONS)
        announce("reset")
        _, info = env.reset(seed=0)
        steps = episodes = 0
        low, high, total, ended = math.inf, -math.inf, 0.0, 0.0
        began = time.perf_counter()
        while steps == 0 or time.perf_counter() - began < seconds:
            watch.calls, watch.method = watch.calls + 1, "step"
            k = steps % NUM_ACTIONS
            _, reward, terminated, truncated, info = env.step(_possible(actions[k], draws[k], info, env))
            reward, steps = float(reward), steps + 1
            low, high, total = min(low, reward), max(high, reward), total + reward
            if terminated or truncated:
                episodes, ended, total = episodes + 1, ended + total, 0.0
                watch.calls, watch.method = watch.calls + 1, "reset"
                _, info = env.reset()
        took = time.perf_counter() - began
        close_all([env])
        return Pace(steps, episodes, took, (low, high), ended / episodes if episodes else None)


def _possible(drawn: Any, u: float, info: Any, env: gym.Env) -> Any:
    """A drawn action; with a mask of the state that was just observed, one of those that it permits.

    Args:
        drawn: of all actions.
        u: uniform number in [0, 1), which chooses one of the possible actions.
        info: of the state.
        env: of the actions.
    """
    space = env.action_space
    mask: Any = info.get("action_mask") if isinstance(info, Mapping) else None
    if not isinstance(space, gym.spaces.Discrete) or np.shape(mask) != (space.n,):
        return drawn
    possible = np.flatnonzero(mask)
    if not len(possible):
        return drawn
    return space.start + possible[int(u * len(possible))]


def first_frame(settings: EnvSettings) -> np.ndarray:
    """The picture of the first state.  # [height, width, 3] uint8"""
    with looking_at(settings), quiet_stderr():  # SDL complains about a missing desktop
        env = making.make(settings, "rgb_array")
        announce("reset")
        env.reset(seed=0)
        announce("render")
        try:
            frame: Any = env.render()
        except gym.error.DependencyNotInstalled as error:
            fix = packages.for_error(error) or first_line(error)
            raise refusal(
                "--picture", "an environment whose packages for pictures are installed", settings.id, fix
            ) from error
        close_all([env])
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise refusal("--picture", "a picture [height, width, 3] of bytes from render", shown(frame))
    return np.array(frame)


def register_all() -> None:
    """Let the packages that are known to register ids do so; others register theirs once they are imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plugins.register_all()
        with contextlib.suppress(ImportError):
            atari.register()


def registered(pattern: str = "") -> list[str]:
    """The ids registered so far that contain a text, or match a pattern with * and ?; sorted, whatever their case."""
    return sorted((i for i in gym.registry if matches(i, pattern)), key=str.lower)


def matches(name: str, pattern: str) -> bool:
    """Whether a name contains a text, or matches a pattern with * and ?, whatever their case."""
    name, pattern = name.lower(), pattern.lower()
    return fnmatch.fnmatchcase(name, pattern) if set("*?") & set(pattern) else pattern in name


def is_registered(env_id: str) -> bool:
    """Whether an id without a module is known here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plugins.register(env_id)
    return env_id in gym.registry


def registration(env_id: str) -> tuple[str, int | None, float | None] | None:
    """What is registered under an id, without making it: entry point, time limit, reward threshold."""
    spec = gym.registry.get(env_id.rpartition(":")[2])
    if spec is None:
        return None
    entry = spec.entry_point if isinstance(spec.entry_point, str) else shown(spec.entry_point)
    return entry, spec.max_episode_steps, spec.reward_threshold


def space_words(space: Any, indent: str = "") -> list[str]:
    """A Gymnasium space in words: the numbers of a small Box one by one, parts of a composed space one by one."""
    spaces = gym.spaces
    if isinstance(space, spaces.Discrete):
        last = int(space.start) + int(space.n) - 1
        return [f"{indent}Discrete: one of {plural(int(space.n), 'number')}, {int(space.start)} to {last}"]
    if isinstance(space, spaces.Box):
        return [f"{indent}{line}" for line in _box_words(space)]
    if isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):
        sizes = shown(space.nvec) if isinstance(space, spaces.MultiDiscrete) else "2 each"
        return [f"{indent}{type_name(space)}: numbers of shape {space.shape}, sizes {sizes}"]
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts: Mapping[Any, Any] = space.spaces if isinstance(space, spaces.Dict) else dict(enumerate(space.spaces))
        lines = [f"{indent}{type_name(space)} of {len(parts)} parts"]
        for key, part in list(parts.items())[:MOST_NUMBERS]:
            first, *rest = space_words(part, indent + "  ")
            lines += [f"{indent}  {shown(key)}: {first.strip()}", *(f"  {line}" for line in rest)]
        return lines + ([f"{indent}  ..."] if len(parts) > MOST_NUMBERS else [])
    return [f"{indent}{shown(space)}"]


def _box_words(space: Any) -> list[str]:
    size = math.prod(space.shape)
    shape = f", shape {space.shape}" if len(space.shape) != 1 else ""
    head = f"Box: {size:,} number{'s' * (size != 1)}{shape}, {space.dtype}"
    low, high = np.ravel(space.low).tolist(), np.ravel(space.high).tolist()
    if len({*zip(low, high, strict=True)}) == 1:
        return [f"{head}, each {_bounds(low[0], high[0])}"]
    if size > MOST_NUMBERS:
        return [f"{head}, between {_end(min(low))} and {_end(max(high))}"]
    return [head, *(f"  {i}  {_bounds(a, b)}" for i, (a, b) in enumerate(zip(low, high, strict=True)))]


def _bounds(low: float, high: float) -> str:
    if math.isinf(low) and math.isinf(high):
        return "unbounded"
    return f"{_end(low)} to {_end(high)}"


def _end(bound: float) -> str:
    """A bound; numbers as large as a float32 can be stand for none."""
    return f"{bound + 0.0:.6g}" if abs(bound) < 1e38 else ("-" if bound < 0 else "") + "infinity"


def _wrappers(env: Any) -> Iterator[str]:
    found: list[str] = []
    while isinstance(env, gym.Wrapper) and len(found) < MOST_WRAPPERS:
        found.append(type_name(env))
        env = env.env
    yield from reversed(found)


def _table_rewards(env: gym.Env) -> tuple[float, float] | None:
    if not toy_text.has_table(env):
        return None
    raw: Any = env.unwrapped
    rewards = [
        float(outcome[2])
        for s in range(int(raw.observation_space.n))
        for outcomes in toy_text.actions_of(raw.P, s).values()
        for outcome in outcomes
    ]
    return (min(rewards), max(rewards)) if rewards else None


def _package(cls: type) -> str:
    """The distribution that a class is from, with its version; its module where it is in none."""
    top = cls.__module__.partition(".")[0]
    if top == "rlexp":  # an editable installation does not say what is in it
        return f"rlexp {__version__}"
    names = importlib.metadata.packages_distributions().get(top, [])
    told = [f"{name} {importlib.metadata.version(name)}" for name in dict.fromkeys(names)]
    return " or ".join(told) or f"the module {cls.__module__}, which is in no installed package"


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
