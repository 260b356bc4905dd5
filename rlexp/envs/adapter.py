"""The only file that knows Gymnasium: making environments, checking them, and stepping one per trial.

Each trial has an environment of its own and every episode is reset with its own derived seed, so that nothing is
shared between trials and an environment's state can be rebuilt from (episode seed, actions since reset).
There is no autoreset here: an episode that ends is reset by hand, and its last observation is the one that is stored.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import math
import operator
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import rlexp.envs.chapter  # noqa: F401  (registers the chapter's environments)
from rlexp import backend, hints, packages, registry, seeding
from rlexp.envs import atari, plugins, wrappers
from rlexp.envs.flattening import check_vector
from rlexp.envs.numbered import NumberedObservation, num_states
from rlexp.envs.watchdog import Hangs, calling, watch
from rlexp.networks.images import has_small_numbers
from rlexp.settings import EnvSettings, Refusal, conf_dir, did_you_mean, refusal

FLOAT32_MAX = float(np.finfo(np.float32).max)


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


def make(settings: EnvSettings, render_mode: str | None = None, tabular: bool = False) -> gym.Env:
    """Make one environment with the observations and actions that agents expect.

    Observations that are no Box (Discrete, Dict, Tuple, ...) are flattened to one vector, categories one-hot. For
    algorithms with tables (`tabular`) a Discrete observation stays a number, one made of several categories becomes
    one (see `numbered`), and where `info` has an action mask it is put behind the observation.

    Raises:
        Refusal: for an unknown id (with near matches), a missing package (with the line that brings it), arguments
            that the environment does not take, or an action space that is not Discrete.
    """
    for module in settings.imports:
        try:
            _import(module)
        except Exception as error:  # the module's own errors included
            raise refusal(
                "env.imports",
                "modules that can be imported",
                f"{module!r} ({_first_line(error)})",
                packages.for_error(error),
            ) from error
    classes = wrappers.load(settings.wrappers)
    _check_version(settings.id)
    if settings.id.startswith("ALE/"):
        try:
            atari.register()
        except ImportError as error:
            raise _not_installed(settings.id, "pip install 'rlexp[atari]' brings it.") from error
    plugins.register(settings.id)
    is_atari = settings.preprocessing == "atari"
    # Only what is asked for: many environments of third parties take no render_mode.
    options = {
        "max_episode_steps": None if is_atari else settings.max_episode_steps,
        "render_mode": render_mode,
        "frameskip": 1 if is_atari else None,
    }
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    try:
        if ":" in settings.id:
            _import(settings.id.rpartition(":")[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # an outdated id is refused below, in one sentence
            env = gym.make(settings.id, disable_env_checker=True, **given, **settings.kwargs)
        env = wrappers.apply(env, classes, settings.id)
        if is_atari:
            env = atari.preprocess(env, settings.max_episode_steps)
    except Refusal:
        raise
    except gym.error.DependencyNotInstalled as error:
        raise _not_installed(settings.id, packages.for_error(error) or _first_line(error)) from error
    except (gym.error.UnregisteredEnv, gym.error.DeprecatedEnv) as error:
        raise _unknown(settings.id) from error
    except (gym.error.Error, ModuleNotFoundError) as error:
        raise refusal(
            "env.id",
            "a Gymnasium id, as in gymnasium.envs.registry, or module:Id",
            f"{settings.id!r} ({_first_line(error).partition('. Environment registration')[0]})",
            packages.for_error(error),
        ) from error
    except Exception as error:  # the environment's own
        said = _first_line(error) if isinstance(error, TypeError) else f"{type(error).__name__}: {_first_line(error)}"
        if settings.kwargs:
            said = said.partition(" was raised from the environment creator")[0]
            raise refusal("env.kwargs", f"arguments that {settings.id} takes", f"{settings.kwargs} ({said})",
                          _near_argument(settings.id, said)) from error  # fmt: skip
        fix = packages.for_error(error)
        raise refusal("env.id", "an environment that can be made", f"{settings.id!r} ({said})", fix) from error
    if not isinstance(env.action_space, gym.spaces.Discrete):
        space = env.action_space
        env.close()
        raise refusal(
            "env.id",
            "an environment with a Discrete action space",
            f"{settings.id!r} with {type(space).__name__} actions ({space})",
            hints.for_actions(settings.id, isinstance(space, gym.spaces.Box)),
        )
    counted = num_states(env.observation_space) is not None
    if tabular and counted and not isinstance(env.observation_space, gym.spaces.Discrete):
        env = NumberedObservation(env)
    if tabular and (counted or isinstance(env.observation_space, gym.spaces.Box)):
        return MaskedObservation(env) if _has_action_mask(env, settings.id) else env
    if not isinstance(env.observation_space, gym.spaces.Box):
        check_vector(env, settings.id)
        env = gym.wrappers.FlattenObservation(env)
    if settings.frame_stack > 1:
        env = gym.wrappers.FrameStackObservation(env, settings.frame_stack)
    return env


def _import(module: str) -> None:
    """Import a module of other people, once."""
    if module not in sys.modules:
        with backend.importing_others():
            importlib.import_module(module)


def _has_action_mask(env: gym.Env, env_id: str) -> bool:
    try:
        return "action_mask" in env.reset(seed=0)[1]
    except Exception as error:
        said = f"{type(error).__name__}: {_first_line(error)}"
        raise refusal("env.id", "an environment that can be reset", f"{env_id!r} ({said})") from error


class MaskedObservation(gym.Wrapper):
    """Puts `info["action_mask"]` behind the observation, so that it goes wherever the observation goes.  # [D + A]"""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        space, num_actions = env.observation_space, int(env.action_space.n)  # type: ignore[attr-defined]
        if isinstance(space, gym.spaces.Discrete):
            space = gym.spaces.Box(int(space.start), int(space.start + space.n - 1), (1,), np.int64)
        assert isinstance(space, gym.spaces.Box)
        low = np.append(space.low.ravel(), np.zeros(num_actions, space.dtype))
        high = np.append(space.high.ravel(), np.ones(num_actions, space.dtype))
        self.observation_space = gym.spaces.Box(low, high, dtype=space.dtype)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Reset, with the mask of the first state."""
        observation, info = self.env.reset(**options)
        return self._with_mask(observation, info), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, with the mask of the state that is reached."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._with_mask(observation, info), reward, terminated, truncated, info

    def _with_mask(self, observation: Any, info: dict[str, Any]) -> np.ndarray:
        joined = np.concatenate((np.ravel(observation), info["action_mask"]), dtype=self.observation_space.dtype)
        return joined  # [D + A]


def has_table(env: gym.Env) -> bool:
    """Whether an environment has a transition table `P` over numbered states that start at 0."""
    raw: Any = env.unwrapped
    space = raw.observation_space
    return hasattr(raw, "P") and isinstance(space, gym.spaces.Discrete) and bool(space.start == 0)


def is_table(env: gym.Env) -> bool:
    """Whether all that an environment does stands in its table and in where its episodes start."""
    raw: Any = env.unwrapped
    start = getattr(raw, "initial_state_distrib", None)
    if not has_table(env) or start is None or raw.action_space.start != 0:
        return False
    complete = all(len(lines) > 0 for s in range(len(start)) for lines in actions_of(raw.P, s).values())
    wrapped = raw.spec is not None and raw.spec.additional_wrappers  # which may change what the table says
    masks = not isinstance(env, MaskedObservation) or hasattr(raw, "action_mask")
    chance_beyond = getattr(raw, "fickle_passenger", False)  # of Taxi
    return complete and masks and not wrapped and not chance_beyond


def actions_of(P: Any, s: int) -> dict[int, Sequence[Any]]:
    """The possible actions of a state in a table `P`, a mapping or a sequence of states, and their outcomes."""
    actions = P[s].items() if isinstance(P[s], Mapping) else enumerate(P[s])
    return {int(a): lines for a, lines in actions if lines is not None}


def replaced(env_id: str) -> bool:
    """Whether an id of Gymnasium's own is registered with somebody else's class, or inside further wrappers."""
    bare = env_id.rpartition(":")[2]
    spec = gym.registry.get(bare)
    return (
        bare in registry.DYNAMICS
        and spec is not None
        and (not str(spec.entry_point).startswith("gymnasium.envs.") or bool(spec.additional_wrappers))
    )


def inspect(settings: EnvSettings, tabular: bool = False) -> EnvInfo:
    """Make the environment once and describe it; raises `Refusal` as `make` does."""
    env = make(settings, tabular=tabular)
    space, actions, raw = env.observation_space, env.action_space, env.unwrapped.observation_space
    assert isinstance(actions, gym.spaces.Discrete)
    spec = env.spec
    seen = env.env.observation_space if isinstance(env, MaskedObservation) else space  # before its mask
    states = seen if tabular else raw
    counted = num_states(states) if isinstance(states, gym.spaces.Discrete) else None
    P: Any = getattr(env.unwrapped, "P", None) if has_table(env) else None
    table = None if settings.wrappers else P  # wrappers may change what it says
    floats = "uint8" if space.dtype in (np.uint8, np.bool_) else "float32"
    info = EnvInfo(
        observation_shape=tuple(space.shape or ()),
        observation_dtype="int64" if tabular and counted is not None else floats,
        num_actions=int(actions.n),
        max_episode_steps=spec.max_episode_steps if spec else None,
        rgb_array="rgb_array" in (env.metadata.get("render_modes") or []),
        tabular=tabular,
        num_states=counted,
        masked=isinstance(env, MaskedObservation),
        table=table is not None,
        restricted=P is not None and any(len(P[s]) < actions.n for s in range(int(raw.n))),  # type: ignore[attr-defined]
        is_table=table is not None and is_table(env),
        small_numbers=has_small_numbers(env),
    )
    env.close()
    return info


def transition_table(settings: EnvSettings) -> tuple[Any, np.ndarray, int, bool]:
    """`P`, the probabilities of the first states [S], A, and whether a reset draws a number, where `is_table`."""
    env = make(settings)
    plain: Any = env.unwrapped
    env.reset(seed=0)
    untouched = gym.utils.seeding.np_random(0)[0].bit_generator.state
    drawn = plain.np_random.bit_generator.state != untouched
    env.close()
    return plain.P, np.asarray(plain.initial_state_distrib, np.float64), int(plain.action_space.n), drawn


def action_masks(settings: EnvSettings) -> np.ndarray | None:
    """The action mask of every state of an environment that `is_table`, None where it has none.  # [S, A] bool"""
    env = make(settings, tabular=True)
    plain: Any = env.unwrapped
    env.close()
    if not isinstance(env, MaskedObservation):
        return None
    return np.array([plain.action_mask(s) for s in range(plain.observation_space.n)], bool)


