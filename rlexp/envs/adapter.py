"""The only file that knows Gymnasium: making environments, checking them, and stepping one per trial.

Each trial has an environment of its own and every episode is reset with its own derived seed, so that nothing is
shared between trials and an environment's state can be rebuilt from (episode seed, actions since reset).
There is no autoreset here: an episode that ends is reset by hand, and its last observation is the one that is stored.
"""

from __future__ import annotations

import difflib
import importlib
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from typing import Any

import gymnasium as gym
import numpy as np

import rlexp.envs.chapter  # noqa: F401  (registers the chapter's environments)
from rlexp.config import hints, registry
from rlexp.config.images import has_small_numbers
from rlexp.config.paths import conf_dir
from rlexp.config.schema.env import EnvSettings
from rlexp.data import seeding
from rlexp.envs import atari, plugins, wrappers
from rlexp.envs.category_numbers import NumberedObservation, num_states
from rlexp.envs.flattening import check_vector
from rlexp.envs.guard import (
    Bounds,
    Check,
    Declared,
    Misbehaved,
    begin,
    call,
    first_line,
    is_signal,
    mask_of,
    raised,
    shown,
    steps,
)
from rlexp.envs.info import EnvInfo
from rlexp.envs.watchdog import armed, watch
from rlexp.system import backend, packages
from rlexp.system.errors import Refusal, did_you_mean, refusal


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
        begin(f"import of {module}")
        try:
            _import(module)
        except Exception as error:  # the module's own errors included
            raise refusal(
                "env.imports",
                "modules that can be imported",
                f"{module!r} ({first_line(error)})",
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
    begin("__init__")
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
        raise _not_installed(settings.id, packages.for_error(error) or first_line(error)) from error
    except (gym.error.UnregisteredEnv, gym.error.DeprecatedEnv) as error:
        raise _unknown(settings.id) from error
    except (gym.error.Error, ModuleNotFoundError) as error:
        raise refusal(
            "env.id",
            "a Gymnasium id, as in gymnasium.envs.registry, or module:Id",
            f"{settings.id!r} ({first_line(error).partition('. Environment registration')[0]})",
            packages.for_error(error),
        ) from error
    except Exception as error:  # the environment's own
        said = first_line(error) if isinstance(error, TypeError) else f"{type(error).__name__}: {first_line(error)}"
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
        env = gym.wrappers.FlattenObservation(Declared(env))
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
        return "action_mask" in call("reset", partial(env.reset, seed=0))[1]
    except Misbehaved as fault:
        raise refusal("env.id", "an environment that can be reset", f"{env_id!r} ({fault.text})") from fault
    except Exception as error:
        raise refusal("env.id", "an environment that can be reset", f"{env_id!r} ({raised(error)})") from error


class MaskedObservation(gym.Wrapper):
    """Puts `info["action_mask"]` behind the observation, so that it goes wherever the observation goes.  # [D + A]"""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        space, num_actions = env.observation_space, int(env.action_space.n)  # type: ignore[attr-defined]
        self._num_actions = num_actions
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
        mask = mask_of(info, self._num_actions)
        joined = np.concatenate((np.ravel(observation), mask), dtype=self.observation_space.dtype)
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
    """Make the environment once and describe it; raises `Refusal` as `make` does, whatever the environment raises."""
    try:
        with armed(settings.step_timeout):
            watch.calls += 1
            watch.inside, watch.where = True, lambda: settings.id
            return _inspect(settings, tabular)
    except Refusal:
        raise
    except BaseException as error:
        if is_signal(error):
            raise
        said = f"{settings.id!r} ({raised(error, watch.method)})"
        raise refusal("env.id", "an environment that can be made", said) from error
    finally:
        watch.inside = False


def _inspect(settings: EnvSettings, tabular: bool) -> EnvInfo:
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
    close_all([env])  # what it does wrong then is told when the job's own are closed
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


def close_all(envs: Sequence[gym.Env | None]) -> list[str]:
    """Close environments; what that did wrong, on a line for each, is no fault: all of their results are in."""
    wrong = []
    for env in envs:
        if env is None:
            continue
        begin("close")
        try:
            call("close", env.close)
        except Misbehaved as fault:
            wrong.append(fault.text)
    return wrong


class TrialEnvs:
    """N environments, one per trial, advanced in lock-step.

    Attributes:
        observation: what each trial sees now.  # [N, *shape]
        episode: how many episodes each trial has finished.  # [N]
        episode_return, episode_length: of the episode under way.  # [N]
    """

    def __init__(self, settings: EnvSettings, info: EnvInfo, seeds: Sequence[int]) -> None:
        self.seeds, n = list(seeds), len(seeds)
        self._id, self._check, self._start = settings.id, Check(info), 0
        self.observation = np.zeros((n, *info.observation_shape), info.observation_dtype)
        self.episode = np.zeros(n, np.int64)
        self.episode_return = np.zeros(n)
        self.episode_length = np.zeros(n, np.int64)
        self._actions: list[list[int]] = [[] for _ in self.seeds]  # since reset: with the seed, the state
        self._broken = np.zeros(n, bool)  # trials whose environment has misbehaved
        self._faults: list[Fault] = []  # not told yet
        self._warnings: list[str] = []  # not told yet
        self._bounds: Bounds | None = None
        self._envs: list[Any] = [None] * n  # None: could not be made
        watch.where = self._where
        for k in range(n):
            self._make(k, settings, info)
        for k in range(n):
            self._reset(k)
        self._look_at(self.observation.copy())

    def _make(self, k: int, settings: EnvSettings, info: EnvInfo) -> None:
        watch.number = k
        try:
            env = call("__init__", partial(make, settings, tabular=info.tabular))
        except Misbehaved as fault:
            self._fault(k, fault.text, fault.trace, at=0)
            return
        self._envs[k], self._start = env, int(env.action_space.start)
        if self._bounds is None and not self._broken.any():
            self._bounds = Bounds(env.observation_space, self.observation)

    def step(self, actions: np.ndarray, active: np.ndarray) -> Step:
        """Advance the active trials by one step; an episode that ends is reset at once.

        Args:
            actions: integers in [0, A).  # [N] int64, as Gymnasium's own samples are
            active: trials that take part.  # [N]
        """
        out = Step.empty(len(self.seeds), self.observation)
        rewards = [0.0] * len(self.seeds)
        raw, plain = list(actions + self._start), actions.tolist()
        playing = np.flatnonzero(active & ~self._broken if self._faults else active).tolist()
        watch.where, o_t = self._where, out.o_t
        for k in playing:
            self._actions[k].append(plain[k])
        over = steps(self._envs, raw, playing, self._check, o_t, rewards, self._fault)
        ended = [k for k, _, _ in over] if over else []
        for k, terminated, truncated in over:
            out.terminated[k], out.truncated[k] = terminated, truncated
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
        self._look_at(out.o_t if len(playing) == len(self.seeds) else self.observation.copy())
        for k in ended:
            out.finished.append((k, float(self.episode_return[k]), int(self.episode_length[k])))
            self.episode[k] += 1
            self._reset(k)
        if ended:
            self._look_at(self.observation.copy())
        out.faults, self._faults = self._faults, []
        out.warnings, self._warnings = self._warnings, []
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
        rewards, watch.where = [0.0] * len(self.seeds), self._where
        for k in np.flatnonzero(~self._broken).tolist():
            self._reset(k)
            over: list[Any] = []
            for action in state["actions"][ends[k] - state["lengths"][k] : ends[k]]:
                if self._broken[k]:
                    break
                step = {k: action + self._start}
                over = steps(self._envs, step, [k], self._check, self.observation, rewards, self._fault_again)
                if self._broken[k]:
                    break
                self._actions[k].append(int(action))
                self.episode_return[k] += rewards[k]
                self.episode_length[k] += 1
                if over:
                    break
            same = (
                self.episode_length[k] == state["lengths"][k]
                and not over
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

    def close(self) -> list[str]:
        """Close all environments; what was wrong with it, and with the observations of the last steps."""
        self._warn_of_bounds()
        watch.where = self._where
        closed: list[str] = []
        for k, env in enumerate(self._envs):
            watch.number = k
            closed += [f"{self._where()}: {text}; its results are in" for text in close_all([env])]
        return [*self._warnings, *closed]

    def _where(self) -> str:
        """Which environment, trial, episode and step are being called."""
        k = watch.number
        where = f"{self._id}, trial seed {self.seeds[k]}, episode seed {self._episode_seed(k)}"
        return f"{where}, step {int(self.episode_length[k])}"

    def _look_at(self, observations: np.ndarray) -> None:
        """Compare observations with the bounds of their Box, once there are many.  # [N, *shape]"""
        if self._bounds is not None and not self._bounds.none:
            self._bounds.recent.append(observations)
            if len(self._bounds.recent) >= self._bounds.period:
                self._warn_of_bounds()

    def _warn_of_bounds(self) -> None:
        text = self._bounds.look() if self._bounds is not None else None
        if text is not None:
            self._warnings.append(f"{self._id}: {text}")

    def _reset(self, k: int) -> None:
        self.episode_return[k] = self.episode_length[k] = 0
        self._actions[k], watch.number = [], k
        if self._envs[k] is None:
            return
        try:
            result = call("reset", partial(self._envs[k].reset, seed=self._episode_seed(k)))
            self.observation[k] = self._check.reset_result(result)
        except Misbehaved as fault:
            self._fault(k, fault.text, fault.trace, at=0)

    def _episode_seed(self, k: int) -> int:
        return seeding.episode_seed(self.seeds[k], int(self.episode[k]))

    def _fault(self, k: int, what: str, trace: str = "", at: int = 1) -> None:
        where = f"{self._id}, trial seed {self.seeds[k]}, episode seed {self._episode_seed(k)}"
        step = int(self.episode_length[k]) + at
        self._faults.append(Fault(k, f"{where}, step {step}: {what}", trace))
        self._broken[k] = True
        if at == 0:  # there may be no observation
            self._bounds = None

    def _fault_again(self, k: int, what: str, trace: str = "") -> None:
        self._fault(k, f"played again for a resumed job, {what}", trace)
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
    warnings: list[str] = field(default_factory=list)  # what is wrong with an environment, but can be used

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
        self._make = partial(make, settings, tabular=info.tabular)
        self._envs: dict[int, Any] = {}  # trial k's stand at k * width ..., made when they are first played
        self._shape, self._start = (trials, width), 0
        self._seeds, self._lengths = [0], np.zeros(trials * width, np.int64)  # of the episodes under way
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
        self.faults, self._seeds, self._lengths = [], list(seeds), lengths
        running = [int(k) * width + i for k in np.flatnonzero(trials & ~self._broken) for i in range(len(seeds))]
        watch.where = self._where
        for j in running:
            if self._broken[j // width]:
                continue
            watch.number = j
            try:
                if j not in self._envs:
                    self._envs[j] = call("__init__", self._make)
                    self._start = int(self._envs[j].action_space.start)
                result = call("reset", partial(self._envs[j].reset, seed=seeds[j % width]))
                observation[j] = self._check.reset_result(result)
            except Misbehaved as fault:
                self._fault(j, fault.text, fault.trace)
            returns[j] = 0.0
        rewards = [0.0] * len(observation)
        for _ in range(self._max_steps):
            if self.faults:
                running = [j for j in running if not self._broken[j // width]]
            if not running:
                break
            actions = act(observation.reshape(*self._shape, *observation.shape[1:])).ravel() + self._start
            lengths[running] += 1
            over = steps(self._envs, actions, running, self._check, observation, rewards, self._fault)
            returns[running] += [rewards[j] for j in running]
            ended = {j for j, _, _ in over}
            alive = [j for j in running if j not in ended] if ended else running
            if not self._check.sound(observation):
                for j in running:
                    if not self._check.sound(observation[j : j + 1]):
                        self._fault(j, f"expected {self._check.expected}, received {shown(observation[j])}")
                        observation[j] = 0
            running = alive
        for k in np.flatnonzero(self._broken):
            returns[k * width : (k + 1) * width], lengths[k * width : (k + 1) * width] = np.nan, 0
        return returns.reshape(self._shape)[:, : len(seeds)], lengths.reshape(self._shape)[:, : len(seeds)]

    def close(self) -> list[str]:
        """Close all environments; what was wrong with it."""
        return [
            f"{self._id}, an evaluation's: {text}; its results are in" for text in close_all([*self._envs.values()])
        ]

    def _where(self) -> str:
        """Which environment, trial, episode and step are being called."""
        k, i = divmod(watch.number, self._shape[1])
        where = f"{self._id}, evaluation of trial seed {self._trial_seeds[k]}, episode seed {self._seeds[i]}"
        return f"{where}, step {self._lengths[watch.number]}"

    def _fault(self, j: int, what: str, trace: str = "") -> None:
        k, watch.number = j // self._shape[1], j
        if not self._broken[k]:
            self.faults.append(Fault(k, f"{self._where()}: {what}", trace))
        self._broken[k] = True


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
