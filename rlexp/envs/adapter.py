"""The only file that knows Gymnasium: making environments, checking them, and stepping one per trial.

Each trial has an environment of its own and every episode is reset with its own derived seed, so that nothing is
shared between trials and an environment's state can be rebuilt from (episode seed, actions since reset).
There is no autoreset here: an episode that ends is reset by hand, and its last observation is the one that is stored.
"""

from __future__ import annotations

import difflib
import importlib
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

import rlexp.envs.chapter  # noqa: F401  (registers the chapter's environments)
from rlexp import seeding
from rlexp.envs import atari
from rlexp.settings import EnvSettings, Refusal, refusal

EXTRAS = {
    "box2d": "box2d",
    "ale_py": "atari",
    "ale": "atari",
    "opencv": "atari",
    "mujoco": "mujoco",
    "pygame": "classic-control",
}


@dataclass(frozen=True)
class EnvInfo:
    """What an algorithm needs to know of an environment."""

    observation_shape: tuple[int, ...]
    observation_dtype: str  # "float32", "uint8" for images, "int64" for numbered states
    num_actions: int
    max_episode_steps: int | None
    rgb_array: bool  # can be rendered to pictures
    tabular: bool = False  # made for algorithms with tables
    num_states: int | None = None  # of numbered states; None for everything else
    masked: bool = False  # for tabular algorithms: the action mask stands behind the observation
    table: bool = False  # has a transition table `P` over numbered states
    restricted: bool = False  # the table lacks some actions in some states
    is_table: bool = False  # the table says all that the environment does


def make(settings: EnvSettings, render_mode: str | None = None, tabular: bool = False) -> gym.Env:
    """Make one environment with the observations and actions that agents expect.

    Observations that are no Box (Discrete, Dict, Tuple, ...) are flattened to one vector, categories one-hot. For
    algorithms with tables (`tabular`) a Discrete observation stays a number, and where `info` has an action mask it
    is put behind the observation.

    Raises:
        Refusal: for an unknown id (with near matches), a missing package (with the line that brings it), arguments
            that the environment does not take, or an action space that is not Discrete.
    """
    for module in settings.imports:
        try:
            importlib.import_module(module)
        except Exception as error:  # the module's own errors included
            raise refusal(
                "env.imports", "modules that can be imported", f"{module!r} ({_first_line(error)})"
            ) from error
    _check_version(settings.id)
    if settings.id.startswith("ALE/"):
        try:
            atari.register()
        except ImportError as error:
            raise _not_installed(settings.id, "pip install 'rlexp[atari]' brings it.") from error
    is_atari = settings.preprocessing == "atari"
    # Only what is asked for: many environments of third parties take no render_mode.
    options = {
        "max_episode_steps": None if is_atari else settings.max_episode_steps,
        "render_mode": render_mode,
        "frameskip": 1 if is_atari else None,
    }
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # an outdated id is refused below, in one sentence
            env = gym.make(settings.id, disable_env_checker=True, **given, **settings.kwargs)
        if is_atari:
            env = atari.preprocess(env, settings.max_episode_steps)
    except gym.error.DependencyNotInstalled as error:
        raise _not_installed(settings.id, _install_line(str(error))) from error
    except (gym.error.UnregisteredEnv, gym.error.DeprecatedEnv) as error:
        raise _unknown(settings.id) from error
    except (gym.error.Error, ModuleNotFoundError) as error:
        raise refusal(
            "env.id",
            "a Gymnasium id, as in gymnasium.envs.registry, or module:Id",
            f"{settings.id!r} ({_first_line(error)})",
        ) from error
    except Exception as error:  # the environment's own
        said = _first_line(error) if isinstance(error, TypeError) else f"{type(error).__name__}: {_first_line(error)}"
        if settings.kwargs:
            raise refusal("env.kwargs", f"arguments that {settings.id} takes", f"{settings.kwargs} ({said})") from error
        raise refusal("env.id", "an environment that can be made", f"{settings.id!r} ({said})") from error
    if not isinstance(env.action_space, gym.spaces.Discrete):
        space = env.action_space
        env.close()
        raise refusal(
            "env.id",
            "an environment with a Discrete action space",
            f"{settings.id!r} with {type(space).__name__} actions ({space})",
            "The algorithms here choose among numbered actions; use a discrete variant of the environment.",
        )
    numbered = isinstance(env.observation_space, gym.spaces.Discrete)
    if tabular and (numbered or isinstance(env.observation_space, gym.spaces.Box)):
        masked = "action_mask" in env.reset(seed=0)[1]
        return MaskedObservation(env) if masked else env
    if not isinstance(env.observation_space, gym.spaces.Box):
        env = gym.wrappers.FlattenObservation(env)
    if settings.frame_stack > 1:
        env = gym.wrappers.FrameStackObservation(env, settings.frame_stack)
    return env


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