def uniforms(seed: int, count: int) -> np.ndarray:
    """The first `count` uniform numbers that an environment reset with `seed` would draw.  # [count] float64"""
    return gym.utils.seeding.np_random(seed)[0].random(count)


@dataclass(frozen=True)
class Fault:
    """What an environment has done that it must not do."""

    trial: int  # which, from 0
    text: str  # one sentence that names environment, trial seed, episode seed and step
    trace: str = ""  # the traceback, where it raised something


class Unfit(ValueError):
    """What an environment has returned is not what it declares."""


class Check:
    """What every observation is held to; made for speed, since each one passes here.

    Attributes:
        expected: what `sound` looks for, in words.
    """

    def __init__(self, info: EnvInfo) -> None:
        self._shape, self._num_states = info.observation_shape, info.num_states or 0
        self._no_shape = None if self._shape else ()  # a plain number has no attribute `shape`
        numbered = info.observation_dtype == "int64"
        self._floats, self._masked_state = info.observation_dtype == "float32", numbered and bool(self._shape)
        self._zeros = np.zeros(0, np.float32)
        self.read: Callable[[Any], Any] = self._state if numbered and not self._shape else self._array
        self.expected = f"an observation in [0, {self._num_states})" if numbered else "an observation of finite numbers"

    def _state(self, observation: Any) -> int:
        """A numbered state, if it is one."""
        state = operator.index(observation)
        if not 0 <= state < self._num_states:
            raise Unfit(f"expected {self.expected}, received {state}")
        return state

    def _array(self, observation: Any) -> Any:
        """The observation, if it has the declared shape."""
        if getattr(observation, "shape", self._no_shape) != self._shape and np.shape(observation) != self._shape:
            raise Unfit(f"expected an observation of shape {self._shape}, received shape {np.shape(observation)}")
        return observation

    def sound(self, observations: np.ndarray) -> bool:
        """Whether floats are finite, and states in front of an action mask are states.  # [N, *shape]"""
        if self._floats:
            if self._zeros.size != observations.size:
                self._zeros = np.zeros(observations.size, np.float32)
            return math.isfinite(observations.ravel().dot(self._zeros))  # 0 * NaN and 0 * inf are NaN
        if self._masked_state:
            return bool(observations[:, 0].astype(np.uint64).max() < self._num_states)  # a negative one becomes huge
        return True

    def first(self, observation: Any) -> Any:
        """The first observation of an episode, looked at closely."""
        array = self.read(observation)
        if self._floats or self._masked_state:
            array = np.asarray(array)
            if array.dtype.kind not in "biuf":
                raise Unfit(f"expected an observation of numbers, received {shown(observation)}")
            if not (np.isfinite(array).all() if self._floats else self.sound(array[None])):
                raise Unfit(f"expected {self.expected}, received {shown(array)}")
        return array


