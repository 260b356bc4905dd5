"""Every call into an environment, and what it returns: whatever goes wrong becomes one `Misbehaved` with a few words.

An environment is somebody else's code: it may raise anything, whenever it is called, and return anything.
"""

from __future__ import annotations

import math
import numbers
import operator
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from rlexp.envs.watchdog import Hangs, watch
from rlexp.system import stopping, supervisor
from rlexp.system.errors import Refusal

if TYPE_CHECKING:
    from rlexp.envs.info import EnvInfo

FLOAT32_MAX = float(np.finfo(np.float32).max)
LONGEST_TRACE = 20_000  # characters of a traceback that are kept
BOUNDS_STEPS, BOUNDS_BYTES = 512, 2**22  # lock-steps whose observations are compared with their Box at once, at most


class Unfit(ValueError):
    """What an environment has returned is not what it declares."""


class Misbehaved(Exception):
    """What an environment has done that it must not do.

    Attributes:
        text: method and fault in a few words, on one line.
        trace: the traceback, where something was raised.
    """

    def __init__(self, text: str, trace: str = "") -> None:
        super().__init__(text)
        self.text, self.trace = text, trace


def call(method: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call into an environment: all calls pass here or through `steps`, under the watchdog's eye.

    Args:
        method: its name, for the sentence.
        function, args: what is called.

    Raises:
        Misbehaved: for whatever it raises, be it SystemExit or a KeyboardInterrupt of its own.
        Interrupted: for a signal.
    """
    watch.calls += 1
    watch.method = method
    watch.inside = True
    try:
        result = function(*args)
        watch.inside = False
        return result
    except BaseException as error:
        watch.inside = False
        if is_signal(error):
            raise
        fault = Misbehaved(raised(error, method), trace(error))
    raise fault


def begin(method: str) -> None:
    """Name the call that comes next, also to the supervisor, which tells it where the process dies in it."""
    watch.method = method
    supervisor.note(method=method)


def is_signal(error: BaseException) -> bool:
    """Whether it is a Ctrl-C or a SIGTERM, and not an environment's own invention."""
    if isinstance(error, stopping.Interrupted):
        return True
    return isinstance(error, KeyboardInterrupt) and not stopping.handles_signals()


def steps(
    envs: Sequence[Any] | Mapping[int, Any],
    actions: Sequence[Any] | Mapping[int, Any] | np.ndarray,
    running: Sequence[int],
    check: Check,
    observations: np.ndarray,
    rewards: list[float],
    fault: Callable[[int, str, str], None],
) -> list[tuple[int, bool, bool]]:
    """One step in each of some environments: `call` for the hot loop, results checked.

    Args:
        envs, actions: by number.
        running: the numbers of those that take a step.
        check: what results are held to.
        observations, rewards: where they go, by number.
        fault: is told the number, what was wrong in a few words, and a traceback; such a step gives no reward.

    Returns:
        Number, terminated and truncated of the episodes that have ended.
    """
    ended, read = [], check.read
    watch.method = "step"
    try:
        for k in running:
            watch.calls += 1
            watch.number = k
            watch.inside = True
            try:
                result: Any = envs[k].step(actions[k])
            except BaseException as error:
                watch.inside = False
                if is_signal(error):
                    raise
                fault(k, raised(error, "step"), trace(error))
                continue
            try:
                observation, reward, terminated, truncated, info = result
                observations[k] = read(observation)
                if reward.__class__ is not float:
                    reward = a_reward(reward)
                if not -FLOAT32_MAX <= reward <= FLOAT32_MAX:
                    raise Unfit(f"expected a finite reward, received {reward}")
                if info.__class__ is not dict and not isinstance(info, Mapping):
                    raise Unfit(f"expected an info that is a dict, received {shown(info)}")
                if terminated is not False or truncated is not False:
                    terminated, truncated = a_boolean("terminated", terminated), a_boolean("truncated", truncated)
                    if terminated or truncated:
                        ended.append((k, terminated, truncated))
                rewards[k] = reward
            except BaseException as error:  # also of objects whose comparison raises
                watch.inside = False
                if is_signal(error):
                    raise
                fault(k, raised(error, "step") if isinstance(error, Hangs) else wrong(error, result), "")
    finally:
        watch.inside = False
    return ended


class Check:
    """What every result of an environment is held to; made for speed, since each one passes here.

    Attributes:
        read: returns an observation, if it fits; raises `Unfit`, TypeError or ValueError otherwise.
        expected: what `sound` looks for, in words.
    """

    def __init__(self, info: EnvInfo) -> None:
        self._shape, self._num_states = info.observation_shape, info.num_states or 0
        self._dtype = np.dtype(info.observation_dtype)
        numbered = info.observation_dtype == "int64"
        self._floats, self._masked_state = info.observation_dtype == "float32", numbered and bool(self._shape)
        self._doubles = np.dtype("float64") if self._floats else self._dtype
        self._zeros = np.zeros(0, np.float32)
        self.read: Callable[[Any], Any] = self._state if numbered and not self._shape else self._array
        self.expected = f"an observation in [0, {self._num_states})" if numbered else "an observation of finite numbers"

    def reset_result(self, result: Any) -> Any:
        """The first observation of an episode, if a reset has returned it as it must; raises `Misbehaved`."""
        try:
            if not isinstance(result, tuple) or len(result) != 2:
                raise Unfit(f"expected (observation, info) of reset, received {shown(result)}")
            if result[1].__class__ is not dict and not isinstance(result[1], Mapping):
                raise Unfit(f"expected an info that is a dict, received {shown(result[1])}")
            return self.first(result[0])
        except Exception as error:
            raise Misbehaved(raised(error, "reset")) from None

    def _state(self, observation: Any) -> int:
        """A numbered state, if it is one."""
        state = operator.index(observation)
        if not 0 <= state < self._num_states:
            raise Unfit(f"expected {self.expected}, received {state}")
        return state

    def _array(self, observation: Any) -> Any:
        """The observation, if it has the declared shape, and numbers that its dtype can hold."""
        dtype = getattr(observation, "dtype", None)
        if (dtype is self._dtype or dtype is self._doubles) and observation.shape == self._shape:
            return observation
        return self._other_array(observation)

    def _other_array(self, observation: Any) -> np.ndarray:
        if np.shape(observation) != self._shape:
            raise Unfit(f"expected an observation of shape {self._shape}, received shape {np.shape(observation)}")
        array = np.asarray(observation)
        if array.dtype.kind not in "biuf":
            raise Unfit(f"expected an observation of numbers, received {shown(observation)}")
        if not self._floats and not fits_integers(array, self._dtype):
            raise Unfit(f"expected an observation of {self._dtype} ({_range(self._dtype)}), received {shown(array)}")
        return array

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
            if not (np.isfinite(array).all() if self._floats else self.sound(array[None])):
                raise Unfit(f"expected {self.expected}, received {shown(array)}")
        return array


def a_reward(reward: Any) -> float:
    """A reward that is not a plain float, as one."""
    if isinstance(reward, numbers.Real | np.number | np.bool_) or (
        isinstance(reward, np.ndarray) and reward.shape == () and reward.dtype.kind in "biuf"
    ):
        return float(reward)
    what = f"an array of shape {reward.shape}" if isinstance(reward, np.ndarray) else type_of(reward)
    raise Unfit(f"expected a reward that is one number, received {shown(reward)} ({what})")


def a_boolean(name: str, value: Any) -> bool:
    """An end of an episode that is not a plain bool, as one; 0 and 1 are no other thing."""
    if isinstance(value, bool | np.bool_) or (
        isinstance(value, np.ndarray) and value.shape == () and value.dtype == bool
    ):
        return bool(value)
    if isinstance(value, int | np.integer) and value in (0, 1):
        return bool(value)
    raise Unfit(f"expected {name} to be true or false, received {shown(value)} ({type_of(value)})")


def fits_integers(array: np.ndarray, dtype: np.dtype) -> bool:
    """Whether an integer dtype can hold all numbers of an array."""
    if array.dtype == dtype or not array.size:
        return True
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    whole = array.dtype.kind != "f" or bool((array == np.floor(array)).all())
    return whole and bool(low <= array.min() and array.max() <= high)


class Guarded:
    """An environment whose methods are called through `call`; for loops that are not made for speed.

    Args:
        env: anything else is its own.
    """

    def __init__(self, env: gym.Env) -> None:
        self._env, self._steps = env, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def reset(self, **options: Any) -> Any:
        """Reset."""
        self._steps = 0
        return self._call("reset", partial(self._env.reset, **options))

    def step(self, action: Any) -> Any:
        """Step."""
        self._steps += 1
        return self._call("step", self._env.step, action)

    def render(self) -> Any:
        """Render."""
        return self._call("render", self._env.render)

    def close(self) -> Any:
        """Close."""
        return self._call("close", self._env.close)

    def _call(self, method: str, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return call(method, function, *args)
        except Misbehaved as fault:
            raise Misbehaved(f"step {self._steps}: {fault.text}", fault.trace) from None


class Declared(gym.ObservationWrapper):
    """In front of a wrapper that flattens, which would make numbers of anything: a state beyond its Discrete, say."""

    def observation(self, observation: Any) -> Any:
        """The observation, if it is of its space."""
        if (problem := misfit(self.observation_space, observation)) is not None:
            raise Unfit(problem)
        return observation


def misfit(space: gym.Space, value: Any, name: str = "an observation") -> str | None:
    """What is wrong with the shape or the integers of a value of a space, if anything."""
    spaces = gym.spaces
    if isinstance(space, spaces.Discrete):
        low, high = int(space.start), int(space.start + space.n)
        whole = isinstance(value, int | np.integer) or (isinstance(value, np.ndarray) and value.shape == ())
        if whole and low <= value < high and value == int(value):
            return None
        return f"expected {name} in [{low}, {high}), received {shown(value)}"
    if isinstance(space, spaces.Dict):
        if not isinstance(value, Mapping) or set(value) != set(space.spaces):
            return f"expected {name} with the keys {', '.join(map(str, space.spaces))}, received {shown(value)}"
        parts = [(inner, value[key], f"{name} whose {key} is") for key, inner in space.spaces.items()]
        return next(filter(None, (misfit(*part) for part in parts)), None)
    if isinstance(space, spaces.Tuple):
        if not isinstance(value, tuple | list) or len(value) != len(space.spaces):
            return f"expected {name} of {len(space.spaces)} parts, received {shown(value)}"
        pairs = zip(space.spaces, value, strict=True)
        return next(filter(None, (misfit(inner, part, name) for inner, part in pairs)), None)
    if not isinstance(space, spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary):
        return None
    if np.shape(value) != space.shape:
        return f"expected {name} of shape {space.shape}, received shape {np.shape(value)}"
    array, dtype = np.asarray(value), np.dtype(space.dtype)
    if array.dtype.kind not in "biuf":
        return f"expected {name} of numbers, received {shown(value)}"
    if dtype.kind in "iu" and not fits_integers(array, dtype):
        return f"expected {name} of {dtype} ({_range(dtype)}), received {shown(value)}"
    if not isinstance(space, spaces.Box) and not space.contains(array.astype(dtype)):
        return f"expected {name} in {space}, received {shown(value)}"
    return None


def mask_of(info: Any, num_actions: int) -> Any:
    """The action mask of an `info`, one number for each action; raises `Unfit`."""
    mask = info.get("action_mask") if isinstance(info, Mapping) else None
    if mask is None:
        raise Unfit("expected an action_mask in info, as after the first reset, received none")
    if np.shape(mask) != (num_actions,):
        raise Unfit(f"expected an action_mask of shape ({num_actions},), received shape {np.shape(mask)}")
    return mask


class Bounds:
    """Looks, many steps at once, for observations outside the bounds that their Box declares.

    Args:
        space: as agents see it.
        observations: as they will be added.  # [N, *shape]

    Attributes:
        recent: arrays of observations that have not been looked at, `period` at most.  # [N, *shape] each
        period: how many that may be.
        none: whether nothing is outside, or it was said.
    """

    def __init__(self, space: gym.Space, observations: np.ndarray) -> None:
        shape = observations.shape[1:]
        self.recent: list[np.ndarray] = []
        self.period = max(min(BOUNDS_STEPS, BOUNDS_BYTES // max(observations.nbytes, 1)), 1)
        low: Any = getattr(space, "low", -np.inf)
        high: Any = getattr(space, "high", np.inf)
        if space.shape != shape or not shape:  # a number, or stacked otherwise: not a Box of floats
            low, high = -np.inf, np.inf
        self._low, self._high = (
            np.asarray(bound, np.float64) + sign * 1e-6 * np.abs(np.where(np.isfinite(bound), bound, 0))  # rounding
            for bound, sign in ((low, -1), (high, 1))
        )
        ends = _ends(np.dtype(space.dtype)) if np.issubdtype(space.dtype, np.integer) else (-np.inf, np.inf)
        self.none = bool((self._low <= ends[0]).all() and (self._high >= ends[1]).all())  # nothing can be outside

    def look(self) -> str | None:
        """Compare what is recent; in words what is outside, once."""
        if self.none or not self.recent:
            return None
        rows = np.concatenate(self.recent)  # [M, *shape]
        self.recent.clear()
        outside = (rows < self._low) | (rows > self._high)
        if not outside.any():
            return None
        self.none = True
        index = tuple(np.argwhere(outside)[0])
        low, high = self._low[index[1:]], self._high[index[1:]]
        place = f"number {', '.join(map(str, index[1:]))} of an observation"
        return f"{place} is {rows[index]:g}, outside [{low:g}, {high:g}], which its Box declares; it is used as it is"


def raised(error: BaseException, method: str = "") -> str:
    """What a call did, in a few words, whatever the error is."""
    if isinstance(error, Misbehaved):
        return error.text
    if isinstance(error, Refusal):
        return f"{method}: {first_line(error)}"
    if isinstance(error, Hangs | Unfit):
        return f"{method} {error}" if isinstance(error, Hangs) else f"{method}: {error}"
    try:
        frames = list(traceback.extract_tb(vars(BaseException)["__traceback__"].__get__(error)))
    except Exception:
        frames = []
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    said = first_line(error)
    name = type_of(error)
    return f"{method} raised {name}{f': {said}' if said != name else ''}{where}".strip()


def first_line(error: BaseException) -> str:
    """The first line of a message, at most 200 characters of it; the type's name where there is none."""
    try:
        text = str(error).strip()
    except BaseException as worse:
        if is_signal(worse):
            raise
        return f"its message raises {type_of(worse)}"
    return "".join(c if c.isprintable() else " " for c in (text or type_of(error)).splitlines()[0][:200])


def type_of(value: Any) -> str:
    """The name of a value's type."""
    return str(type.__dict__["__name__"].__get__(type(value)))


def wrong(error: BaseException, result: Any) -> str:
    """What was expected of a result that could not be read."""
    if isinstance(error, Unfit):
        return str(error)
    if not isinstance(result, tuple) or len(result) != 5:
        return f"expected (observation, reward, terminated, truncated, info) of step, received {shown(result)}"
    what = "numbers of the declared shapes and true or false"
    return f"expected {what}, received {shown(result[:4])} ({first_line(error)})"


def shown(value: Any) -> str:
    """A value on one short line."""
    try:
        if isinstance(value, np.ndarray) and value.size > 1_000:
            value = value.ravel()[:100]
        text = " ".join(repr(value.tolist() if isinstance(value, np.ndarray | np.generic) else value).split())
    except Exception as error:  # of its own __repr__
        return f"a {type_of(value)} that cannot be shown ({type_of(error)})"
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= 100 else f"{text[:97]}..."


def trace(error: BaseException | None) -> str:
    """The traceback of what an environment raised."""
    if error is None:
        return ""
    try:
        text = "".join(traceback.format_exception(error))
    except Exception as worse:
        return f"{type_of(error)}, whose traceback raises {type_of(worse)}\n"
    return text if len(text) <= LONGEST_TRACE else f"{text[: LONGEST_TRACE // 2]}\n...\n{text[-LONGEST_TRACE // 2 :]}"


def _range(dtype: np.dtype) -> str:
    low, high = _ends(dtype)
    return f"{low} to {high}"


def _ends(dtype: np.dtype) -> tuple[int, int]:
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