def inspect(settings: EnvSettings, tabular: bool = False) -> EnvInfo:
    """Make the environment once and describe it; raises `Refusal` as `make` does."""
    env = make(settings, tabular=tabular)
    space, actions, raw = env.observation_space, env.action_space, env.unwrapped.observation_space
    assert isinstance(actions, gym.spaces.Discrete)
    spec = env.spec
    discrete = isinstance(raw, gym.spaces.Discrete)
    table: Any = getattr(env.unwrapped, "P", None) if has_table(env) else None
    floats = "uint8" if space.dtype == np.uint8 else "float32"
    info = EnvInfo(
        observation_shape=tuple(space.shape or ()),
        observation_dtype="int64" if tabular and discrete else floats,
        num_actions=int(actions.n),
        max_episode_steps=spec.max_episode_steps if spec else None,
        rgb_array="rgb_array" in (env.metadata.get("render_modes") or []),
        tabular=tabular,
        num_states=int(raw.start + raw.n) if discrete else None,  # type: ignore[attr-defined]
        masked=isinstance(env, MaskedObservation),
        table=table is not None,
        restricted=table is not None and any(len(table[s]) < actions.n for s in range(int(raw.n))),  # type: ignore[attr-defined]
        is_table=is_table(env),
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
        self.observation = np.zeros((n, *info.observation_shape), info.observation_dtype)
        self.episode = np.zeros(n, np.int64)
        self.episode_return = np.zeros(n)
        self.episode_length = np.zeros(n, np.int64)
        self._actions: list[list[int]] = [[] for _ in self.seeds]  # since reset: with the seed, the state
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
        playing = np.flatnonzero(active).tolist()
        for k in playing:  # the hot loop: nothing here that can be done for all trials at once
            out.o_t[k], rewards[k], terminated, truncated, _ = self._envs[k].step(raw[k])
            self._actions[k].append(plain[k])
            if terminated or truncated:
                out.terminated[k], out.truncated[k] = terminated, truncated
                ended.append(k)
        self.episode_return += rewards
        self.episode_length += active
        out.r_t[:] = rewards
        self.observation[playing] = out.o_t[playing]
        for k in ended:
            out.finished.append((k, float(self.episode_return[k]), int(self.episode_length[k])))
            self.episode[k] += 1
            self._reset(k)
        return out

    def get_state(self) -> dict[str, Any]:
        """Where every environment stands: episodes and the actions since their resets."""
        lengths = [len(a) for a in self._actions]
        return {
            "episode": self.episode.copy(),
            "lengths": np.array(lengths),
            "actions": np.array([a for trial in self._actions for a in trial], np.int64),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Bring every environment to where `get_state` was taken, by playing the actions again."""
        ends = np.cumsum(state["lengths"])
        for k in range(len(self.seeds)):
            self.episode[k] = state["episode"][k]
            self._reset(k)
            for action in state["actions"][ends[k] - state["lengths"][k] : ends[k]]:
                obs, reward, _, _, _ = self._envs[k].step(action + self._start)
                self._actions[k].append(int(action))
                self.episode_return[k] += reward
                self.episode_length[k] += 1
                self.observation[k] = obs

    def close(self) -> None:
        """Close all environments."""
        for env in self._envs:
            env.close()

    def _reset(self, k: int) -> None:
        obs, _ = self._envs[k].reset(seed=seeding.episode_seed(self.seeds[k], int(self.episode[k])))
        self.observation[k] = obs
        self.episode_return[k] = self.episode_length[k] = 0
        self._actions[k] = []


@dataclass
class Step:
    """One lock-step: what trials that took no part have here is zero."""

    r_t: np.ndarray  # [N]
    terminated: np.ndarray  # [N]
    truncated: np.ndarray  # [N]
    o_t: np.ndarray  # [N, *shape], the last observation of an episode that ended, not the first of the next
    finished: list[tuple[int, float, int]]  # (trial, return, length)

    @classmethod
    def empty(cls, n: int, observation: np.ndarray) -> Step:
        """A step in which nothing has happened yet."""
        return cls(np.zeros(n, np.float32), np.zeros(n, bool), np.zeros(n, bool), np.zeros_like(observation), [])


class EpisodePlayer:
    """Plays whole episodes with given reset seeds, E at a time in each of N trials, all in lock-step.

    Args:
        settings: the environment.
        info: its description.
        trials: N.
        width: E, how many episodes of one trial are played side by side.
        max_steps: an episode is cut here.
    """

    def __init__(self, settings: EnvSettings, info: EnvInfo, trials: int, width: int, max_steps: int) -> None:
        # Trial k's stand at k * width ...
        self._envs = [make(settings, tabular=info.tabular) for _ in range(trials * width)]
        self._shape = (trials, width)
        self._start = int(self._envs[0].action_space.start)  # type: ignore[attr-defined]
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
            Returns and lengths; NaN and 0 for trials that do not play.  # [N, len(seeds)], [N, len(seeds)]
        """
        width, observation = self._shape[1], self._observation
        returns, lengths = np.full(len(self._envs), np.nan), np.zeros(len(self._envs), np.int64)
        running = [int(k) * width + i for k in np.flatnonzero(trials) for i in range(len(seeds))]
        for j in running:
            observation[j], _ = self._envs[j].reset(seed=seeds[j % width])
            returns[j] = 0.0
        for _ in range(self._max_steps):
            if not running:
                break
            actions = act(observation.reshape(*self._shape, *observation.shape[1:])).ravel() + self._start
            alive = []
            for j in running:
                observation[j], reward, terminated, truncated, _ = self._envs[j].step(actions[j])
                returns[j] += reward
                lengths[j] += 1
                if not (terminated or truncated):
                    alive.append(j)
            running = alive
        return returns.reshape(self._shape)[:, : len(seeds)], lengths.reshape(self._shape)[:, : len(seeds)]

    def close(self) -> None:
        """Close all environments."""
        for env in self._envs:
            env.close()


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


def _unknown(env_id: str) -> Refusal:
    name = env_id.rsplit(":", 1)[-1]
    known = [i for i in gym.registry if "/" not in i or "/" in name]
    lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.6)
    hint = (
        f"Did you mean {' or '.join(lower[m] for m in near)}?"
        if near
        else "List them: python -c 'import gymnasium; gymnasium.pprint_registry()'"
    )
    return refusal("env.id", "a Gymnasium id", f"{env_id!r}, which is not registered or out of date", hint)


def _install_line(error: str) -> str:
    for word, extra in EXTRAS.items():
        if word in error.lower():
            ours = extra in ("box2d", "atari")
            return f"pip install '{'rlexp' if ours else 'gymnasium'}[{extra}]' brings it."
    return error.splitlines()[0]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