def raised(error: Exception, call: str) -> str:
    """What a call did, in a few words."""
    if isinstance(error, Hangs | Unfit):
        return f"{call} {error}" if isinstance(error, Hangs) else f"{call}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{call} raised {type(error).__name__}: {_first_line(error)}{where}"


def wrong(error: Exception, result: Any) -> str:
    """What was expected of a result that could not be read."""
    if isinstance(error, Unfit):
        return str(error)
    if not isinstance(result, tuple) or len(result) != 5:
        return f"expected (observation, reward, terminated, truncated, info) of step, received {shown(result)}"
    what = "numbers of the declared shapes and true or false"
    return f"expected {what}, received {shown(result[:4])} ({_first_line(error)})"


def shown(value: Any) -> str:
    """A value on one short line."""
    text = " ".join(repr(value.tolist() if isinstance(value, np.ndarray | np.generic) else value).split())
    return text if len(text) <= 100 else f"{text[:97]}..."


def trace(error: Exception | None) -> str:
    """The traceback of what an environment raised."""
    return "".join(traceback.format_exception(error)) if error else ""


def close_all(envs: Sequence[gym.Env]) -> None:
    """Close environments; one that cannot even do that is left alone, since all of its results are in."""
    for env in envs:
        with contextlib.suppress(Exception), calling():
            env.close()


class TrialEnvs:
    """N environments, one per trial, advanced in lock-step.

    Attributes:
        observation: what each trial sees now.  # [N, *shape]
        episode: how many episodes each trial has finished.  # [N]
        episode_return, episode_length: of the episode under way.  # [N]
    """

    def __init__(self, settings: EnvSettings, info: EnvInfo, seeds: Sequence[int]) -> None:
        self.seeds, n = list(seeds), len(seeds)
        self._envs = [make(settings, tabular=info.tabular) for _ in self.seeds]
        self._start = int(self._envs[0].action_space.start)  # type: ignore[attr-defined]
        self._id, self._check = settings.id, Check(info)
        self.observation = np.zeros((n, *info.observation_shape), info.observation_dtype)
        self.episode = np.zeros(n, np.int64)
        self.episode_return = np.zeros(n)
        self.episode_length = np.zeros(n, np.int64)
        self._actions: list[list[int]] = [[] for _ in self.seeds]  # since reset: with the seed, the state
        self._broken = np.zeros(n, bool)  # trials whose environment has misbehaved
        self._faults: list[Fault] = []  # not told yet
        for k in range(n):
            self._reset(k)

    def step(self, actions: np.ndarray, active: np.ndarray) -> Step:
        """Advance the active trials by one step; an episode that ends is reset at once.

        Args:
            actions: integers in [0, A).  # [N] int64, as Gymnasium's own samples are
            active: trials that take part.  # [N]
        """
        out = Step.empty(len(self.seeds), self.observation)
        rewards: list[Any] = [0.0] * len(self.seeds)
        ended = []
        raw, plain = list(actions + self._start), actions.tolist()
        playing = np.flatnonzero(active & ~self._broken if self._faults else active).tolist()
        read, o_t, envs = self._check.read, out.o_t, self._envs
        watch.inside = True
        for k in playing:  # the hot loop: nothing here that can be done for all trials at once
            watch.calls += 1
            try:
                result: Any = envs[k].step(raw[k])
            except Exception as error:
                self._fault(k, raised(error, "step"), error)
                continue
            try:
                observation, reward, terminated, truncated, _ = result
                o_t[k] = read(observation)
                if not -FLOAT32_MAX <= reward <= FLOAT32_MAX:
                    raise Unfit(f"expected a finite reward, received {reward}")
                rewards[k] = float(reward)
                if terminated or truncated:
                    out.terminated[k], out.truncated[k] = terminated, truncated
                    ended.append(k)
            except (TypeError, ValueError) as error:
                self._fault(k, wrong(error, result))
                continue
            self._actions[k].append(plain[k])
        watch.inside = False
        if not self._check.sound(o_t):
            for k in playing:
                if not self._broken[k] and not self._check.sound(o_t[k : k + 1]):
                    self._fault(k, f"expected {self._check.expected}, received {shown(o_t[k])}")
        if self._faults:
            for fault in self._faults:  # what comes of their last step is nothing
                k = fault.trial
                out.o_t[k], rewards[k], out.terminated[k], out.truncated[k] = self.observation[k], 0.0, False, False
            ended = [k for k in ended if not self._broken[k]]
        self.episode_return += rewards
        self.episode_length += active
        out.r_t[:] = rewards
        self.observation[playing] = out.o_t[playing]
        for k in ended:
            out.finished.append((k, float(self.episode_return[k]), int(self.episode_length[k])))
            self.episode[k] += 1
            self._reset(k)
        out.faults, self._faults = self._faults, []
        return out

    def get_state(self) -> dict[str, Any]:
        """Where every environment stands: episodes and the actions since their resets, and what has come of these."""
        lengths = [len(a) for a in self._actions]
        return {
            "episode": self.episode.copy(),
            "lengths": np.array(lengths),
            "broken": self._broken.copy(),
            "actions": np.array([a for trial in self._actions for a in trial], np.int64),
            "observation": self.observation.copy(),
            "return": self.episode_return.copy(),
        }

    def set_state(self, state: dict[str, Any]) -> np.ndarray:
        """Bring every environment to where `get_state` was taken, by playing the actions again.

        Returns:
            Trials where that came to another observation or return, bit for bit, or to the end of the episode: their
            environment is not deterministic, and the episode has been started again.  # [N] bool
        """
        ends, lost = np.cumsum(state["lengths"]), np.zeros(len(self.seeds), bool)
        self._broken[:], self.episode[:], self._faults = state["broken"], state["episode"], []
        for k in np.flatnonzero(~self._broken).tolist():
            self._reset(k)
            terminated = truncated = False
            for action in state["actions"][ends[k] - state["lengths"][k] : ends[k]]:
                if self._broken[k]:
                    break
                try:
                    with calling():
                        obs, reward, terminated, truncated, _ = self._envs[k].step(action + self._start)
                    self.observation[k] = self._check.read(obs)
                except Exception as error:
                    self._fault(k, f"played again for a resumed job, {raised(error, 'step')}", error)
                    break
                self._actions[k].append(int(action))
                self.episode_return[k] += float(reward)
                self.episode_length[k] += 1
                if terminated or truncated:
                    break
            same = (
                self.episode_length[k] == state["lengths"][k]
                and not (terminated or truncated)
                and self.observation[k].tobytes() == state["observation"][k].tobytes()
                and self.episode_return[k].tobytes() == state["return"][k].tobytes()
            )
            if not same and not self._broken[k]:
                lost[k] = True
                self._reset(k)
        return lost

    def endless(self, k: int) -> Fault:
        """Trial k's episode has taken too long."""
        self._fault(
            k, "its episode has not ended by now, and the budget counts episodes; set env.max_episode_steps", at=0
        )
        return self._faults.pop()

    def close(self) -> None:
        """Close all environments."""
        close_all(self._envs)

    def _reset(self, k: int) -> None:
        self.episode_return[k] = self.episode_length[k] = 0
        self._actions[k] = []
        watch.calls += 1
        watch.inside = True
        try:
            obs, _ = self._envs[k].reset(seed=self._episode_seed(k))
            self.observation[k] = self._check.first(obs)
        except Exception as error:
            self._fault(k, raised(error, "reset"), error, at=0)
        watch.inside = False

    def _episode_seed(self, k: int) -> int:
        return seeding.episode_seed(self.seeds[k], int(self.episode[k]))

    def _fault(self, k: int, what: str, error: Exception | None = None, at: int = 1) -> None:
        where = f"{self._id}, trial seed {self.seeds[k]}, episode seed {self._episode_seed(k)}"
        step = int(self.episode_length[k]) + at
        self._faults.append(Fault(k, f"{where}, step {step}: {what}", trace(error)))
        self._broken[k] = True
        self._actions[k] = []


@dataclass
class Step:
    """One lock-step: what trials that took no part have here is zero."""

    r_t: np.ndarray  # [N]
    terminated: np.ndarray  # [N]
    truncated: np.ndarray  # [N]
    o_t: np.ndarray  # [N, *shape], the last observation of an episode that ended, not the first of the next
    finished: list[tuple[int, float, int]]  # (trial, return, length)
    faults: list[Fault] = field(default_factory=list)  # of trials whose environment has misbehaved

    @classmethod
    def empty(cls, n: int, observation: np.ndarray) -> Step:
        """A step in which nothing has happened yet."""
        return cls(np.zeros(n, np.float32), np.zeros(n, bool), np.zeros(n, bool), np.zeros_like(observation), [])


class EpisodePlayer:
    """Plays whole episodes with given reset seeds, E at a time in each of N trials, all in lock-step.

    Args:
        settings: the environment.
        info: its description.
        seeds: of the N trials, to name them.
        width: E, how many episodes of one trial are played side by side.
        max_steps: an episode is cut here.
    """

    def __init__(self, settings: EnvSettings, info: EnvInfo, seeds: Sequence[int], width: int, max_steps: int) -> None:
        trials = len(seeds)
        self._make = lambda: make(settings, tabular=info.tabular)
        self._envs = {0: self._make()}  # trial k's stand at k * width ..., made when they are first played
        self._shape = (trials, width)
        self._start = int(self._envs[0].action_space.start)  # type: ignore[attr-defined]
        self._id, self._check, self._trial_seeds = settings.id, Check(info), list(seeds)
        self._broken = np.zeros(trials, bool)  # trials whose environments have misbehaved: they play no more
        self.faults: list[Fault] = []  # of the last `play`
        self._observation = np.zeros((trials * width, *info.observation_shape), info.observation_dtype)
        self._max_steps = max_steps

    def play(
        self, act: Callable[[np.ndarray], np.ndarray], seeds: Sequence[int], trials: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Play one episode per seed (at most E of them) in each chosen trial.

        Args:
            act: observations [N, E, *shape] -> actions [N, E].
            seeds: reset seeds, the same for every trial.
            trials: which trials play.  # [N] bool

        Returns:
            Returns and lengths; NaN and 0 for trials that do not play, or whose environment has misbehaved, in
            this call (see `faults`) or before.  # [N, len(seeds)], [N, len(seeds)]
        """
        width, observation = self._shape[1], self._observation
        returns, lengths = np.full(len(observation), np.nan), np.zeros(len(observation), np.int64)
        self.faults = []
        running = [int(k) * width + i for k in np.flatnonzero(trials & ~self._broken) for i in range(len(seeds))]

        def fault(j: int, what: str, error: Exception | None = None) -> None:
            k = j // width
            if not self._broken[k]:
                where = f"{self._id}, evaluation of trial seed {self._trial_seeds[k]}, episode seed {seeds[j % width]}"
                self.faults.append(Fault(k, f"{where}, step {lengths[j]}: {what}", trace(error)))
            self._broken[k] = True

        for j in running:
            if self._broken[j // width]:
                continue
            if j not in self._envs:
                self._envs[j] = self._make()
            try:
                with calling():
                    first, _ = self._envs[j].reset(seed=seeds[j % width])
                observation[j] = self._check.first(first)
            except Exception as error:
                fault(j, raised(error, "reset"), error)
            returns[j] = 0.0
        for _ in range(self._max_steps):
            if self.faults:
                running = [j for j in running if not self._broken[j // width]]
            if not running:
                break
            actions = act(observation.reshape(*self._shape, *observation.shape[1:])).ravel() + self._start
            alive = []
            watch.inside = True
            for j in running:
                watch.calls += 1
                lengths[j] += 1
                try:
                    result: Any = self._envs[j].step(actions[j])
                except Exception as error:
                    fault(j, raised(error, "step"), error)
                    continue
                try:
                    received, reward, terminated, truncated, _ = result
                    observation[j] = self._check.read(received)
                    if not -FLOAT32_MAX <= reward <= FLOAT32_MAX:
                        raise Unfit(f"expected a finite reward, received {reward}")
                    returns[j] += reward
                    if not (terminated or truncated):
                        alive.append(j)
                except (TypeError, ValueError) as error:
                    fault(j, wrong(error, result))
            watch.inside = False
            if not self._check.sound(observation):
                for j in running:
                    if not self._check.sound(observation[j : j + 1]):
                        fault(j, f"expected {self._check.expected}, received {shown(observation[j])}")
                        observation[j] = 0
            running = alive
        for k in np.flatnonzero(self._broken):
            returns[k * width : (k + 1) * width], lengths[k * width : (k + 1) * width] = np.nan, 0
        return returns.reshape(self._shape)[:, : len(seeds)], lengths.reshape(self._shape)[:, : len(seeds)]

    def close(self) -> None:
        """Close all environments."""
        close_all(list(self._envs.values()))


def _not_installed(env_id: str, install_line: str) -> Refusal:
    return refusal("env.id", "an environment whose packages are installed", repr(env_id), install_line)


def _check_version(env_id: str) -> None:
    """Gymnasium takes an id without a version for the newest: another environment, some day."""
    name = env_id.rsplit(":", 1)[-1]
    if name in gym.registry or re.search(r"-v\d+$", name):
        return
    versions = [i for i in gym.registry if re.fullmatch(rf"{re.escape(name)}-v\d+", i)]
    if versions:
        newest = max(versions, key=lambda i: int(i.rsplit("-v", 1)[1]))
        raise refusal("env.id", "an id with its version", repr(env_id), f"Did you mean {newest}?")


def _near_argument(env_id: str, said: str) -> str:
    """Near matches of an argument that an environment's class does not take."""
    wrong = re.search(r"unexpected keyword argument '(\w+)'", said)
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
    module, _, name = env_id.rpartition(":")
    brought = packages.for_id(name)
    if brought:
        return _not_installed(env_id, brought)
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


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
